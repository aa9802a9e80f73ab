use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio::sync::oneshot;

use crate::model::event::Event;
use crate::model::process::Pid;
use crate::model::sample::{HostLoad, TreeSample};
use crate::model::signal::Signal;
use crate::model::time::Stamp;
use crate::model::time::{Moment, WallTime};
use crate::model::verdict::{Confidence, Evidence, Quality, Verdict, VerdictKind};
use crate::sink::stats::Stats;
use crate::sys::clock;
use crate::telemetry::prometheus::exposition::tests::{identity, stats};
use crate::telemetry::web::config::tests::hash;
use crate::telemetry::web::passwords::tests::basic;
use crate::telemetry::web::status::{About, Page};

use super::*;

mod attack_tests;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn published_of(stats: Stats, ran_for: Duration) -> Arc<Published> {
    published_with(stats, ran_for, Page::default())
}

fn published_with(stats: Stats, ran_for: Duration, page: Page) -> Arc<Published> {
    let begun = Moment(clock::now().0.saturating_sub(ran_for));
    let stats = Arc::new(Mutex::new(stats));
    Arc::new(Published::new(identity(), Pid(1), (clock::now, begun), stats).with_page(page))
}

pub(in crate::telemetry) fn published() -> Arc<Published> {
    published_of(stats(), Duration::from_secs(10))
}

fn judged(kind: VerdictKind, facts: &[&str]) -> Event {
    let evidence = facts.iter().map(|fact| Evidence {
        fact: (*fact).to_owned(),
        source: "a test",
        quality: Quality::Exact,
    });
    let confidence = Confidence::Certain;
    Event::Judged(Verdict { kind, confidence, evidence: evidence.collect() })
}

/// A job with a past: it was restarted, works in waves and its memory grows.
fn busy_site() -> Arc<Published> {
    let about = About {
        command: "./simulate --seed 4 --password=[hidden] <b>not markup</b>".into(),
        directory: "/batch".into(),
        log: Some("/batch/log/simulate.txt".into()),
        is_canary: false,
    };
    let page = Page { about, ..Page::default() };
    let mut stats = Stats::new(Duration::from_secs(1_795_000_000));
    let started = |attempt, pid| Event::Started { attempt, pid: Pid(pid), command: "x".into() };
    let events = [
        started(1, 48_012),
        Event::Signaled { pid: Pid(48_012), signal: Signal::KILL },
        judged(VerdictKind::OomKilled, &["SIGKILL", "memory.events oom_kill +1"]),
        started(2, 48_213),
    ];
    for (second, event) in (0..).zip(&events) {
        let elapsed = Duration::from_secs(second);
        let stamp = Stamp { wall: WallTime(stats.begun + elapsed), elapsed };
        stats.fold(stamp, event);
        page.past.lock().unwrap().apply(stamp, event, &stats.history);
    }
    let history = &mut stats.history;
    history.received.extend([(Signal::HUP, 2), (Signal::TERM, 1)]);
    (history.stops, history.stopped) = (1, Duration::from_secs(75));
    let mut cpu = 0.0;
    for second in 0..240_u32 {
        let phase = f64::from(second) / 18.0;
        cpu += 1.2 + phase.sin() + 0.1 * (phase * 7.0).cos();
        let at = Duration::from_secs(u64::from(second));
        let sample = TreeSample {
            at: Moment(at),
            processes: 5,
            threads: 12,
            cpu: Duration::from_secs_f64(cpu),
            rss_bytes: 300_000_000 + u64::from(second % 90) * 9_000_000,
            open_fds: 40,
            io: None,
            host: HostLoad::default(),
        };
        stats.sampled(sample);
        page.remember(at, &stats);
    }
    published_with(stats, Duration::from_secs(240), page)
}

