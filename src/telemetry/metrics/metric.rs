//! What a metric is here, and the numbers that all of them are made of.
//!
//! The table of all metrics is `catalogue`; Prometheus, the text file, the Pushgateway and OTLP read
//! the same one.

use std::borrow::Cow;
use std::time::Duration;

use crate::model::histogram::Histogram;
use crate::model::pipeline::PerPipeline;
use crate::sink::stats::Stats;
use crate::telemetry::identity::TelemetryIdentity;
use crate::telemetry::metrics::readings::{ChildReading, SelfReading};

/// The kind of a metric in Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Never falls.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts values by their size.
    Histogram,
}

impl MetricKind {
    /// Returns its word in the text format.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        }
    }
}

/// One metric: a line of the table.
pub struct Family {
    /// Its name in Prometheus, with unit and `_total`.
    pub name: &'static str,
    pub kind: MetricKind,
    /// Its own labels; `job_name` comes to all of `childminder_*` but the build's.
    pub labels: &'static [&'static str],
    /// What it says; the same for all jobs and hosts, or node_exporter drops it.
    pub help: &'static str,
    /// Its other form, if it has one.
    pub otlp: Option<Otlp>,
    pub points: fn(&Snapshot<'_>) -> Vec<MetricPoint>,
}

/// A metric's form in OpenTelemetry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Otlp {
    pub name: &'static str,
    /// Its unit in UCUM.
    pub unit: &'static str,
    /// Which instrument it is.
    pub instrument: Instrument,
    /// The names of the attributes that its labels are.
    pub attributes: &'static [&'static str],
    /// An attribute that distinguishes it from others of the same name.
    pub constant: Option<(&'static str, &'static str)>,
}

/// The instruments of OpenTelemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instrument {
    /// A sum that only rises.
    Counter,
    /// A sum that rises and falls.
    UpDownCounter,
    /// A number of the moment that nobody adds up.
    Gauge,
    /// Values by size; it is not in `points` of OTLP but recorded value by value.
    Histogram,
}

/// One series of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricPoint {
    /// The values of the labels, in the family's order.
    pub labels: Vec<Cow<'static, str>>,
    pub value: Value,
}

/// The value of a series.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a counter or gauge.
    Number(f64),
    /// Of a histogram.
    Histogram(Histogram),
}

/// All that metrics are made of.
pub struct Snapshot<'a> {
    pub stats: &'a Stats,
    pub identity: &'a TelemetryIdentity,
    /// The job, if it lives and can be read.
    pub child: Option<ChildReading>,
    pub itself: Option<SelfReading>,
    /// What became of telemetry itself.
    pub health: Health,
}

/// What became of telemetry itself, for traces, metrics and logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Exports that were tried.
    pub exports: PerPipeline<u64>,
    /// Exports that failed.
    pub failures: PerPipeline<u64>,
    /// Items that were dropped, because a queue was full or an export failed permanently.
    pub dropped: PerPipeline<u64>,
}

/// A series without labels.
pub fn one(value: f64) -> Vec<MetricPoint> {
    vec![MetricPoint { labels: Vec::new(), value: Value::Number(value) }]
}

/// A series without labels, if there is a number.
pub fn maybe(value: Option<f64>) -> Vec<MetricPoint> {
    value.map(one).unwrap_or_default()
}

/// A series for each pair of a label's value and a number.
pub fn each<L: Into<Cow<'static, str>>>(
    pairs: impl IntoIterator<Item = (L, f64)>,
) -> Vec<MetricPoint> {
    let point = |(label, value): (L, f64)| MetricPoint {
        labels: vec![label.into()],
        value: Value::Number(value),
    };
    pairs.into_iter().map(point).collect()
}

/// Returns a span in seconds, as both conventions want it.
#[must_use]
pub fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}
