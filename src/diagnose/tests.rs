//! One test for each rule, by the facts that lead to it.

use super::*;
use crate::model::facts::Heard;
use std::time::Duration;

use crate::model::findings::{
    CoreDump, Death, Deaths, Dispositions, Findings, KernelLine, Limits, MemoryFindings, OomCounter,
};
use crate::model::outcome::SpawnFailure;
use crate::model::process::{Pid, Sender, SenderProcess};
use crate::model::signal::{Origin, Signal, SignalInfo};
use crate::model::time::Moment;
use crate::model::tracing::{Author, Delivery, FatalSignal};

const PID: Pid = Pid(812);

/// When the job ends.
const END: Moment = Moment(Duration::from_secs(1000));

fn before_end(seconds: f64) -> Moment {
    Moment(END.0 - Duration::from_secs_f64(seconds))
}

fn facts(end: Termination) -> Facts {
    Facts::new(Some(PID), AttemptEnd::Ended(end), END)
}

fn killed(signal: Signal) -> Termination {
    Termination::Signaled { signal, core_dumped: false }
}

fn request(signal: Signal, reach: Reach) -> Option<Heard> {
    heard(signal, reach, 0.01)
}

/// A signal that came that many seconds before the end.
fn heard(signal: Signal, reach: Reach, seconds: f64) -> Option<Heard> {
    let sender = SenderProcess {
        pid: Pid(7),
        uid: 0,
        user: Some("root".into()),
        command: None,
        is_hidden: false,
    };
    let (origin, sender) = match reach {
        Reach::WholeGroup => (Origin::Kernel, Sender::Kernel),
        _ => (Origin::Kill, Sender::Process(sender)),
    };
    let at = before_end(seconds);
    Some(Heard { info: SignalInfo { signal, origin, sender, value: None }, reach, at })
}

fn judged(facts: &Facts) -> (VerdictKind, Confidence) {
    let verdict = judge(facts);
    assert!(!verdict.evidence.is_empty(), "a verdict without evidence: {verdict}");
    (verdict.kind, verdict.confidence)
}

#[test]
fn exit_status_137_is_the_programs_own_word_and_not_a_kill() {
    let verdict = judge(&facts(Termination::Exited(137)));
    assert_eq!((verdict.kind, verdict.confidence), (VerdictKind::ExitNonzero, Confidence::Likely));
    let known = judged(&with(Termination::Exited(137), memory(MemoryFindings::default())));
    assert_eq!(known, (VerdictKind::ExitNonzero, Confidence::Certain));
    assert!(verdict.to_string().contains("no signal ended the job itself"), "{verdict}");
}

#[test]
fn sigkill_alone_is_not_called_out_of_memory() {
    let verdict = judged(&facts(killed(Signal::KILL)));
    assert_eq!(verdict, (VerdictKind::Unknown, Confidence::Possible));
}

#[test]
fn each_signal_leads_to_the_cause_it_speaks_for() {
    use Confidence::Likely;
    for (signal, kind) in [
        (Signal::SEGV, VerdictKind::Crashed),
        (Signal::ABRT, VerdictKind::Crashed),
        (Signal::XCPU, VerdictKind::CpuLimit),
        (Signal::XFSZ, VerdictKind::FileSizeLimit),
        (Signal::TERM, VerdictKind::KilledByProcess),
        (Signal::PIPE, VerdictKind::BrokenPipe),
        (Signal::SYS, VerdictKind::Crashed),
        // Timers and descriptors of the program's own.
        (Signal::ALRM, VerdictKind::Unknown),
        (Signal::VTALRM, VerdictKind::Unknown),
        (Signal::PROF, VerdictKind::Unknown),
        (Signal::IO, VerdictKind::Unknown),
    ] {
        assert_eq!(judged(&facts(killed(signal))), (kind, Likely), "{signal}");
    }
}

#[test]
fn a_signal_that_we_passed_on_was_a_request_to_stop() {
    let stop_request = request(Signal::TERM, Reach::OnlyUs);
    let died = Facts { stop_request: stop_request.clone(), ..facts(killed(Signal::TERM)) };
    assert_eq!(judged(&died), (VerdictKind::StopRequested, Confidence::Certain));
    let shell = Facts { stop_request: stop_request.clone(), ..facts(Termination::Exited(143)) };
    assert_eq!(judged(&shell), (VerdictKind::StopRequested, Confidence::Certain));
    let other = Facts { stop_request, ..facts(killed(Signal::SEGV)) };
    assert_eq!(judged(&other), (VerdictKind::Crashed, Confidence::Likely));
}

/// A shell that is hung up sends SIGHUP and then, to what was stopped, SIGTERM.
#[test]
fn who_was_asked_twice_and_died_of_the_first_was_asked_to_stop() {
    let died = |signal| Facts {
        stop_request: request(Signal::TERM, Reach::OnlyUs),
        heard: [Signal::HUP, Signal::USR1, Signal::TERM]
            .into_iter()
            .filter_map(|signal| request(signal, Reach::OnlyUs))
            .collect(),
        ..facts(killed(signal))
    };
    assert_eq!(judged(&died(Signal::HUP)), (VerdictKind::StopRequested, Confidence::Certain));
    // This one asks for nothing in particular.
    assert_eq!(judged(&died(Signal::USR1)), (VerdictKind::KilledByProcess, Confidence::Certain));
}

#[test]
fn the_terminal_the_batch_system_and_our_own_signals_are_distinguished() {
    let ctrl_c = Facts {
        stop_request: request(Signal::INT, Reach::WholeGroup),
        ..facts(killed(Signal::INT))
    };
    assert_eq!(judged(&ctrl_c), (VerdictKind::KilledByTerminal, Confidence::Certain));
    let cancelled = Facts {
        stop_request: request(Signal::TERM, Reach::WholeJob("slurmstepd")),
        ..facts(killed(Signal::TERM))
    };
    assert_eq!(judged(&cancelled), (VerdictKind::StopRequested, Confidence::Certain));
}

#[test]
fn a_request_of_slurm_names_it_whoever_passed_it_on() {
    let said_for = |command: &str, reach| {
        let sender = Sender::Process(SenderProcess {
            pid: Pid(4121),
            uid: 0,
            user: Some("root".into()),
            command: Some(command.into()),
            is_hidden: false,
        });
        let info = SignalInfo { signal: Signal::TERM, origin: Origin::Kill, sender, value: None };
        let stop_request = Some(Heard { info, reach, at: before_end(0.01) });
        let facts = Facts { stop_request, ..facts(killed(Signal::TERM)) };
        judge(&facts).to_string()
    };
    for reach in [Reach::OnlyUs, Reach::WholeJob("slurmstepd")] {
        let said = said_for("slurmstepd: [7.batch]", reach);
        assert!(said.starts_with("stop_requested (certain): SIGTERM; asked by Slurm: "), "{said}");
        assert!(said.contains("in process 4121 (slurmstepd: [7.batch])"), "{said}");
        let said = said_for("sh -c kill", reach);
        assert!(!said.contains("Slurm"), "{said}");
    }
}