/// `-f random`: two functions that take very different times, the first ever more often.
fn probe_site() -> Arc<Published> {
    let about = About { command: "random".into(), is_canary: true, ..About::default() };
    let (page, mut stats) = (Page { about, ..Page::default() }, Stats::default());
    for second in 0..60 {
        let elapsed = Duration::from_secs(second);
        let stamp = Stamp { wall: WallTime(elapsed), elapsed };
        let mut call = |function, millis| {
            let took = Duration::from_millis(millis);
            stats.fold(stamp, &Event::Called { function, took, is_right: true });
        };
        (0..second).for_each(|_| call("file", 70));
        call("memory", 1_400);
        page.remember(elapsed, &stats);
    }
    published_with(stats, Duration::from_secs(60), page)
}

/// A run that is over after restarts: a failure, or a success.
fn ended_site(exit_status: u8) -> Arc<Published> {
    let (page, mut stats) = (Page::default(), Stats::new(Duration::from_secs(1_795_000_000)));
    let mut apply = |second, event: &Event| {
        let elapsed = Duration::from_secs(second);
        let stamp = Stamp { wall: WallTime(stats.begun + elapsed), elapsed };
        stats.fold(stamp, event);
        page.past.lock().unwrap().apply(stamp, event, &stats.history);
        stamp
    };
    let pid = Pid(7);
    for attempt in 1..=9 {
        let status = if attempt == 9 { exit_status } else { 3 };
        let kind = if status == 0 { VerdictKind::Success } else { VerdictKind::ExitNonzero };
        let second = u64::from(attempt) * 2;
        apply(second, &Event::Started { attempt, pid, command: "x".into() });
        apply(second + 1, &Event::Exited { pid, status });
        apply(second + 1, &judged(kind, &["what it returned"]));
    }
    let stamp = apply(19, &Event::Notice { text: "the last line".into() });
    stats.end(stamp, exit_status);
    published_with(stats, Duration::from_secs(60), page)
}

struct Server {
    address: SocketAddr,
    failures: Arc<Mutex<Vec<String>>>,
    _end: oneshot::Sender<()>,
}

/// Serves on a thread of its own until the answer is dropped.
fn serve_published(
    published: Arc<Published>,
    config: Option<&Path>,
    limits: ClientLimits,
) -> Server {
    serve_at("127.0.0.1:0", published, config, limits)
}

fn serve_at(
    address: &str,
    published: Arc<Published>,
    config: Option<&Path>,
    limits: ClientLimits,
) -> Server {
    let config = config.map(Path::to_owned);
    let plan = WebPlan { listen: vec![address.into()], config, ..WebPlan::default() };
    let (end, ended) = oneshot::channel::<()>();
    let (send, receive) = mpsc::channel();
    let failures = Arc::new(Mutex::new(Vec::new()));
    let theirs = Arc::clone(&failures);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let (mut web, warnings) = bind(&plan).await;
            assert!(warnings.is_empty(), "{warnings:?}");
            web.limits = limits;
            web.on_failure(move |text| theirs.lock().unwrap().push(text.to_owned()));
            send.send(web.addresses()[0]).unwrap();
            // As the telemetry thread does, so it must be fit for that.
            let serving = tokio::spawn(web.serve(published));
            ended.await.ok();
            serving.abort();
        });
    });
    Server { address: receive.recv_timeout(PATIENCE).unwrap(), failures, _end: end }
}

fn serve(limits: ClientLimits) -> Server {
    serve_published(published(), None, limits)
}

impl Server {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends the bytes and reads until the server closes.
    fn ask(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // It may close before it has read everything.
        stream.write_all(bytes).ok();
        rest(&mut stream)
    }

