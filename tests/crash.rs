//! "a bounded native backtrace ... works without debug information and frame pointers, through signal frames, static and
//! musl programs": programs that crash in each way, stopped at their fatal signal and examined there.

#![cfg(target_arch = "x86_64")]
#![expect(clippy::disallowed_methods, reason = "tests start processes and wait for them")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use childminder::internals::process::Pid as JobPid;
use childminder::internals::signal::Signal as JobSignal;
use childminder::internals::{CrashReport, CrashSource, Fault, Registers, clock};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::support::{Place, skip, wait_until};

/// Builds a program of tests/crash; `None`, and a loud line, without that compiler.
fn build(place: &Place, compiler: &str, words: &[&str], source: &str) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash").join(source);
    let program =
        place.path().join(format!("{compiler}-{}", words.concat().replace(['/', ' '], "_")));
    let mut command = Command::new(compiler);
    command.args(words).arg("-o").arg(&program).arg(&source).current_dir(place.path());
    match command.output() {
        Ok(done) if done.status.success() => Some(program),
        Ok(done) => panic!("{compiler} {words:?}: {}", String::from_utf8_lossy(&done.stderr)),
        Err(error) => {
            skip(&format!("crashes of programs of {compiler}"), &error.to_string());
            None
        }
    }
}

fn start(program: &Path, words: &[&str], directory: Option<&Path>) -> Child {
    // It is seized while it is stopped before its exec.
    let core_blocks = if directory.is_some() { "unlimited" } else { "0" };
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg("ulimit -c $0; kill -STOP $$; exec \"$@\"")
        .arg(core_blocks)
        .arg(program)
        .args(words);
    shell.current_dir(directory.unwrap_or(Path::new(".")));
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = shell.spawn().expect("a shell");
    let pid = child.id();
    wait_until("the shell stops", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("its state");
        stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T"))
    });
    child
}

/// The words of `user_regs_struct`, as PTRACE_GETREGSET fills them in.
fn registers(thread: Pid) -> Registers {
    let r = ptrace::getregs(thread).expect("registers");
    let words = [
        r.r15, r.r14, r.r13, r.r12, r.rbp, r.rbx, r.r11, r.r10, r.r9, r.r8, r.rax, r.rcx, r.rdx,
        r.rsi, r.rdi, r.orig_rax, r.rip, r.cs, r.eflags, r.rsp, r.ss,
    ];
    Registers::from_words(&words).expect("enough words")
}

fn examine(pid: Pid, thread: Pid) -> CrashReport {
    let info = ptrace::getsiginfo(thread).expect("siginfo");
    let signal = JobSignal::new(info.si_signo).expect("a signal");
    #[expect(unsafe_code, reason = "libc's accessor of a field of a union")]
    // SAFETY: the kernel filled in all of it.
    let address = unsafe { info.si_addr() } as u64;
    let fault = Fault { signal, code: info.si_code, address, syscall: 0 };
    let source = CrashSource {
        root: PathBuf::from("/proc"),
        pid: JobPid(pid.as_raw()),
        thread: JobPid(thread.as_raw()),
        now: clock::now,
    };
    source.report(fault, registers(thread)).expect("a report")
}

/// Runs a program to its fatal signal; returns the report made there, which the process really dies of.
fn crash(program: &Path, words: &[&str]) -> CrashReport {
    trace(start(program, words, None), program)
}

/// The same; its core dump is in that directory.
fn crash_in(program: &Path, words: &[&str], directory: &Path) -> CrashReport {
    trace(start(program, words, Some(directory)), program)
}

fn trace(mut child: Child, program: &Path) -> CrashReport {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    ptrace::seize(pid, ptrace::Options::PTRACE_O_TRACECLONE).expect("seized");
    kill(pid, Signal::SIGCONT).expect("continued");
    // Other tests have children of their own.
    let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
    let mut last = None;
    loop {
        let status = waitpid(None, Some(flags)).expect("a status");
        match status {
            WaitStatus::Signaled(ended, signal, _) if ended == pid => {
                let report: CrashReport = last.expect("no crash was seen");
                assert_eq!(report.signal.number(), signal as i32, "{report}");
                child.wait().ok();
                return report;
            }
            WaitStatus::Exited(ended, status) if ended == pid => {
                panic!("{} exited with {status}", program.display())
            }
            WaitStatus::Stopped(thread, signal) => {
                let number = JobSignal::new(signal as i32).expect("a signal");
                if number.is_fault() {
                    last = Some(examine(pid, thread));
                }
                ptrace::cont(thread, signal).expect("resumed");
            }
            WaitStatus::PtraceEvent(thread, _, _) => {
                ptrace::cont(thread, None).expect("resumed");
            }
            _ => {}
        }
    }
}

