//! One test for each rule, by the facts that lead to it.

use super::*;

use std::time::Duration;

use crate::model::outcome::SpawnFailure;
use crate::model::process::{Pid, Sender, SenderProcess};
use crate::model::scene::{CoreDump, Deaths, Limits, Memory, OomCounter, Scene};
use crate::model::signal::{Origin, SignalInfo};

const PID: Pid = Pid(812);

fn facts(end: Termination) -> Facts {
    Facts {
        end: AttemptEnd::Ended(end),
        pid: PID,
        ended_by_us: None,
        stop_request: None,
        heard: Vec::new(),
        scene: Scene::default(),
    }
}

fn killed(signal: Signal) -> Termination {
    Termination::Signaled { signal, core_dumped: false }
}

fn request(signal: Signal, reach: Reach) -> Option<Heard> {
    let sender = SenderProcess { pid: Pid(7), uid: 0, user: Some("root".into()), command: None };
    let (origin, sender) = match reach {
        Reach::WholeGroup => (Origin::Kernel, Sender::Kernel),
        _ => (Origin::Kill, Sender::Process(sender)),
    };
    Some(Heard { info: SignalInfo { signal, origin, sender, value: None }, reach })
}

fn judged(facts: &Facts) -> (VerdictKind, Confidence) {
    let verdict = judge(facts);
    assert!(!verdict.evidence.is_empty(), "a verdict without evidence: {verdict}");
    (verdict.kind, verdict.confidence)
}

#[test]
fn exit_status_137_is_the_programs_own_word_and_not_a_kill() {
    let verdict = judge(&facts(Termination::Exited(137)));
    assert_eq!(verdict.kind, VerdictKind::ExitNonzero);
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
fn the_terminal_and_the_batch_system_are_told_apart_from_us() {
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
        });
        let info = SignalInfo { signal: Signal::TERM, origin: Origin::Kill, sender, value: None };
        let stop_request = Some(Heard { info, reach });
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
    let heard = vec![Heard { info, reach: Reach::OnlyUs }];
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
fn a_job_that_never_ran_is_told_apart_from_one_that_returned_127() {
    let failure = SpawnFailure { step: "execute x".into(), errno: libc::ENOENT, is_exec: true };
    let never = Facts { end: AttemptEnd::NotStarted(failure), ..facts(Termination::Exited(0)) };
    assert_eq!(judged(&never), (VerdictKind::ExecFailed, Confidence::Certain));
    let returned = judged(&facts(Termination::Exited(127)));
    assert_eq!(returned, (VerdictKind::ExitNonzero, Confidence::Certain));
}

fn with(end: Termination, scene: Scene) -> Facts {
    Facts { scene, ..facts(end) }
}

fn counter(before: u64, after: u64) -> Option<OomCounter> {
    Some(OomCounter { name: "memory.events oom_kill of /batch/job7".into(), before, after })
}

fn memory(memory: Memory) -> Scene {
    Scene { memory, ..Scene::default() }
}

fn deaths(list: &[(i32, Signal)]) -> Deaths {
    let mut deaths = Deaths::default();
    for (pid, signal) in list {
        let name = Some("python3".to_owned());
        deaths.add(Death { pid: Pid(*pid), name, end: killed(*signal), source: "proc connector" });
    }
    deaths
}

const KILLED: Signal = Signal::KILL;

#[test]
fn a_counter_of_our_own_cgroup_that_rose_proves_out_of_memory() {
    let scene = memory(Memory {
        own: counter(3, 4),
        limit_bytes: Some(4 << 30),
        peak_bytes: Some(4_187_593_114),
        ..Memory::default()
    });
    let verdict = judge(&with(killed(KILLED), scene));
    assert_eq!(
        verdict.to_string(),
        "oom_killed (certain): SIGKILL; memory.events oom_kill of /batch/job7 +1; \
         peak memory 3.9 GiB of limit 4.0 GiB"
    );
}

#[test]
fn the_kernels_log_proves_it_only_for_the_process_that_it_names() {
    let named = |pid| memory(Memory { victims: vec![Pid(pid)], ..Memory::default() });
    let ours = judged(&with(killed(KILLED), named(PID.0)));
    assert_eq!(ours, (VerdictKind::OomKilled, Confidence::Certain));
    let other = judged(&with(killed(KILLED), named(9)));
    assert_eq!(other, (VerdictKind::Unknown, Confidence::Possible));
}

#[test]
fn the_hosts_counter_is_likely_only_near_a_limit() {
    let scene = |peak| {
        memory(Memory {
            own: counter(0, 0),
            host: counter(7, 8),
            limit_bytes: Some(100),
            tree_peak_bytes: Some(peak),
            ..Memory::default()
        })
    };
    let near = judged(&with(killed(KILLED), scene(90)));
    assert_eq!(near, (VerdictKind::OomKilled, Confidence::Likely));
    let far = judged(&with(killed(KILLED), scene(10)));
    assert_eq!(far, (VerdictKind::Unknown, Confidence::Possible));
}

