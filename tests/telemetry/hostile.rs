//! "Telemetry down must not stop or alter the job": receivers that do their worst.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

use crate::collector::{Authority, Collector, Wire};
use crate::support::{Done, Place, troubles, wait_until};

/// What a hostile receiver does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    NeverAnswers,
    Answers500,
    AnswersHalf,
    AnswersForEver,
}

/// A receiver that does it. What is connected when it is dropped is cut off.
pub struct Hostile {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    stops: Arc<AtomicBool>,
    held: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Hostile {
    fn start(manner: Manner) -> Hostile {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (connections, stops) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let held = Arc::new(Mutex::new(Vec::new()));
        let (count, stop, all) = (Arc::clone(&connections), Arc::clone(&stops), Arc::clone(&held));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                all.lock().expect("nobody panics").push(stream.try_clone().expect("a descriptor"));
                count.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || treat(manner, stream));
            }
        });
        Hostile { address, connections, stops, held, thread: Some(thread) }
    }

    pub fn hung() -> Hostile {
        Hostile::start(Manner::NeverAnswers)
    }

    pub fn answering_500() -> Hostile {
        Hostile::start(Manner::Answers500)
    }

    pub fn answering_half() -> Hostile {
        Hostile::start(Manner::AnswersHalf)
    }

    pub fn await_connection(&self) {
        wait_until("somebody is connected", || self.connections.load(Ordering::SeqCst) > 0);
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::SeqCst);
        // It wakes the thread; a refusal means that it has gone.
        TcpStream::connect(self.address).ok();
        self.thread.take().map(|thread| thread.join().ok());
        for stream in self.held.lock().expect("nobody panics").drain(..) {
            // The other end may be closed.
            stream.shutdown(std::net::Shutdown::Both).ok();
        }
    }
}

/// Errors only mean that the other end has gone.
fn treat(manner: Manner, mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    let answer: &[u8] = match manner {
        Manner::NeverAnswers => {
            while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
            return;
        }
        Manner::Answers500 => b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno",
        Manner::AnswersHalf => b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
        Manner::AnswersForEver => b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
    };
    if !stream.read(&mut buffer).is_ok_and(|count| count > 0) || stream.write_all(answer).is_err() {
        return;
    }
    match manner {
        Manner::AnswersForEver => while stream.write_all(&buffer).is_ok() {},
        // What is closed with something unread is reset: the answer would be lost.
        Manner::Answers500 => while stream.read(&mut buffer).is_ok_and(|count| count > 0) {},
        _ => {}
    }
    stream.shutdown(std::net::Shutdown::Both).ok();
}

/// A port where nobody is.
pub fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

/// How long the end may be held up in these tests.
const BUDGET: Duration = Duration::from_millis(300);

/// How much longer a machine that is busy with other tests may take.
const SLACK: Duration = Duration::from_secs(15);

fn telling(place: &Place, endpoint: &str, wire: Wire, words: &[&str]) -> Command {
    let mut command = place.childminder(["--otel-flush-timeout", "300ms"].iter().chain(words));
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    command.env("OTEL_EXPORTER_OTLP_PROTOCOL", wire.word());
    command
}

/// The job ends as it would, in time, with a line for each cause, which names the signals, and a word in
/// the log.
#[track_caller]
fn harmless(place: &Place, command: Command, what: &str) -> Done {
    let began = Instant::now();
    let done = place.run_command(command);
    let took = began.elapsed();
    assert_eq!((done.code(), done.stdout.as_str()), (3, "out\n"), "{what}: {done:?}");
    assert!(took < BUDGET + SLACK, "{what}: {took:?}");
    let lines = troubles(&done);
    for pipeline in ["traces", "metrics", "logs"] {
        let of_it = |line: &&&str| {
            let signals = line.split(" could not be sent to ").next().unwrap_or_default();
            signals.contains("OTLP ") && signals.contains(pipeline)
        };
        assert_eq!(lines.iter().filter(of_it).count(), 1, "{what}: {done:?}");
    }
    let goes_on =
        |line: &&str| line.starts_with("childminder: ") && line.ends_with("; the job goes on");
    assert!(lines.iter().all(goes_on), "{what}: {done:?}");
    done
}

