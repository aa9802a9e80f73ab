//! `--web.listen-address` and `--web.file-sd`: Prometheus finds a job, scrapes it and sees it go.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::collector::{Collector, Wire, hex};
use crate::hostile::Hostile;
use crate::peers::{Daemon, ask, get, get_as, promtool, tool, value};
use crate::support::{Place, Running, skip, wait_until};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0";

/// A job that runs until there is a file `go`, and serves its metrics at any free port.
fn serving<'a>(place: &'a Place, variables: &[(&str, String)]) -> (Running<'a>, String) {
    let mut command = place.childminder(["--web.listen-address", "127.0.0.1:0"]);
    command.args(["--web.file-sd", "jobs.json", "--name", "scraped job", "--sample", "20ms"]);
    command.args(["--restart-on", "exit:3", "--backoff", "0..0"]);
    let job = "[ $CHILDMINDER_ATTEMPT = 2 ] || exit 3; until [ -e go ]; do sleep 0.02; done";
    command.args(["sh", "-c", job]);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let running = place.start_command(command);
    let mut address = None;
    wait_until("the job is announced", || {
        address = announced(place).first().cloned();
        address.is_some()
    });
    (running, address.expect("found"))
}

/// The addresses in the file for Prometheus.
fn announced(place: &Place) -> Vec<String> {
    let list: Value = serde_json::from_str(&place.text("jobs.json")).unwrap_or_default();
    let targets = list.as_array().into_iter().flatten().filter_map(|one| one["targets"].as_array());
    targets.flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
}

#[test]
fn both_forms_of_the_metrics_are_accepted() {
    let place = Place::new();
    let (running, address) = serving(&place, &[]);
    wait_until("the job runs again", || {
        value(&get(&address, "/metrics"), "childminder_restarts_total", &[]) == Some(1.0)
    });
    let text = get_as(&address, "/metrics", "text/plain;version=0.0.4");
    assert_eq!(value(&text, "childminder_child_running", &["scraped job"]), Some(1.0), "{text}");
    if let Some((is_well, said)) = promtool(&place, &["check", "metrics"], &text) {
        assert!(is_well && said.is_empty(), "{said}\n{text}");
    }
    let open = get_as(&address, "/metrics", OPENMETRICS);
    assert!(open.ends_with("# EOF\n"), "{open}");
    parsed_by_python(&place, &open);
    place.write("go", "");
    assert_eq!(running.end().code(), 0);
    assert_eq!(announced(&place), Vec::<String>::new());
}

/// The parser of Prometheus' own library for Python is strict.
fn parsed_by_python(place: &Place, text: &str) {
    let script = "
import sys
try:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
except ImportError:
    sys.exit(77)
print(sum(len(family.samples) for family in parse(sys.stdin.read())))";
    let mut command: Command = place.command("python3");
    command.args(["-c", script]).stderr(Stdio::piped());
    command.stdin(std::fs::File::open(place.write(".input", text)).expect("a file"));
    match command.output() {
        Ok(output) if output.status.code() != Some(77) => {
            let count = String::from_utf8_lossy(&output.stdout).trim().parse::<usize>();
            let samples = text.lines().filter(|line| !line.starts_with('#')).count();
            assert_eq!(count.ok(), Some(samples), "{output:?}\n{text}");
        }
        _ => skip("OpenMetrics by its parser in Python", "prometheus_client is not there"),
    }
}

/// What Prometheus answers to a query: labels and value of each series.
fn query(address: &str, expression: &str) -> Vec<(Value, f64)> {
    let answer: Value =
        serde_json::from_str(&get(address, &format!("/api/v1/query?query={expression}")))
            .unwrap_or_default();
    let series = answer["data"]["result"].as_array().cloned().unwrap_or_default();
    let pair = |one: Value| {
        let value = one["value"][1].as_str()?.parse().ok()?;
        Some((one["metric"].clone(), value))
    };
    series.into_iter().filter_map(pair).collect()
}

fn prometheus(place: &Place, program: &std::path::Path, address: &str) -> Daemon {
    place.write(
        "prometheus.yml",
        &format!(
            "
global: {{ scrape_interval: 200ms, scrape_timeout: 200ms }}
scrape_configs:
  - job_name: fixed
    static_configs: [{{ targets: ['{address}'] }}]
  - job_name: found
    honor_labels: true
    file_sd_configs: [{{ files: [jobs.json], refresh_interval: 1s }}]
    relabel_configs:
      - {{ source_labels: [__meta_childminder_host, job_name], separator: /, target_label: instance }}
"
        ),
    );
    let mut command = place.command(program);
    command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]);
    command.args(["--web.listen-address=127.0.0.1:0", "--enable-feature=exemplar-storage"]);
    Daemon::start(place, command)
}