#[test]
fn an_alarm_that_was_passed_on_is_nobodys_killing() {
    let alarm: Signal = "ALRM".parse().expect("a signal");
    let (origin, sender) = (Origin::Kernel, Sender::Kernel);
    let info = SignalInfo { signal: alarm, origin, sender, value: None };
    let heard = vec![Heard { info, reach: Reach::OnlyUs, at: before_end(0.01) }];
    let facts = Facts { heard, ..facts(killed(alarm)) };
    assert_eq!(judged(&facts), (VerdictKind::Unknown, Confidence::Likely));
}

#[test]
fn a_job_that_signals_its_own_group_was_not_asked_to_stop() {
    for is_in_group in [true, false] {
        let heard = request(Signal::TERM, Reach::FromJob { is_in_group });
        let own = Facts { heard: heard.into_iter().collect(), ..facts(killed(Signal::TERM)) };
        assert_eq!(judged(&own), (VerdictKind::KilledByProcess, Confidence::Certain));
        assert!(judge(&own).to_string().contains("sent by the job itself"));
        // It survived that, and ended by itself later.
        let survived = Facts { end: AttemptEnd::Ended(Termination::Exited(3)), ..own };
        assert_eq!(judged(&survived), (VerdictKind::ExitNonzero, Confidence::Certain));
    }
}

#[test]
fn what_we_ended_ourselves_says_so_however_it_died() {
    for end in [Termination::Exited(0), killed(Signal::TERM), killed(Signal::KILL)] {
        let limit = EndedByUs::TimedOut(Duration::from_secs(1));
        let timed_out = Facts { ended_by_us: Some(limit), ..facts(end) };
        assert_eq!(judged(&timed_out), (VerdictKind::TimedOut, Confidence::Certain));
        let stopped = EndedByUs::Stopped(Signal::STOP);
        let stopped = Facts { ended_by_us: Some(stopped), ..facts(end) };
        assert_eq!(judged(&stopped), (VerdictKind::Stopped, Confidence::Certain));
    }
}

#[test]
fn a_status_that_is_lost_is_never_a_success() {
    let lost = Facts { end: AttemptEnd::StatusLost, ..facts(Termination::Exited(0)) };
    assert_eq!(judged(&lost), (VerdictKind::StatusLost, Confidence::Certain));
}

#[test]
fn a_job_that_never_ran_is_not_one_that_returned_127() {
    let failure = SpawnFailure {
        step: "execute x".into(),
        errno: libc::ENOENT,
        is_exec: true,
        is_found: false,
        cause: None,
    };
    let never = Facts { end: AttemptEnd::NotStarted(failure), ..facts(Termination::Exited(0)) };
    assert_eq!(judged(&never), (VerdictKind::ExecFailed, Confidence::Certain));
    let returned = judged(&facts(Termination::Exited(127)));
    assert_eq!(returned, (VerdictKind::ExitNonzero, Confidence::Certain));
}

fn with(end: Termination, findings: Findings) -> Facts {
    Facts { findings, ..facts(end) }
}

fn counter(before: u64, after: u64) -> Option<OomCounter> {
    Some(OomCounter { name: "memory.events oom_kill of /batch/job7".into(), before, after })
}

fn memory(memory: MemoryFindings) -> Findings {
    Findings { memory, deaths: deaths(&[]), ..Findings::default() }
}

fn deaths(list: &[(i32, Signal)]) -> Deaths {
    let mut deaths = Deaths::default();
    for (pid, signal) in list {
        let name = Some("python3".to_owned());
        let (end, source, at) = (killed(*signal), "proc connector", before_end(0.01));
        deaths.add(Death { pid: Pid(*pid), name, end, source, at });
    }
    Deaths { is_complete: true, ..deaths }
}

const KILLED: Signal = Signal::KILL;

#[test]
fn a_counter_of_our_own_cgroup_that_rose_proves_out_of_memory() {
    let findings = memory(MemoryFindings {
        own: counter(3, 4),
        own_is_private: true,
        limit_bytes: Some(4 << 30),
        job_peak_bytes: Some(4_187_593_114),
        tree_peak_bytes: Some(17),
        ..MemoryFindings::default()
    });
    let verdict = judge(&with(killed(KILLED), findings));
    assert_eq!(
        verdict.to_string(),
        "oom_killed (certain): SIGKILL; memory.events oom_kill of /batch/job7 +1; \
         peak RSS 3.9 GiB of limit 4.0 GiB"
    );
}

#[test]
fn the_kernels_log_proves_it_only_for_the_process_that_it_names() {
    let named =
        |pid| memory(MemoryFindings { victims: vec![Pid(pid)], ..MemoryFindings::default() });
    let ours = judged(&with(killed(KILLED), named(PID.0)));
    assert_eq!(ours, (VerdictKind::OomKilled, Confidence::Certain));
    let other = judged(&with(killed(KILLED), named(9)));
    assert_eq!(other, (VerdictKind::Unknown, Confidence::Possible));
}

#[test]
fn the_hosts_counter_is_likely_only_near_a_limit() {
    let findings = |peak| {
        memory(MemoryFindings {
            host: counter(7, 8),
            limit_bytes: Some(100),
            job_peak_bytes: Some(peak),
            ..MemoryFindings::default()
        })
    };
    let near = judged(&with(killed(KILLED), findings(90)));
    assert_eq!(near, (VerdictKind::OomKilled, Confidence::Likely));
    let far = judged(&with(killed(KILLED), findings(10)));
    assert_eq!(far, (VerdictKind::Unknown, Confidence::Possible));
}

#[test]
fn without_any_counter_a_peak_or_pressure_makes_it_possible() {
    let near = MemoryFindings {
        limit_bytes: Some(100),
        tree_peak_bytes: Some(95),
        ..MemoryFindings::default()
    };
    let pressed = MemoryFindings { pressure_full: Some(60.0), ..MemoryFindings::default() };
    for findings in [near, pressed] {
        let verdict = judged(&with(killed(KILLED), memory(findings)));
        assert_eq!(verdict, (VerdictKind::OomKilled, Confidence::Possible));
    }
}

