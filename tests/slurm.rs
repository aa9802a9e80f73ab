//! DESIGN, section 4, under a real Slurm: "slurmstepd may signal childminder alone or every process of the job:
//! the job must hear it exactly once." Each case runs with and without childminder, and what the job hears must
//! be the same.

#![allow(clippy::disallowed_methods, reason = "tests start programs and read the environment")]

#[path = "support/peers.rs"]
mod peers;
#[path = "support/slurm.rs"]
mod slurm;
mod support;

use std::fs;

use slurm::Slurm;
use support::{Place, messages, wait_until};

/// Appends the name of each signal that it gets to the file that it is told, ends when the file FILE.go is there
/// or, as a job should, some time after a SIGTERM: by then it would have got a second one.
const HEARS: &str = r#"
    use POSIX (); use Config; use Time::HiRes qw(time);
    my ($out, $dies) = @ARGV; my $end; my @names = split " ", $Config{sig_name};
    my $write = sub { open my $file, ">>", $out or die; print $file "$_[0]\n"; close $file };
    for my $number (1 .. 8, 10 .. 16, 18, 20 .. 31) {
        my $tell = sub { $write->($names[$number]); $end ||= time + 1.2 if $number == 15 };
        next if $dies && $number == 15;
        POSIX::sigaction($number, POSIX::SigAction->new($tell)) or die;
    }
    $write->("ready");
    do { select undef, undef, undef, 0.01 } until -e "$out.go" or $end && time > $end;
    $write->("end");
"#;

/// What is done to a job.
struct Case {
    name: &'static str,
    /// Of sbatch.
    options: &'static [&'static str],
    /// What starts the job in the batch script: itself, or a step.
    start: &'static str,
    /// The program of Slurm's that signals it, to which the number of the job is added.
    act: &'static [&'static str],
    /// The signal that its processes get, or one of them.
    signal: &'static str,
}

const CASES: [Case; 8] = [
    Case { name: "cancel", options: &[], start: "", act: &["scancel"], signal: "TERM" },
    // Whether the job dies before us or after us, its verdict names who asked.
    Case { name: DIES, options: &[], start: "", act: &["scancel"], signal: "CONT" },
    Case {
        name: "cancel-step",
        options: &[],
        start: "srun --overlap -n1 ",
        act: &["scancel"],
        signal: "TERM",
    },
    Case {
        name: "batch",
        options: &[],
        start: "",
        act: &["scancel", "--batch", "-s", "USR1"],
        signal: "USR1",
    },
    Case {
        name: "full",
        options: &[],
        start: "",
        act: &["scancel", "--full", "-s", "USR2"],
        signal: "USR2",
    },
    Case {
        name: "step",
        options: &[],
        start: "srun --overlap -n1 ",
        act: &["scancel", "-s", "USR1"],
        signal: "USR1",
    },
    Case {
        name: "suspend",
        options: &[],
        start: "",
        act: &["scontrol", "suspend"],
        signal: "TSTP",
    },
    // The shortest limit is a minute; Slurm looks every half minute.
    Case {
        name: "limit",
        options: &["-t", "1", "--signal=B:USR1@50"],
        start: "",
        act: &[],
        signal: "TERM",
    },
];

/// The case whose job does not trap SIGTERM.
const DIES: &str = "cancel-dies";

/// How the batch script starts the job: what comes before it and after it. Without `exec` the shell must survive
/// what Slurm sends to it alone, or the job is killed with it.
const WAYS: [(&str, &str, &str); 2] =
    [("exec", "exec ", ""), ("shell", "trap : TERM USR1 USR2 TSTP CONT; ", "; exit $?")];

/// A job that was submitted.
struct Job {
    case: &'static Case,
    is_minded: bool,
    /// The name of its files.
    name: String,
    id: String,
}

impl Job {
    fn submit(slurm: &Slurm, case: &'static Case, way: (&str, &str, &str), is_minded: bool) -> Job {
        let (way, before, after) = way;
        let kind = if is_minded { "minded" } else { "bare" };
        let name = format!("{}-{way}-{kind}", case.name);
        let path = |name: &str| slurm.place().file(name).to_str().expect("text").to_owned();
        let childminder = match is_minded {
            true => {
                format!("{} -l {} ", support::program().display(), path(&format!("{name}.log")))
            }
            false => String::new(),
        };
        let start = case.start;
        let dies = if case.name == DIES { "dies" } else { "" };
        let job = format!("perl {} {} {dies}", path("hears.pl"), path(&name));
        let script = format!("{before}{start}{childminder}{job}{after}");
        let id = slurm.submit(&name, case.options, &script);
        Job { case, is_minded, name, id }
    }

    fn has_said(&self, place: &Place, word: &str) -> bool {
        place.text(&self.name).lines().any(|line| line == word)
    }

    fn log(&self, place: &Place) -> String {
        let logs = fs::read_dir(place.file(&format!("{}.log", self.name))).into_iter().flatten();
        let texts = logs.flatten().map(|log| fs::read_to_string(log.path()).unwrap_or_default());
        texts.collect()
    }

    /// The signals that the job heard, each as often as it did. Slurm sends some by two requests at once (USR1
    /// of --signal and a CONT before it), so that their order is not its promise.
    fn heard(&self, place: &Place) -> Vec<String> {
        let text = place.text(&self.name);
        let signals = text.lines().filter(|line| !matches!(*line, "ready" | "end"));
        let mut signals: Vec<String> = signals.map(str::to_owned).collect();
        signals.sort();
        signals
    }
}

