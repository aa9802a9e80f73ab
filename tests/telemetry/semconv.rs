//! The semantic conventions of OpenTelemetry: what is sent under their names has their types, units and
//! instruments, and nothing else is sent under names that look like theirs. Own names begin with
//! `childminder.`; their types are in a table here.
//!
//! `tests/fixtures/semconv/registry.tsv` was made of the conventions' own registry, whole for the namespaces
//! that are used here: a name that is misspelt or deprecated is found.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;

use crate::collector::{Collector, Seen, Wire, words};
use crate::support::{Place, wait_until};

const REGISTRY: &str = include_str!("../fixtures/semconv/registry.tsv");
const OWN: &str = include_str!("../fixtures/semconv/childminder.tsv");

/// A line of a table.
#[derive(Debug)]
struct Entry<'a> {
    /// The type of an attribute, or the instrument.
    kind: &'a str,
    unit: &'a str,
    /// Of an enumeration.
    values: Vec<&'a str>,
    stability: &'a str,
}

/// By kind (`attribute`, `metric`) and name.
fn table() -> BTreeMap<(&'static str, &'static str), Entry<'static>> {
    let lines = REGISTRY.lines().chain(OWN.lines()).filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.split('\t').collect();
            let [name, what, kind, unit, values, stability] = cells[..] else {
                panic!("six cells: {line}")
            };
            let values = values.split('|').filter(|value| !value.is_empty()).collect();
            ((what, name), Entry { kind, unit, values, stability })
        })
        .collect()
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::StringValue(_) => "string",
        Value::BoolValue(_) => "boolean",
        Value::IntValue(_) => "int",
        Value::DoubleValue(_) => "double",
        Value::ArrayValue(_) => "string[]",
        _ => "another",
    }
}

/// Says what is wrong with attributes.
fn wrong_attributes<'a>(attributes: impl IntoIterator<Item = &'a KeyValue>) -> Vec<String> {
    let (table, mut wrong) = (table(), Vec::new());
    for pair in attributes {
        // What the user names himself.
        if pair.key.starts_with("childminder.tag.") || pair.key == "team" {
            continue;
        }
        let Some(entry) = table.get(&("attribute", pair.key.as_str())) else {
            wrong.push(format!("{}: an unknown name", pair.key));
            continue;
        };
        let any = pair.value.as_ref().expect("a value");
        let value = any.value.as_ref().expect("a value");
        // Every enumeration but that of causes is complete as far as we use it.
        let is_known = entry.values.is_empty()
            || pair.key == "error.type"
            || entry.values.contains(&words(any).as_str());
        if kind_of(value) != entry.kind || entry.stability == "deprecated" || !is_known {
            wrong.push(format!("{pair:?}: {entry:?}"));
        }
    }
    wrong
}

/// Says what is wrong with a metric, and with the attributes of its points.
fn wrong_metric(metric: &Metric) -> Vec<String> {
    let (instrument, attributes): (&str, Vec<&KeyValue>) = match metric.data.as_ref() {
        Some(Data::Sum(sum)) => {
            let kind = if sum.is_monotonic { "counter" } else { "updowncounter" };
            (kind, sum.data_points.iter().flat_map(|point| &point.attributes).collect())
        }
        Some(Data::Gauge(gauge)) => {
            ("gauge", gauge.data_points.iter().flat_map(|point| &point.attributes).collect())
        }
        Some(Data::Histogram(all)) => {
            ("histogram", all.data_points.iter().flat_map(|point| &point.attributes).collect())
        }
        other => panic!("{other:?}"),
    };
    let mut wrong = wrong_attributes(attributes);
    if metric.description.is_empty() {
        wrong.push(format!("{}: without a description", metric.name));
    }
    // Own metrics are in the catalogue, whose tests hold them.
    if metric.name.starts_with("childminder.") {
        return wrong;
    }
    match table().get(&("metric", metric.name.as_str())) {
        Some(entry)
            if entry.kind == instrument
                && entry.unit == metric.unit
                && entry.stability != "deprecated" => {}
        entry => wrong.push(format!("{} ({instrument}, {}): {entry:?}", metric.name, metric.unit)),
    }
    wrong
}

fn wrong(seen: &Seen) -> Vec<String> {
    let spans = seen.spans.iter();
    let of_spans = spans.flat_map(|span| {
        let events = span.events.iter().flat_map(|event| &event.attributes);
        let links = span.links.iter().flat_map(|link| &link.attributes);
        span.attributes.iter().chain(events).chain(links)
    });
    let of_records = seen.records.iter().flat_map(|record| &record.attributes);
    let of_resources = seen.resources.iter().flat_map(|resource| &resource.attributes);
    let mut wrong = wrong_attributes(of_spans.chain(of_records).chain(of_resources));
    wrong.extend(seen.metrics.iter().flat_map(wrong_metric));
    wrong.sort();
    wrong.dedup();
    wrong
}