const JOB: [&str; 3] = ["sh", "-c", "echo out; exit 3"];

/// The same job, where the receiver answers or is not there: what is said does not depend on how busy the
/// machine is.
const PATIENT_JOB: [&str; 5] = ["--otel-flush-timeout", "60", "sh", "-c", "echo out; exit 3"];

#[test]
fn a_receiver_at_its_worst_changes_nothing_for_the_job() {
    for wire in [Wire::Http, Wire::Grpc] {
        for manner in
            [Manner::NeverAnswers, Manner::Answers500, Manner::AnswersHalf, Manner::AnswersForEver]
        {
            let (place, receiver) = (Place::new(), Hostile::start(manner));
            let endpoint = format!("http://{}", receiver.address);
            let done = harmless(
                &place,
                telling(&place, &endpoint, wire, &JOB),
                &format!("{wire:?} {manner:?}"),
            );
            let lost = done.message("telemetry was lost: ");
            for pipeline in ["traces", "metrics", "logs"] {
                assert!(lost.contains(pipeline), "{lost}");
            }
        }
    }
}

#[test]
fn nobody_there_and_no_such_host_change_nothing_for_the_job() {
    for wire in [Wire::Http, Wire::Grpc] {
        let host = "http://collector.invalid:4318".to_owned();
        for endpoint in [format!("http://{}", nobody()), host] {
            let place = Place::new();
            let done = harmless(&place, telling(&place, &endpoint, wire, &JOB), &endpoint);
            done.message("telemetry was lost: ");
        }
    }
}

#[test]
fn certificates_that_are_not_right_change_nothing_for_the_job() {
    for wire in [Wire::Http, Wire::Grpc] {
        let (place, other) = (Place::new(), Place::new());
        let (authority, _stranger) = (Authority::new(&place), Authority::new(&other));
        let collector = Collector::secure(wire, authority.server(true));
        let endpoint = format!("https://{}", collector.address);
        let none = place.write("none.pem", "nothing");
        for (authority, client) in [
            (other.file("ca.pem"), None),
            (place.file("ca.pem"), None),
            (place.file("ca.pem"), Some((other.file("client.pem"), other.file("client.key")))),
            (place.file("ca.pem"), Some((none.clone(), none.clone()))),
            (none.clone(), None),
            (place.file("missing.pem"), None),
        ] {
            let run = Place::new();
            let mut command = telling(&run, &endpoint, wire, &PATIENT_JOB);
            command.env("OTEL_EXPORTER_OTLP_CERTIFICATE", &authority);
            if let Some((certificate, key)) = &client {
                command.env("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", certificate);
                command.env("OTEL_EXPORTER_OTLP_CLIENT_KEY", key);
            }
            harmless(&run, command, &format!("{wire:?} {authority:?} {client:?}"));
        }
        assert!(collector.seen().calls.is_empty());
    }
}

/// What is wrong and with which address, for both transports.
#[test]
fn a_receiver_that_cannot_be_reached_is_reported_with_address_and_cause() {
    let place = Place::new();
    let authority = Authority::new(&place);
    for wire in [Wire::Http, Wire::Grpc] {
        let nobody = nobody();
        let secure = Collector::secure(wire, authority.server(false));
        for (endpoint, cause) in [
            (format!("http://user:PW@{nobody}/base?key=PW"), "refused"),
            ("http://collector.invalid:4318".to_owned(), "lookup"),
            (format!("https://{}", secure.address), "certificate"),
        ] {
            let run = Place::new();
            let done = harmless(&run, telling(&run, &endpoint, wire, &PATIENT_JOB), &endpoint);
            let host = endpoint.replace("user:PW@", "").replace("/base?key=PW", "");
            let [line] = troubles(&done)[..] else { panic!("one line: {done:?}") };
            let begin = "childminder: OTLP traces, metrics and logs could not be sent to ";
            assert!(line.starts_with(&format!("{begin}{host}: ")), "{line}");
            assert!(line.contains(cause) && !line.contains("PW"), "{wire:?} {cause}: {line}");
            // Each cause once, and no names of types of ours.
            let parts: Vec<_> = line.split(": ").collect();
            assert!((1..parts.len()).all(|i| !parts[..i].contains(&parts[i])), "{line}");
            assert!(!line.contains("Tonic"), "{line}");
        }
    }
}

