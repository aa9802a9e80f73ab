//! The thread that calls built-in functions, one after the other.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::canary;
use crate::canary::wrong::Repeated;
use crate::model::shared::lock;
use crate::model::time::Moment;
use crate::plan::{CanaryPlan, Function};
use crate::sys::{SysError, clock, threads};

/// After a call that failed, the next one waits: a full disk is not freed by asking faster.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Room for the buffers of `file`; all else is on the heap.
const STACK_BYTES: usize = 256 * 1024;

/// One call that ended.
pub(super) struct EndedCall {
    pub(super) function: Function,
    pub(super) answer: io::Result<String>,
    pub(super) took: Duration,
    /// The processor that it ended on.
    pub(super) cpu: Option<u32>,
    /// Of a wrong answer.
    pub(super) repeated: Repeated,
}

/// What is called: replaced in tests.
pub(super) type Call = fn(Function, &Path) -> io::Result<String>;

/// What the thread does, and until when.
#[derive(Clone)]
pub(super) struct CallSchedule {
    pub(super) functions: Vec<Function>,
    pub(super) end: Moment,
    pub(super) every: Option<Duration>,
    pub(super) each_core: bool,
    pub(super) call: Call,
}

impl CallSchedule {
    pub(super) fn of(plan: &CanaryPlan, end: Moment) -> CallSchedule {
        let CanaryPlan { functions, every, each_core, .. } = plan.clone();
        CallSchedule { functions, end, every, each_core, call: canary::call }
    }
}

/// The thread that calls.
pub(super) struct CanaryThread {
    woken: Arc<EventFd>,
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: JoinHandle<()>,
}

impl CanaryThread {
    pub(super) fn start(
        schedule: CallSchedule,
    ) -> Result<(CanaryThread, Receiver<EndedCall>), SysError> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let failed = |source| SysError { action: "open an eventfd".into(), source };
        let woken = Arc::new(EventFd::from_value_and_flags(0, flags).map_err(failed)?);
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let (sender, calls) = mpsc::channel();
        let (waker, stopped) = (Arc::clone(&woken), Arc::clone(&stop));
        let room = threads::check_room(STACK_BYTES as u64 + threads::HEAP_BYTES);
        let builder = thread::Builder::new().name("canary".into()).stack_size(STACK_BYTES);
        let work = move || {
            Caller { schedule, stop: &stopped, directory: temporary_directory() }
                .run(&sender, &waker);
            // The queue's end is what the loop waits for; it must be there when it wakes.
            drop(sender);
            waker.write(1).ok();
        };
        let thread = room.and_then(|()| builder.spawn(work)).map_err(|error| SysError {
            action: format!("start a thread ({error})"),
            source: Errno::from_raw(error.raw_os_error().unwrap_or(libc::ENOMEM)),
        })?;
        Ok((CanaryThread { woken, stop, thread }, calls))
    }

    /// Readable when calls have ended.
    pub(super) fn woken(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }

    /// Makes it unreadable.
    pub(super) fn take_wake(&self) {
        self.woken.read().ok();
    }

    /// No call starts any more; the one that runs goes on to its end.
    pub(super) fn stop(&self) {
        *lock(&self.stop.0) = true;
        self.stop.1.notify_all();
    }

    pub(super) fn join(self) -> Result<(), SysError> {
        // A panic there is ours; it was reported on standard error, and ends that thread.
        self.thread.join().map_err(|_| SysError {
            action: "run a built-in function".into(),
            source: Errno::ECANCELED,
        })
    }
}

struct Caller<'a> {
    schedule: CallSchedule,
    stop: &'a (Mutex<bool>, Condvar),
    directory: PathBuf,
}

