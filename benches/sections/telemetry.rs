//! What telemetry costs: a later start of the job, memory, a scrape, and the end when nobody answers.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::harness::process::{self, Running, field};
use crate::harness::report::Line;
use crate::harness::statistics::median;
use crate::harness::stopwatch::{Race, Rounds, Timing, time};
use crate::harness::workshop::{Kind, Workshop, Wrapper, find};

pub const TITLE: &str = "telemetry: start of the job, memory, scrapes, the end without an answer";

const ROUNDS: Rounds = Rounds { timed: 150, warm_up: 10 };
/// The job may start so much later.
const DELAY_US: f64 = 300.0;
const RSS_KIB: f64 = 7.0 * 1024.0;
const CONNECTIONS: usize = 4;
const SCRAPES: usize = 10_000;
const P99_MS: f64 = 1.0;
/// In requests per second, of node_exporter with one file.
const TO_NODE_EXPORTER: f64 = 10.0;
/// The default of `--otel-flush-timeout`, and a little for the rest of the end.
const END_SECONDS: f64 = 2.1;

pub fn run(workshop: &Workshop) -> Fallible<Vec<Line>> {
    let collector = Collector::start(Answers::AtOnce)?;
    let mut lines = start(workshop, &collector)?;
    lines.extend(scrapes(workshop, &collector)?);
    lines.push(end(workshop)?);
    Ok(lines)
}

/// A collector that takes everything, or says nothing at all.
struct Collector {
    address: SocketAddr,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    AtOnce,
    Never,
}

impl Collector {
    /// It lives as long as the whole bench.
    fn start(answers: Answers) -> Fallible<Collector> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming().flatten() {
                match answers {
                    Answers::Never => kept.push(stream),
                    // It may leave at any time.
                    Answers::AtOnce => drop(thread::spawn(move || answer(stream).ok())),
                }
            }
        });
        Ok(Collector { address })
    }

    fn variable(&self) -> OsString {
        format!("OTEL_EXPORTER_OTLP_ENDPOINT=http://{}", self.address).into()
    }
}

fn answer(stream: TcpStream) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    while read_message(&mut input)?.is_some() {
        out.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
    Ok(())
}

/// Reads a message of HTTP/1.1 with its body, and returns how long that was.
fn read_message(input: &mut impl BufRead) -> std::io::Result<Option<usize>> {
    let (mut length, mut line, mut is_chunked) = (0, String::new(), false);
    loop {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(text) = header.strip_prefix("content-length:") {
            length = text.trim().parse().unwrap_or(0);
        }
        is_chunked |= header == "transfer-encoding: chunked";
    }
    if is_chunked {
        return read_chunks(input).map(Some);
    }
    std::io::copy(&mut input.take(length as u64), &mut std::io::sink())?;
    Ok(Some(length))
}

fn read_chunks(input: &mut impl BufRead) -> std::io::Result<usize> {
    let (mut length, mut line) = (0, String::new());
    loop {
        line.clear();
        input.read_line(&mut line)?;
        let chunk = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
        // Each chunk is followed by an empty line, the last and empty one, too.
        std::io::copy(&mut input.take(chunk as u64 + 2), &mut std::io::sink())?;
        if chunk == 0 {
            return Ok(length);
        }
        length += chunk;
    }
}

/// The job stamps its first act, so the rest of the wall time is the wrapper's end.
fn start(workshop: &Workshop, collector: &Collector) -> Fallible<Vec<Line>> {
    let place = workshop.place("telemetry")?;
    let stamp = place.join("stamp");
    let job: [OsString; 3] =
        [workshop.c_program("stampexit")?.into(), stamp.clone().into(), "0".into()];
    let childminder = workshop.childminder().as_os_str();
    let env = |variable: OsString, options: &[&str], name: &str| {
        let first = [OsString::from("env"), variable, childminder.to_owned(), "-d".into()];
        let words = first.into_iter().chain(options.iter().map(OsString::from)).collect();
        Wrapper { name: name.to_owned(), words, kind: Kind::Ours }
    };
    let listen = ["--web.listen-address", "127.0.0.1:0"];
    let wrappers = [
        env("NOTHING=1".into(), &[], "telemetry off"),
        env("NOTHING=1".into(), &listen, "/metrics"),
        env(collector.variable(), &[], "OTLP"),
        env(collector.variable(), &listen, "/metrics and OTLP"),
    ];
    let command = |wrapper: Wrapper| (wrapper.clone(), wrapper.around(&job));
    let commands = wrappers.into_iter().map(command).collect();
    let timings = time(workshop, &place, Race { commands, rounds: ROUNDS, stamp: Some(&stamp) })?;
    let began = |timing: &Timing| {
        let parts = timing.wall().iter().zip(timing.latency());
        median(&parts.map(|(wall, latency)| wall - latency).collect::<Vec<f64>>())
    };
    let off = began(&timings[0]);
    let line = |timing: &Timing| {
        let began = began(timing);
        let line = Line::new(&timing.wrapper.name, format!("the job begins after {began:.0} us"));
        if timing.wrapper.name == timings[0].wrapper.name {
            return line;
        }
        line.at_most(DELAY_US, Some(began - off), "us later")
    };
    Ok(timings.iter().map(line).collect())
}