/// "Debian's Prometheus scrapes a running job", with exemplars; afterwards up is 0.
#[test]
fn prometheus_finds_a_job_and_sees_it_go() {
    let Some(program) = tool("prometheus") else { return };
    let (place, collector) = (Place::new(), Collector::start(Wire::Http));
    let (running, address) = serving(&place, &collector.variables());
    let mut daemon = prometheus(&place, &program, &address);
    let server = daemon.address();
    let up = |job: &str| {
        let found = query(&server, &format!("up%7Bjob=%22{job}%22%7D"));
        found.first().map(|(_, value)| *value)
    };
    wait_until("both ways lead to the job", || {
        up("fixed") == Some(1.0) && up("found") == Some(1.0)
    });
    wait_until("the job runs", || query(&server, "childminder_child_running").len() == 2);
    let found = query(&server, "childminder_child_running%7Bjob=%22found%22%7D");
    let instance = found[0].0["instance"].as_str().expect("an instance");
    assert!(instance.ends_with("/scraped job"), "{instance}");
    let exemplars = || {
        let path =
            "/api/v1/query_exemplars?query=childminder_attempts_total&start=0&end=9999999999";
        get(&server, path)
    };
    wait_until("an exemplar is stored", || exemplars().contains("trace_id"));
    let exemplars = exemplars();
    place.write("go", "");
    assert_eq!(running.end().code(), 0);
    let trace = hex(&collector.seen().run().trace_id);
    assert!(exemplars.contains(&trace), "{trace}: {exemplars}");
    wait_until("the job is down", || up("fixed") == Some(0.0));
    wait_until("it is announced no more", || up("found").is_none());
    wait_until("its series are stale", || query(&server, "childminder_child_running").is_empty());
    assert!(!daemon.says().contains("level=warn"), "{}", daemon.says());
}

/// Who scrapes does not hold up the job, and who hangs neither.
#[test]
fn a_client_that_hangs_does_not_hold_up_the_end() {
    let place = Place::new();
    let (running, address) = serving(&place, &[]);
    let _hung = std::net::TcpStream::connect(&address).expect("a connection");
    place.write("go", "");
    let began = std::time::Instant::now();
    assert_eq!(running.end().code(), 0);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

/// A job that ends at once, whose endpoint stays; returns its address.
fn lingering<'a>(place: &'a Place, span: &str, job: &str) -> (Running<'a>, String) {
    let mut command =
        place.childminder(["--web.listen-address", "127.0.0.1:0", "--web.linger", span]);
    command.args(["--web.file-sd", "jobs.json", "--name", "short", "sh", "-c", job]);
    let running = place.start_command(command);
    place.await_log("verdict: ");
    let mut address = None;
    wait_until("the job is announced", || {
        address = announced(place).first().cloned();
        address.is_some()
    });
    (running, address.expect("found"))
}

#[test]
fn the_endpoint_stays_until_the_end_was_scraped_once() {
    let place = Place::new();
    let (mut running, address) = lingering(&place, "600", "exit 3");
    // Anything but a scrape changes nothing.
    assert_eq!(get(&address, "/healthz"), "ok\n");
    ask(&address, "HEAD /metrics", "");
    let (head, text) = ask(&address, "GET /metrics", "");
    assert!(head.to_ascii_lowercase().contains("connection: close"), "{head}");
    assert_eq!(value(&text, "childminder_run_last_exit_code", &["short"]), Some(3.0), "{text}");
    assert_eq!(value(&text, "childminder_runs_total", &["failure"]), Some(1.0), "{text}");
    assert_eq!(value(&text, "childminder_child_running", &[]), Some(0.0), "{text}");
    wait_until("it ends", || running.has_ended());
    let done = running.end();
    assert_eq!(done.code(), 3, "{done:?}");
    assert_eq!(done.count("telemetry was"), 0, "{done:?}");
    assert_eq!(announced(&place), Vec::<String>::new());
}

#[test]
fn a_signal_that_asks_to_stop_ends_the_wait_for_a_scrape() {
    for signal in ["TERM", "INT", "HUP", "QUIT"] {
        let place = Place::new();
        let (running, _) = lingering(&place, "600", "exit 3");
        running.signal(signal);
        let done = running.end();
        assert_eq!(done.code(), 3, "{signal}: {done:?}");
        assert_eq!(done.count("telemetry was"), 0, "{signal}: {done:?}");
        assert_eq!(announced(&place), Vec::<String>::new(), "{signal}");
    }
}

#[test]
fn nobody_is_waited_for_longer_than_asked_or_without_an_endpoint() {
    let place = Place::new();
    let (running, _) = lingering(&place, "300ms", "exit 3");
    let done = running.end();
    assert_eq!(done.code(), 3);
    done.message("telemetry was lost: nobody scraped the last metrics");
    // A port that cannot be had, none at all, and a run that was asked to stop.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    for words in [&["--web.listen-address", taken.as_str()][..], &[]] {
        let place = Place::new();
        let mut command = place.childminder(["--web.linger", "600"]);
        command.args(words).args(["sh", "-c", "exit 3"]);
        assert_eq!(place.run_command(command).code(), 3);
    }
    let place = Place::new();
    let mut command = place.childminder(["--web.linger", "600", "--web.listen-address", "0"]);
    command.args(["sh", "-c", ": > ready; exec sleep 600"]);
    let running = place.start_command(command);
    wait_until("the job runs", || place.file("ready").exists());
    running.signal("TERM");
    assert_eq!(running.end().code(), 143);
}