/// All cases at once, for most of the time is Slurm's.
fn the_job_hears_what_it_hears_without_childminder(proctrack: &str) {
    let Some(slurm) = Slurm::start(proctrack) else { return };
    let place = slurm.place();
    place.write("hears.pl", HEARS);
    let mut jobs = Vec::new();
    for case in &CASES {
        for way in WAYS {
            for is_minded in [false, true] {
                jobs.push(Job::submit(&slurm, case, way, is_minded));
            }
        }
    }
    for job in &jobs {
        wait_until(&format!("{} is ready", job.name), || job.has_said(place, "ready"));
    }
    // Some time for the first milliseconds of childminder to pass.
    wait_until("all have begun to watch", || {
        jobs.iter().all(|job| !job.is_minded || job.log(place).contains("evidence in force"))
    });
    for job in &jobs {
        let Some((program, words)) = job.case.act.split_first() else { continue };
        let words: Vec<&str> = words.iter().copied().chain([job.id.as_str()]).collect();
        assert!(slurm.command(program, &words).status().expect("it starts").success());
    }
    let is_suspended = |job: &&Job| job.case.name == "suspend";
    for job in jobs.iter().filter(is_suspended) {
        wait_until(&format!("{} is suspended", job.name), || {
            slurm.says("squeue", &["-h", "-j", &job.id, "-o", "%T"]) == "SUSPENDED"
        });
    }
    finish(&slurm, &jobs);
    for pair in jobs.chunks(2) {
        let [bare, minded] = pair else { unreachable!("they were submitted in pairs") };
        compare(place, bare, minded);
    }
}

/// Lets the jobs end that are not ended by what was done to them.
fn finish(slurm: &Slurm, jobs: &[Job]) {
    let place = slurm.place();
    let is_hearing = |job: &&Job| matches!(job.case.name, "batch" | "full" | "step");
    for job in jobs.iter().filter(is_hearing) {
        // Where the control hears nothing, neither must the job: for long enough, another case goes on.
        let is_told = || !job.is_minded || job.log(place).contains("signal ");
        if job.case.start.is_empty() && job.name.contains("-shell-") {
            continue;
        }
        wait_until(&format!("{} is signalled", job.name), || {
            is_told() && !job.heard(place).is_empty()
        });
    }
    // slurmd stops the processes two seconds after SIGTSTP, and says so at the end.
    for job in jobs.iter().filter(|job| job.case.name == "suspend") {
        let resumed = slurm.command("scontrol", &["resume", &job.id]).status();
        assert!(resumed.expect("it starts").success());
        wait_until(&format!("{} runs", job.name), || {
            slurm.says("squeue", &["-h", "-j", &job.id, "-o", "%T"]) == "RUNNING"
        });
    }
    wait_until("the cancelled jobs have ended", || {
        let is_over = |job: &Job| {
            job.has_said(place, "end")
                || slurm.says("squeue", &["-h", "-j", &job.id, "-o", "%T"]).is_empty()
        };
        jobs.iter().filter(|job| job.case.name.starts_with("cancel")).all(is_over)
    });
    for job in jobs.iter().filter(|job| job.case.name != "limit") {
        place.write(&format!("{}.go", job.name), "");
    }
    support::wait_for("all jobs have ended", support::PATIENCE * 5, || {
        slurm.says("squeue", &["-h"]).is_empty()
    });
}

fn compare(place: &Place, bare: &Job, minded: &Job) {
    let (control, heard) = (bare.heard(place), minded.heard(place));
    let log = minded.log(place);
    let name = &minded.name;
    assert!(heard == control || minded.case.name == DIES, "{name}: {heard:?} {control:?} {log}");
    if bare.name.contains("-exec-") && minded.case.name == DIES {
        assert!(log.contains("signal 15 (SIGTERM) from kill(2)"), "{name}: {log}");
    } else if bare.name.contains("-exec-") {
        // The control is one: the case does what it says.
        let signal = bare.case.signal;
        assert_eq!(control.iter().filter(|one| *one == signal).count(), 1, "{name}: {control:?}");
    }
    let messages = messages(&log);
    let told =
        messages.iter().filter(|line| line.starts_with("signal ") && line.contains(" from "));
    for line in told.clone() {
        assert!(line.contains("(slurmstepd: ["), "{name}: {line}");
    }
    // All that it heard is in the log.
    assert!(told.count() >= heard.len(), "{name}: {log}");
    // Where only the shell is asked, SIGKILL ends us all when its time is over.
    if minded.case.name == DIES && messages.iter().any(|line| line.starts_with("signal 15 ")) {
        let verdict = messages.last().map(String::as_str).unwrap_or_default();
        let expected =
            "verdict: stop_requested (certain): SIGTERM; asked by Slurm: signal 15 (SIGTERM) ";
        assert!(verdict.starts_with(expected), "{name}: {log}");
    }
}

#[test]
fn under_proctrack_linuxproc_each_signal_is_heard_once() {
    the_job_hears_what_it_hears_without_childminder("linuxproc");
}

#[test]
fn under_proctrack_cgroup_each_signal_is_heard_once() {
    the_job_hears_what_it_hears_without_childminder("cgroup");
}