#[test]
fn a_kill_that_was_not_the_kernels_was_somebodys() {
    let findings = memory(MemoryFindings {
        own: counter(2, 2),
        host: counter(5, 5),
        ..MemoryFindings::default()
    });
    let verdict = judge(&with(killed(KILLED), findings));
    assert_eq!(
        (verdict.kind, verdict.confidence),
        (VerdictKind::KilledByProcess, Confidence::Likely)
    );
    assert!(verdict.to_string().contains("did not rise"), "{verdict}");
}

#[test]
fn the_hard_limit_of_cpu_time_kills_and_the_soft_one_signals() {
    let limits =
        Some(Limits { cpu_soft_seconds: Some(1), cpu_hard_seconds: Some(2), ..Limits::default() });
    let spent = |seconds| Findings {
        limits,
        cpu: Some(Duration::from_secs_f64(seconds)),
        ..memory(MemoryFindings {
            own: counter(0, 0),
            host: counter(0, 0),
            ..MemoryFindings::default()
        })
    };
    // The kernel counts ticks, and reports what it measured: that is less on a busy machine.
    for seconds in [1.7, 1.8, 2.004] {
        let hard = judged(&with(killed(KILLED), spent(seconds)));
        assert_eq!(hard, (VerdictKind::CpuLimit, Confidence::Likely), "{seconds}");
    }
    let early = judged(&with(killed(KILLED), spent(1.2)));
    assert_eq!(early, (VerdictKind::KilledByProcess, Confidence::Likely));
    let soft = judged(&with(killed(Signal::XCPU), spent(1.0)));
    assert_eq!(soft, (VerdictKind::CpuLimit, Confidence::Certain));
    let unused = judged(&with(killed(Signal::XCPU), spent(0.1)));
    assert_eq!(unused, (VerdictKind::KilledByProcess, Confidence::Likely));
}

/// The kernel counts ticks, rusage is measured: the reader must not take it for a contradiction.
#[test]
fn a_limit_that_was_reached_with_less_time_measured_says_why() {
    let limits =
        Limits { cpu_soft_seconds: Some(1), cpu_hard_seconds: Some(1), ..Limits::default() };
    for (signal, milliseconds, is_less) in
        [(Signal::XCPU, 960, true), (Signal::KILL, 960, true), (Signal::XCPU, 1010, false)]
    {
        let cpu = Some(Duration::from_millis(milliseconds));
        let findings = Findings { limits: Some(limits), cpu, ..Findings::default() };
        let verdict = judge(&with(killed(signal), findings));
        assert_eq!(verdict.kind, VerdictKind::CpuLimit, "{verdict}");
        assert_eq!(verdict.to_string().contains("as measured; the kernel"), is_less, "{verdict}");
    }
}

#[test]
fn a_crash_without_room_in_the_address_space_mentions_the_limit() {
    let limits = Limits { address_space_bytes: Some(64 << 20), ..Limits::default() };
    let findings = Findings { limits: Some(limits), ..Findings::default() };
    let verdict = judge(&with(killed(Signal::ABRT), findings)).to_string();
    assert!(verdict.contains("RLIMIT_AS was 64.0 MiB (ulimit -v)"), "{verdict}");
}

#[test]
fn the_signal_of_a_limit_that_was_not_set_or_not_reached_came_from_a_process() {
    let findings = |limits, seconds| Findings {
        limits: Some(limits),
        cpu: Some(Duration::from_secs_f64(seconds)),
        ..Findings::default()
    };
    let unlimited = judge(&with(killed(Signal::XCPU), findings(Limits::default(), 9.0)));
    assert_eq!(unlimited.kind, VerdictKind::KilledByProcess);
    assert!(unlimited.to_string().contains("RLIMIT_CPU is unlimited"), "{unlimited}");
    let idle = Limits { cpu_soft_seconds: Some(3600), ..Limits::default() };
    let idle = judge(&with(killed(Signal::XCPU), findings(idle, 0.0)));
    assert!(idle.to_string().contains("RLIMIT_CPU (soft) was 3600 s, 0.00 s used"), "{idle}");
    // The kernel moves the soft limit on by a second with each signal.
    let hour = Limits { cpu_soft_seconds: Some(3601), ..Limits::default() };
    for (seconds, kind) in [
        (0.0, VerdictKind::KilledByProcess),
        (2000.0, VerdictKind::KilledByProcess),
        (3100.0, VerdictKind::CpuLimit),
        (3600.1, VerdictKind::CpuLimit),
    ] {
        let verdict = judge(&with(killed(Signal::XCPU), findings(hour, seconds)));
        assert_eq!(verdict.kind, kind, "{seconds}");
    }
    let none = judged(&with(killed(Signal::XFSZ), findings(Limits::default(), 0.0)));
    assert_eq!(none, (VerdictKind::KilledByProcess, Confidence::Likely));
}

#[test]
fn the_limit_of_a_files_size_is_sure_if_a_file_has_just_that_size() {
    let limits = Some(Limits { file_size_bytes: Some(1 << 20), ..Limits::default() });
    let found = Findings { limits, file_at_limit: Some("/job/big".into()), ..Findings::default() };
    let verdict = judge(&with(killed(Signal::XFSZ), found));
    assert_eq!(
        verdict.to_string(),
        "file_size_limit (certain): SIGXFSZ; RLIMIT_FSIZE was 1048576 bytes; /job/big has just \
         that size"
    );
    let written = Findings { limits, output_bytes: 1 << 20, ..Findings::default() };
    let elsewhere = judged(&with(killed(Signal::XFSZ), written));
    assert_eq!(elsewhere, (VerdictKind::FileSizeLimit, Confidence::Likely));
    let touched =
        Findings { limits, file_just_touched: Some("/job/small".into()), ..Findings::default() };
    let touched = judge(&with(killed(Signal::XFSZ), touched));
    assert_eq!(
        (touched.kind, touched.confidence),
        (VerdictKind::FileSizeLimit, Confidence::Likely)
    );
    assert!(touched.to_string().contains("/job/small is smaller"), "{touched}");
    let nothing = judged(&with(killed(Signal::XFSZ), Findings { limits, ..Findings::default() }));
    assert_eq!(nothing, (VerdictKind::KilledByProcess, Confidence::Possible));
}