    fn get(&self, path: &str, headers: &str) -> String {
        self.ask(format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n").as_bytes())
    }

    /// With short deadlines a busy machine may miss one: who is alive answers the next time.
    fn is_alive(&self) -> bool {
        let begun = clock::now();
        let asks = std::iter::repeat_with(|| self.get("/healthz", ""));
        asks.take_while(|_| clock::now() - begun < PATIENCE)
            .any(|answer| answer.ends_with("\r\n\r\nok\n"))
    }
}

fn rest(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if is_timeout(&error) => panic!("it was not closed: {bytes:?}"),
        _ => String::from_utf8_lossy(&bytes).into_owned(),
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Asks and keeps the connection; returns whether an answer came.
fn answers(stream: &mut TcpStream) -> bool {
    let asked = stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\n");
    let mut text = Vec::new();
    let mut byte = [0; 1];
    while asked.is_ok() && !text.ends_with(b"\r\n\r\nok\n") {
        match stream.read(&mut byte) {
            Ok(1) => text.push(byte[0]),
            Err(error) if is_timeout(&error) => panic!("neither answered nor closed: {text:?}"),
            _ => return false,
        }
    }
    asked.is_ok()
}

fn quick() -> ClientLimits {
    let soon = Duration::from_millis(150);
    ClientLimits { first_request: soon, next_request: soon, ..ClientLimits::default() }
}

#[test]
fn a_connection_serves_request_after_request() {
    let server = serve(ClientLimits::default());
    let mut stream = server.connect();
    assert!(answers(&mut stream) && answers(&mut stream));
    let two = server.ask(
        b"GET /status.json HTTP/1.1\r\n\r\nGET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(two.matches("HTTP/1.1 200 OK").count(), 2, "{two}");
    assert!(two.contains("\nchildminder_build_info{") && two.contains("\"attempt\":2"));
}

#[test]
fn head_has_the_length_and_nothing_more() {
    let server = serve(ClientLimits::default());
    let answer = server.ask(b"HEAD /metrics HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    let length = answer.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert!(length.parse::<u32>().unwrap() > 1_000);
}

#[test]
fn headers_are_bounded() {
    let server = serve(ClientLimits::default());
    let long = server.get("/healthz", &format!("X: {}\r\n", "x".repeat(20 * 1024)));
    let many = server.get("/healthz", &"X: y\r\n".repeat(100));
    for answer in [long, many] {
        // The rest of the request may be met with a reset, which takes the answer with it.
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    assert!(server.is_alive());
}

#[test]
fn who_sends_too_slowly_is_left() {
    let server = serve(quick());
    assert_eq!(server.ask(b"GET /healthz HT"), "", "who stops in the middle");
    assert_eq!(server.ask(b""), "", "who says nothing");
    let mut stream = server.connect();
    stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let begun = clock::now();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nX: ").unwrap();
    while stream.write_all(b"x").is_ok() {
        // The wait for an answer is the pace.
        match stream.read(&mut [0]) {
            Err(error) if is_timeout(&error) => {}
            _ => break,
        }
        assert!(clock::now() - begun < PATIENCE, "who sends byte by byte");
    }
    let server =
        serve(ClientLimits { next_request: quick().next_request, ..ClientLimits::default() });
    let mut stream = server.connect();
    assert!(answers(&mut stream));
    assert_eq!(rest(&mut stream), "", "who keeps a connection for nothing");
}

#[test]
fn who_does_not_take_the_answers_is_left() {
    let server =
        serve(ClientLimits { next_request: Duration::from_millis(300), ..ClientLimits::default() });
    let mut stream = server.connect();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let error = loop {
        if let Err(error) = stream.write_all(&b"GET /metrics HTTP/1.1\r\n\r\n".repeat(100)) {
            break error;
        }
    };
    assert!(!is_timeout(&error), "{error}");
    assert!(server.is_alive());
}

#[test]
fn who_comes_when_all_places_are_taken_waits() {
    let hour = Duration::from_secs(3_600);
    let server = serve(ClientLimits { connections: 2, idle: hour, ..ClientLimits::default() });
    let (mut first, mut second) = (server.connect(), server.connect());
    assert!(answers(&mut first) && answers(&mut second));
    let mut third = server.connect();
    third.write_all(b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    third.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(is_timeout(&third.read(&mut [0]).unwrap_err()), "there was no place");
    assert!(answers(&mut second), "who has a place keeps it");
    drop(first);
    third.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(rest(&mut third).ends_with("ok\n"));
}

#[test]
fn who_has_been_silent_longest_makes_room() {
    let server =
        serve(ClientLimits { connections: 2, idle: Duration::ZERO, ..ClientLimits::default() });
    let (mut first, mut second) = (server.connect(), server.connect());
    assert!(answers(&mut first) && answers(&mut second));
    let mut third = server.connect();
    assert!(answers(&mut third));
    assert_eq!(rest(&mut first), "");
    assert!(answers(&mut second));
}

#[test]
fn a_flood_of_connections_passes() {
    let server = serve(ClientLimits { connections: 4, ..quick() });
    let flood: Vec<_> = (0..100).filter_map(|_| TcpStream::connect(server.address).ok()).collect();
    assert!(flood.len() > 50);
    assert!(server.is_alive());
}

#[test]
fn no_bytes_stop_the_server() {
    let server = serve(quick());
    for round in 0..200 {
        let mut bytes = clock::random::<256>().to_vec();
        // Some parsers get further after a valid beginning.
        if round % 2 == 0 {
            bytes.splice(..0, b"GET / HTTP/1.1\r\nAccept: ".iter().copied());
        }
        if round % 4 == 0 {
            bytes.extend_from_slice(b"\r\n\r\n");
        }
        server.ask(&bytes);
    }
    assert!(server.is_alive());
}

#[test]
fn passwords_are_asked_for_and_a_changed_file_counts_at_once() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("web.yml");
    let headers = "http_server_config:\n  headers:\n    X-Frame-Options: deny\n";
    let users = |name: &str| format!("{headers}basic_auth_users:\n  {name}: {}\n", hash());
    fs::write(&path, users("alice")).unwrap();
    let server = serve_published(published(), Some(&path), ClientLimits::default());
    let ask = |name: &str, password: &str| {
        let line = format!("Authorization: {}\r\n", basic(name, password));
        let answer = server.get("/metrics", &line);
        assert!(answer.contains("\r\nx-frame-options: deny\r\n") || answer.contains(" 500 "));
        answer[9..12].to_owned()
    };
    assert_eq!(ask("alice", "secret"), "200");
    assert_eq!(ask("alice", "wrong"), "401");
    assert_eq!(ask("eve", "secret"), "401");
    let answer = server.get("/healthz", "");
    assert!(answer.contains("\r\nwww-authenticate: Basic realm="), "{answer}");
    fs::write(&path, users("caroline")).unwrap();
    assert_eq!([ask("alice", "secret"), ask("caroline", "secret")], ["401", "200"]);
    fs::write(&path, "nonsense: 1\n").unwrap();
    assert_eq!(ask("caroline", "secret"), "500");
    assert_eq!(ask("caroline", "secret"), "500");
    let failures = server.failures.lock().unwrap();
    assert!(failures.len() == 1 && failures[0].contains("nonsense"), "{failures:?}");
}

#[test]
fn too_many_requests_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("web.yml");
    fs::write(&path, "rate_limit:\n  interval: 1h\n  burst: 2\n").unwrap();
    let server = serve_published(published(), Some(&path), ClientLimits::default());
    let codes: Vec<String> = (0..3).map(|_| server.get("/", "")[9..12].to_owned()).collect();
    assert_eq!(codes, ["200", "200", "429"]);
}

/// An authority, and in the directory a certificate of it for the server and one for a client.
struct Certificates {
    authority: CertifiedIssuer<'static, KeyPair>,
    place: tempfile::TempDir,
}

impl Certificates {
    fn new() -> Certificates {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(params, key).unwrap();
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("ca.pem"), authority.pem()).unwrap();
        let all = Certificates { authority, place };
        all.issue("server", "localhost");
        all.issue("client", "prometheus.example");
        all
    }

    fn issue(&self, file: &str, name: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        let path = |ending: &str| self.place.path().join(format!("{file}.{ending}"));
        fs::write(path("key"), key.serialize_pem()).unwrap();
        fs::write(path("pem"), certificate.pem()).unwrap();
    }

    fn config(&self, more: &str) -> std::path::PathBuf {
        let path = self.place.path().join("web.yml");
        let text =
            "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n".to_owned();
        fs::write(&path, text + more).unwrap();
        path
    }

    fn client(&self, with_certificate: bool) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        if !with_certificate {
            return Arc::new(builder.with_no_client_auth());
        }
        let chain = CertificateDer::from_pem_file(self.place.path().join("client.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.place.path().join("client.key")).unwrap();
        Arc::new(builder.with_client_auth_cert(vec![chain], key).unwrap())
    }

    /// What the server says, or nothing if there was no TLS with it.
    fn ask(&self, server: &Server, with_certificate: bool) -> String {
        let name = "localhost".try_into().unwrap();
        let client = ClientConnection::new(self.client(with_certificate), name).unwrap();
        let mut stream = StreamOwned::new(client, server.connect());
        stream.write_all(b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n").ok();
        rest(&mut stream)
    }
}

#[test]
fn tls_is_spoken_and_nothing_else() {
    let certificates = Certificates::new();
    let server =
        serve_published(published(), Some(&certificates.config("")), ClientLimits::default());
    assert!(certificates.ask(&server, false).ends_with("ok\n"));
    assert!(!server.get("/healthz", "").contains("HTTP"));
    // A new certificate is used at once; with one that does not fit its key, nobody is let in.
    certificates.issue("server", "localhost");
    assert!(certificates.ask(&server, false).ends_with("ok\n"));
    fs::write(certificates.place.path().join("server.key"), "none").unwrap();
    assert_eq!(certificates.ask(&server, false), "");
    assert_eq!(server.get("/healthz", ""), "");
    certificates.issue("server", "localhost");
    assert!(certificates.ask(&server, false).ends_with("ok\n"));
    certificates.config("  unknown: 1\n");
    assert_eq!(certificates.ask(&server, false), "");
    fs::write(certificates.place.path().join("web.yml"), "").unwrap();
    assert_eq!(server.get("/healthz", ""), "", "an empty file opens nothing");
}

#[test]
fn certificates_of_clients_are_verified() {
    let certificates = Certificates::new();
    let verify = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n";
    let server =
        serve_published(published(), Some(&certificates.config(verify)), ClientLimits::default());
    let asked = || (certificates.ask(&server, true), certificates.ask(&server, false));
    let (with, without) = asked();
    assert!(with.ends_with("ok\n") && without.is_empty(), "{with} {without}");
    certificates.config(&format!("{verify}  client_allowed_sans: [prometheus.example]\n"));
    assert!(asked().0.ends_with("ok\n"));
    certificates.config(&format!("{verify}  client_allowed_sans: [other.example]\n"));
    assert_eq!(asked().0, "", "another name");
    fs::write(certificates.place.path().join("ca.pem"), Certificates::new().authority.pem())
        .unwrap();
    certificates.config(verify);
    assert_eq!(asked().0, "", "another authority");
    certificates.config("");
    assert_eq!(asked().0, "", "the demand cannot be dropped while we run");
}

#[test]
fn certificates_may_be_asked_for_without_being_verified() {
    let certificates = Certificates::new();
    let server = |kind: &str| {
        let config = certificates.config(&format!("  client_auth_type: {kind}\n"));
        serve_published(published(), Some(&config), ClientLimits::default())
    };
    let any = server("RequireAnyClientCert");
    assert!(certificates.ask(&any, true).ends_with("ok\n"));
    assert_eq!(certificates.ask(&any, false), "");
    let request = server("RequestClientCert");
    assert!(certificates.ask(&request, true).ends_with("ok\n"));
    assert!(certificates.ask(&request, false).ends_with("ok\n"));
}

fn bound(plan: WebPlan) -> (Vec<SocketAddr>, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (web, warnings) = bind(&plan).await;
        (web.addresses(), warnings)
    })
}

#[test]
fn what_should_be_protected_is_not_served_without() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("web.yml");
    for text in [None, Some("basic_auth_users: [1\n"), Some("tls_server_config:\n  key_file: k\n")]
    {
        if let Some(text) = text {
            fs::write(&path, text).unwrap();
        }
        let config = Some(path.clone());
        let (addresses, warnings) =
            bound(WebPlan { listen: vec!["127.0.0.1:0".into()], config, ..WebPlan::default() });
        assert!(addresses.is_empty() && warnings.len() == 1, "{warnings:?}");
        assert!(warnings[0].starts_with("metrics are not served: --web.config.file /"));
    }
}

#[test]
fn an_address_that_cannot_be_opened_is_reported_and_the_others_serve() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|address| (taken, address.to_string())).unwrap();
    let listen = vec![taken.1.clone(), "192.0.2.1:0".into(), "127.0.0.1:0".into()];
    let (addresses, warnings) = bound(WebPlan { listen, ..WebPlan::default() });
    assert_eq!(addresses.len(), 1);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with(&format!("metrics are not served at {}: ", taken.1)));
    let (addresses, warnings) = bound(WebPlan { systemd_socket: true, ..WebPlan::default() });
    assert!(addresses.is_empty());
    assert_eq!(warnings, ["--web.systemd-socket: no socket was passed"]);
}

