//! `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=delta`: each run sends what it adds, and whoever
//! keeps the sums counts every run of a short job. And histograms with exponential buckets.

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use opentelemetry_proto::tonic::metrics::v1::AggregationTemporality::{Cumulative, Delta};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use serde_json::Value as Json;

use crate::collector::{Collector, Wire, attribute};
use crate::peers::{Daemon, get, tool, value};
use crate::support::{Place, skip, troubles, wait_until};

const DELTA: (&str, &str) = ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta");
const BUCKETS: &str = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
const RUNS: u32 = 7;

/// A name that no other test has at the same time: two copies of a job at once are two instances.
fn named(what: &str) -> String {
    format!("{what}-{}", std::process::id())
}

/// Runs a short job, whose metrics alone go to the address.
#[track_caller]
fn succeed(place: &Place, name: &str, endpoint: &str) {
    let mut command = place.childminder(["--name", name, "--otel-flush-timeout", "20", "true"]);
    command.env("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", endpoint).env(DELTA.0, DELTA.1);
    let done = place.run_command(command);
    assert_eq!((done.code(), done.count("telemetry")), (0, 0), "{done:?}");
    assert_eq!(troubles(&done), Vec::<&str>::new(), "{done:?}");
}

/// What adds up deltas needs: the same identity in each run, increments, and spans of time that do not
/// overlap.
#[test]
fn the_increments_of_short_runs_add_up() {
    let (place, collector) = (Place::new(), Collector::start(Wire::Http));
    for _ in 0..RUNS {
        succeed(&place, &named("added"), &format!("http://{}/v1/metrics", collector.address));
    }
    let seen = collector.seen();
    let identities: Vec<_> = seen
        .resources
        .iter()
        .map(|one| {
            ["service.name", "service.instance.id", "host.name"]
                .map(|name| attribute(&one.attributes, name))
        })
        .collect();
    assert_eq!(identities.len(), RUNS as usize);
    assert!(
        identities.iter().all(|one| *one == identities[0] && one[1].is_some()),
        "{identities:?}"
    );
    let points = seen.points("childminder.runs").into_iter();
    let successes: Vec<_> = points
        .filter(|(point, _)| {
            attribute(&point.attributes, "childminder.outcome").as_deref() == Some("success")
        })
        .collect();
    assert!(successes.iter().all(|(_, temporality)| *temporality == Delta as i32));
    let sum: f64 = successes
        .iter()
        .map(|(point, _)| match point.value {
            Some(Value::AsDouble(value)) => value,
            _ => panic!("another type: {point:?}"),
        })
        .sum();
    assert_eq!(sum, f64::from(RUNS));
    for pair in successes.windows(2) {
        let (before, after) = (pair[0].0, pair[1].0);
        assert!(before.start_time_unix_nano < before.time_unix_nano);
        assert!(before.time_unix_nano <= after.start_time_unix_nano, "{before:?} {after:?}");
    }
    // What may fall is not added up.
    let running = seen.points("childminder.child.running");
    assert!(running.iter().all(|(_, temporality)| *temporality == Cumulative as i32));
}

/// Nobody else knows an increment: what a receiver refuses is sent again, and counts once.
#[test]
fn increments_that_were_refused_are_sent_again() {
    let (place, collector) = (Place::new(), Collector::start(Wire::Http));
    collector.seen().refusals = 5;
    let job = "until [ -e go ]; do sleep 0.01; done";
    let mut command = place.childminder(["--forward", "none", "sh", "-c", job]);
    command.envs(collector.variables()).env(DELTA.0, DELTA.1);
    command.env("OTEL_METRIC_EXPORT_INTERVAL", "10");
    let running = place.start_command(command);
    running.job();
    // One between any two exports, also while they are refused.
    let mut sent = 0;
    for refused in 1..=6 {
        running.signal("USR1");
        sent += 1;
        wait_until("the signal is noted", || {
            place.log().matches("signal 10 (SIGUSR1) from").count() >= sent
        });
        wait_until("an export is refused", || collector.seen().refused >= refused.min(5));
    }
    place.write("go", "");
    let done = running.end();
    assert_eq!(done.code(), 0, "{done:?}");
    let lost = done.message("telemetry was lost");
    assert!(lost.contains("5 export(s) failed, 0 item(s) dropped"), "{lost}");
    let seen = collector.seen();
    let heard: f64 = seen
        .points("childminder.signals.received")
        .iter()
        .filter(|(point, _)| {
            attribute(&point.attributes, "childminder.signal").as_deref() == Some("SIGUSR1")
        })
        .map(|(point, _)| match point.value {
            Some(Value::AsDouble(value)) => value,
            _ => panic!("another type: {point:?}"),
        })
        .sum();
    assert_eq!(heard, sent as f64, "{:?}", seen.points("childminder.signals.received"));
}

