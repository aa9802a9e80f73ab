//! The text forms of metrics: 0.0.4 of Prometheus by its crate, and OpenMetrics 1.0, which the crate
//! does not have, over the same families.

use std::collections::HashMap;
use std::fmt::{self, Write};

use prometheus::TextEncoder;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram as ProtoHistogram, LabelPair, Metric, MetricFamily,
    MetricType,
};

use crate::model::histogram::Histogram;
use crate::model::text::Printable;
use crate::telemetry::identity::TelemetryIdentity;
use crate::telemetry::metrics::catalogue::FAMILIES;
use crate::telemetry::metrics::metric::{Family, MetricKind, MetricPoint, Snapshot, Value};

/// The media type of 0.0.4.
pub const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The numbers of one moment, for all families in the table's order.
pub struct Collected(Vec<(&'static Family, Vec<MetricPoint>)>);

/// Remembers counters, so that none ever falls: what a living process says of itself and what the
/// kernel says after its death differ a little.
#[derive(Default)]
pub struct Clamp(HashMap<(&'static str, Vec<String>), f64>);

impl Collected {
    /// Takes the numbers of all families.
    #[must_use]
    pub fn of(snapshot: &Snapshot<'_>, clamp: &mut Clamp) -> Collected {
        let points = |family: &'static Family| {
            let mut points = (family.points)(snapshot);
            if family.kind == MetricKind::Counter {
                points.iter_mut().for_each(|point| clamp.hold(family.name, point));
            }
            (family, points)
        };
        Collected(FAMILIES.iter().map(points).collect())
    }

    /// Returns each family with its numbers.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Family, &[MetricPoint])> {
        self.0.iter().map(|(family, points)| (*family, points.as_slice()))
    }

    /// Leaves out what is about childminder and not about the job, for places that many
    /// processes write to.
    #[must_use]
    pub fn of_the_job(mut self) -> Collected {
        self.0.retain(|(family, _)| is_of_the_job(family.name));
        self
    }
}

impl Clamp {
    fn hold(&mut self, name: &'static str, point: &mut MetricPoint) {
        let Value::Number(value) = &mut point.value else { return };
        let labels = point.labels.iter().map(|label| label.clone().into_owned()).collect();
        let highest = self.0.entry((name, labels)).or_insert(*value);
        *highest = highest.max(*value);
        *value = *highest;
    }
}

/// Whether a metric carries the job's name.
#[must_use]
pub fn is_of_the_job(name: &str) -> bool {
    name.starts_with("childminder_") && name != "childminder_build_info"
}

/// A label. The texts that are made of it go to terminals, too (`curl`): what one would obey is escaped. A
/// line feed has an escape of the format's own.
fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    let lines: Vec<String> = value.split('\n').map(|line| Printable(line).to_string()).collect();
    pair.set_value(lines.join("\n"));
    pair
}

/// Makes the crate's families, which its encoder and ours take.
#[must_use]
pub fn families(collected: &Collected, identity: &TelemetryIdentity) -> Vec<MetricFamily> {
    let present = collected.iter().filter(|(_, points)| !points.is_empty());
    let one = |(family, points): (&Family, &[MetricPoint])| {
        let mut common = Vec::new();
        if is_of_the_job(family.name) {
            common.push(pair("job_name", &identity.name));
        }
        common.extend(identity.labels.iter().map(|(name, value)| pair(name, value)));
        let mut proto = MetricFamily::default();
        proto.set_name(family.name.to_owned());
        proto.set_help(family.help.to_owned());
        proto.set_field_type(match family.kind {
            MetricKind::Counter => MetricType::COUNTER,
            MetricKind::Gauge => MetricType::GAUGE,
            MetricKind::Histogram => MetricType::HISTOGRAM,
        });
        proto.set_metric(points.iter().map(|point| metric(family, &common, point)).collect());
        proto
    };
    present.map(one).collect()
}

fn metric(family: &Family, common: &[LabelPair], point: &MetricPoint) -> Metric {
    let own = family.labels.iter().zip(&point.labels).map(|(name, value)| pair(name, value));
    let mut metric = Metric::from_label(common.iter().cloned().chain(own).collect());
    match (&point.value, family.kind) {
        (Value::Histogram(histogram), _) => metric.set_histogram(proto_histogram(histogram)),
        (Value::Number(value), MetricKind::Counter) => {
            let mut counter = Counter::default();
            counter.set_value(*value);
            metric.set_counter(counter);
        }
        (Value::Number(value), _) => {
            let mut gauge = Gauge::default();
            gauge.set_value(*value);
            metric.set_gauge(gauge);
        }
    }
    metric
}

fn proto_histogram(histogram: &Histogram) -> ProtoHistogram {
    let bucket = |(bound, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    };
    let mut proto = ProtoHistogram::default();
    proto.set_bucket(histogram.cumulative().map(bucket).collect());
    proto.set_sample_count(histogram.count());
    proto.set_sample_sum(histogram.sum);
    proto
}

/// Writes the text format 0.0.4.
#[must_use]
pub fn text(families: &[MetricFamily]) -> String {
    // It refuses families without a name or metric only, and there are none.
    TextEncoder::new().encode_to_string(families).unwrap_or_default()
}

/// A trace to look into for a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exemplar {
    /// In hexadecimal, as W3C Trace Context has it.
    pub trace_id: String,
    /// The span of the attempt.
    pub span_id: String,
}