#[test]
fn a_socket_of_systemd_is_served() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        assert_eq!(adopt(socket.into()).unwrap().local_addr().unwrap(), address);
        let place = tempfile::tempdir().unwrap();
        let local = std::os::unix::net::UnixListener::bind(place.path().join("s")).unwrap();
        assert!(adopt(local.into()).is_err(), "Prometheus cannot reach it");
    });
}

/// What a browser makes of the page: its text, and what it complained of.
#[expect(clippy::disallowed_methods, reason = "a browser of the test's own")]
fn browse(address: SocketAddr, path: &str) -> Option<(String, String)> {
    let place = tempfile::tempdir().unwrap();
    let output = std::process::Command::new("chromium")
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", place.path().display()))
        .arg(format!("http://{address}{path}"))
        .env("HOME", place.path())
        .output()
        .inspect_err(|error| assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"))
        .ok()?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Some((text(&output.stdout), text(&output.stderr)))
}

#[test]
#[expect(clippy::disallowed_macros, reason = "who runs the tests must see it")]
fn the_page_shows_the_job_in_a_browser() {
    let server = serve_published(busy_site(), None, ClientLimits::default());
    let Some((page, log)) = browse(server.address, "/") else {
        eprintln!("\nSKIPPED: chromium is not installed, so the page was not looked at\n");
        return;
    };
    for text in [
        // A job that was restarted is not plainly well, in colour and in words.
        "data-level=\"warn\">running after 1 restart<",
        ">48213<",
        ">1 restart<",
        "SIGHUP",
        ">live<",
        ">./simulate --seed 4 --password=[hidden] &lt;b&gt;not markup&lt;/b&gt;<",
        ">/batch/log/simulate.txt<",
        "2026-11-18",
        "data-level=\"bad\">oom_killed<",
        ">memory.events oom_kill +1<",
        "terminated by signal 9 (SIGKILL) \u{b7} process 48012<",
        ">child 48012 terminated by signal 9 (SIGKILL)<",
    ] {
        assert!(page.contains(text), "{text} is missing in {page}\n{log}");
    }
    assert!(page.contains("class=\"line line-0\" d=\"M0.0 "), "no chart: {page}");
    assert_eq!(complaints(&log), Vec::<&str>::new());
}

/// What the browser complained of: a policy that forbids something, a script that fails.
fn complaints(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("CONSOLE")).collect()
}

