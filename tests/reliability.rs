//! DESIGN, section 6: "A missing one costs evidence, never function. ... Costs are bounded": the
//! observing part under jobs and machines that make it hard.

mod support;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use childminder::internals::Files;
use childminder::internals::clock;
use childminder::internals::process::Pid;
use childminder::internals::sampler::Sampler;
use support::{Done, Place, Running, is_root, program, skip, status_field, wait_until};

/// A user of this file's own: what is counted for it is what its tests have started.
const USER: [&str; 3] = ["--reuid=54323", "--regid=54323", "--clear-groups"];

/// Every process of it forks until the kernel refuses or there are 400; then all leave. What one
/// does the others see by files, so no signal and no time is needed to stop it.
const BOMB: &str = r#"
    sub note { open my $file, ">>", $_[0] or die; syswrite $file, "x"; close $file }
    sub bomb {
        until (-e "full") {
            if ((-s "forks" // 0) >= 400) { note "full"; last }
            my $pid = fork;
            if (!defined $pid) { note "refused"; note "full"; last }
            if (!$pid) { note "forks"; bomb(); exit 0 }
        }
        1 while wait > 0;
    }
    select undef, undef, undef, 0.05;
    bomb();
    exit 7;
"#;

/// A bomb within RLIMIT_NPROC, which holds for childminder, too.
#[test]
fn a_fork_bomb_ends_as_its_job_does_and_leaves_nothing() {
    let place = Place::new();
    place.write("bomb", BOMB);
    let mut command = if is_root() {
        if !place.copy_for(USER) {
            return skip("a fork bomb", "another user cannot reach the program");
        }
        // The limit does not hold for root.
        let mut command = place.command("setpriv");
        command.args(USER).args(["prlimit", "--nproc=60", "./cm"]);
        command
    } else if place.command("unshare").args(["-r", "true"]).status().is_ok_and(|s| s.success()) {
        // There only what is in the namespace counts, whatever else this user has running.
        let mut command = place.command("unshare");
        command.args(["-r", "prlimit", "--nproc=60"]).arg(program());
        command
    } else {
        return skip("a fork bomb", "no user namespace to bound it in");
    };
    command.args(["--sample", "10ms", "--files", "perl", "bomb"]);
    let done = place.run_command(command);
    assert_eq!(done.code(), 7, "{done:?}");
    assert_eq!(done.verdict(), "exit_nonzero (certain): exit status 7");
    assert!(!place.text("refused").is_empty(), "the limit was not reached: {done:?}");
    assert_eq!(done.count("cannot be sampled"), 0, "{done:?}");
}

/// Starts and waits for so many processes: every second one runs a program, and one in the middle
/// that is called `victim` is killed.
const STORM: &str = r#"
    for my $i (1 .. $ARGV[0]) {
        my $pid = fork // die;
        if (!$pid) {
            if ($i == $ARGV[0] / 2) { $0 = "victim"; kill KILL => $$; sleep 60 }
            $i % 2 ? exit 0 : exec "true";
        }
        if ($i == $ARGV[0] / 2) { open my $file, ">", "victim"; print $file $pid; close $file }
        waitpid $pid, 0;
        if ($i % 100 == 0) { open my $file, ">", "count"; print $file "$i\n"; close $file }
    }
"#;

/// Whether the log says that the deaths of descendants are told here.
fn tells_deaths(done: &Done) -> bool {
    let line = done.log.iter().find(|line| line.contains("in force"));
    line.is_some_and(|line| line.contains("deaths of descendants by the proc connector"))
}

/// The seconds of CPU time that the lines of the flight recorder tell.
fn recorded_cpu(done: &Done) -> Vec<f64> {
    let lines = done.log.iter().filter(|line| line.starts_with("recorder -"));
    let number = |line: &String| line.split("CPU ").nth(1)?.split(' ').next()?.parse().ok();
    lines.map(|line| number(line).unwrap_or_else(|| panic!("no CPU time: {line}"))).collect()
}

/// What the job and all that it waited for have used, by wait4(2).
fn used_seconds(done: &Done) -> f64 {
    let line = done
        .log
        .iter()
        .find(|line| line.starts_with("child ") && line.contains(" rusage info -- "));
    let line = line.expect("the job's usage");
    let seconds = |name: &str| -> f64 {
        let rest = line.split(name).nth(1).and_then(|rest| rest.split('s').next());
        rest.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("{line}"))
    };
    seconds("system time: ") + seconds("user time: ")
}

/// 20,000 processes in a minute and more: "short-lived ones through proc-connector events", by
/// their right names, and what they used is neither lost nor counted twice.
#[test]
fn thousands_of_short_processes_are_told_rightly() {
    let place = Place::new();
    place.write("storm", &format!("{STORM} exit 137;"));
    let done = place.run(["--sample", "10ms", "--files", "perl", "storm", "3000"]);
    assert_eq!(done.code(), 137, "{done:?}");
    let victim = format!("(pid {})", place.text("victim"));
    let verdict = done.verdict();
    if tells_deaths(&done) {
        // The storm after the death may last longer than a second.
        assert!(verdict.starts_with("descendant_killed ("), "{verdict}");
        assert!(verdict.contains(&victim) || verdict.contains(&place.text("victim")), "{verdict}");
        assert!(!verdict.contains("'true'") && !verdict.contains("such deaths"), "{verdict}");
    } else {
        skip("the name of a short process", "no proc connector here");
        assert!(verdict.starts_with("exit_nonzero "), "{verdict}");
    }
    let cpu = recorded_cpu(&done);
    assert!(cpu.len() > 10 && cpu.is_sorted(), "{cpu:?}");
    let (last, used) = (cpu[cpu.len() - 1], used_seconds(&done));
    assert!(last <= used + 0.05, "counted twice: {last} of {used}");
    assert!(last >= used * 0.5, "lost: {last} of {used}");
    assert_eq!(done.stderr.matches("panic").count(), 0, "{done:?}");
}

/// A storm of a test's own, below no childminder.
struct Storm(Child);

impl Storm {
    fn start(place: &Place, count: &str) -> Storm {
        let mut perl = place.command("perl");
        let perl = perl.arg("-e").arg(STORM).arg(count).stdout(Stdio::null());
        Storm(perl.spawn().expect("perl starts"))
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("our child").is_some()
    }
}

/// Processes that vanish between two reads are not errors: looked at without any pause, most of
/// them do.
#[test]
fn what_vanishes_between_two_reads_is_not_an_error() {
    let place = Place::new();
    let mut storm = Storm::start(&place, "2000");
    let root = Pid(storm.0.id().cast_signed());
    let mut sampler = Sampler::new(Path::new("/proc"), root, 100).expect("/proc");
    let (mut rows, mut files, mut cpu) = (Vec::new(), Files::default(), Duration::ZERO);
    let (mut samples, mut most) = (0, 0);
    while !storm.has_ended() {
        let sample = sampler.sample(clock::now());
        assert!(sample.cpu >= cpu, "{:?} after {cpu:?}", sample.cpu);
        cpu = sample.cpu;
        (samples, most) = (samples + 1, most.max(sample.processes));
        sampler.seen(&mut rows);
        rows.iter().for_each(|row| files.look(Path::new("/proc"), row.key().pid));
        for process in rows.iter().map(|row| row.seen(1)) {
            let is_known = ["perl", "true", "victim"].contains(&process.name.as_str());
            assert!(is_known, "a stranger: {process:?}");
        }
    }
    assert_eq!(sampler.errors(), 0);
    assert!(samples > 100 && (1..=2).contains(&most), "{samples} samples, {most} processes");
}

/// A job of an ordinary user on a machine with `hidepid=2` (proc(5)), one process of which is
/// another user's by the set-user-ID bit: it is not seen, and nothing else is the worse for it.
#[test]
fn hidden_processes_cost_evidence_only() {
    let place = Place::new();
    if !is_root() || !place.copy_for(USER) {
        return skip("hidepid", "only root can mount /proc anew, for another user");
    }
    let script = "cp \"$(command -v sleep)\" hidden && chmod 4755 hidden && \
         mount -t proc -o hidepid=2 proc /proc && ! setpriv \"$@\" test -e /proc/1 && \
         exec setpriv \"$@\" ./cm --sample 20ms --files sh -c '\
         ./hidden 3 >/dev/null 2>&1 & until [ ! -e /proc/$! ]; do :; done; : > has_vanished; \
         sleep 0.4; sh -c \"kill -KILL \\$\\$\"; exit 137'";
    let mut command = place.command("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).args(USER);
    let done = place.run_command(command);
    if !place.file("has_vanished").exists() {
        return skip("hidepid", "/proc cannot be mounted with it here");
    }
    assert_eq!(done.code(), 137, "{done:?}");
    let begin = if tells_deaths(&done) { "descendant_killed (certain)" } else { "exit_nonzero " };
    assert!(done.verdict().starts_with(begin), "{done:?}");
    assert!(done.count("recorder -") > 5, "{done:?}");
    assert_eq!(done.count("cannot be"), 0, "{done:?}");
}

/// A memory cgroup that root makes for one test.
fn memory_cgroup() -> Option<(PathBuf, PathBuf)> {
    let old = Path::new("/sys/fs/cgroup/memory");
    let parent = if old.is_dir() { old } else { Path::new("/sys/fs/cgroup") };
    let directory = parent.join(format!("childminder-test-{}-removed", std::process::id()));
    let is_made = is_root() && fs::create_dir(&directory).is_ok();
    let counts = ["memory.oom_control", "memory.events"];
    let has_counter = || counts.iter().any(|file| directory.join(file).exists());
    (is_made && has_counter()).then(|| (parent.to_owned(), directory.clone()))
}

/// "whatever could not be read is `None`": a cgroup that is removed under the job, which must
/// have been moved elsewhere for that, is a counter that cannot be read, and no number.
#[test]
fn a_cgroup_that_is_removed_meanwhile_is_not_evidence() {
    let Some((parent, directory)) = memory_cgroup() else {
        return skip("a cgroup that is removed", "no memory cgroup can be made here");
    };
    let place = Place::new();
    let mut command = place.childminder([
        "--sample",
        "20ms",
        "sh",
        "-c",
        "until [ -e go ]; do sleep 0.02; done; kill -KILL $$",
    ]);
    let procs = directory.join("cgroup.procs");
    // SAFETY: opens and writes a file before exec; the process has one thread.
    #[expect(unsafe_code, reason = "the cgroup is entered before childminder begins")]
    unsafe {
        command.pre_exec(move || fs::write(&procs, "0"));
    }
    let run = place.start_command(command);
    let evidence = place.await_log("in force");
    assert!(evidence.contains("childminder-test-"), "{evidence}");
    wait_until("all have left the cgroup", || {
        let pids = fs::read_to_string(directory.join("cgroup.procs")).expect("ours");
        for pid in pids.lines() {
            // It may have ended meanwhile.
            fs::write(parent.join("cgroup.procs"), pid).ok();
        }
        fs::remove_dir(&directory).is_ok()
    });
    // Another one of the same name is not the one that the job was in, nor is its limit the job's.
    fs::create_dir(&directory).expect("once more");
    let limits = ["memory.limit_in_bytes", "memory.max"].map(|file| directory.join(file));
    let limit = limits.into_iter().find(|file| file.exists()).expect("a limit");
    fs::write(limit, "1048576").expect("a limit");
    place.write("go", "");
    let done = run.end();
    fs::remove_dir(&directory).expect("nobody was in it");
    assert_eq!(done.code(), 137, "{done:?}");
    assert_eq!(done.verdict().matches("childminder-test-").count(), 0, "{done:?}");
    assert!(!done.verdict().starts_with("oom_killed"), "{done:?}");
}

/// Resident memory of childminder itself, in KiB.
fn rss_kib(run: &Running<'_>) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", run.pid())).expect("it runs");
    let field = status_field(&status, "VmRSS");
    field.trim_end_matches("kB").trim().parse().expect("a number")
}

/// "Costs are bounded": memory does not grow with the number of processes that were there.
#[test]
fn memory_does_not_grow_with_the_processes_that_come_and_go() {
    let place = Place::new();
    place.write("storm", STORM);
    let run = place.start(["--sample", "10ms", "--files", "perl", "storm", "8000"]);
    let has_come_to = |count: u32| {
        move |place: &Place| place.text("count").trim().parse().is_ok_and(|n: u32| n >= count)
    };
    wait_until("it is warm", || has_come_to(2000)(&place));
    let before = rss_kib(&run);
    wait_until("it is near its end", || has_come_to(7500)(&place));
    let after = rss_kib(&run);
    let done = run.end();
    assert_eq!(done.code(), 0, "{done:?}");
    assert!(after <= before + 256, "{before} KiB grew to {after} KiB");
}