#[test]
fn the_limit_of_real_time_is_named_for_real_time_programs() {
    let limits = Some(Limits {
        real_time_soft_us: Some(1_200_000),
        real_time_hard_us: Some(400_000),
        ..Limits::default()
    });
    let findings = |is_real_time| Findings {
        limits,
        is_real_time: Some(is_real_time),
        cpu: Some(Duration::from_millis(450)),
        ..memory(MemoryFindings { own: counter(0, 0), ..MemoryFindings::default() })
    };
    let verdict = judge(&with(killed(Signal::XCPU), findings(true)));
    assert_eq!((verdict.kind, verdict.confidence), (VerdictKind::CpuLimit, Confidence::Likely));
    assert!(verdict.to_string().contains("RLIMIT_RTTIME (soft) was 0.2 s"), "{verdict}");
    let hard = judge(&with(killed(KILLED), findings(true)));
    assert!(hard.to_string().contains("RLIMIT_RTTIME (hard) was 0.4 s"), "{hard}");
    let ordinary = judged(&with(killed(Signal::XCPU), findings(false)));
    assert_eq!(ordinary, (VerdictKind::KilledByProcess, Confidence::Likely));
}

fn kernel_line(thread: i32, name: &str) -> KernelLine {
    let text = format!("{name}[{thread}]: segfault at 0");
    KernelLine { thread: Pid(thread), signal: Some(Signal::SEGV), text }
}

#[test]
fn a_small_job_that_was_killed_before_the_counters_were_read_was_killed_by_a_process() {
    let early = |tree_peak_bytes| MemoryFindings {
        is_read_too_late: true,
        limit_bytes: Some(100),
        floor_bytes: 5,
        tree_peak_bytes,
        ..MemoryFindings::default()
    };
    let small = judged(&with(killed(KILLED), memory(early(None))));
    assert_eq!(small, (VerdictKind::KilledByProcess, Confidence::Possible));
    let medium = judged(&with(killed(KILLED), memory(early(Some(50)))));
    assert_eq!(medium, (VerdictKind::Unknown, Confidence::Possible));
    let near = judged(&with(killed(KILLED), memory(early(Some(90)))));
    assert_eq!(near, (VerdictKind::OomKilled, Confidence::Possible));
    let logged = MemoryFindings { names_all_victims: true, ..early(None) };
    let logged = judged(&with(killed(KILLED), memory(logged)));
    assert_eq!(logged, (VerdictKind::KilledByProcess, Confidence::Likely));
}

#[test]
fn a_kill_by_seccomp_is_not_a_kill_by_a_process() {
    let flat =
        MemoryFindings { own: counter(0, 0), host: counter(0, 0), ..MemoryFindings::default() };
    let strict = Dispositions { is_seccomp_strict: true, ..Dispositions::default() };
    let findings = Findings { dispositions: Some(strict), ..memory(flat.clone()) };
    let verdict = judged(&with(killed(KILLED), findings));
    assert_eq!(verdict, (VerdictKind::Crashed, Confidence::Likely));
    let dead = Dispositions { is_seccomp_dead: true, ..Dispositions::default() };
    let findings = Findings { dispositions: Some(dead), ..memory(flat.clone()) };
    let verdict = judge(&with(killed(KILLED), findings));
    assert_eq!((verdict.kind, verdict.confidence), (VerdictKind::Crashed, Confidence::Likely));
    for signal in [KILLED, Signal::SYS] {
        let text = format!("audit: type=1326 pid=812 sig={}", signal.number());
        let line = KernelLine { thread: PID, signal: Some(signal), text };
        let findings = Findings { kernel_lines: vec![line], ..memory(flat.clone()) };
        let verdict = judge(&with(killed(signal), findings));
        assert_eq!((verdict.kind, verdict.confidence), (VerdictKind::Crashed, Confidence::Certain));
        assert!(verdict.to_string().contains("type=1326"), "{verdict}");
    }
}

#[test]
fn a_fault_is_that_of_the_job_if_a_thread_of_it_has_the_line_and_the_signal_fits() {
    let findings = |threads: &[i32]| Findings {
        threads: threads.iter().copied().map(Pid).collect(),
        kernel_lines: vec![kernel_line(813, "x")],
        ..Findings::default()
    };
    let verdict = judge(&with(killed(Signal::SEGV), findings(&[812, 813])));
    assert_eq!((verdict.kind, verdict.confidence), (VerdictKind::Crashed, Confidence::Certain));
    assert!(verdict.to_string().contains("the kernel's log: x[813]: segfault"), "{verdict}");
    for (signal, threads) in [(Signal::SEGV, &[][..]), (Signal::ABRT, &[813])] {
        let other = judge(&with(killed(signal), findings(threads)));
        assert_eq!((other.kind, other.confidence), (VerdictKind::Crashed, Confidence::Likely));
        assert!(!other.to_string().contains("the kernel's log"), "{other}");
    }
    // A segfault that was handled did not end the job.
    let own = Findings { kernel_lines: vec![kernel_line(PID.0, "x")], ..Findings::default() };
    let aborted = judge(&with(killed(Signal::ABRT), own));
    assert_eq!(aborted.confidence, Confidence::Likely, "{aborted}");
    let worker = Findings { deaths: deaths(&[(813, Signal::SEGV)]), ..findings(&[]) };
    for status in [0, 1, 139] {
        let verdict = judge(&with(Termination::Exited(status), worker.clone())).to_string();
        assert!(verdict.contains("the kernel's log: x[813]: segfault"), "{verdict}");
    }
}

#[test]
fn a_success_is_not_certain_if_a_death_may_have_been_that_of_a_descendant() {
    let mut unclear = deaths(&[(900, Signal::KILL)]);
    unclear.unclear = std::mem::take(&mut unclear.first);
    let unclear = Deaths { last: None, losses: 0, ..unclear };
    let findings = Findings { deaths: unclear, ..Findings::default() };
    let verdict = judge(&with(Termination::Exited(0), findings.clone()));
    assert_eq!((verdict.kind, verdict.confidence), (VerdictKind::Success, Confidence::Likely));
    assert!(
        verdict.to_string().contains("was killed by SIGKILL and may have been a descendant"),
        "{verdict}"
    );
    let shell = judge(&with(Termination::Exited(137), findings.clone()));
    assert_eq!((shell.kind, shell.confidence), (VerdictKind::ExitNonzero, Confidence::Likely));
    assert!(shell.to_string().contains("(pid 900) was killed by SIGKILL and may have"), "{shell}");
    // It is not what another number stands for.
    for status in [129, 134, 143, 254] {
        let other = judged(&with(Termination::Exited(status), findings.clone()));
        assert_eq!(other, (VerdictKind::ExitNonzero, Confidence::Certain), "{status}");
    }
}

