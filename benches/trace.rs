//! What `--trace` costs the job: beside no tracing, the least that a C program can do, and `strace -f`.
//!
//! Run by `cargo bench --bench trace [LOAD...]`. Each number is the fastest of some turns, which are taken one after the
//! other, in microseconds for one operation: what else the machine does only adds to it. Budgets: system calls and computation as untraced; a signal and a fork at most 1.3
//! times the C reference.

#![expect(clippy::disallowed_methods, reason = "it starts programs")]
#![expect(clippy::disallowed_macros, reason = "it prints its table")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What is measured, how often in one turn, and what it may cost: in multiples of untraced, or of the reference.
const LOADS: [(&str, u32, Budget); 6] = [
    ("syscall", 1_000_000, Budget::OfUntraced(1.05)),
    ("compute", 100_000, Budget::OfUntraced(1.05)),
    ("signal", 10_000, Budget::OfReference(1.3)),
    ("fork", 1_500, Budget::OfReference(1.3)),
    ("exec", 400, Budget::OfReference(1.3)),
    ("thread", 5_000, Budget::OfReference(1.3)),
];

/// Of such a short time the noise of a machine in use is 5 percent.
#[derive(Clone, Copy)]
enum Budget {
    OfUntraced(f64),
    OfReference(f64),
}

const TURNS: usize = 7;

/// Who runs the load.
#[derive(Clone, Copy, PartialEq)]
enum Runner {
    Untraced,
    Reference,
    Childminder,
    Strace,
    StraceWithFilter,
}

const RUNNERS: [(Runner, &str); 5] = [
    (Runner::Untraced, "untraced"),
    (Runner::Reference, "C reference"),
    (Runner::Childminder, "childminder"),
    (Runner::Strace, "strace -f"),
    (Runner::StraceWithFilter, "strace -f --seccomp-bpf"),
];

fn compiled(name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/reference").join(name);
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name.trim_end_matches(".c"));
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-pthread", "-o"]).arg(&program).arg(&source);
    assert!(gcc.status().expect("gcc").success(), "compile {}", source.display());
    program
}

/// Microseconds for one operation; `None` where the runner is not installed.
fn measure(runner: Runner, programs: &[PathBuf; 2], (what, count): (&str, u32)) -> Option<f64> {
    let [load, reference] = programs;
    let strace = |options: &[&str]| {
        let mut command = Command::new("strace");
        command.args(options).args(["-f", "-qq", "-e", "trace=none", "-o", "/dev/null"]);
        command
    };
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join("trace-log");
    let mut command = match runner {
        Runner::Untraced => Command::new(load),
        Runner::Reference => Command::new(reference),
        Runner::Childminder => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_childminder"));
            command.args(["-d", "--trace=required", "-l"]).arg(&log);
            command
        }
        Runner::Strace => strace(&[]),
        Runner::StraceWithFilter => strace(&["--seccomp-bpf"]),
    };
    if runner != Runner::Untraced {
        command.arg(load);
    }
    let output = command.args([what, &count.to_string()]).output().ok()?;
    if !output.status.success() {
        return None;
    }
    let nanoseconds: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().ok()?;
    Some(nanoseconds / 1_000.0)
}

fn fastest(values: Vec<f64>) -> Option<f64> {
    values.into_iter().min_by(f64::total_cmp)
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if !words.iter().any(|word| word == "--bench") {
        println!("trace: nothing to do; it is run by `cargo bench`");
        return ExitCode::SUCCESS;
    }
    let programs = [compiled("traceload.c"), compiled("traceref.c")];
    println!("microseconds for one operation, the fastest of {TURNS} turns");
    let mut has_missed = false;
    let is_wanted = |what: &str| words.len() == 1 || words.iter().any(|word| word == what);
    for (what, count, budget) in LOADS.into_iter().filter(|(what, ..)| is_wanted(what)) {
        let mut all = RUNNERS.map(|_| Vec::new());
        for _ in 0..TURNS {
            for (values, (runner, _)) in all.iter_mut().zip(RUNNERS) {
                // At every system call strace stops: fewer of them say as much.
                let share = if runner == Runner::Strace && what == "syscall" { 20 } else { 1 };
                values.extend(measure(runner, &programs, (what, count / share)));
            }
        }
        let all_fastest = all.map(fastest);
        print!("{what:8}");
        for (value, (_, name)) in all_fastest.iter().zip(RUNNERS) {
            match value {
                Some(value) => print!("  {name} {value:.3}"),
                None => print!("  {name} -"),
            }
        }
        let [untraced, reference, ours, ..] = all_fastest;
        let (base, most, name) = match budget {
            Budget::OfUntraced(most) => (untraced, most, "untraced"),
            Budget::OfReference(most) => (reference, most, "the reference"),
        };
        let ratio = ours.zip(base).map_or(f64::INFINITY, |(ours, base)| ours / base);
        let is_met = ratio <= most;
        has_missed |= !is_met;
        let word = if is_met { "met" } else { "MISSED" };
        println!("  | {ratio:.2} x {name} (budget {most}): {word}");
    }
    if has_missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