/// Runs of every kind: success, failure, signal, restart, failed start, a stop, a built-in function.
#[test]
fn what_is_sent_follows_the_conventions() {
    let runs: [(&[&str], &str); 5] = [
        (
            &[
                "--batch",
                "night",
                "--tag",
                "team=red",
                "--record-args",
                "--metric-label",
                "team=red",
            ],
            "(exit 0) & wait",
        ),
        (&["--restart-on", "failure", "--backoff", "0..0", "-t", "2"], "exit 3"),
        (&[], "kill -SEGV $$"),
        (
            &["--timeout", "100ms", "--kill-after", "100ms"],
            "trap '' TERM; while :; do sleep 0.02; done",
        ),
        (&["-c"], "kill -STOP $$; exit 0"),
    ];
    for (options, job) in runs {
        for logs in ["otlp", "none"] {
            let (place, collector) = (Place::new(), Collector::start(Wire::Http));
            let mut command = place.childminder(options);
            command.args(["sh", "-c", job]).envs(collector.variables());
            command.env("OTEL_LOGS_EXPORTER", logs);
            place.run_command(command);
            let seen = collector.seen();
            assert!(!seen.metrics.is_empty() && !seen.run().attributes.is_empty());
            assert_eq!(wrong(&seen), Vec::<String>::new(), "{options:?} {job}");
        }
    }
    let (place, collector) = (Place::new(), Collector::start(Wire::Http));
    let mut command = place.childminder(["/no/such/program"]);
    command.envs(collector.variables());
    place.run_command(command);
    assert_eq!(wrong(&collector.seen()), Vec::<String>::new());
}

/// What is measured of a job that lives.
#[test]
fn what_is_sent_while_the_job_runs_follows_the_conventions() {
    let (place, collector) = (Place::new(), Collector::start(Wire::Http));
    let mut command = place.childminder(["--sample", "20ms", "sh", "-c"]);
    command.arg("until [ -e go ]; do sleep 0.02; done").envs(collector.variables());
    command.env("OTEL_METRIC_EXPORT_INTERVAL", "20");
    let running = place.start_command(command);
    let names = [
        "process.memory.usage",
        "process.memory.virtual",
        "process.thread.count",
        "process.unix.file_descriptor.count",
        "process.cpu.time",
        "process.paging.faults",
        "process.context_switches",
        "process.disk.io",
        "childminder.tree.processes",
    ];
    collector
        .wait("all of them came", |seen| names.iter().all(|name| !seen.points(name).is_empty()));
    place.write("go", "");
    running.end();
    assert_eq!(wrong(&collector.seen()), Vec::<String>::new());
    // -f has metrics of its own.
    let (place, collector) = (Place::new(), Collector::start(Wire::Http));
    let mut command = place.childminder(["-f", "600", "--stop-on", "TERM", "sleep"]);
    command.envs(collector.variables());
    let running = place.start_command(command);
    wait_until("it runs", || place.logs().len() == 1 && place.log().contains("trapped"));
    running.signal("TERM");
    running.end();
    assert_eq!(wrong(&collector.seen()), Vec::<String>::new());
}

/// The source, where rare names are as well.
#[test]
fn every_name_in_the_source_is_one_of_the_conventions_or_of_our_own() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/telemetry");
    let Ok(entries) = fs::read_dir(directory) else {
        return crate::support::skip("the names in the source", "this user cannot read it");
    };
    let rooms = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let files = rooms.flat_map(|path| match fs::read_dir(&path) {
        Ok(inside) => inside.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(_) => vec![path],
    });
    let table = table();
    let families: Vec<&str> = REGISTRY
        .lines()
        .filter_map(|line| line.split_once('.'))
        .map(|(family, _)| family)
        .chain(["childminder"])
        .collect();
    let mut count = 0;
    for file in files.filter(|path| path.extension().is_some_and(|ending| ending == "rs")) {
        let text = fs::read_to_string(&file).expect("a source");
        let is_name = |text: &&str| {
            let is_plain = |c: char| c.is_ascii_lowercase() || matches!(c, '.' | '_');
            let family = text.split('.').next().unwrap_or_default();
            text.contains('.')
                && !text.ends_with('.')
                && text.chars().all(is_plain)
                && families.contains(&family)
        };
        for name in text.split('"').filter(is_name) {
            let is_own_metric = childminder::internals::FAMILIES
                .iter()
                .any(|family| family.otlp.is_some_and(|otlp| otlp.name == name));
            let is_known = ["attribute", "metric", "event"]
                .iter()
                .filter_map(|what| table.get(&(what, name)))
                .any(|entry| entry.stability != "deprecated");
            assert!(is_known || is_own_metric, "{name} in {}", file.display());
            count += 1;
        }
    }
    assert!(count > 80, "only {count} names were found");
}