#[test]
fn the_signal_that_ended_the_job_is_pending_in_the_zombie_and_had_an_effect() {
    let term = 1 << (15 - 1);
    let dispositions = Some(Dispositions { blocked_pending: term, ..Dispositions::default() });
    let stop_request = request(Signal::TERM, Reach::OnlyUs);
    let findings = || Findings { dispositions, ..Findings::default() };
    let died =
        Facts { stop_request: stop_request.clone(), ..with(killed(Signal::TERM), findings()) };
    assert_eq!(judged(&died), (VerdictKind::StopRequested, Confidence::Certain));
    let other = Facts { stop_request, ..with(Termination::Exited(1), findings()) };
    assert_eq!(judged(&other), (VerdictKind::ExitNonzero, Confidence::Certain));
}

#[test]
fn a_hung_pool_whose_worker_ran_out_of_memory_says_so() {
    let mut findings =
        memory(MemoryFindings { victims: vec![Pid(813)], ..MemoryFindings::default() });
    findings.deaths = deaths(&[(813, KILLED)]);
    let limit = EndedByUs::TimedOut(Duration::from_secs(1));
    let facts = Facts { ended_by_us: Some(limit), ..with(killed(Signal::TERM), findings) };
    let verdict = judge(&facts);
    assert_eq!((verdict.kind, verdict.confidence), (VerdictKind::TimedOut, Confidence::Certain));
    assert!(verdict.to_string().contains("out-of-memory"), "{verdict}");
}

#[test]
fn the_command_of_a_sender_is_cut_in_the_verdict() {
    let mut heard = request(Signal::TERM, Reach::OnlyUs).expect("one");
    if let Sender::Process(process) = &mut heard.info.sender {
        process.command = Some("\u{e9}".repeat(101));
    }
    let verdict = judge(&Facts { stop_request: Some(heard), ..facts(killed(Signal::TERM)) });
    let shown = format!("({}...)", "\u{e9}".repeat(100));
    assert!(verdict.to_string().contains(&shown), "{verdict}");
}

#[test]
fn a_fault_that_the_kernel_logged_is_certain_and_the_core_is_named() {
    let findings = Findings {
        kernel_lines: vec![kernel_line(812, "x")],
        core: Some(CoreDump::Found("/job/core".into())),
        ..Findings::default()
    };
    let verdict = judge(&with(killed(Signal::SEGV), findings));
    assert_eq!((verdict.kind, verdict.confidence), (VerdictKind::Crashed, Confidence::Certain));
    assert!(verdict.to_string().ends_with("core dump /job/core"), "{verdict}");
}

#[test]
fn a_shell_that_reports_its_killed_child_is_believed_where_the_kernel_agrees() {
    let findings = Findings { deaths: deaths(&[(9, Signal::KILL)]), ..Findings::default() };
    let verdict = judge(&with(Termination::Exited(137), findings.clone()));
    assert_eq!(
        verdict.to_string(),
        "descendant_killed (certain): exit status 137; its descendant 'python3' (pid 9) was \
         killed by SIGKILL"
    );
    let gave_up = judged(&with(Termination::Exited(1), findings));
    assert_eq!(gave_up, (VerdictKind::DescendantKilled, Confidence::Likely));
    let ordinary = Findings { deaths: deaths(&[(9, Signal::PIPE)]), ..Findings::default() };
    let exit = judged(&with(Termination::Exited(1), ordinary));
    assert_eq!(exit, (VerdictKind::ExitNonzero, Confidence::Certain));
}

#[test]
fn a_worker_that_ran_out_of_memory_is_reported_whatever_its_parent_returns() {
    let findings = Findings {
        deaths: deaths(&[(9, Signal::KILL)]),
        ..memory(MemoryFindings {
            own: counter(0, 1),
            own_is_private: true,
            limit_bytes: Some(100),
            job_peak_bytes: Some(97),
            ..MemoryFindings::default()
        })
    };
    let failed = judged(&with(Termination::Exited(137), findings.clone()));
    assert_eq!(failed, (VerdictKind::OomKilled, Confidence::Certain));
    let verdict = judge(&with(Termination::Exited(0), findings));
    assert_eq!(verdict.kind, VerdictKind::SuccessWithLosses);
    assert!(verdict.to_string().contains("oom_kill of /batch/job7 +1"), "{verdict}");
}

#[test]
fn a_pipeline_that_ends_by_sigpipe_is_a_full_success() {
    let findings = Findings {
        deaths: deaths(&[(9, Signal::PIPE), (10, Signal::TERM)]),
        ..Findings::default()
    };
    let verdict = judged(&with(Termination::Exited(0), findings));
    assert_eq!(verdict, (VerdictKind::Success, Confidence::Certain));
}

#[test]
fn a_full_disk_is_named_beside_the_exit_status() {
    let findings = Findings { full: vec!["/data".into()], ..Findings::default() };
    let verdict = judge(&with(Termination::Exited(1), findings));
    assert!(verdict.to_string().contains("no room left in /data"), "{verdict}");
}

#[test]
fn an_increased_counter_explains_137_where_deaths_of_descendants_are_not_reported() {
    let with = |status: u8, after: u64| {
        let mut facts = facts(Termination::Exited(status));
        facts.findings.memory.own = counter(0, after);
        facts
    };
    assert_eq!(judged(&with(137, 1)), (VerdictKind::OomKilled, Confidence::Likely));
    // Another status is the program's own word, but the counter is reported.
    let other = judge(&with(3, 1));
    assert_eq!(other.kind, VerdictKind::ExitNonzero);
    assert!(other.to_string().contains("oom_kill of /batch/job7 +1"), "{other}");
    assert_eq!(judge(&with(137, 0)).kind, VerdictKind::ExitNonzero);
}