#[test]
fn the_page_shows_a_line_for_each_function() {
    let server = serve_published(probe_site(), None, ClientLimits::default());
    let Some((page, log)) = browse(server.address, "/") else { return };
    let own = format!(">{}<", Pid(1));
    for text in [
        // The sum of 0 to 59.
        "<li>file <b>1,770</b></li>",
        "now 60 /s, at most 60 /s",
        "file now 70 ms, at most 70 ms; memory now 1.4 s, at most 1.4 s",
        "line line-0\" d=\"M",
        "line line-1\" d=\"M0.0 ",
        "data-level=\"busy\">running<",
        // One scale for both: decades from 10 ms to 10 s.
        ">10 ms</span>",
        ">10 s</span>",
        own.as_str(),
    ] {
        assert!(page.contains(text), "{text} is missing in {page}");
    }
    assert_eq!(complaints(&log), Vec::<&str>::new());
}

#[test]
fn the_page_says_how_the_run_ended() {
    for (exit_status, state) in [
        (0, "data-level=\"warn\">succeeded after 8 restarts<"),
        (3, "data-level=\"bad\">failed with status 3 after 8 restarts<"),
    ] {
        let server = serve_published(ended_site(exit_status), None, ClientLimits::default());
        let Some((page, log)) = browse(server.address, "/") else { return };
        for text in [
            state,
            ">the run has ended; ",
            ">Ran for<",
            ">19 s<",
            ">4 earlier attempts<",
            ">the last line<",
        ] {
            assert!(page.contains(text), "{text} is missing in {page}");
        }
        assert!(!page.contains(">running<") && !page.contains(">live<"), "{page}");
        assert_eq!(complaints(&log), Vec::<&str>::new());
    }
}