/// Partial success: what a receiver rejects is reported once for each signal, and counted.
#[test]
fn what_a_receiver_rejects_is_reported_and_counted() {
    for wire in [Wire::Http, Wire::Grpc] {
        let (place, collector) = (Place::new(), Collector::start(wire));
        let error_message = "quota \u{1b}[31m exceeded".to_owned();
        let answer = ExportTracePartialSuccess { rejected_spans: 2, error_message };
        collector.seen().answer.partial_success = Some(answer);
        let endpoint = format!("http://{}", collector.address);
        let mut command = telling(&place, &endpoint, wire, &["--textfile-directory", "."]);
        command.args(["--name", "n"]).args(PATIENT_JOB);
        let done = place.run_command(command);
        assert_eq!(done.code(), 3, "{done:?}");
        let lines = troubles(&done);
        assert_eq!(lines.len(), 3, "{wire:?}: {done:?}");
        for pipeline in ["traces", "metrics", "logs"] {
            let text = format!("OTLP {pipeline}: the receiver rejected 2 item(s): quota ");
            let of_it = lines.iter().filter(|line| line.contains(&text));
            assert_eq!(of_it.count(), 1, "{wire:?}: {done:?}");
        }
        assert!(!done.stderr.contains('\u{1b}'), "{done:?}");
        let lost = done.message("telemetry was lost: ");
        let each = |name| format!("{name} (0 export(s) failed, 2 item(s) dropped)");
        assert!(lost.contains(&each("traces")) && lost.contains(&each("metrics")), "{lost}");
    }
}

/// A query of an endpoint, which may hold a key, stays behind the path of the signal.
#[test]
fn the_query_of_an_endpoint_stays_behind_the_path() {
    let (place, collector) = (Place::new(), Collector::start(Wire::Http));
    for base in ["/base?key=a/b", "/base/?key=a/b"] {
        let endpoint = format!("http://{}{base}", collector.address);
        let done = place.run_command(telling(&place, &endpoint, Wire::Http, &PATIENT_JOB));
        assert!(troubles(&done).is_empty(), "{done:?}");
    }
    let seen = collector.seen();
    assert!(seen.broken.is_empty(), "{:?}", seen.broken);
    for call in &seen.calls {
        let (path, query) = call.path.split_once('?').expect("a query");
        let paths = ["/base/v1/traces", "/base/v1/metrics", "/base/v1/logs"];
        assert!(paths.contains(&path) && query == "key=a/b", "{}", call.path);
    }
}

/// "the end is delayed ... cut short by a second TERM/INT"
#[test]
fn a_signal_during_the_last_flush_ends_it() {
    for signal in ["TERM", "INT"] {
        let (place, receiver) = (Place::new(), Hostile::hung());
        let endpoint = format!("http://{}", receiver.address);
        let words = ["--otel-flush-timeout", "600", "sh", "-c", "exit 3"];
        let mut command = telling(&place, &endpoint, Wire::Http, &[]);
        command.args(words);
        let running = place.start_command(command);
        place.await_log("verdict: ");
        receiver.await_connection();
        running.signal(signal);
        let done = running.end();
        assert_eq!(done.code(), 3, "{done:?}");
        done.message("telemetry was cut short by a signal");
    }
}

/// "Signal to forward latency while the collector hangs"
#[test]
fn signals_are_passed_on_while_a_receiver_hangs() {
    let (place, receiver) = (Place::new(), Hostile::hung());
    let endpoint = format!("http://{}", receiver.address);
    let job = r#"trap "echo got >> got" USR1; : > ready; until [ -e go ]; do sleep 0.02; done"#;
    let mut command = telling(&place, &endpoint, Wire::Http, &["sh", "-c", job]);
    for (name, value) in [
        ("OTEL_BLRP_SCHEDULE_DELAY", "10"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "10"),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
    ] {
        command.env(name, value);
    }
    let running = place.start_command(command);
    wait_until("the job is ready", || place.file("ready").exists());
    receiver.await_connection();
    for count in 1..=20 {
        let began = Instant::now();
        running.signal("USR1");
        wait_until("the job has it", || place.text("got").lines().count() == count);
        // The export that hangs would take ten seconds.
        assert!(began.elapsed() < Duration::from_secs(8), "signal {count}: {:?}", began.elapsed());
    }
    place.write("go", "");
    assert_eq!(running.end().code(), 0);
}