#[test]
fn sigkill_in_a_shared_cgroup_is_weighed_by_names_size_and_time() {
    let judged_with = |memory_of: MemoryFindings| judged(&with(killed(KILLED), memory(memory_of)));
    let shared = MemoryFindings {
        own: counter(0, 1),
        host: counter(4, 5),
        limit_bytes: Some(100),
        tree_peak_bytes: Some(90),
        ..MemoryFindings::default()
    };
    let oom = |confidence| (VerdictKind::OomKilled, confidence);
    let by_a_process = (VerdictKind::KilledByProcess, Confidence::Likely);
    assert_eq!(judged_with(shared.clone()), oom(Confidence::Likely));
    let private = MemoryFindings { own_is_private: true, ..shared.clone() };
    assert_eq!(judged_with(private.clone()), oom(Confidence::Certain));
    // A worker that nobody reported may have been what was counted.
    let unseen = Findings { deaths: Deaths::default(), ..memory(private.clone()) };
    assert_eq!(judged(&with(killed(KILLED), unseen)), oom(Confidence::Likely));
    // A small job is rarely the victim: a stranger may have come and gone.
    let small = MemoryFindings { tree_peak_bytes: Some(3), ..private.clone() };
    assert_eq!(judged_with(small), oom(Confidence::Possible));
    let medium = MemoryFindings { tree_peak_bytes: Some(50), ..private.clone() };
    assert_eq!(judged_with(medium), oom(Confidence::Likely));
    // The kernel's log names another process for each kill that was counted.
    let named = MemoryFindings { victims: vec![Pid(9)], names_all_victims: true, ..shared.clone() };
    assert_eq!(judged_with(named.clone()), by_a_process);
    let overwritten = MemoryFindings { names_all_victims: false, ..named.clone() };
    assert_eq!(judged_with(overwritten), oom(Confidence::Likely));
    let twice = MemoryFindings { host: counter(4, 6), own: counter(0, 2), ..named };
    assert_eq!(judged_with(twice), oom(Confidence::Likely));
    let ours = MemoryFindings { victims: vec![Pid(9), PID], ..shared };
    assert_eq!(judged_with(ours), oom(Confidence::Certain));
    // What was counted seconds before is not the end.
    let early = MemoryFindings { own_rose_at: Some(before_end(5.0)), ..private.clone() };
    let verdict = judge(&with(killed(KILLED), memory(early.clone())));
    assert_eq!((verdict.kind, verdict.confidence), by_a_process);
    assert!(verdict.to_string().contains("rose 5.0 s before and not again"), "{verdict}");
    let sooner = MemoryFindings { own_rose_at: Some(before_end(1.2)), ..private.clone() };
    assert_eq!(judged_with(sooner), by_a_process);
    // To give back many gigabytes takes a while.
    let large = MemoryFindings {
        own_rose_at: Some(before_end(1.2)),
        limit_bytes: Some(4 << 30),
        tree_peak_bytes: Some(4 << 30),
        ..private.clone()
    };
    assert_eq!(judged_with(large), oom(Confidence::Certain));
    let just_now = MemoryFindings { own_rose_at: Some(before_end(0.5)), ..private };
    assert_eq!(judged_with(just_now), oom(Confidence::Certain));
}

#[test]
fn a_kill_that_was_counted_for_a_worker_does_not_prove_that_of_the_job() {
    let findings = |own, peak| Findings {
        deaths: deaths(&[(9, KILLED)]),
        ..memory(MemoryFindings {
            own,
            own_is_private: true,
            limit_bytes: Some(100),
            tree_peak_bytes: Some(peak),
            ..MemoryFindings::default()
        })
    };
    let replaced = judged(&with(killed(KILLED), findings(counter(0, 1), 10)));
    assert_eq!(replaced, (VerdictKind::KilledByProcess, Confidence::Likely));
    let near = judged(&with(killed(KILLED), findings(counter(0, 1), 95)));
    assert_eq!(near, (VerdictKind::OomKilled, Confidence::Likely));
    let both = judged(&with(killed(KILLED), findings(counter(0, 2), 95)));
    assert_eq!(both, (VerdictKind::OomKilled, Confidence::Certain));
}

