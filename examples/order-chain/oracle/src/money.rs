//! Cents, from the text of a JSON number.

/// How much `times` times the number is, in cents: rounded to the nearest, half a cent away from zero. None when
/// the text is no number, or when it is too long or the result too large to be counted.
pub(crate) fn cents(number: &str, times: i64) -> Option<i64> {
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let lower = number.to_ascii_lowercase();
    let (mantissa, exponent) = lower.split_once('e').unwrap_or((&lower, "0"));
    // Counted from where the point would have to stand for cents: two places to the right.
    let mut point: i32 = exponent.parse::<i32>().ok()?.checked_add(2)?;
    let mut digits = 0_u128;
    let mut behind_point = false;
    for byte in mantissa.bytes() {
        match byte {
            b'.' if !behind_point => behind_point = true,
            b'0'..=b'9' => {
                digits = digits.checked_mul(10)?.checked_add(u128::from(byte - b'0'))?;
                point = point.checked_sub(i32::from(behind_point))?;
            }
            _ => return None,
        }
    }
    let amount = digits.checked_mul(u128::from(times.unsigned_abs()))?;
    let cents = match (amount, point) {
        (0, _) => 0,
        (_, 0..) => amount.checked_mul(10_u128.checked_pow(point.unsigned_abs())?)?,
        (_, ..0) => match 10_u128.checked_pow(point.unsigned_abs()) {
            Some(unit) => amount.checked_mul(2)?.checked_add(unit)? / unit.checked_mul(2)?,
            None => 0,
        },
    };
    let cents = i64::try_from(cents).ok()?;
    Some(if negative != (times < 0) { -cents } else { cents })
}

/// Cents as people write them.
pub(crate) fn shown(cents: i64) -> String {
    let digits = format!("{:03}", cents.unsigned_abs());
    let (whole, fraction) = digits.split_at(digits.len() - 2);
    format!("{}{whole}.{fraction}", if cents < 0 { "-" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_cents() {
        let once = [
            ("0.5", 50),
            ("12.99", 1299),
            ("0", 0),
            ("1e2", 10_000),
            ("0.005", 1),
            ("-0.005", -1),
            ("0.0049", 0),
        ];
        for (text, expected) in once {
            assert_eq!(cents(text, 1), Some(expected), "{text}");
        }
        assert_eq!(cents("0.0023", 8725), Some(2007));
        assert_eq!(cents("1.776357e-15", 0), Some(0));
        assert_eq!(cents("1.776357e-15", 3), Some(0));
        assert_eq!(cents("2.50", -2), Some(-500));
        for text in ["x", "1.2.3", "1e", "1e400", "", "1e999999999999"] {
            assert_eq!(cents(text, 1).unwrap_or(0), 0, "{text}");
        }
    }

    #[test]
    fn cents_are_shown() {
        assert_eq!([5, 1234, -50, 0].map(shown), ["0.05", "12.34", "-0.50", "0.00"]);
    }
}
