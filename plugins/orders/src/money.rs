//! Money in cents, exactly.
//!
//! The input writes money as JSON decimals: `0.5`, `12.99`, a price of fuel as `0.0023`, and once, where a tool
//! divided by nothing, `1.776357e-15`. A float would round what it holds before we could; so a number is taken as
//! the text it was written as, and counted in integers from there on.
//!
//! The one rule of rounding: what is finer than a cent is rounded to the nearest, half a cent away from zero, and
//! only at the end of a computation.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::value::RawValue;
use tidemill_plugin_sdk::Failure;

/// An amount of money, in hundredths of the currency's unit. In JSON an integer; read from a JSON decimal, it
/// is rounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Cents(pub i64);

/// The price of one unit, as its JSON number was written, and written again as that. It may be finer than a
/// cent, which is why it is no [`Cents`].
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Price(Box<RawValue>);

/// A number that cannot be an amount of money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoMoney(String);

impl Price {
    /// What `quantity` units cost.
    ///
    /// # Errors
    /// [`NoMoney`] when it is more than can be counted.
    pub fn of(&self, quantity: i64) -> Result<Cents, NoMoney> {
        let too_much = || NoMoney(format!("{quantity} times {}", self.0));
        let unit: Decimal = self.0.get().parse()?;
        let digits = unit.digits.checked_mul(i128::from(quantity)).ok_or_else(too_much)?;
        Decimal { digits, ..unit }.cents().ok_or_else(too_much)
    }
}

impl fmt::Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{:02}", self.0.unsigned_abs() / 100, self.0.unsigned_abs() % 100)
    }
}

impl fmt::Display for NoMoney {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is no amount of money", self.0)
    }
}

impl From<NoMoney> for Failure {
    fn from(error: NoMoney) -> Failure {
        Failure::reject(error)
    }
}

impl<'de> Deserialize<'de> for Cents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let decimal: Decimal = raw.get().parse().map_err(de::Error::custom)?;
        decimal.cents().ok_or_else(|| de::Error::custom(NoMoney(raw.get().to_owned())))
    }
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let price = Price(Box::<RawValue>::deserialize(deserializer)?);
        price.of(1).map_err(de::Error::custom)?;
        Ok(price)
    }
}

/// `digits` times ten to the power of minus `scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Decimal {
    digits: i128,
    scale: i32,
}

/// Digits and powers of ten beyond these are nobody's price.
const DIGITS_MAX: usize = 24;
const POWER_MAX: i32 = 36;

impl FromStr for Decimal {
    type Err = NoMoney;

    /// Reads a JSON number. Its grammar was checked by whoever parsed the JSON; what is no number fails here.
    fn from_str(text: &str) -> Result<Decimal, NoMoney> {
        let wrong = || NoMoney(text.to_owned());
        let (number, power) = match text.split_once(['e', 'E']) {
            Some((number, power)) => (number, power.parse::<i32>().map_err(|_| wrong())?),
            None => (text, 0),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let all = format!("{whole}{fraction}");
        if all.len() > DIGITS_MAX || power.abs() > POWER_MAX {
            return Err(wrong());
        }
        let digits = all.parse().map_err(|_| wrong())?;
        Ok(Decimal { digits, scale: fraction.len() as i32 - power })
    }
}

impl Decimal {
    /// In cents, rounded; none when there are more than can be counted.
    fn cents(self) -> Option<Cents> {
        let finer = self.scale - 2;
        let power = 10_i128.checked_pow(finer.unsigned_abs());
        let cents = match (finer > 0, power) {
            (false, Some(power)) => self.digits.checked_mul(power)?,
            (false, None) => return None,
            (true, Some(power)) => {
                let (cents, rest) = (self.digits / power, self.digits % power);
                cents + if rest.abs() >= power - rest.abs() { rest.signum() } else { 0 }
            }
            // Finer than any number of digits that was let in: nearer to zero than to anything else.
            (true, None) => 0,
        };
        i64::try_from(cents).ok().map(Cents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cents(json: &str) -> Option<i64> {
        serde_json::from_str::<Cents>(json).ok().map(|cents| cents.0)
    }

    #[test]
    fn decimals_become_cents_exactly() {
        let exact =
            [("0.5", 50), ("0.99", 99), ("12.99", 1299), ("0", 0), ("0.0", 0), ("470.74", 47074), ("7", 700)];
        let powers = [("1e2", 10_000), ("1.5E1", 1_500), ("250e-2", 250), ("-0.5", -50), ("-3.20", -320)];
        let halves = [("0.005", 1), ("0.0049", 0), ("-0.005", -1), ("1.995", 200), ("0.29499", 29)];
        let tiny = [("1.776357e-15", 0), ("1e-36", 0)];
        for (json, expected) in exact.into_iter().chain(powers).chain(halves).chain(tiny) {
            assert_eq!(cents(json), Some(expected), "{json}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for json in
            ["1e999999999", "1e-999999999", "1e36", "99999999999999999999", "\"1\"", "null", "[]", "true"]
        {
            assert_eq!(cents(json), None, "{json}");
        }
        let long = format!("0.{}", "1".repeat(1000));
        assert_eq!(cents(&long), None);
    }

    #[test]
    fn a_price_is_rounded_only_when_it_was_multiplied() {
        let price = |json: &str| serde_json::from_str::<Price>(json).unwrap();
        assert_eq!(price("0.0023").of(8725), Ok(Cents(2007)), "20.0675");
        assert_eq!(price("0.3333").of(3), Ok(Cents(100)), "0.9999");
        assert_eq!(price("1.776357e-15").of(0), Ok(Cents(0)));
        assert_eq!(price("2.50").of(-2), Ok(Cents(-500)), "a return");
        assert!(price("1000000").of(i64::MAX).is_err());
        assert_eq!(serde_json::to_string(&price("2.50")).unwrap(), "2.50");
        assert!(serde_json::from_str::<Price>("\"2\"").is_err());
    }

    #[test]
    fn cents_are_shown_as_people_write_them() {
        assert_eq!(
            [5, 1234, -50, -1234].map(|cents| Cents(cents).to_string()),
            ["0.05", "12.34", "-0.50", "-12.34"]
        );
    }
}
