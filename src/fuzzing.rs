//! The parsers of what strangers write, each as a function of bytes that panics if a promise is
//! broken. For the fuzz targets in `fuzz/` and for the test below, which runs them in each `cargo test`
//! over the corpora there and mutations of them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::cli::otlp_plan_of;
use crate::model::crash::CrashResources;
use crate::model::process::Pid;
use crate::model::signal::Signal;
use crate::model::text::is_unprintable;
use crate::model::time::Stamp;
use crate::model::time::WallTime;
use crate::model::{proc_stat, shell};
use crate::nanny;
use crate::observe::{cgroup, pressure, procfs};
use crate::plan::TelemetryPlan;
use crate::record::row::{Header, Row};
use crate::sink::stats::Stats;
use crate::sys::clock;
use crate::telemetry::identity::{JobFacts, TelemetryIdentity};
use crate::telemetry::otlp::export;
use crate::telemetry::otlp::spans::Traces;
use crate::telemetry::published::Published;
use crate::telemetry::web;
use crate::trace::contents::{Contents, MappedFiles};
use crate::trace::elf::ElfLayout;
use crate::trace::fault::Fault;
use crate::trace::maps::{Map, Maps};
use crate::trace::memory::Memory;
use crate::trace::registers::Registers;
use crate::trace::report::Crashing;

/// A name, which is that of the target and of its corpus, and what takes the bytes.
pub type FuzzTarget = (&'static str, fn(&[u8]));

pub const TARGETS: [FuzzTarget; 10] = [
    ("csv_rows", csv_rows),
    ("log_lines", log_lines),
    ("proc_stat", stat),
    ("cgroup_files", cgroup_files),
    ("traceparent", traceparent),
    ("otel_variables", otel_variables),
    ("web_config", web_config),
    ("shell_words", shell_words),
    ("http_requests", http_requests),
    ("elf_and_dwarf", elf_and_dwarf),
];

/// Runs the target of that name.
///
/// # Panics
///
/// There is none, or a promise is broken.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(one, _)| *one == name);
    target.unwrap_or_else(|| panic!("no target '{name}'")).1(bytes);
}

/// A record: what was read is written as one line, and read back the same; whatever numbers are in it, it
/// can be shown.
fn csv_rows(bytes: &[u8]) {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let Some(header) = lines.next().and_then(Header::parse) else { return };
    for line in lines {
        let Ok(row) = Row::parse(&header, line) else { continue };
        let written = row.to_csv_line_under(&header);
        let body = written.strip_suffix(b"\r\n").expect("a line has an end");
        assert!(!body.contains(&b'\n'), "{body:?}");
        let again = Row::parse(&header, &written).expect("ours can be read");
        assert_eq!(again.to_csv_line_under(&header), written);
        assert!(nanny::row_texts(&row).len() > 10);
    }
}

/// A log as `nanny why` reads it.
fn log_lines(bytes: &[u8]) {
    let shown = nanny::log_lines(bytes);
    // 40 events, 40 lines of crashes, 20 lines of standard error, the peak and the neighbours.
    assert!(shown.len() <= 102, "{}", shown.len());
}

/// /proc/PID/stat and other files of numbers.
fn stat(bytes: &[u8]) {
    let parsed = proc_stat::parse(bytes);
    parsed.inspect(|stat| assert!(bytes.len() >= stat.name.len()));
    let numbers = procfs::parse_io(bytes).is_some();
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let is_load = pressure::parse_loadavg(text).is_some();
    let is_pressure = pressure::parse_pressure(text).is_some_and(|share| share >= 0.0);
    assert!(!(numbers && is_load && is_pressure), "no file is all of them");
}

/// /proc/self/cgroup, mountinfo and memory.events.
fn cgroup_files(bytes: &[u8]) {
    cgroup::parse_all(bytes);
}

/// TRACEPARENT in the first line and TRACESTATE in the second: what the job gets is well-formed.
fn traceparent(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (parent, state) = text.split_once('\n').unwrap_or((&text, ""));
    let set = |name: &str| match name {
        "OTEL_TRACES_EXPORTER" => Some("otlp".to_owned()),
        "TRACEPARENT" => Some(parent.to_owned()),
        "TRACESTATE" => Some(state.to_owned()),
        _ => None,
    };
    let plan = TelemetryPlan { otlp: otlp_plan_of(set), ..TelemetryPlan::default() };
    let identity = identity(&plan);
    let resource = export::resource(&identity, plan.otlp.as_ref());
    let stamp = Stamp { wall: WallTime(Duration::from_secs(1)), elapsed: Duration::ZERO };
    let mut traces =
        Traces::begin(&plan, &identity, resource, stamp).expect("traces were asked for");
    for (name, value) in traces.begin_attempt(1, stamp) {
        let Some(value) = value else { continue };
        assert!(!value.contains(is_unprintable), "{name}={value:?}");
        if name == "TRACEPARENT" {
            let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c) || c == '-';
            assert!(value.len() == 55 && value.chars().all(is_hex), "{value:?}");
        }
    }
}