#[test]
fn a_flat_counter_of_our_own_cgroup_excludes_it_whatever_the_host_counts() {
    let findings = memory(MemoryFindings {
        own: counter(2, 2),
        host: counter(7, 8),
        limit_bytes: Some(100),
        tree_peak_bytes: Some(99),
        ..MemoryFindings::default()
    });
    let verdict = judge(&with(killed(KILLED), findings));
    assert_eq!(verdict.kind, VerdictKind::KilledByProcess);
    let text = verdict.to_string();
    let expected = "SIGKILL; not by the kernel's OOM killer: memory.events oom_kill of /batch/job7 \
                    did not rise; peak RSS 99 B of limit 100 B; so a process";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_stranger_that_ran_out_of_memory_in_our_cgroup_is_not_a_loss_of_ours() {
    let findings = |names_all_victims| Findings {
        deaths: deaths(&[]),
        ..memory(MemoryFindings {
            own: counter(0, 1),
            host: counter(0, 1),
            victims: vec![Pid(9)],
            names_all_victims,
            ..MemoryFindings::default()
        })
    };
    let named = judged(&with(Termination::Exited(0), findings(true)));
    assert_eq!(named, (VerdictKind::Success, Confidence::Certain));
    let failed = judged(&with(Termination::Exited(137), findings(true)));
    assert_eq!(failed, (VerdictKind::ExitNonzero, Confidence::Certain));
    let unnamed = judged(&with(Termination::Exited(0), findings(false)));
    assert_eq!(unnamed, (VerdictKind::SuccessWithLosses, Confidence::Possible));
}

#[test]
fn no_verdict_says_that_no_counter_was_read_when_one_was() {
    let near = MemoryFindings {
        limit_bytes: Some(100),
        tree_peak_bytes: Some(95),
        ..MemoryFindings::default()
    };
    let none = judge(&with(killed(KILLED), memory(near.clone()))).to_string();
    assert!(none.contains("no counter of OOM kills can be read here"), "{none}");
    let late = MemoryFindings { is_read_too_late: true, ..near };
    let late = judge(&with(killed(KILLED), memory(late))).to_string();
    assert!(late.contains("ended before the counters of OOM kills were first read"), "{late}");
}

#[test]
fn a_request_that_the_job_survived_does_not_explain_its_end() {
    let failed = |signal, seconds, status| Facts {
        stop_request: heard(signal, Reach::OnlyUs, seconds),
        ..facts(Termination::Exited(status))
    };
    let stopped = |confidence| (VerdictKind::StopRequested, confidence);
    // It ended as it was asked to, in its own way.
    assert_eq!(judged(&failed(Signal::TERM, 0.5, 1)), stopped(Confidence::Likely));
    assert_eq!(judged(&failed(Signal::TERM, 0.5, 143)), stopped(Confidence::Certain));
    assert_eq!(judged(&failed(Signal::TERM, 20.0, 143)), stopped(Confidence::Likely));
    let later = judge(&failed(Signal::TERM, 5.0, 3));
    assert_eq!((later.kind, later.confidence), (VerdictKind::ExitNonzero, Confidence::Certain));
    let text = later.to_string();
    assert!(text.contains("a stop was requested 5.0 s before the end: signal 15"), "{text}");
    // SIGQUIT asks many programs for a dump only, SIGHUP to read their files again.
    for signal in [Signal::QUIT, Signal::HUP] {
        let verdict = judge(&failed(signal, 0.1, 3));
        assert_eq!(verdict.kind, VerdictKind::ExitNonzero);
        assert!(!verdict.to_string().contains("a stop was requested"), "{verdict}");
    }
}

#[test]
fn a_request_that_the_job_ignored_does_not_explain_its_end() {
    let ignored = Dispositions { ignored: 1 << 14, ..Dispositions::default() };
    for status in [3, 143] {
        let mut failed = facts(Termination::Exited(status));
        failed.stop_request = request(Signal::TERM, Reach::OnlyUs);
        failed.findings.dispositions = Some(ignored);
        let verdict = judge(&failed);
        assert_eq!(verdict.kind, VerdictKind::ExitNonzero, "{status}");
        let text = verdict.to_string();
        assert!(text.ends_with("passed on, which the job ignored or blocked"), "{text}");
    }
    // What it died of had an effect, whatever is read of it afterwards.
    let mut died = facts(killed(Signal::TERM));
    died.stop_request = request(Signal::TERM, Reach::OnlyUs);
    died.findings.dispositions = Some(ignored);
    assert_eq!(judged(&died), (VerdictKind::StopRequested, Confidence::Certain));
}

#[test]
fn a_death_long_after_the_same_signal_is_not_certainly_its_effect() {
    let died = |seconds| Facts {
        heard: heard(Signal::TERM, Reach::OnlyUs, seconds).into_iter().collect(),
        ..facts(killed(Signal::TERM))
    };
    assert_eq!(judged(&died(0.6)), (VerdictKind::StopRequested, Confidence::Likely));
    assert_eq!(judged(&died(0.3)), (VerdictKind::StopRequested, Confidence::Certain));
    assert_eq!(judged(&died(9.0)), (VerdictKind::StopRequested, Confidence::Likely));
    assert_eq!(judged(&died(900.0)).0, VerdictKind::KilledByProcess);
    // Another signal than the one that was passed on came from elsewhere.
    let other = Facts {
        stop_request: request(Signal::TERM, Reach::OnlyUs),
        findings: memory(MemoryFindings { own: counter(0, 0), ..MemoryFindings::default() }),
        ..facts(killed(KILLED))
    };
    let verdict = judge(&other);
    assert_eq!(
        (verdict.kind, verdict.confidence),
        (VerdictKind::KilledByProcess, Confidence::Likely)
    );
    assert!(verdict.to_string().contains("a stop was requested just before the end"), "{verdict}");
}

#[test]
fn a_success_after_a_request_says_who_asked() {
    for (signal, reach, words) in [
        (Signal::TERM, Reach::OnlyUs, "sent by user 0 (root) in process 7"),
        (Signal::INT, Reach::WholeGroup, "to the whole process group of the terminal"),
    ] {
        let stop_request = heard(signal, reach, 0.4);
        let verdict = judge(&Facts { stop_request, ..facts(Termination::Exited(0)) });
        assert_eq!((verdict.kind, verdict.confidence), (VerdictKind::Success, Confidence::Certain));
        let text = verdict.to_string();
        assert!(text.contains("a stop was requested 0.4 s before the end"), "{text}");
        assert!(text.contains(words), "{text}");
    }
}

/// A descendant that died of that signal, this time before the end.
fn death_before(signal: Signal, seconds: f64) -> Findings {
    let mut deaths = deaths(&[(9, signal)]);
    deaths.first.iter_mut().chain(&mut deaths.last).for_each(|one| one.at = before_end(seconds));
    Findings { deaths, ..Findings::default() }
}

#[test]
fn a_helper_that_was_lost_seconds_before_does_not_explain_a_failure() {
    let later = judge(&with(Termination::Exited(3), death_before(KILLED, 4.0)));
    assert_eq!((later.kind, later.confidence), (VerdictKind::ExitNonzero, Confidence::Likely));
    let text = later.to_string();
    assert!(text.contains("(pid 9) was killed by SIGKILL 4.0 s before the end"), "{text}");
    let soon = judged(&with(Termination::Exited(3), death_before(KILLED, 0.2)));
    assert_eq!(soon, (VerdictKind::DescendantKilled, Confidence::Likely));
    // A shell that waited for another child first still returns what it says of this one.
    let waited = judged(&with(Termination::Exited(137), death_before(KILLED, 4.0)));
    assert_eq!(waited, (VerdictKind::DescendantKilled, Confidence::Likely));
}

#[test]
fn what_died_after_a_request_or_because_we_ended_the_job_is_not_a_loss() {
    let mut asked = with(Termination::Exited(0), death_before(KILLED, 0.5));
    asked.stop_request = heard(Signal::TERM, Reach::OnlyUs, 0.6);
    assert_eq!(judged(&asked), (VerdictKind::Success, Confidence::Certain));
    asked.stop_request = heard(Signal::TERM, Reach::OnlyUs, 0.4);
    assert_eq!(judged(&asked).0, VerdictKind::SuccessWithLosses, "it was lost before");
    let mut timed_out = with(killed(Signal::TERM), death_before(KILLED, 30.0));
    timed_out.ended_by_us = Some(EndedByUs::TimedOut(Duration::from_secs(60)));
    timed_out.ending_since = Some(before_end(0.1));
    let text = judge(&timed_out).to_string();
    assert!(
        text.ends_with("'python3' (pid 9) was killed by SIGKILL 30.0 s before the end"),
        "{text}"
    );
    timed_out.ending_since = Some(before_end(31.0));
    assert!(!judge(&timed_out).to_string().contains("python3"), "we killed it");
}

#[test]
fn a_stop_of_a_job_that_had_lost_a_worker_names_the_worker() {
    let mut hung = with(killed(Signal::TERM), death_before(KILLED, 30.0));
    hung.stop_request = request(Signal::TERM, Reach::OnlyUs);
    let verdict = judge(&hung);
    assert_eq!(verdict.kind, VerdictKind::StopRequested);
    assert!(verdict.to_string().contains("(pid 9) was killed by SIGKILL 30.0 s"), "{verdict}");
}

#[test]
fn a_shell_that_reports_the_sigpipe_of_a_command_has_a_broken_pipe() {
    let verdict = judged(&with(Termination::Exited(141), death_before(Signal::PIPE, 0.01)));
    assert_eq!(verdict, (VerdictKind::BrokenPipe, Confidence::Likely));
}

/// Only what the facts exclude may be called certain: a SIGKILL has no sender.
#[test]
fn no_sigkill_without_a_name_or_a_private_counter_is_certain() {
    let sizes = [None, Some(1), Some(99)];
    let counters = [None, counter(0, 0), counter(0, 1), counter(0, 5)];
    for (own, host) in counters.iter().flat_map(|own| counters.iter().map(move |host| (own, host)))
    {
        for tree_peak_bytes in sizes {
            let memory_of = MemoryFindings {
                own: own.clone(),
                host: host.clone(),
                tree_peak_bytes,
                limit_bytes: Some(100),
                ..MemoryFindings::default()
            };
            let (_, confidence) = judged(&with(killed(KILLED), memory(memory_of)));
            assert_ne!(confidence, Confidence::Certain, "{own:?} {host:?}");
        }
    }
}

#[test]
fn a_job_that_could_not_be_signalled_is_judged_by_its_own_end() {
    let limit = Duration::from_secs(5);
    for (end, kind) in [
        (Termination::Exited(0), VerdictKind::Success),
        (Termination::Exited(3), VerdictKind::ExitNonzero),
    ] {
        let mut facts = facts(end);
        facts.ended_by_us = Some(EndedByUs::TimedOut(limit));
        facts.stop_request = request(Signal::TERM, Reach::OnlyUs);
        facts.heard.extend(facts.stop_request.clone());
        assert_eq!(
            judge(&facts).kind,
            VerdictKind::TimedOut,
            "it may have ended because of SIGTERM"
        );
        facts.findings.is_out_of_reach = true;
        assert_eq!(judged(&facts), (kind, Confidence::Certain));
        let text = judge(&facts).to_string();
        assert!(text.contains("could not be ended by --timeout after 5.000 seconds"), "{text}");
        facts.ended_by_us = None;
        assert_eq!(judged(&facts), (kind, Confidence::Certain));
        assert!(judge(&facts).to_string().contains("could not be asked to stop"));
    }
}

/// The job died of that signal, which a process, the kernel or the job itself had sent.
fn traced(signal: Signal, author: Author, earlier: Option<Author>) -> Findings {
    let delivery = |author| Delivery {
        info: SignalInfo {
            signal,
            origin: if author == Author::Kernel { Origin::Other(1) } else { Origin::Kill },
            sender: match author {
                Author::Kernel => Sender::Kernel,
                Author::Itself => sender_of(PID.0, "job"),
                Author::Childminder => sender_of(1, "childminder"),
                Author::Another => sender_of(7, "kill 812"),
            },
            value: None,
        },
        code: i32::from(author == Author::Kernel),
        address: (author == Author::Kernel).then_some(8),
    };
    let earlier = earlier.map(|author| (delivery(author), author, Duration::from_secs(1)));
    let fatal = FatalSignal {
        process: PID,
        delivery: delivery(author),
        author,
        earlier,
        before: Duration::ZERO,
        crash: None,
    };
    Findings { fatal: vec![fatal], ..Findings::default() }
}

fn sender_of(pid: i32, command: &str) -> Sender {
    Sender::Process(SenderProcess {
        pid: Pid(pid),
        uid: 0,
        user: Some("root".into()),
        command: Some(command.into()),
        is_hidden: false,
    })
}

#[test]
fn a_traced_signal_names_its_sender_for_certain() {
    for signal in [Signal::TERM, Signal::SEGV, Signal::ALRM, Signal::XCPU, Signal::PIPE] {
        let verdict = judge(&with(killed(signal), traced(signal, Author::Another, None)));
        assert_eq!(
            verdict.to_string(),
            format!(
                "killed_by_process (certain): {signal}; it came from process 7 (kill 812) user 0 (root)"
            )
        );
    }
}

#[test]
fn what_the_job_sends_to_itself_is_distinguished() {
    let itself = |signal, earlier| {
        judge(&with(killed(signal), traced(signal, Author::Itself, earlier))).to_string()
    };
    assert_eq!(
        itself(Signal::TERM, None),
        "killed_by_process (certain): SIGTERM; the job sent it to itself: no other process did"
    );
    let reacted = itself(Signal::TERM, Some(Author::Another));
    assert!(reacted.contains("(certain)") && reacted.contains("process 7 (kill 812)"), "{reacted}");
    assert!(reacted.ends_with("then sent the signal to itself"), "{reacted}");
    assert!(
        itself(Signal::ABRT, None).starts_with("crashed (certain): SIGABRT; the program raised")
    );
    // The kernel sends it in the name of the writer.
    assert!(itself(Signal::PIPE, None).starts_with("broken_pipe "));
}

#[test]
fn a_traced_fault_is_certain_and_has_its_address() {
    let verdict = judge(&with(killed(Signal::SEGV), traced(Signal::SEGV, Author::Kernel, None)));
    assert_eq!(
        verdict.to_string(),
        "crashed (certain): SIGSEGV; from the kernel: address not mapped, address 0x8"
    );
}

#[test]
fn a_crash_that_was_examined_says_where_it_was() {
    let summary = "in libfoo.so.1 parse+0x1c: null pointer plus 0x8";
    for (signal, author) in [(Signal::SEGV, Author::Kernel), (Signal::ABRT, Author::Itself)] {
        let mut findings = traced(signal, author, None);
        findings.fatal[0].crash = Some(summary.to_owned());
        assert_eq!(
            judge(&with(killed(signal), findings)).to_string(),
            format!("crashed (certain): {signal}; {summary}")
        );
    }
}

/// What childminder passed on is what childminder was asked for.
#[test]
fn a_traced_request_that_was_passed_on_stays_a_request() {
    let asked = |author, pid| {
        let findings = traced(Signal::TERM, author, None);
        let mut heard = request(Signal::TERM, Reach::OnlyUs);
        if let Some(heard) = &mut heard {
            heard.info.sender = sender_of(pid, "scancel");
        }
        let facts = with(killed(Signal::TERM), findings);
        judge(&Facts { stop_request: heard, ..facts }).kind
    };
    assert_eq!(asked(Author::Childminder, 7), VerdictKind::StopRequested);
    // Both got it from the same sender.
    assert_eq!(asked(Author::Another, 7), VerdictKind::StopRequested);
    // Somebody else was faster.
    assert_eq!(asked(Author::Another, 9), VerdictKind::KilledByProcess);
}

#[test]
fn a_traced_descendant_is_named_with_its_killer() {
    let mut findings = traced(Signal::TERM, Author::Another, None);
    findings.fatal[0].process = Pid(813);
    let death = Death {
        pid: Pid(813),
        name: Some("worker".into()),
        end: killed(Signal::TERM),
        source: "ptrace(2)",
        at: before_end(0.01),
    };
    findings.deaths = Deaths { is_complete: true, ..Deaths::default() };
    findings.deaths.add(death);
    let verdict = judge(&with(Termination::Exited(143), findings));
    assert_eq!(
        verdict.to_string(),
        "descendant_killed (certain): exit status 143; its descendant 'worker' (pid 813) was killed by SIGTERM, \
         sent from process 7 (kill 812) user 0 (root)"
    );
}
