//! A row: what was measured, on how much of a broker, for how long, and how it stands to what bounds it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::effort::Effort;
use crate::times::Times;

/// One measurement.
#[derive(Debug, Clone)]
pub struct Row {
    /// What it is of.
    pub name: &'static str,
    /// The partitions, and the shards that they lie in, that took part; none where there is no broker.
    pub place: Option<Place>,
    /// How long was measured.
    pub time: Duration,
    /// How much there was in that time.
    pub amount: Option<Amount>,
    /// How long each took, if that was looked at.
    pub latency: Option<Latency>,
    /// How it stands to what bounds it.
    pub ratio: Option<Ratio>,
    /// What it cost this process, and the other one, if there was one.
    pub efforts: (Effort, Option<Effort>),
}

/// What of a broker took part.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Partitions.
    pub partitions: u32,
    /// Shards that they lie in.
    pub shards: u32,
}

/// How much there was.
#[derive(Debug, Clone, Copy)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Of what.
    pub unit: &'static str,
    /// Bytes of each, as its user sees them: of a record's value, not of what it is wrapped in.
    pub bytes_each: usize,
}

/// The time of one.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    /// Half took no longer.
    pub p50: Duration,
    /// All but one of a hundred took no longer.
    pub p99: Duration,
}

/// This row's figure by another's.
#[derive(Debug, Clone, Copy)]
pub struct Ratio {
    /// The quotient: of rates, more is better; of times, less.
    pub value: f64,
    /// What it was divided by.
    pub to: &'static str,
}

const MIB: f64 = 1_048_576.0;

impl Row {
    /// A row of no partitions, without figures.
    pub fn new(name: &'static str, time: Duration) -> Row {
        Row { name, place: None, time, amount: None, latency: None, ratio: None, efforts: <_>::default() }
    }

    /// With so many partitions, of so many shards.
    pub fn on(mut self, partitions: u32, shards: u32) -> Row {
        self.place = Some(Place { partitions, shards });
        self
    }

    /// With an amount.
    pub fn amount(mut self, count: u64, unit: &'static str, bytes_each: usize) -> Row {
        self.amount = Some(Amount { count, unit, bytes_each });
        self
    }

    /// With the times of single ones.
    pub fn latency(mut self, times: Times) -> Row {
        self.latency = Some(times.latency());
        self
    }

    /// With a quotient.
    pub fn ratio(mut self, value: f64, to: &'static str) -> Row {
        self.ratio = Some(Ratio { value, to });
        self
    }

    /// What rounds are compared by, to find the middle one: the ratio, or else the time of one, or else the rate.
    pub fn merit(&self) -> f64 {
        let p50 = self.latency.map(|latency| latency.p50.as_secs_f64());
        self.ratio.map(|ratio| ratio.value).or(p50).or(self.per_second()).unwrap_or_default()
    }

    /// How many a second.
    pub fn per_second(&self) -> Option<f64> {
        self.amount.map(|amount| amount.count as f64 / self.time.as_secs_f64())
    }

    /// MiB a second; none where bytes are not what it is about.
    pub fn mib_per_second(&self) -> Option<f64> {
        let bytes = self.amount?.bytes_each;
        (bytes > 0).then_some(self.per_second()? * bytes as f64 / MIB)
    }

    /// What is printed when the row was measured.
    pub fn line(&self) -> String {
        let mut line = format!("{}, {:.1} s:", self.name, self.time.as_secs_f64());
        if let (Some(amount), Some(rate)) = (self.amount, self.per_second()) {
            line += &format!(" {rate:.0} {}/s", amount.unit);
        }
        if let Some(Latency { p50, p99 }) = self.latency {
            line += &format!(" p50 {p50:.1?} p99 {p99:.1?}");
        }
        line
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        json!({
            "name": self.name,
            "partitions": self.place.map(|place| place.partitions),
            "shards": self.place.map(|place| place.shards),
            "seconds": self.time.as_secs_f64(),
            "unit": self.amount.map(|amount| amount.unit),
            "count": self.amount.map(|amount| amount.count),
            "per-second": self.per_second(),
            "mib-per-second": self.mib_per_second(),
            "p50-us": self.latency.map(|latency| micros(latency.p50)),
            "p99-us": self.latency.map(|latency| micros(latency.p99)),
            "ratio": self.ratio.map(|ratio| ratio.value),
            "cpu-seconds": self.efforts.0.cpu_seconds,
            "peak-mib": self.efforts.0.peak_mib,
            "other-cpu-seconds": self.efforts.1.map(|effort| effort.cpu_seconds),
            "other-peak-mib": self.efforts.1.map(|effort| effort.peak_mib),
            "ratio-to": self.ratio.map(|ratio| ratio.to),
        })
    }
}