/// The functions of the frames, innermost first; a recursion once.
fn functions(report: &CrashReport) -> Vec<&str> {
    report.frames.iter().map(|frame| frame.function.as_deref().unwrap_or("?")).collect()
}

fn text(report: &CrashReport) -> String {
    format!("{report}\n{}", report.details().join("\n"))
}

/// Runs one twice: another run has other addresses.
fn crash_twice(program: &Path, words: &[&str]) -> CrashReport {
    let report = crash(program, words);
    let again = crash(program, words);
    assert_eq!(again.signature, report.signature, "{}{}", text(&report), text(&again));
    assert_eq!(report.signature.len(), 16, "{}", text(&report));
    report
}

const HOWS: [(&str, &str, &str); 18] = [
    ("null", "SIGSEGV", "null pointer"),
    ("nullfield", "SIGSEGV", "null pointer plus 0x40"),
    ("noncanon", "SIGSEGV", "the text \"AAAAAAAA\""),
    ("rodata", "SIGSEGV", "not writable"),
    ("bitflip", "SIGSEGV", "bit 41 flipped"),
    ("fpe", "SIGFPE", "integer division by zero"),
    ("ill", "SIGILL", "ud2"),
    ("abort", "SIGABRT", "sent by"),
    ("assert", "SIGABRT", "the impossible"),
    ("doublefree", "SIGABRT", "double free"),
    ("bus", "SIGBUS", "which has 0 bytes"),
    ("wild", "SIGSEGV", "jump to null pointer plus 0x1234"),
    ("jumpdata", "SIGSEGV", "not executable"),
    ("qsort", "SIGSEGV", "null pointer"),
    ("handler", "SIGSEGV", "null pointer plus 0x10"),
    ("habort", "SIGABRT", "sent by"),
    ("livesdie", "SIGABRT", "sent by"),
    ("killself", "SIGSEGV", "sent by"),
];

#[test]
fn a_c_program_with_symbols() {
    let place = Place::new();
    let words = ["-O0", "-w", "-fstack-protector-all", "-pthread"];
    let Some(program) = build(&place, "gcc", &words, "crash.c") else { return };
    for (how, signal, cause) in HOWS {
        let report = crash_twice(&program, &[how]);
        let text = text(&report);
        assert_eq!(report.signal.to_string(), signal, "{text}");
        assert!(text.contains(cause), "{how}: {text}");
        let functions = functions(&report);
        let at = functions.iter().position(|name| *name == "inner").expect(&text);
        assert_eq!(functions[at..at + 4], ["inner", "middle", "outer", "main"], "{text}");
        if how == "habort" {
            assert!(report.summary().contains(" inner+"), "not the handler: {text}");
        }
        assert!(functions.contains(&"_start") && report.cut.is_none(), "{text}");
    }
    let report = crash_twice(&program, &["overflow"]);
    let text_of_it = text(&report);
    assert!(text_of_it.contains("stack overflow"), "{text_of_it}");
    assert!(report.frames.len() < 40, "a recursion is one line: {text_of_it}");
    let report = crash_twice(&program, &["null", "thread"]);
    assert_eq!(report.threads, 3, "{}", text(&report));
    assert_ne!(report.pid, report.thread);
    assert!(functions(&report).contains(&"thr"), "{}", text(&report));
}