/// A job that is shorter than the interval between two scrapes: Prometheus has its end.
#[test]
fn prometheus_sees_how_a_short_job_ended() {
    let Some(program) = tool("prometheus") else { return };
    let place = Place::new();
    place.write("jobs.json", "[]");
    let mut daemon = prometheus(&place, &program, "127.0.0.1:1");
    let server = daemon.address();
    let (running, _) = lingering(&place, "600", "exit 3");
    assert_eq!(running.end().code(), 3);
    let ended = query(&server, "last_over_time(childminder_run_last_exit_code[5m])");
    assert_eq!(ended.first().map(|(_, value)| *value), Some(3.0), "{}", daemon.says());
    let runs =
        query(&server, "last_over_time(childminder_runs_total%7Boutcome=%22failure%22%7D[5m])");
    assert_eq!(runs.first().map(|(_, value)| *value), Some(1.0));
    assert!(runs[0].0.get("exported_job_name").is_none(), "{runs:?}");
}

/// What the page about a run asks for.
fn status(address: &str) -> Value {
    serde_json::from_str(&get(address, "/status.json")).unwrap_or_default()
}

/// The page tells of a run what its log and its command line tell, without the secrets.
#[test]
fn the_page_knows_command_attempts_and_the_end_of_the_log() {
    let place = Place::new();
    let mut command = place.childminder(["--web.listen-address", "127.0.0.1:0"]);
    command.args(["--web.linger", "600", "--web.file-sd", "jobs.json", "-e", "err"]);
    command.args(["--restart-on", "exit:3", "--backoff", "0..0", "--redact", "hush-*", "sh", "-c"]);
    let job = "echo 'no room for hush-room' >&2; exit $((4 - CHILDMINDER_ATTEMPT))";
    command.args([job, "sh", "--password=hush", "hush-word"]);
    let running = place.start_command(command);
    wait_until("the job is announced", || !announced(&place).is_empty());
    let address = announced(&place).remove(0);
    wait_until("the run has ended", || status(&address)["ended"].is_f64());
    let status = status(&address);
    assert_eq!((&status["state"], &status["exit_status"]), (&"failed".into(), &2.into()));
    let attempts = status["attempts"].as_array().expect("attempts");
    let ends: Vec<_> =
        attempts.iter().map(|one| (one["end"].as_str(), one["verdict"]["kind"].as_str())).collect();
    let end = |text| (Some(text), Some("exit_nonzero"));
    assert_eq!(ends, [end("exited with status 3"), end("exited with status 2")]);
    assert!(attempts.iter().all(|one| one["max_rss_bytes"].as_u64() > Some(0)), "{status}");
    let command = status["command"].as_str().expect("a command");
    assert!(command.starts_with("sh -c ") && command.contains("--password="), "{command}");
    let log = status["log"].as_str().expect("a file");
    assert!(std::path::Path::new(log).is_absolute() && std::path::Path::new(log).exists());
    let lines = status["log_lines"].to_string();
    assert!(lines.contains("stderr: no room for ") && lines.contains("verdict: "), "{lines}");
    assert!(!status.to_string().replace("\\", "").contains("hush"), "{status}");
    running.signal("TERM");
    assert_eq!(running.end().code(), 2);
}

/// A built-in function runs in childminder itself.
#[test]
fn the_page_knows_what_a_built_in_function_uses() {
    let place = Place::new();
    let mut command =
        place.childminder(["--web.listen-address", "127.0.0.1:0", "--stop-on", "TERM"]);
    command.args(["--web.file-sd", "jobs.json", "-f", "600", "string"]);
    let running = place.start_command(command);
    wait_until("the job is announced", || !announced(&place).is_empty());
    let address = announced(&place).remove(0);
    wait_until("CPU time is used", || status(&address)["cpu_seconds"].as_f64() > Some(0.0));
    let status = status(&address);
    assert_eq!((&status["state"], &status["is_builtin"]), (&"running".into(), &true.into()));
    assert_eq!(status["pid"].as_i64(), Some(running.pid().into()));
    assert_eq!(status["command"], "string");
    assert!(status["resident_bytes"].as_u64() > Some(1_000_000), "{status}");
    running.signal("TERM");
    running.end();
}

/// OTEL_EXPORTER_OTLP_TIMEOUT, and the form for one signal: an export that hangs makes room for the
/// next one, and all that is told by the metrics themselves.
#[test]
fn an_export_is_given_up_after_its_time() {
    for wire in [Wire::Http, Wire::Grpc] {
        let (place, receiver) = (Place::new(), Hostile::hung());
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", receiver.address)),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", wire.word().to_owned()),
            ("OTEL_METRIC_EXPORT_INTERVAL", "10".to_owned()),
            ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "50".to_owned()),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "600000".to_owned()),
        ];
        let (running, address) = serving(&place, &variables);
        // So many would take longer with any other limit.
        wait_until("exports are given up", || {
            let failures = "childminder_telemetry_export_failures_total";
            value(&get(&address, "/metrics"), failures, &["metrics"]) >= Some(5.0)
        });
        place.write("go", "");
        assert_eq!(running.end().code(), 0);
    }
}
