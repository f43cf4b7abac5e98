//! Rows as a table in Markdown, aligned, so that it reads as well in a terminal as on a page.

use crate::effort::Effort;
use crate::row::Row;

const HEAD: [&str; 12] = [
    "row",
    "partitions",
    "shards",
    "seconds",
    "per second",
    "MiB/s",
    "p50 µs",
    "p99 µs",
    "cpu s",
    "peak MiB",
    "ratio",
    "to",
];
/// Those that hold numbers stand to the right.
const IS_NUMBER: [bool; 12] = [false, true, true, true, true, true, true, true, true, true, true, false];

/// The table.
pub fn markdown(rows: &[Row]) -> String {
    let mut lines = vec![HEAD.map(str::to_owned)];
    lines.extend(rows.iter().map(cells));
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default().max(3))
        .collect();
    let mut table = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (column, cell) in line.iter().enumerate() {
            let width = widths[column];
            table +=
                &if IS_NUMBER[column] { format!("| {cell:>width$} ") } else { format!("| {cell:<width$} ") };
        }
        table += "|\n";
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(width + 1);
                table += &if IS_NUMBER[column] { format!("|{dashes}:") } else { format!("|{dashes}-") };
            }
            table += "|\n";
        }
    }
    table
}

fn cells(row: &Row) -> [String; 12] {
    let text = |value: Option<String>| value.unwrap_or_default();
    [
        row.name.to_owned(),
        text(row.place.map(|place| place.partitions.to_string())),
        text(row.place.map(|place| place.shards.to_string())),
        format!("{:.1}", row.time.as_secs_f64()),
        text(
            row.amount
                .zip(row.per_second())
                .map(|(amount, rate)| format!("{} {}", grouped(rate), amount.unit)),
        ),
        text(row.mib_per_second().map(|rate| format!("{rate:.1}"))),
        text(row.latency.map(|latency| format!("{:.1}", latency.p50.as_secs_f64() * 1e6))),
        text(row.latency.map(|latency| format!("{:.1}", latency.p99.as_secs_f64() * 1e6))),
        both(row, |effort| format!("{:.1}", effort.cpu_seconds)),
        both(row, |effort| format!("{:.0}", effort.peak_mib)),
        text(row.ratio.map(|ratio| format!("{:.2}", ratio.value))),
        text(row.ratio.map(|ratio| ratio.to.to_owned())),
    ]
}

/// A figure of this process, and of the other one.
fn both(row: &Row, figure: impl Fn(Effort) -> String) -> String {
    let (this, other) = row.efforts;
    other.map_or_else(|| figure(this), |other| format!("{} + {}", figure(this), figure(other)))
}

/// A number with its thousands apart.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let second = Duration::from_secs(1);
        let rows = [
            Row::new("produce", second).on(1, 1).amount(1_234_567, "records", 1_024).ratio(0.5, "a µ rate"),
            Row::new("x", second),
        ];
        let table = markdown(&rows);
        assert!(table.contains("| 1,234,567 records | 1205.6 |"), "{table}");
        let lengths: Vec<_> = table.lines().map(|line| line.chars().count()).collect();
        assert!(lengths.windows(2).all(|two| two[0] == two[1]), "{table}");
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!([0.4, 999.0, 1_000.0, 1e6].map(grouped), ["0", "999", "1,000", "1,000,000"]);
    }
}