/// The OTEL_* variables, one `NAME=VALUE` a line.
fn otel_variables(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let set = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let Some(otlp) = otlp_plan_of(|name| set(name).map(str::to_owned)) else { return };
    let plan = TelemetryPlan { otlp: Some(otlp), ..TelemetryPlan::default() };
    let identity = identity(&plan);
    let resource = export::resource(&identity, plan.otlp.as_ref());
    let stamp = Stamp { wall: WallTime(Duration::from_secs(1)), elapsed: Duration::ZERO };
    drop(Traces::begin(&plan, &identity, resource, stamp));
}

/// The file of `--web.config.file`.
fn web_config(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        web::given::config(text);
    }
}

/// A command line of the record: what is taken apart and quoted again means the same.
fn shell_words(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(words) = shell::split(text) else { return };
    let line = shell::words(&words);
    assert!(!line.contains(is_unprintable), "{line:?}");
    assert_eq!(shell::split(&line).as_ref(), Some(&words), "{line:?}");
}

/// What a client sends, as a connection.
fn http_requests(bytes: &[u8]) {
    let identity = identity(&TelemetryPlan::default());
    let stats = Arc::new(Mutex::new(Stats::default()));
    let published = Published::new(identity, Pid(1), (clock::now, clock::now()), stats);
    // A request that is longer than the buffer of a socket would wait for its reader.
    let bytes = &bytes[..bytes.len().min(32 * 1024)];
    let answer = web::given::request(Arc::new(published), bytes).expect("a socket");
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{answer:?}");
}

/// Where the program of [`elf_and_dwarf`] and its stack are.
const PROGRAM: u64 = 0x7f00_0000_0000;
const STACK: u64 = 0x7ffe_0000_0000;
const STACK_BYTES: u64 = 0x10_000;

/// A process whose program is these bytes.
struct CrashedProgram<'a> {
    bytes: &'a [u8],
    is_gone: bool,
}

impl Memory for CrashedProgram<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> usize {
        let mut read = 0;
        for byte in into {
            let at = address.wrapping_add(read as u64);
            *byte = match at.checked_sub(STACK).filter(|at| *at < STACK_BYTES) {
                // Each second word may be a return address, the others point into the stack.
                Some(at) if at % 16 < 8 => (PROGRAM + at % 4093).to_le_bytes()[at as usize % 8],
                Some(at) => (STACK + at * 7 % STACK_BYTES).to_le_bytes()[at as usize % 8],
                None => {
                    let at = usize::try_from(at.wrapping_sub(PROGRAM)).unwrap_or(usize::MAX);
                    let Some(byte) = self.bytes.get(at) else { break };
                    *byte
                }
            };
            read += 1;
        }
        read
    }
}

impl MappedFiles for CrashedProgram<'_> {
    fn open(&self, _: &Map) -> Result<Box<dyn Contents>, &'static str> {
        if self.is_gone { Err("gone") } else { Ok(Box::new(self.bytes.to_vec())) }
    }
}

/// A program with its unwind tables, symbols and notes, as it crashes at several places of it.
fn elf_and_dwarf(bytes: &[u8]) {
    let bytes = bytes.get(..1 << 20).unwrap_or(bytes);
    let layout = ElfLayout::parse(&bytes.to_vec()).unwrap_or_default();
    let code = layout.segments.iter().find(|segment| segment.is_executable);
    let offset = code.map_or(0, |segment| segment.file.start & !0xfff);
    let end = PROGRAM + 0x10_000;
    let (from, inode) = (PROGRAM + (offset & 0xf000), 7);
    let maps = Maps::parse(
        format!(
            "{PROGRAM:x}-{from:x} r--p 0 08:01 {inode} /a\n{from:x}-{end:x} r-xp {offset:x} 08:01 {inode} /a\n\
             {STACK:x}-{:x} rw-p 0 00:00 0 [stack]\n",
            STACK + STACK_BYTES
        )
        .as_bytes(),
    );
    for (index, at) in [0, 0x40, 0x101, 0x333, 0x1001, 0x1020].into_iter().enumerate() {
        let process = CrashedProgram { bytes, is_gone: index % 3 == 2 };
        let mut registers = Registers::new(from + at, STACK + 0x100);
        (0..33).filter(|number| *number != 7).for_each(|number| {
            registers.set(number, STACK + 0x200 + 16 * u64::from(number));
        });
        let signal = if index % 2 == 0 { Signal::ABRT } else { Signal::SEGV };
        let crashing = Crashing {
            pid: Pid(1),
            thread: Pid(1),
            name: String::new(),
            threads: 1,
            stack_limit: None,
            resources: CrashResources::default(),
            fault: Fault { signal, code: 1, address: from ^ 1 << 40, syscall: 0 },
            registers,
        };
        let left = std::cell::Cell::new(4);
        let has_time = || left.replace(left.get() - 1) > 0;
        let report = crashing.report(&maps, &process, &process, &has_time);
        assert!(!report.frames.is_empty() && report.frames.len() <= 40);
        assert!(report.details().iter().all(|line| line.len() < 8192));
        assert!(matches!(report.signature.len(), 0 | 16));
    }
}