/// Compares with what eu-stack sees in the core dump of the same death: the same return addresses, in the same order.
fn is_as_eu_stack_sees_it(compiler: &str, flags: &[&str], hows: &[&str]) {
    let place = Place::new();
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("a pattern");
    if pattern.trim() != "core" || Command::new("eu-stack").arg("--version").output().is_err() {
        skip("comparing with eu-stack", "core_pattern is not `core`, or there is no eu-stack");
        return;
    }
    let Some(program) = build(&place, compiler, flags, "crash.c") else { return };
    for how in hows {
        let report = crash_in(&program, &[how], place.path());
        let core = std::fs::read_dir(place.path()).expect("its directory").flatten();
        let mut core = core.filter(|entry| entry.file_name().to_string_lossy().starts_with("core"));
        let core = core.next().expect("a core dump").path();
        let mut judge = Command::new("eu-stack");
        judge.args(["-n", "60", "--core"]).arg(&core).arg("--executable").arg(&program);
        let output = judge.output().expect("eu-stack");
        std::fs::remove_file(core).expect("removed");
        let output = String::from_utf8_lossy(&output.stdout).into_owned();
        let theirs: Vec<u64> = output
            .lines()
            .filter_map(|line| line.strip_prefix('#')?.split_whitespace().nth(1))
            .map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).expect("hex"))
            .collect();
        let mut biases: std::collections::HashMap<&str, u64> = Default::default();
        let both = format!("{how}: {}\n{output}", text(&report));
        assert!(theirs.len() >= 5, "{both}");
        let ours =
            report.frames.iter().flat_map(|frame| std::iter::repeat_n(frame, frame.repeated));
        let ours: Vec<_> = ours.filter(|frame| frame.source != "guessed").collect();
        assert_eq!(ours.len(), theirs.len(), "{both}");
        for (frame, address) in ours.iter().zip(theirs).filter(|(one, _)| one.repeated == 1) {
            let bias = address.wrapping_sub(frame.offset);
            assert_eq!(*biases.entry(&frame.module).or_insert(bias), bias, "{both}");
        }
    }
}

#[test]
fn frames_are_those_of_eu_stack() {
    const BOTH: [&str; 12] = [
        "null",
        "noncanon",
        "rodata",
        "fpe",
        "ill",
        "abort",
        "assert",
        "doublefree",
        "qsort",
        "handler",
        "habort",
        "strlen",
    ];
    is_as_eu_stack_sees_it("gcc", &["-O0", "-w", "-fstack-protector-all", "-pthread"], &BOTH);
    is_as_eu_stack_sees_it("gcc", &["-O2", "-w", "-fomit-frame-pointer", "-pthread", "-s"], &BOTH);
}

/// A program without symbols has the same frames as with them: stripping changes no code.
fn is_unwound_without_symbols(compiler: &str, flags: &[&str]) {
    let place = Place::new();
    let flags: Vec<&str> = flags.iter().copied().chain(["-w", "-pthread"]).collect();
    let stripped: Vec<&str> = flags.iter().copied().chain(["-s"]).collect();
    let Some(program) = build(&place, compiler, &flags, "crash.c") else { return };
    let Some(bare) = build(&place, compiler, &stripped, "crash.c") else { return };
    for (how, _, cause) in HOWS {
        // The texts of assertions are those of glibc, and some checks are.
        if compiler != "gcc" && matches!(how, "assert" | "doublefree") {
            continue;
        }
        // The recursion of qsort is one line where it has a name; the address is in the instruction.
        if matches!(how, "qsort" | "noncanon") {
            continue;
        }
        let (with, without) = (crash_twice(&program, &[how]), crash_twice(&bare, &[how]));
        let both = format!("{}\n{}", text(&with), text(&without));
        assert!(
            flags.concat().contains("-static") || text(&without).contains(cause),
            "{how}: {both}"
        );
        let offsets = |report: &CrashReport, program: &Path| -> Vec<u64> {
            let name = program.file_name().expect("a name").to_string_lossy().into_owned();
            // Names say where the root is, and that what is guessed below it is wrong.
            let known = report.frames.iter().filter(|frame| frame.source != "guessed");
            let inside = known.filter(|frame| frame.module == name);
            inside.map(|frame| frame.offset).collect()
        };
        assert_eq!(offsets(&with, &program), offsets(&without, &bare), "{how}: {both}");
        let functions = functions(&with);
        let at = functions.iter().position(|name| *name == "middle").expect(&both);
        assert_eq!(functions[at..at + 3], ["middle", "outer", "main"], "{how}: {both}");
        assert!(functions.iter().all(|name| *name != "middle.cold"), "{both}");
    }
}

#[test]
fn without_frame_pointers() {
    is_unwound_without_symbols("gcc", &["-O2", "-fomit-frame-pointer"]);
}

#[test]
fn a_static_program() {
    is_unwound_without_symbols("gcc", &["-O2", "-static"]);
}

#[test]
fn a_static_program_at_any_address() {
    is_unwound_without_symbols("gcc", &["-O2", "-static-pie"]);
}

#[test]
fn a_program_of_musl() {
    let include = ["-idirafter", "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu"];
    is_unwound_without_symbols("musl-gcc", &[&["-O2", "-static"][..], &include].concat());
}