impl Caller<'_> {
    fn run(&self, calls: &Sender<EndedCall>, waker: &EventFd) {
        let CallSchedule { functions, end, every, each_core, .. } = &self.schedule;
        // Where nobody knows the processors, calls run where the kernel puts them.
        let cpus = threads::allowed_cpus().unwrap_or_default();
        for turn in 0_usize.. {
            if clock::now() >= *end || *lock(&self.stop.0) {
                return;
            }
            let function = match functions[turn % functions.len()] {
                Function::Random => canary::choose(u64::from_ne_bytes(clock::random())),
                other => other,
            };
            // A round of all functions is on one processor.
            if *each_core && !cpus.is_empty() {
                // One that was taken away meanwhile is passed over by the kernel's own choice.
                threads::run_on(&[cpus[turn / functions.len() % cpus.len()]]).ok();
            }
            let begun = clock::now();
            let ended = self.call(function, &cpus);
            let has_failed = ended.answer.is_err();
            if calls.send(ended).is_err() {
                return;
            }
            waker.write(1).ok();
            let next = every.map_or(begun, |every| begun + every);
            let retry = if has_failed { clock::now() + RETRY_AFTER } else { begun };
            self.wait_until(next.max(retry).min(*end));
        }
    }

    fn call(&self, function: Function, cpus: &[u32]) -> EndedCall {
        let begun = clock::now();
        let answer = (self.schedule.call)(function, &self.directory);
        let took = clock::now() - begun;
        let cpu = threads::current_cpu();
        let right = canary::right_answer(function);
        let is_wrong = answer.as_ref().is_ok_and(|answer| answer != right);
        let repeated =
            if is_wrong { self.repeat(function, cpu, cpus) } else { Repeated::default() };
        EndedCall { function, answer, took, cpu, repeated }
    }

    /// Calls again where the answer was wrong, and on another processor.
    fn repeat(&self, function: Function, cpu: Option<u32>, cpus: &[u32]) -> Repeated {
        let Some(cpu) = cpu else { return Repeated::default() };
        let again = |cpu: u32| {
            threads::run_on(&[cpu]).ok()?;
            let answer = (self.schedule.call)(function, &self.directory).ok()?;
            Some(answer == canary::right_answer(function))
        };
        let is_right_here = again(cpu);
        let other = cpus.iter().copied().find(|other| *other != cpu);
        let elsewhere = other.and_then(|other| Some((other, again(other)?)));
        threads::run_on(cpus).ok();
        Repeated { is_right_here, elsewhere }
    }

    /// Waits, unless it is asked to stop.
    fn wait_until(&self, moment: Moment) {
        let guard = lock(&self.stop.0);
        let span = moment - clock::now();
        drop(self.stop.1.wait_timeout_while(guard, span, |stopped| !*stopped));
    }
}

/// TMPDIR, or /var/tmp, which is on a disk where /tmp may be memory.
#[expect(clippy::disallowed_methods, reason = "TMPDIR is part of the plan of a canary")]
fn temporary_directory() -> PathBuf {
    match std::env::var_os("TMPDIR") {
        Some(directory) if !directory.is_empty() => directory.into(),
        _ => "/var/tmp".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(
        call: Call,
        schedule: impl FnOnce(CallSchedule) -> CallSchedule,
        count: usize,
    ) -> Vec<EndedCall> {
        let plan = CallSchedule {
            functions: vec![Function::String],
            end: clock::now() + Duration::from_secs(600),
            every: None,
            each_core: false,
            call,
        };
        let (thread, calls) = CanaryThread::start(schedule(plan)).expect("a thread");
        let ended =
            (0..count).map(|_| calls.recv_timeout(Duration::from_secs(60)).expect("a call"));
        let ended = ended.collect();
        thread.stop();
        thread.join().expect("no panic");
        ended
    }

    fn right(function: Function, _: &Path) -> io::Result<String> {
        Ok(canary::right_answer(function).to_owned())
    }

    /// Wrong on the first processor that is allowed.
    fn bad_first_cpu(function: Function, _: &Path) -> io::Result<String> {
        match threads::current_cpu() {
            Some(0) => Ok("17".into()),
            _ => Ok(canary::right_answer(function).to_owned()),
        }
    }

    #[test]
    fn functions_take_turns() {
        let both = vec![Function::MathInt, Function::Memory];
        let calls = ended(right, |plan| CallSchedule { functions: both.clone(), ..plan }, 5);
        let functions: Vec<Function> = calls.iter().map(|call| call.function).collect();
        assert_eq!(functions, [both[0], both[1], both[0], both[1], both[0]]);
        assert!(calls.iter().all(|call| call.repeated == Repeated::default()));
    }

    #[test]
    fn a_call_starts_once_in_each_period_and_waiting_ends_at_once_when_stopped() {
        let every = Some(Duration::from_millis(40));
        let begun = clock::now();
        let calls = ended(right, |plan| CallSchedule { every, ..plan }, 4);
        assert!(clock::now() - begun >= Duration::from_millis(120), "{}", calls.len());
        let every = Some(Duration::from_secs(3600));
        let begun = clock::now();
        ended(right, |plan| CallSchedule { every, ..plan }, 1);
        assert!(clock::now() - begun < Duration::from_secs(60));
    }

    #[test]
    fn every_processor_is_visited_and_a_bad_one_is_found() {
        let cpus = threads::allowed_cpus().expect("a set");
        let calls =
            ended(bad_first_cpu, |plan| CallSchedule { each_core: true, ..plan }, 2 * cpus.len());
        let visited: Vec<Option<u32>> = calls.iter().map(|call| call.cpu).collect();
        let twice: Vec<Option<u32>> = cpus.iter().chain(&cpus).map(|cpu| Some(*cpu)).collect();
        assert_eq!(visited, twice);
        for call in calls {
            let other = cpus.iter().copied().find(|cpu| *cpu != 0);
            let expected = match call.cpu {
                Some(0) => {
                    Repeated { is_right_here: Some(false), elsewhere: other.map(|cpu| (cpu, true)) }
                }
                _ => Repeated::default(),
            };
            assert_eq!(call.repeated, expected, "{:?}", call.cpu);
        }
    }
}
