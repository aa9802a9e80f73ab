//! README: "samples the job's whole process tree", over real processes.
//!
//! One test after another, for a subreaper's children are everybody's here.

#![expect(clippy::disallowed_methods, reason = "tests start processes and wait for them")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use childminder::internals::clock;
use childminder::internals::proc_stat;
use childminder::internals::process::{Pid, ProcessKey};
use childminder::internals::sampler::Sampler;
use childminder::internals::{SeenProcess, TreeSample};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// A shell that runs a script, and ends when its input does.
struct Tree {
    shell: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Tree {
    fn new(script: &str) -> Tree {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.spawn().expect("what every Linux lets a test do");
        let output = BufReader::new(shell.stdout.take().expect("what every Linux lets a test do"));
        Tree { shell, output }
    }

    fn pid(&self) -> Pid {
        Pid(self.shell.id().cast_signed())
    }

    fn key(&self) -> ProcessKey {
        let text = std::fs::read(format!("/proc/{}/stat", self.pid()))
            .expect("what every Linux lets a test do");
        let start_ticks =
            proc_stat::parse(&text).expect("what every Linux lets a test do").start_ticks;
        ProcessKey { pid: self.pid(), start_ticks }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("what every Linux lets a test do");
        line.trim().to_owned()
    }

    fn go_on(&mut self) {
        self.shell
            .stdin
            .as_mut()
            .expect("what every Linux lets a test do")
            .write_all(b"\n")
            .expect("what every Linux lets a test do");
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        self.shell.wait().expect("what every Linux lets a test do");
    }
}

fn seen(sampler: &Sampler) -> Vec<SeenProcess> {
    let mut rows = Vec::new();
    sampler.seen(&mut rows);
    rows.iter().map(|row| row.seen(sampler.page_bytes())).collect()
}

/// Takes samples until one is as it shall be; no total may fall meanwhile.
fn sample_until(
    sampler: &mut Sampler,
    what: &str,
    is_so: impl Fn(&TreeSample, &[SeenProcess]) -> bool,
) -> TreeSample {
    let begin = Instant::now();
    let mut cpu = Duration::ZERO;
    loop {
        let sample = sampler.sample(clock::now());
        assert!(sample.cpu >= cpu, "{what}: {:?} after {cpu:?}", sample.cpu);
        cpu = sample.cpu;
        if is_so(&sample, &seen(sampler)) {
            return sample;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "waited in vain: {what}: {sample:?}");
    }
}

fn proc_of(ourselves: Pid, kept_max: usize) -> Sampler {
    Sampler::new(Path::new("/proc"), ourselves, kept_max).expect("what every Linux lets a test do")
}

const BURN: &str = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";

fn a_tree_grows_and_shrinks_before_our_eyes(kept_max: usize) {
    let mut tree = Tree::new(
        "echo up; read x; for i in 1 2 3 4 5; do (exec sleep 60) & p=\"$p $!\"; done; \
         echo grown; read x; kill $p; wait; echo shrunk; read x",
    );
    let mut sampler = proc_of(tree.pid(), kept_max);
    assert_eq!(tree.line(), "up");
    assert_eq!(sampler.sample(clock::now()).processes, 0);
    tree.go_on();
    assert_eq!(tree.line(), "grown");
    let sample = sample_until(&mut sampler, "five sleepers", |sample, seen| {
        sample.processes == 5 && seen.iter().all(|process| process.name == "sleep")
    });
    assert!(sample.threads == 5 && sample.rss_bytes > 5 * 4096, "{sample:?}");
    assert!(sample.open_fds >= 15 && sample.host.load1.is_some(), "{sample:?}");
    tree.go_on();
    assert_eq!(tree.line(), "shrunk");
    sample_until(&mut sampler, "none", |sample, _| sample.processes == 0);
    assert_eq!((seen(&sampler).len(), sampler.errors()), (5, 0), "those that left are shown");
}

fn time_of_ended_children_stays() {
    let mut tree = Tree::new(&format!(
        "export B='{BURN}'; \
         sh -c 'sh -c \"$B\" & wait; eval \"$B\"; echo burnt; read x'; echo over; read x"
    ));
    let mut sampler = proc_of(tree.pid(), 100);
    sample_until(&mut sampler, "some work", |sample, _| sample.cpu > Duration::ZERO);
    assert_eq!(tree.line(), "burnt");
    let whole = sampler.sample(clock::now()).cpu;
    assert!(whole >= Duration::from_millis(50), "{whole:?}");
    tree.go_on();
    assert_eq!(tree.line(), "over");
    sample_until(&mut sampler, "all left", |sample, _| {
        sample.processes == 0 && sample.cpu >= whole
    });
}

fn orphans_come_to_us_and_strangers_stay_out() {
    let us = Pid(std::process::id().cast_signed());
    let stranger = Tree::new("sleep 0.1; read x");
    let mut sampler = proc_of(us, 100);
    sampler.exclude(&[stranger.key()]);
    assert_eq!(sampler.sample(clock::now()).processes, 0);
    let mut tree = Tree::new("(setsid sleep 61 & echo $!); read x");
    let orphan: i32 = tree.line().parse().expect("what every Linux lets a test do");
    sample_until(&mut sampler, "the shell and the orphan", |sample, seen| {
        let is_there = seen.iter().any(|process| process.key.pid == Pid(orphan));
        sample.processes == 2 && is_there
    });
    drop(tree);
    assert_eq!(sampler.sample(clock::now()).processes, 1);
    let orphan = nix::unistd::Pid::from_raw(orphan);
    nix::sys::signal::kill(orphan, nix::sys::signal::Signal::SIGKILL)
        .expect("what every Linux lets a test do");
    nix::sys::wait::waitpid(orphan, None).expect("what every Linux lets a test do");
    assert_eq!(sampler.sample(clock::now()).processes, 0);
}

fn threads_are_counted_and_are_not_processes() {
    // Threads of a child of ours: this program again would do, but python says it shorter.
    let script = "python3 -c 'import threading,sys\n\
         for i in range(7): threading.Thread(target=sys.stdin.read if i==0 else \
         threading.Event().wait, daemon=True).start()\n\
         print(\"up\", flush=True); threading.Event().wait(0) or input()' 2>/dev/null || echo none";
    let mut tree = Tree::new(&format!("{script}; true"));
    let mut sampler = proc_of(tree.pid(), 100);
    sampler.sample(clock::now());
    if tree.line() == "up" {
        let sample = sampler.sample(clock::now());
        assert_eq!((sample.processes, sample.threads), (1, 8), "{:?}", seen(&sampler));
    }
}

fn a_lack_of_descriptors_is_lived_with() {
    let mut tree = Tree::new(
        "for i in 1 2 3 4 5; do (exec sleep 60) & p=\"$p $!\"; done; echo up; read x; kill $p",
    );
    assert_eq!(tree.line(), "up");
    let mut sampler = proc_of(tree.pid(), 100);
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    let open = std::fs::read_dir("/proc/self/fd").expect("our own").count() as u64;
    // The listing itself was one of them, so this leaves room for two.
    setrlimit(Resource::RLIMIT_NOFILE, open + 1, hard).expect("a lower limit");
    sample_until(&mut sampler, "five with room for two", |sample, _| sample.processes == 5);
    assert!(sampler.errors() > 0, "it had to give some back");
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("the limit from before");
}

#[test]
fn the_tree_is_followed_through_its_life() {
    nix::sys::prctl::set_child_subreaper(true).expect("what every Linux lets a test do");
    for kept_max in [0, 3, 100] {
        a_tree_grows_and_shrinks_before_our_eyes(kept_max);
    }
    time_of_ended_children_stays();
    orphans_come_to_us_and_strangers_stay_out();
    threads_are_counted_and_are_not_processes();
    a_lack_of_descriptors_is_lived_with();
    assert!(Sampler::new(&PathBuf::from("/nowhere"), Pid(1), 0).is_err());
}