#[test]
fn a_cpp_program() {
    let place = Place::new();
    let Some(program) = build(&place, "g++", &["-O1", "-w"], "cxx.cc") else { return };
    let report = crash_twice(&program, &[]);
    let text_of_it = text(&report);
    let run = "job::Step<std::__cxx11::basic_string<char, std::char_traits<char>, \
               std::allocator<char> > >::run(";
    let functions = functions(&report);
    assert!(functions.iter().any(|name| name.starts_with(run)), "{text_of_it}");
    assert!(functions.contains(&"main"), "{text_of_it}");
}

#[test]
fn a_rust_program() {
    let place = Place::new();
    let words = ["-O", "--edition", "2021", "-Cpanic=abort"];
    let Some(program) = build(&place, "rustc", &words, "rs.txt") else { return };
    let report = crash_twice(&program, &["null"]);
    assert!(functions(&report)[0].starts_with("rs::main"), "{}", text(&report));
    let report = crash_twice(&program, &["panic"]);
    let found = functions(&report);
    assert!(found.iter().any(|name| name.starts_with("rs::parse")), "{}", text(&report));
    assert!(report.summary().contains("rs::"), "not where the panic ended: {}", text(&report));
    let report = crash_twice(&program, &["thread"]);
    assert_eq!(report.threads, 2, "{}", text(&report));
}

/// "a crashing C, Rust and Python program each give a report that a developer can act on without a core file"
#[test]
fn a_crash_of_a_job_is_in_log_record_and_verdict() {
    let home = Place::new();
    let words = ["-O1", "-w", "-pthread"];
    let Some(program) = build(&home, "gcc", &words, "crash.c") else { return };
    let program = program.to_str().expect("a name");
    let name = program.rsplit('/').next().expect("a name");
    let examine = || {
        let place = Place::new();
        let words = ["--central-log", "r.csv", "--trace=required", program, "nullfield"];
        let done = place.run(words);
        let verdict = format!("crashed (certain): SIGSEGV; in {name} inner+0x");
        assert!(done.verdict().starts_with(&verdict), "{}", done.verdict());
        assert!(done.verdict().contains("null pointer plus 0x40"), "{}", done.verdict());
        assert_eq!(done.code(), 139);
        for words in ["crash: #1 ", "crash: registers: pc=0x", " middle+0x", "crash: signature "] {
            assert_eq!(done.count(words), 1, "{words}: {:?}", done.log);
        }
        let signature = done.message("crash: signature ").rsplit(' ').next().expect("a word");
        let rows = place.text("r.csv");
        assert_eq!(rows.matches(signature).count(), 2, "in the rows attempt and end: {rows}");
        let why = place.nanny(["--central-log", "r.csv", "why"]).output().expect("nanny starts");
        let why = String::from_utf8_lossy(&why.stdout).into_owned();
        assert!(why.contains("where it crashed") && why.contains(signature), "{why}");
        signature.to_owned()
    };
    assert_eq!(examine(), examine(), "another run has the same signature");
}

#[test]
fn who_survives_a_signal_has_not_crashed() {
    let place = Place::new();
    let Some(program) = build(&place, "gcc", &["-O1", "-w", "-pthread"], "crash.c") else { return };
    let program = program.to_str().expect("a name");
    let done = place.run(["--trace=required", program, "lives"]);
    assert_eq!(done.code(), 0, "{:?}", done.log);
    assert!(!done.log.iter().any(|line| line.contains("crash: ")), "{:?}", done.log);
    let other = Place::new();
    let done = other.run(["--trace=required", "sh", "-c", &format!("{program} abort; exit 3")]);
    assert_eq!(done.count("crash: signature "), 1, "{:?}", done.log);
    assert!(done.verdict().contains(" inner+0x"), "{}", done.verdict());
}

#[test]
fn a_python_program_has_its_own_frames_in_the_report() {
    let place = Place::new();
    let text = "import ctypes\ndef parse(at):\n    return ctypes.string_at(at)\nparse(8)\n";
    place.write("job.py", text);
    let is_there = place.command("python3").arg("--version").output();
    if !is_there.is_ok_and(|done| done.status.success()) {
        skip("Python frames of a crash", "there is no python3");
        return;
    }
    let done = place.run(["--trace=required", "python3", "job.py"]);
    assert_eq!(done.code(), 139, "{:?}", done.log);
    assert!(done.message("crash: Python: parse at ").contains("job.py:3"), "{:?}", done.log);
}