#[test]
fn without_any_counter_a_peak_or_pressure_makes_it_possible() {
    let near = Memory { limit_bytes: Some(100), peak_bytes: Some(95), ..Memory::default() };
    let pressed = Memory { pressure_full: Some(60.0), ..Memory::default() };
    for scene in [near, pressed] {
        let verdict = judged(&with(killed(KILLED), memory(scene)));
        assert_eq!(verdict, (VerdictKind::OomKilled, Confidence::Possible));
    }
}

#[test]
fn a_kill_that_was_not_the_kernels_was_somebodys() {
    let scene = memory(Memory { own: counter(2, 2), host: counter(5, 5), ..Memory::default() });
    let verdict = judge(&with(killed(KILLED), scene));
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
    let spent = |seconds| Scene {
        limits,
        cpu: Some(Duration::from_secs_f64(seconds)),
        ..memory(Memory { own: counter(0, 0), host: counter(0, 0), ..Memory::default() })
    };
    let hard = judged(&with(killed(KILLED), spent(2.004)));
    assert_eq!(hard, (VerdictKind::CpuLimit, Confidence::Likely));
    let early = judged(&with(killed(KILLED), spent(1.2)));
    assert_eq!(early, (VerdictKind::KilledByProcess, Confidence::Likely));
    let soft = judged(&with(killed(Signal::XCPU), spent(1.0)));
    assert_eq!(soft, (VerdictKind::CpuLimit, Confidence::Certain));
}

#[test]
fn a_fault_that_the_kernel_logged_is_certain_and_the_core_is_named() {
    let scene = Scene {
        fault_line: Some("x[812]: segfault at 0".into()),
        core: Some(CoreDump::Found("/job/core".into())),
        ..Scene::default()
    };
    let verdict = judge(&with(killed(Signal::SEGV), scene));
    assert_eq!((verdict.kind, verdict.confidence), (VerdictKind::Crashed, Confidence::Certain));
    assert!(verdict.to_string().ends_with("core dump /job/core"), "{verdict}");
}

#[test]
fn a_shell_that_tells_of_its_killed_child_is_believed_because_the_kernel_told_too() {
    let scene = Scene { deaths: deaths(&[(9, Signal::KILL)]), ..Scene::default() };
    let verdict = judge(&with(Termination::Exited(137), scene.clone()));
    assert_eq!(
        verdict.to_string(),
        "descendant_killed (certain): exit status 137; its descendant 'python3' (pid 9) was \
         killed by SIGKILL"
    );
    let gave_up = judged(&with(Termination::Exited(1), scene));
    assert_eq!(gave_up, (VerdictKind::DescendantKilled, Confidence::Likely));
    let ordinary = Scene { deaths: deaths(&[(9, Signal::PIPE)]), ..Scene::default() };
    let exit = judged(&with(Termination::Exited(1), ordinary));
    assert_eq!(exit, (VerdictKind::ExitNonzero, Confidence::Certain));
}

#[test]
fn a_worker_that_ran_out_of_memory_is_told_whatever_its_parent_returns() {
    let scene = Scene {
        deaths: deaths(&[(9, Signal::KILL)]),
        ..memory(Memory { own: counter(0, 1), ..Memory::default() })
    };
    let failed = judged(&with(Termination::Exited(137), scene.clone()));
    assert_eq!(failed, (VerdictKind::OomKilled, Confidence::Certain));
    let verdict = judge(&with(Termination::Exited(0), scene));
    assert_eq!(verdict.kind, VerdictKind::SuccessWithLosses);
    assert!(verdict.to_string().contains("oom_kill of /batch/job7 +1"), "{verdict}");
}

#[test]
fn a_pipeline_that_ends_by_sigpipe_is_a_full_success() {
    let scene =
        Scene { deaths: deaths(&[(9, Signal::PIPE), (10, Signal::TERM)]), ..Scene::default() };
    let verdict = judged(&with(Termination::Exited(0), scene));
    assert_eq!(verdict, (VerdictKind::Success, Confidence::Certain));
}

#[test]
fn a_full_disk_is_named_beside_the_exit_status() {
    let scene = Scene { full: vec!["/data".into()], ..Scene::default() };
    let verdict = judge(&with(Termination::Exited(1), scene));
    assert!(verdict.to_string().contains("no room left in /data"), "{verdict}");
}

#[test]
fn a_risen_counter_explains_137_where_nobody_tells_of_descendants() {
    let with = |status: u8, after: u64| {
        let mut facts = facts(Termination::Exited(status));
        facts.scene.memory.own = counter(0, after);
        facts
    };
    assert_eq!(judged(&with(137, 1)), (VerdictKind::OomKilled, Confidence::Likely));
    // Another status is the program's own word, but the counter is told.
    let other = judge(&with(3, 1));
    assert_eq!(other.kind, VerdictKind::ExitNonzero);
    assert!(other.to_string().contains("oom_kill of /batch/job7 +1"), "{other}");
    assert_eq!(judge(&with(137, 0)).kind, VerdictKind::ExitNonzero);
}