fn identity(plan: &TelemetryPlan) -> TelemetryIdentity {
    let facts = JobFacts {
        name: None,
        program: "job".to_owned(),
        user: "user".to_owned(),
        host: "host".to_owned(),
        run_id: "run".to_owned(),
    };
    TelemetryIdentity::new(facts, plan)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{self, Write};
    use std::path::Path;

    use super::*;

    /// For each file of a corpus; `CHILDMINDER_TEST_MUTATIONS` sets another number.
    const MUTATIONS: u64 = 300;

    /// SplitMix64: a failure names its seed and can be repeated.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            usize::try_from((mixed ^ (mixed >> 31)) % limit.max(1) as u64).expect("small")
        }

        /// Changes a text as fuzzers do, in a few places; parts of others are put in.
        fn mutate(&mut self, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
            for _ in 0..=self.below(8) {
                let at = self.below(bytes.len() + 1);
                let strange = b"\0\n\r\t\x1b\x7f\xff\xc2\x9b,\"'\\$=-:;%{}[]&*!|>~0123456789 ";
                let byte = strange[self.below(strange.len())];
                match self.below(6) {
                    0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                    1 if at < bytes.len() => bytes[at] = byte,
                    2 if at < bytes.len() => {
                        drop(bytes.drain(at..(at + self.below(9)).min(bytes.len())))
                    }
                    3 => {
                        let count = 1 + self.below(20) * self.below(2);
                        bytes.splice(at..at, vec![byte; count]);
                    }
                    4 => {
                        let other = &others[self.below(others.len())];
                        let from = self.below(other.len() + 1);
                        let to = (from + self.below(64)).min(other.len());
                        bytes.splice(at..at, other[from..to].to_vec());
                    }
                    _ => bytes.truncate(at + self.below(bytes.len() + 1)),
                }
            }
        }
    }

    /// `None` where another user runs the tests, who cannot read the sources.
    fn corpus(name: &str) -> Option<Vec<Vec<u8>>> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let text = format!("SKIPPED: the corpus of {name} cannot be read\n");
                io::stderr().write_all(text.as_bytes()).ok();
                return None;
            }
            other => other.unwrap_or_else(|error| panic!("{name}: {error}")),
        };
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        let texts: Vec<_> = paths.iter().map(|path| fs::read(path).expect("a file")).collect();
        assert!(texts.len() >= 3, "the corpus of {name} is small");
        Some(texts)
    }

    #[expect(clippy::disallowed_methods, reason = "the environment says how long")]
    fn mutations() -> u64 {
        let given = std::env::var("CHILDMINDER_TEST_MUTATIONS").ok();
        given.map_or(MUTATIONS, |text| text.parse().expect("a number"))
    }

    fn survives(name: &str) {
        let Some(texts) = corpus(name) else { return };
        // A connection takes a thousand times as long as a parser.
        let rounds = match name {
            "http_requests" => mutations() / 10,
            "elf_and_dwarf" => 2 * mutations(),
            _ => mutations(),
        };
        for (number, text) in texts.iter().enumerate() {
            run(name, text);
            for seed in 0..rounds {
                let mut bytes = text.clone();
                Numbers(seed + ((number as u64) << 32)).mutate(&mut bytes, &texts);
                let outcome = std::panic::catch_unwind(|| run(name, &bytes));
                assert!(
                    outcome.is_ok(),
                    "{name}, {number}, seed {seed}: {:?}",
                    bytes.escape_ascii().to_string()
                );
            }
        }
    }

    macro_rules! tests {
        ($($name:ident)*) => { $(#[test] fn $name() { survives(stringify!($name)); })* };
    }

    tests! {
        csv_rows log_lines proc_stat cgroup_files traceparent otel_variables web_config shell_words
        http_requests elf_and_dwarf
    }

    #[test]
    fn each_target_has_a_fuzz_target() {
        for (name, _) in TARGETS {
            let path = format!("fuzz/fuzz_targets/{name}.rs");
            let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
            assert!(text.expect("the target").contains(&format!("\"{name}\"")), "{name}");
        }
    }
}