/// The counter and the histogram that an attempt changes.
const WITH_EXEMPLARS: [&str; 2] =
    ["childminder_attempts_total", "childminder_attempt_duration_seconds"];

/// Writes OpenMetrics 1.0.
#[must_use]
pub fn openmetrics(families: &[MetricFamily], exemplar: Option<&Exemplar>) -> String {
    let mut out = String::with_capacity(16 * 1024);
    for family in families {
        let exemplar = exemplar.filter(|_| WITH_EXEMPLARS.contains(&family.name()));
        // Writing to a string cannot fail.
        write_family(&mut out, family, exemplar).ok();
    }
    out.push_str("# EOF\n");
    out
}

fn write_family(
    out: &mut String,
    family: &MetricFamily,
    exemplar: Option<&Exemplar>,
) -> fmt::Result {
    let (name, kind) = match (family.name(), family.get_field_type()) {
        (name, MetricType::COUNTER) => (name.strip_suffix("_total").unwrap_or(name), "counter"),
        (name, MetricType::HISTOGRAM) => (name, "histogram"),
        (name, _) => match name.strip_suffix("_info") {
            Some(name) => (name, "info"),
            None => (name, "gauge"),
        },
    };
    writeln!(out, "# HELP {name} {}", escaped(family.help()))?;
    writeln!(out, "# TYPE {name} {kind}")?;
    if let Some(unit) = ["seconds", "bytes", "ratio"].iter().find(|unit| name.ends_with(**unit)) {
        writeln!(out, "# UNIT {name} {unit}")?;
    }
    for metric in family.get_metric() {
        let labels = labels(metric);
        match family.get_field_type() {
            MetricType::HISTOGRAM => write_histogram(out, name, metric, exemplar)?,
            MetricType::COUNTER => {
                let value = metric.get_counter().get_value();
                write!(out, "{name}_total{} {value}", braced(&labels))?;
                let exemplar = exemplar.filter(|_| value > 0.0);
                write_exemplar(out, exemplar, 1.0)?;
                out.push('\n');
            }
            _ => {
                let value = metric.get_gauge().get_value();
                writeln!(out, "{}{} {value}", family.name(), braced(&labels))?;
            }
        }
    }
    Ok(())
}

fn write_histogram(
    out: &mut String,
    name: &str,
    metric: &Metric,
    exemplar: Option<&Exemplar>,
) -> fmt::Result {
    let histogram = metric.get_histogram();
    let labels = labels(metric);
    let comma = if labels.is_empty() { "" } else { "," };
    let count = histogram.get_sample_count();
    for bucket in histogram.get_bucket() {
        let (bound, count) = (bucket.upper_bound(), bucket.cumulative_count());
        writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound:?}\"}} {count}")?;
    }
    write!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}")?;
    // Of a single value we know that the sum is it.
    let value = histogram.get_sample_sum();
    write_exemplar(out, exemplar.filter(|_| count == 1), value)?;
    out.push('\n');
    writeln!(out, "{name}_count{} {count}", braced(&labels))?;
    writeln!(out, "{name}_sum{} {}", braced(&labels), histogram.get_sample_sum())
}

fn write_exemplar(out: &mut String, exemplar: Option<&Exemplar>, value: f64) -> fmt::Result {
    let Some(Exemplar { trace_id, span_id }) = exemplar else { return Ok(()) };
    write!(out, " # {{trace_id=\"{trace_id}\",span_id=\"{span_id}\"}} {value}")
}

fn labels(metric: &Metric) -> String {
    let pairs = metric.get_label().iter();
    let pairs = pairs.map(|pair| format!("{}=\"{}\"", pair.name(), escaped(pair.value())));
    pairs.collect::<Vec<_>>().join(",")
}

fn braced(labels: &str) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{labels}}}") }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
pub(in crate::telemetry) mod tests {
    use std::time::Duration;

    use crate::model::event::Event;
    use crate::model::process::Pid;
    use crate::model::signal::Signal;
    use crate::model::time::Stamp;
    use crate::model::time::WallTime;
    use crate::model::verdict::{Confidence, Verdict, VerdictKind};
    use crate::plan::{InstanceId, TelemetryPlan};
    use crate::sink::stats::Stats;
    use crate::telemetry::identity::JobFacts;
    use crate::telemetry::metrics::metric::Health;