/// A proxy that serves what is at `address` below `/a/b/`, and nothing elsewhere.
fn proxy(address: SocketAddr) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap();
    // It ends with the process of the test.
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            std::thread::spawn(move || pass_on(&mut client, address).ok());
        }
    });
    own
}

fn pass_on(client: &mut TcpStream, address: SocketAddr) -> std::io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match client.read(&mut buffer)? {
            0 => return Ok(()),
            count => head.extend_from_slice(&buffer[..count]),
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let Some(rest) = head.strip_prefix("GET /a/b/") else {
        return client.write_all(b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    };
    // The end of the connection is then the end of the answer.
    let rest = rest.replace("Connection: keep-alive", "Connection: close");
    let mut server = TcpStream::connect(address)?;
    server.set_read_timeout(Some(PATIENCE))?;
    server.write_all(format!("GET /{rest}").as_bytes())?;
    std::io::copy(&mut server, client).map(drop)
}

#[test]
fn the_page_works_below_the_prefix_of_a_proxy() {
    let server = serve_published(busy_site(), None, ClientLimits::default());
    let Some((page, log)) = browse(proxy(server.address), "/a/b/") else { return };
    for text in [">running after 1 restart<", ">48213<", ">live<", "href=\"./metrics\""] {
        assert!(page.contains(text), "{text} is missing in {page}\n{log}");
    }
    assert_eq!(complaints(&log), Vec::<&str>::new());
}

#[test]
fn the_page_says_when_nobody_answers() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("web.yml");
    // Page, script, style and one look.
    fs::write(&path, "rate_limit:\n  interval: 1h\n  burst: 4\n").unwrap();
    let server = serve_published(busy_site(), Some(&path), ClientLimits::default());
    // That it is skipped without a browser is reported by the test above.
    let Some((page, _)) = browse(server.address, "/") else { return };
    assert!(page.contains(">no answer since "), "{page}");
    // Nobody knows any more.
    assert!(page.contains("data-level=\"none\">unknown (was running after 1 restart)<"), "{page}");
    assert!(page.contains("class=\"charts lost\"") && page.contains(">48213<"), "{page}");
}

/// For whoever wants to look at the page or measure the server: `CHILDMINDER_TEST_SERVE=PORT`
/// serves a job there, a built-in function at the next port, and a run that failed at the one after.
#[test]
#[expect(clippy::disallowed_methods, reason = "the environment says whether to serve")]
fn serve_by_hand() {
    let Some(port) = std::env::var_os("CHILDMINDER_TEST_SERVE") else { return };
    let port: u16 = port.to_string_lossy().parse().unwrap();
    let address = |port: u16| format!("127.0.0.1:{port}");
    let _job = serve_at(&address(port), busy_site(), None, ClientLimits::default());
    let _probe = serve_at(&address(port + 1), probe_site(), None, ClientLimits::default());
    let _ended = serve_at(&address(port + 2), ended_site(3), None, ClientLimits::default());
    loop {
        std::thread::park();
    }
}
