//! What a sample of a process tree costs: ours against the reference in C and against peers.
//!
//! Run by `cargo bench --bench sampling [sizes...]`. Trees of sleeping descendants with 10 open
//! files each; CPU time, not time by the clock. The budget is in the table's last column: 1.3
//! times the reference, which reads the same but knows no process that comes or goes. Below each
//! size are the peers that are installed, in multiples of ours: at 100 and at 1,000 processes the
//! best of them shall take at least 8 times as much.

#![expect(clippy::disallowed_methods, reason = "it starts the trees and the references")]
#![expect(clippy::disallowed_macros, reason = "it prints its table")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use childminder::internals::clock;
use childminder::internals::process::Pid;
use childminder::internals::sampler::{self, Sampler};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

#[path = "harness/peers.rs"]
mod peers;

/// At most so many times the reference's CPU time.
const BUDGET: f64 = 1.3;

/// At least so much more do peers use.
const PEERS_BUDGET: f64 = 8.0;

/// The two take turns, for the machine is not ours alone.
const TURNS: usize = 5;

/// CPU microseconds of one sample.
#[derive(Clone, Copy)]
struct Cost {
    median: f64,
    /// With the samples that also read /proc/PID/io or look through all of /proc.
    mean: f64,
}

fn compiled(name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/reference").join(name);
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name.trim_end_matches(".c"));
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-o"]).arg(&program).arg(&source);
    assert!(gcc.status().expect("gcc").success(), "compile {}", source.display());
    program
}

struct Tree {
    root: Child,
    pid: Pid,
}

impl Tree {
    fn new(program: &Path, processes: usize) -> Tree {
        let files = Path::new(env!("CARGO_TARGET_TMPDIR")).join("files");
        std::fs::create_dir_all(&files).expect("a directory");
        let mut command = Command::new(program);
        command.args([&processes.to_string(), "10", "10"]).arg(files);
        let mut root = command.stdout(Stdio::piped()).spawn().expect("a tree");
        let mut line = String::new();
        let output = root.stdout.take().expect("it was asked for");
        BufReader::new(output).read_line(&mut line).expect("the root's pid");
        let pid = Pid(line.trim().parse().expect("the root's pid"));
        Tree { root, pid }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.root.kill().expect("the tree is ours");
        self.root.wait().expect("the tree is ours");
    }
}

fn of_reference(program: &Path, tree: &Tree, samples: usize) -> Cost {
    let mut command = Command::new(program);
    let output = command.args([tree.pid.to_string(), samples.to_string()]).output();
    let text = String::from_utf8(output.expect("the reference").stdout).expect("numbers");
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let &[_, median, mean] = &numbers[..] else { panic!("the reference said {text}") };
    Cost { median, mean }
}

fn of_ours(tree: &Tree, processes: usize, samples: usize, kept_max: usize) -> Cost {
    let mut sampler = Sampler::new(Path::new("/proc"), tree.pid, kept_max).expect("/proc");
    let seen = sampler.sample(clock::now());
    assert_eq!(seen.processes, processes as u64);
    assert_eq!(seen.open_fds, 10 * processes as u64);
    let mut rows = Vec::new();
    let mut costs: Vec<Duration> = (0..samples)
        .map(|_| {
            let before = clock::thread_cpu();
            std::hint::black_box(sampler.sample(clock::now()));
            sampler.seen(&mut rows);
            clock::thread_cpu() - before
        })
        .collect();
    let micros = |span: Duration| span.as_secs_f64() * 1e6;
    let mean = micros(costs.iter().sum()) / samples as f64;
    costs.sort_unstable();
    Cost { median: micros(costs[samples / 2]), mean }
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn one_size(treegen: &Path, procsample: &Path, processes: usize) {
    let tree = Tree::new(treegen, processes);
    // A multiple of 60, in which one sample looks through all of /proc and 12 read io.
    let samples = if processes > 2000 { 60 } else { 180 };
    let turns: Vec<(Cost, Cost, Cost)> = (0..TURNS)
        .map(|_| {
            let reference = of_reference(procsample, &tree, samples);
            let ours = of_ours(&tree, processes, samples, 8192);
            (reference, ours, of_ours(&tree, processes, samples, sampler::kept_max(1024)))
        })
        .collect();
    let each = |of: &dyn Fn(&(Cost, Cost, Cost)) -> f64| {
        middle(turns.iter().map(of).collect()) / processes as f64
    };
    let ratio = |of: &dyn Fn(&(Cost, Cost, Cost)) -> f64| middle(turns.iter().map(of).collect());
    let of_medians = ratio(&|turn| turn.1.median / turn.0.median);
    let verdict = if of_medians <= BUDGET { "met" } else { "MISSED" };
    println!(
        "{processes:>6} {:>9.2} {:>9.2} {:>6.2} {:>9.2} {:>6.2} {:>12.2} {:>6.2} {verdict:>8}",
        each(&|turn| turn.0.median),
        each(&|turn| turn.1.median),
        of_medians,
        each(&|turn| turn.1.mean),
        ratio(&|turn| turn.1.mean / turn.0.mean),
        each(&|turn| turn.2.median),
        ratio(&|turn| turn.2.median / turn.0.median),
    );
    of_peers(&tree, processes, ratio(&|turn| turn.1.mean));
}

/// Compares the peers with what a sample of ours costs on average, in microseconds.
fn of_peers(tree: &Tree, processes: usize, ours: f64) {
    let is_judged = matches!(processes, 100 | 1000);
    for (name, install, measure) in peers::PEERS {
        let Some(cost) = measure(tree.pid.0, processes) else {
            println!("{processes:>6} {name:<18} SKIPPED: NOT INSTALLED ({install})");
            continue;
        };
        let (each, times) = (cost / processes as f64, cost / ours);
        let verdict = match (is_judged, times >= PEERS_BUDGET) {
            (false, _) => "",
            (true, true) => "met",
            (true, false) => "MISSED",
        };
        println!("{processes:>6} {name:<18} {each:>9.2} us, {times:>6.1} x ours {verdict:>8}");
    }
}

fn main() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the hard limit is allowed");
    let sizes: Vec<usize> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![10, 100, 1000, 5000] } else { sizes };
    let (treegen, procsample) = (compiled("treegen.c"), compiled("procsample.c"));
    println!("CPU microseconds per sample and process; ratios to C; budget {BUDGET} on medians");
    println!(
        "{:>6} {:>9} {:>9} {:>6} {:>9} {:>6} {:>12} {:>6} {:>8}",
        "size", "C", "ours", "ratio", "mean", "ratio", "ulimit 1024", "ratio", "budget"
    );
    for processes in sizes {
        one_size(&treegen, &procsample, processes);
    }
}