    use super::*;

    /// Someone whose name has everything that must be escaped.
    pub(in crate::telemetry) fn identity() -> TelemetryIdentity {
        let facts = JobFacts {
            name: Some("a \"b\"\\c\nd".into()),
            program: "/bin/x".into(),
            user: "u".into(),
            host: "h".into(),
            run_id: "r".into(),
        };
        let labels = vec![("team".to_owned(), "t".to_owned())];
        let instance = InstanceId::Random;
        TelemetryIdentity::new(
            facts,
            &TelemetryPlan { instance, labels, ..TelemetryPlan::default() },
        )
    }

    /// A run with an attempt that was killed, and one that ended well.
    pub(in crate::telemetry) fn stats() -> Stats {
        let pid = Pid(1);
        let judged = |kind| {
            Event::Judged(Verdict { kind, confidence: Confidence::Certain, evidence: Vec::new() })
        };
        let started = |attempt| Event::Started { attempt, pid, command: String::new() };
        let mut stats = Stats::new(stats_begin());
        let events = [
            started(1),
            Event::Signaled { pid, signal: Signal::KILL },
            judged(VerdictKind::OomKilled),
            started(2),
            Event::Exited { pid, status: 0 },
            judged(VerdictKind::Success),
            Event::Called { function: "file", took: Duration::from_millis(70), is_right: true },
        ];
        let stamp = |second| {
            let elapsed = Duration::from_secs(second);
            Stamp { wall: WallTime(stats_begin() + elapsed), elapsed }
        };
        for (second, event) in (0..).zip(&events) {
            stats.fold(stamp(second), event);
        }
        stats.end(stamp(9), 0);
        stats
    }

    fn stats_begin() -> Duration {
        Duration::from_secs(1_700_000_000)
    }

    pub(in crate::telemetry) fn collected(
        stats: &Stats,
        identity: &TelemetryIdentity,
    ) -> Collected {
        let health = Health::default();
        let snapshot = Snapshot { stats, identity, child: None, itself: None, health };
        Collected::of(&snapshot, &mut Clamp::default())
    }

    #[test]
    fn both_forms_have_the_same_numbers() {
        let identity = identity();
        let families = families(&collected(&stats(), &identity), &identity);
        let old = text(&families);
        let new = openmetrics(&families, None);
        let name = r#"job_name="a \"b\"\\c\nd",team="t""#;
        let line = format!("childminder_attempts_total{{{name},outcome=\"signal\"}} 1\n");
        assert!(old.contains(&line), "{old}");
        assert!(new.contains(&line), "{new}");
        assert!(new.contains("# TYPE childminder_attempts counter\n"));
        assert!(new.contains("# TYPE childminder_build info\n"));
        assert!(new.contains(&format!("_bucket{{{name},le=\"0.1\"}} 0\n")), "{new}");
        assert!(new.contains(&format!("_bucket{{{name},le=\"1.0\"}} 2\n")), "{new}");
        assert!(new.ends_with("# EOF\n"));
    }

    #[test]
    fn an_exemplar_leads_to_the_trace() {
        let identity = identity();
        let families = families(&collected(&stats(), &identity), &identity);
        let exemplar = Exemplar { trace_id: "ab".into(), span_id: "cd".into() };
        let new = openmetrics(&families, Some(&exemplar));
        let with = new.lines().filter(|line| line.contains("# {trace_id=\"ab\",span_id=\"cd\"}"));
        // One success and one death.
        assert_eq!(with.count(), 2);
    }

    #[test]
    fn a_counter_never_falls() {
        let identity = identity();
        let mut clamp = Clamp::default();
        let mut stats = stats();
        let mut restarts = |restarts: u32| {
            stats.history.attempt.number = restarts + 1;
            let health = Health::default();
            let snapshot =
                Snapshot { stats: &stats, identity: &identity, child: None, itself: None, health };
            let collected = Collected::of(&snapshot, &mut clamp);
            let found = collected.iter().find(|(one, _)| one.name == "childminder_restarts_total");
            found.map(|(_, points)| points[0].value.clone())
        };
        assert_eq!(restarts(5), Some(Value::Number(5.0)));
        assert_eq!(restarts(3), Some(Value::Number(5.0)));
    }

    #[test]
    fn names_follow_the_conventions() {
        for family in FAMILIES {
            let is_total = family.name.ends_with("_total");
            assert_eq!(is_total, family.kind == MetricKind::Counter, "{}", family.name);
            assert!(!family.help.contains("_") && family.help.ends_with('.'), "{}", family.help);
            if let Some(otlp) = family.otlp {
                assert_eq!(otlp.attributes.len(), family.labels.len(), "{}", family.name);
            }
        }
    }
}
