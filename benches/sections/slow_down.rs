//! How much a busy job is slowed down by being watched, beside many sleeping processes of its own.

use std::ffi::OsString;
use std::process::Stdio;

use crate::Fallible;
use crate::harness::process;
use crate::harness::report::Line;
use crate::harness::statistics::median;
use crate::harness::workshop::{Kind, Workshop};

pub const TITLE: &str =
    "time of a busy job beside its own sleepers, sampled or not, median of paired runs in turn";

/// Sleepers, and what the budget allows at one sample a second (PERFORMANCE, section 6).
const CASES: [(u32, f64); 2] = [(100, 1.005), (1000, 1.02)];
const ROUNDS: usize = 7;

/// Starts so many sleepers, counts for about two seconds, tells how long that took, and ends them.
const JOB: &str = r#"
    use Time::HiRes "time";
    my @all = map { my $pid = fork; $pid or exec "sleep", "60"; $pid } 1 .. $ARGV[0];
    my ($begin, $x) = (time, 0);
    $x += $_ & 7 for 1 .. $ARGV[1];
    printf "%.6f\n", time - $begin;
    kill KILL => @all;
    waitpid $_, 0 for @all;
"#;
const STEPS: &str = "40000000";

pub fn run(workshop: &Workshop) -> Fallible<Vec<Line>> {
    let place = workshop.place("slow-down")?;
    let mut lines = Vec::new();
    for (sleepers, budget) in CASES {
        let count = sleepers.to_string();
        let time = |options: &[&str]| -> Fallible<f64> {
            let ours = workshop.ours(options).into_iter().find(|one| one.kind == Kind::Ours);
            let wrapper = ours.ok_or("no childminder")?;
            let job = ["perl", "-e", JOB, &count, STEPS].map(OsString::from);
            let words = wrapper.around(&job);
            let mut command = process::command(&words[0], &place);
            let output = command.args(&words[1..]).stdout(Stdio::piped()).output()?;
            Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
        };
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            let without = time(&["--sample", "0"])?;
            ratios.push(time(&["--sample", "1"])? / without);
        }
        let ratio = median(&ratios);
        let line = Line::new(format!("{sleepers} sleepers, 1 Hz"), format!("x {ratio:.4}"));
        lines.push(line.at_most(budget, Some(ratio), "x its own time"));
    }
    Ok(lines)
}