fn scrapes(workshop: &Workshop, collector: &Collector) -> Fallible<Vec<Line>> {
    let place = workshop.place("scrape")?;
    let address = free_address()?;
    let mut command = process::command("env", &place);
    command.arg(collector.variable()).arg(workshop.childminder());
    command.args(["--web.listen-address", &address.to_string(), "sleep", "600"]);
    let running = Running::start(&mut command)?;
    process::wait_until("metrics are served", || TcpStream::connect(address).is_ok())?;
    let ours = Scrapes::take(address, SCRAPES)?;
    let memory = fs::read_to_string(format!("/proc/{}/smaps_rollup", running.pid()))?;
    let rss = field(&memory, "Rss") as f64;
    drop(running);
    let node_exporter = node_exporter(&place)?;
    let ratio = node_exporter.as_ref().map(|them| ours.per_second / them.per_second);
    let mut lines = vec![
        Line::new("/metrics and OTLP", format!("{rss:.0} KiB RSS after {SCRAPES} scrapes"))
            .at_most(RSS_KIB, Some(rss), "KiB"),
        Line::new("a scrape, 4 connections", ours.to_string()).at_most(
            P99_MS,
            Some(ours.p99_ms),
            "ms p99",
        ),
        Line::new("requests per second", format!("{:.0}", ours.per_second))
            .ratio(ratio, "node_exporter")
            .at_least(TO_NODE_EXPORTER, ratio, "x node_exporter"),
    ];
    lines.extend(node_exporter.map(|them| Line::new("node_exporter, one file", them.to_string())));
    Ok(lines)
}

fn free_address() -> Fallible<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// node_exporter with a text file of about our size and nothing else.
fn node_exporter(place: &std::path::Path) -> Fallible<Option<Scrapes>> {
    let Some(program) = find("prometheus-node-exporter") else { return Ok(None) };
    let series = |i: u32| format!("# HELP m_{i} A metric.\n# TYPE m_{i} gauge\nm_{i} {i}\n");
    fs::write(place.join("a.prom"), (0..100).map(series).collect::<String>())?;
    let address = free_address()?;
    let mut command = process::command(program, place);
    command.args(["--collector.disable-defaults", "--collector.textfile"]);
    command.arg("--collector.textfile.directory=.").arg(format!("--web.listen-address={address}"));
    let running = Running::start(&mut command)?;
    process::wait_until("node_exporter listens", || TcpStream::connect(address).is_ok())?;
    let scrapes = Scrapes::take(address, SCRAPES / 10)?;
    drop(running);
    Ok(Some(scrapes))
}

/// Scrapes over connections that are kept.
struct Scrapes {
    bytes: usize,
    p50_ms: f64,
    p99_ms: f64,
    per_second: f64,
}

impl std::fmt::Display for Scrapes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Scrapes { bytes, p50_ms, p99_ms, per_second } = self;
        write!(f, "{bytes} bytes, p50 {p50_ms:.3} ms, p99 {p99_ms:.3} ms, {per_second:.0} in a s")
    }
}

impl Scrapes {
    fn take(address: SocketAddr, count: usize) -> Fallible<Scrapes> {
        let begin = Instant::now();
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|_| thread::spawn(move || scrape(address, count / CONNECTIONS)))
            .collect();
        let (mut spans, mut bytes) = (Vec::new(), 0);
        for thread in threads {
            let (own, length) = thread.join().map_err(|_| "a client failed")??;
            spans.extend(own);
            bytes = length;
        }
        let seconds = begin.elapsed().as_secs_f64();
        spans.sort_unstable();
        let at = |share: usize| spans[(spans.len() - 1) * share / 100].as_secs_f64() * 1e3;
        let per_second = spans.len() as f64 / seconds;
        Ok(Scrapes { bytes, p50_ms: at(50), p99_ms: at(99), per_second })
    }
}

fn scrape(address: SocketAddr, count: usize) -> std::io::Result<(Vec<Duration>, usize)> {
    let mut out = TcpStream::connect(address)?;
    out.set_nodelay(true)?;
    let mut input = BufReader::new(out.try_clone()?);
    let (mut spans, mut length) = (Vec::with_capacity(count), 0);
    for _ in 0..count {
        let begin = Instant::now();
        out.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\naccept: text/plain\r\n\r\n")?;
        length = read_message(&mut input)?.unwrap_or(0);
        spans.push(begin.elapsed());
    }
    Ok((spans, length))
}

fn end(workshop: &Workshop) -> Fallible<Line> {
    let collector = Collector::start(Answers::Never)?;
    let place = workshop.place("hung")?;
    let mut command = process::command("env", &place);
    command.arg(collector.variable()).arg(workshop.childminder()).arg("/bin/true");
    let begin = Instant::now();
    let status = Running::start(&mut command)?.wait(Duration::from_secs(30))?;
    let seconds = begin.elapsed().as_secs_f64();
    if !status.success() {
        return Err(format!("with a hung collector: {status}").into());
    }
    let line = Line::new("a collector that hangs", format!("the end after {seconds:.3} s"));
    Ok(line.at_most(END_SECONDS, Some(seconds), "s"))
}
