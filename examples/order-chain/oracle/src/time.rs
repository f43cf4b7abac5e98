//! Milliseconds, from the text of a time.

/// Milliseconds since 1970 of an RFC 3339 time in UTC, to the second: `2017-01-01T11:53:26Z`. None for anything else.
///
/// Days are counted as in "chrono-Compatible Low-Level Date Algorithms" (Howard Hinnant, 2013).
pub(crate) fn milliseconds(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    // Years begin in March, so that the day of a leap year is their last.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000)
}

fn numbers(text: &str, between: char) -> Option<[i64; 3]> {
    let parts: Option<Vec<i64>> = text.split(between).map(|part| part.parse().ok()).collect();
    parts?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_leap_years_and_before_1970_are_counted() {
        assert_eq!(milliseconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(milliseconds("1969-12-31T23:59:59Z"), Some(-1_000));
        assert_eq!(milliseconds("2000-02-29T00:00:00Z"), Some(951_782_400_000));
        assert_eq!(milliseconds("2017-01-01T11:53:26Z"), Some(1_483_271_606_000));
        assert_eq!(milliseconds("2017-01-01 11:53:26"), None);
    }
}