/// "base2_exponential_bucket_histogram": six milliseconds are told from fifty.
#[test]
fn histograms_have_exponential_buckets_where_asked() {
    for wire in [Wire::Http, Wire::Grpc] {
        let (place, collector) = (Place::new(), Collector::start(wire));
        let mut command = place.childminder(["sh", "-c", "exit 3"]);
        command.envs(collector.variables());
        command.env(BUCKETS, "base2_exponential_bucket_histogram");
        let done = place.run_command(command);
        assert_eq!((done.code(), troubles(&done).len()), (3, 0), "{done:?}");
        let seen = collector.seen();
        let found = seen.metrics.iter().filter(|one| one.name == "childminder.attempt.duration");
        let durations: Vec<_> = found.collect();
        let [duration] = durations[..] else { panic!("one: {durations:?}") };
        assert_eq!((duration.unit.as_str(), duration.description.is_empty()), ("s", false));
        let Some(Data::ExponentialHistogram(histogram)) = &duration.data else {
            panic!("{duration:?}")
        };
        let [point] = &histogram.data_points[..] else { panic!("{histogram:?}") };
        assert_eq!((point.count, point.sum == point.max), (1, true), "{point:?}");
        assert!(point.scale >= 10, "{point:?}");
    }
    // A word that nobody knows is warned of, and the buckets are those of the table.
    let (place, collector) = (Place::new(), Collector::start(Wire::Http));
    let mut command = place.childminder(["true"]);
    command.envs(collector.variables()).env(BUCKETS, "native");
    let done = place.run_command(command);
    assert!(troubles(&done).iter().any(|line| line.contains(BUCKETS)), "{done:?}");
    let seen = collector.seen();
    let mut durations =
        seen.metrics.iter().filter(|one| one.name == "childminder.attempt.duration");
    assert!(durations.all(|one| matches!(&one.data, Some(Data::Histogram(_)))));
}

/// Ports that were free just now.
fn ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    listeners.map(|one| one.local_addr().expect("an address").port())
}

/// Starts what `command` makes for these ports, which it cannot choose itself: others are tried if one was
/// taken meanwhile.
fn start<const N: usize>(
    place: &Place,
    command: impl Fn(&[u16; N]) -> Command,
    needed: usize,
) -> (Daemon, [u16; N]) {
    for _ in 0..5 {
        let ports = ports();
        let mut daemon = Daemon::start(place, command(&ports));
        let mut is_up = false;
        wait_until("it listens or has ended", || {
            let is_open = |port: &u16| TcpStream::connect(("127.0.0.1", *port)).is_ok();
            is_up = ports[..needed].iter().all(is_open);
            is_up || daemon.has_ended()
        });
        if is_up && !daemon.has_ended() {
            return (daemon, ports);
        }
    }
    panic!("no ports to be had")
}

/// The official Collector, a build that has what the file in deploy/ needs.
fn collector(place: &Place, config: &Path) -> Option<PathBuf> {
    let program = std::env::var_os("CHILDMINDER_TEST_OTELCOL").unwrap_or_default();
    let program =
        if program.is_empty() { "otelcol-contrib".into() } else { PathBuf::from(program) };
    let output = place.command(&program).args(["validate", "--config"]).arg(config).output();
    match output {
        Ok(output) => {
            assert!(output.status.success(), "{output:?}");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!said.contains("deprecated"), "{said}");
            Some(program)
        }
        Err(_) => {
            let why = "it is not there: set CHILDMINDER_TEST_OTELCOL to otelcol-contrib";
            skip("deploy/otel-collector in the Collector", why);
            None
        }
    }
}