/// Pulling the plug.
#[test]
fn a_collector_that_dies_meanwhile_changes_nothing_for_the_job() {
    for wire in [Wire::Http, Wire::Grpc] {
        let (place, collector) = (Place::new(), Collector::start(wire));
        let endpoint = format!("http://{}", collector.address);
        let job = "echo out; until [ -e go ]; do sleep 0.02; done; exit 3";
        let mut command = telling(&place, &endpoint, wire, &["sh", "-c", job]);
        command.env("OTEL_BLRP_SCHEDULE_DELAY", "20").env("OTEL_METRIC_EXPORT_INTERVAL", "20");
        let running = place.start_command(command);
        collector.wait("something came", |seen| !seen.records.is_empty());
        drop(collector);
        place.write("go", "");
        let done = running.end();
        assert_eq!((done.code(), done.stdout.as_str()), (3, "out\n"), "{done:?}");
        assert!((1..=3).contains(&troubles(&done).len()), "{done:?}");
        done.message("telemetry was lost: ");
    }
}

/// What cannot be understood is told and passed over.
#[test]
fn variables_that_make_no_sense_change_nothing_for_the_job() {
    for endpoint in ["nonsense", "http://", "ftp://127.0.0.1", "http://["] {
        for wire in [Wire::Http, Wire::Grpc] {
            let place = Place::new();
            let began = Instant::now();
            let done = place.run_command(telling(&place, endpoint, wire, &PATIENT_JOB));
            assert_eq!((done.code(), done.stdout.as_str()), (3, "out\n"), "{endpoint}: {done:?}");
            assert!(began.elapsed() < BUDGET + SLACK, "{endpoint}");
            assert_eq!(troubles(&done).len(), 1, "{endpoint}: {done:?}");
        }
    }
}

/// What makes no sense is told once, whichever signals it is for, and passed over.
#[test]
fn values_that_make_no_sense_are_told_once() {
    let (place, collector) = (Place::new(), Collector::start(Wire::Http));
    let endpoint = format!("http://{}", collector.address);
    let mut command = telling(&place, &endpoint, Wire::Http, &PATIENT_JOB);
    let variables = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/no/key"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "-1"),
        ("OTEL_RESOURCE_ATTRIBUTES", "x"),
    ];
    command.envs(variables);
    let done = place.run_command(command);
    assert_eq!(done.code(), 3, "{done:?}");
    let said = troubles(&done);
    for (name, value) in variables {
        let begin = format!("childminder: {name}={value}: ");
        assert_eq!(said.iter().filter(|line| line.starts_with(&begin)).count(), 1, "{said:#?}");
    }
    assert_eq!(said.len(), variables.len(), "{said:#?}");
    assert_eq!(collector.seen().spans.len(), 2);
}

/// What is secret in an endpoint or a header is in no message and in no file.
#[test]
fn secrets_of_endpoints_and_headers_are_never_reported() {
    let answering_500 = Hostile::answering_500();
    for wire in [Wire::Http, Wire::Grpc] {
        for address in [nobody().to_string(), answering_500.address.to_string(), "[".to_owned()] {
            let run = Place::new();
            let endpoint = format!("http://user:cret-pass@{address}");
            let mut command = telling(&run, &endpoint, wire, &PATIENT_JOB);
            command.env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer cret-pass");
            let done = run.run_command(command);
            assert_eq!(done.code(), 3, "{done:?}");
            assert_eq!(troubles(&done).len(), 1, "{done:?}");
            let everything = format!("{done:?}{:?}", run.contents());
            assert!(!everything.contains("cret-pass"), "{everything}");
        }
    }
}