/// The configuration of deploy/ as it is, without ClickHouse and Tempo: metrics go on, and the sums of
/// short jobs are exact. What the alerting rules speak of has these names.
#[test]
fn the_collector_counts_every_short_run() {
    let place = Place::new();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/otel-collector/config.yaml");
    let Ok(text) = std::fs::read_to_string(&config) else {
        return skip("the files in deploy/", "they cannot be read by this user");
    };
    let config = place.write("collector.yaml", &text);
    let Some(program) = collector(&place, &config) else { return };
    let listens = [
        "METRICS_LISTEN",
        "METRICS_SHORT_LISTEN",
        "HEALTH_LISTEN",
        "OTLP_GRPC_LISTEN",
        "OTLP_HTTP_LISTEN",
        "OTLP_SHORT_LISTEN",
    ];
    let command = |ports: &[u16; 8]| {
        let mut command = place.command(&program);
        command.arg("--config").arg(&config);
        command.args(["--set", "service::telemetry::metrics::level=none"]);
        command.envs(
            listens.iter().zip(ports).map(|(name, port)| (name, format!("127.0.0.1:{port}"))),
        );
        for (name, port) in
            ["TEMPO_ENDPOINT", "CLICKHOUSE_COLLECTOR_ENDPOINT"].iter().zip(&ports[6..])
        {
            command.env(name, format!("127.0.0.1:{port}"));
        }
        command
    };
    let job = named("collected");
    let (daemon, [metrics, short, _, _, http, otlp_short, ..]) = start(&place, command, 6);
    for _ in 0..RUNS {
        succeed(&place, &job, &format!("http://127.0.0.1:{otlp_short}/v1/metrics"));
    }
    let labels = [&*format!("job=\"{job}\""), "childminder_outcome=\"success\"", "instance=\""];
    let text = || get(&format!("127.0.0.1:{short}"), "/metrics");
    wait_until("the runs are counted", || {
        value(&text(), "childminder_runs_total", &labels) == Some(f64::from(RUNS))
    });
    // A long job, all of whose signals go one way.
    let mut command = place.childminder(["--name", "long", "sh", "-c", "exit 3"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{http}"));
    let done = place.run_command(command);
    assert_eq!((done.code(), done.count("telemetry")), (3, 0), "{done:?}");
    let text = || get(&format!("127.0.0.1:{metrics}"), "/metrics");
    wait_until("its end is there", || {
        value(&text(), "childminder_run_last_exit_code", &["job=\"long\""]) == Some(3.0)
    });
    let text = text();
    for (name, label) in [
        ("childminder_attempts_total", "childminder_outcome=\"failure\""),
        ("childminder_verdicts_total", "childminder_verdict=\"exit_nonzero\""),
        ("childminder_telemetry_dropped_items_total", "childminder_pipeline=\"logs\""),
        ("process_cpu_time_seconds_total", "cpu_mode=\"user\""),
        ("childminder_attempt_duration_seconds_bucket", "le=\"0.001\""),
        ("childminder_restarts_total", "host_name=\""),
    ] {
        assert!(value(&text, name, &[label, "job=\"long\""]).is_some(), "{name} {label}: {text}");
    }
    assert!(!daemon.says().contains("deprecated"), "{}", daemon.says());
}

/// Prometheus 3, which takes OTLP itself.
fn prometheus_3(place: &Place) -> Option<PathBuf> {
    let given = std::env::var_os("CHILDMINDER_TEST_PROMETHEUS_3").map(PathBuf::from);
    let program =
        given.filter(|path| !path.as_os_str().is_empty()).or_else(|| tool("prometheus"))?;
    let output = place.command(&program).arg("--help").output();
    let has_otlp = output.is_ok_and(|output| {
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).contains("otlp-deltatocumulative")
    });
    if !has_otlp {
        let why = "no Prometheus 3: set CHILDMINDER_TEST_PROMETHEUS_3";
        skip("what Prometheus gets by OTLP", why);
        return None;
    }
    Some(program)
}

#[test]
fn prometheus_counts_every_short_run_by_otlp() {
    let place = Place::new();
    let Some(program) = prometheus_3(&place) else { return };
    place.write("prometheus.yml", "global: {}\n");
    let command = |ports: &[u16; 1]| {
        let mut command = place.command(&program);
        command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]);
        command.arg(format!("--web.listen-address=127.0.0.1:{}", ports[0]));
        command.args(["--web.enable-otlp-receiver", "--enable-feature=otlp-deltatocumulative"]);
        command
    };
    let (daemon, [port]) = start(&place, command, 1);
    let (address, job) = (format!("127.0.0.1:{port}"), named("received"));
    wait_until("it is ready", || get(&address, "/-/ready").contains("Ready"));
    for _ in 0..RUNS {
        succeed(&place, &job, &format!("http://{address}/api/v1/otlp/v1/metrics"));
    }
    let query = format!("/api/v1/query?query=childminder_runs_total%7Bjob=%22{job}%22%7D");
    let answer: Json = serde_json::from_str(&get(&address, &query)).expect("JSON");
    let series = answer["data"]["result"].as_array().expect("a list");
    let counts: BTreeMap<&str, &str> = series
        .iter()
        .filter_map(|one| {
            Some((one["metric"]["childminder_outcome"].as_str()?, one["value"][1].as_str()?))
        })
        .collect();
    assert_eq!(counts.get("success"), Some(&"7"), "{answer} {}", daemon.says());
    assert_eq!(counts.get("failure"), Some(&"0"), "{answer}");
}
