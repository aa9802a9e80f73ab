//! A built-in function, called again and again beside the signal loop, which stays awake.
//!
//! The calls run on a thread of their own. It reports each by a queue and wakes the loop by an
//! eventfd; the loop logs, watches signals and draws the progress bar.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::canary;
use crate::model::event::Event;
use crate::model::outcome::CANARY_FAILED;
use crate::model::shared::lock;
use crate::model::signal::{Signal, SignalInfo};
use crate::model::time::Moment;
use crate::plan::{CanaryPlan, Function};
use crate::run::senders::{NoJob, Senders};
use crate::run::sinks::Sinks;
use crate::sys::signals::SignalFd;
use crate::sys::{SysError, clock, poll, terminal, threads, wait};

/// How often the progress bar is drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(200);

/// After a call that failed, the next one waits: a full disk is not freed by asking faster.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How often the calls are looked at besides when their thread wakes us: an eventfd can fail.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Room for the buffers of `file`; all else is on the heap.
const STACK_BYTES: usize = 256 * 1024;

/// One call that ended.
struct EndedCall {
    function: Function,
    answer: io::Result<String>,
    took: Duration,
    /// The processor that it ended on.
    cpu: Option<u32>,
}

/// Runs the function until its time is up or a signal of `--stop-on` comes; returns the exit status.
pub(super) fn run(
    plan: &CanaryPlan,
    signals: &SignalFd,
    sinks: &mut Sinks,
) -> Result<u8, SysError> {
    let end = clock::now() + plan.span;
    let worker = match plan.function {
        Function::Sleep => None,
        function => Some(CanaryThread::start(function, end)?),
    };
    sinks.publish(&Event::Trapped { signals: Signal::trappable().collect() });
    let senders = Senders::new();
    let has_failed = false;
    let mut watch =
        CanaryLoop { plan, signals, sinks, senders, end, calls: 0, failures: 0, has_failed };
    let bar = watch.progress_bar();
    match worker {
        None => {
            watch.calls = 1;
            watch.sleep(&bar);
        }
        Some((worker, calls)) => watch.work(worker, &calls, &bar),
    }
    bar.finish_and_clear();
    let (calls, failures) = (watch.calls, watch.failures);
    sinks.publish(&Event::Calls { count: calls });
    sinks.publish(&Event::Usage { pid: None, usage: wait::own_usage(), peaks: None });
    if failures == 0 {
        return Ok(0);
    }
    let word = plan.function.word();
    sinks.complain(format!("({word}) {failures} call(s) failed or gave a wrong answer"));
    Ok(CANARY_FAILED)
}

/// The loop beside the calls.
struct CanaryLoop<'a> {
    plan: &'a CanaryPlan,
    signals: &'a SignalFd,
    sinks: &'a mut Sinks,
    senders: Senders,
    end: Moment,
    calls: u64,
    /// Calls that failed or gave a wrong answer.
    failures: u64,
    /// Whether a system call of the loop failed, and that was logged.
    has_failed: bool,
}

impl CanaryLoop<'_> {
    /// `sleep`: nothing but waiting, and reporting what interrupts it.
    fn sleep(&mut self, bar: &ProgressBar) {
        while clock::now() < self.end {
            let deadline = self.deadline(bar);
            self.sinks.flush();
            let polled = poll::wait([Some(self.signals.as_fd())], Some(deadline));
            let [has_signals] = polled.unwrap_or_else(|error| self.cannot_wait(&error));
            if has_signals && self.take_signals(bar) {
                break;
            }
            self.draw(bar);
        }
    }

    /// The five that work.
    fn work(&mut self, worker: CanaryThread, calls: &Receiver<EndedCall>, bar: &ProgressBar) {
        loop {
            let deadline = bar_deadline(bar).unwrap_or_else(|| clock::now() + LOOK_EVERY);
            let fds = [Some(self.signals.as_fd()), Some(worker.woken.as_fd())];
            self.sinks.flush();
            let polled = poll::wait(fds, Some(deadline));
            let [has_signals, has_calls] = polled.unwrap_or_else(|error| self.cannot_wait(&error));
            if has_calls {
                worker.woken.read().ok();
            }
            let is_over = self.take_calls(calls);
            if has_signals && self.take_signals(bar) {
                worker.stop();
            }
            self.draw(bar);
            if is_over {
                if let Err(error) = worker.join() {
                    self.failures += 1;
                    self.failed(format!("could not {error}: {}", error.source.desc()));
                }
                return;
            }
        }
    }

    /// A system call of the loop failed, and may fail again at once: the calls go on meanwhile.
    /// Returns a value that asks for a look at everything.
    fn cannot_wait<const N: usize>(&mut self, error: &SysError) -> [bool; N] {
        if !std::mem::replace(&mut self.has_failed, true) {
            let text = format!("could not {error}: {}; trying again", error.source.desc());
            self.sinks.publish(&Event::Notice { text });
        }
        poll::sleep_until(clock::now() + DRAW_INTERVAL);
        [true; N]
    }

    /// Logs the calls that ended; returns whether no more will come.
    fn take_calls(&mut self, calls: &Receiver<EndedCall>) -> bool {
        loop {
            match calls.try_recv() {
                Ok(call) => self.called(call),
                Err(mpsc::TryRecvError::Empty) => return false,
                Err(mpsc::TryRecvError::Disconnected) => return true,
            }
        }
    }

    fn called(&mut self, call: EndedCall) {
        let function = call.function.word();
        let right = canary::right_answer(call.function);
        let is_right = call.answer.as_ref().is_ok_and(|answer| answer == right);
        self.sinks.publish(&Event::Called { function, took: call.took, is_right });
        self.failures += u64::from(!is_right);
        let cpu = call.cpu.map(|cpu| format!(" on CPU {cpu}")).unwrap_or_default();
        if let (Ok(answer), false) = (&call.answer, is_right) {
            self.failed(format!(
                "({function}) gave a wrong answer{cpu}: {answer} (expected {right})"
            ));
        }
        match call.answer {
            Ok(answer) => {
                self.calls += 1;
                if !self.plan.quiet {
                    self.sinks.publish(&Event::Answer { function, answer });
                }
            }
            Err(error) => {
                self.failed(format!("({function}) failed{cpu}: {error}"));
            }
        }
    }

    /// The first failure is said on standard error as well, at once.
    fn failed(&mut self, text: String) {
        match self.failures {
            1 => self.sinks.complain(text),
            _ => self.sinks.publish(&Event::Notice { text }),
        }
    }

    /// Logs what came; returns whether it ends the run.
    fn take_signals(&mut self, bar: &ProgressBar) -> bool {
        let mut batch = Vec::new();
        if let Err(error) = self.signals.read(&mut batch) {
            let _: [bool; 0] = self.cannot_wait(&error);
        }
        self.senders.begin_batch(clock::now());
        let mut is_stopped = false;
        for raw in batch {
            if self.senders.is_our_fault(&raw) {
                continue;
            }
            let (info, _) = self.senders.resolve(raw, &NoJob);
            self.received(&info, bar);
            is_stopped |= self.plan.stop_on.contains(&info.signal);
            if info.signal == Signal::TSTP && !is_stopped && terminal::can_be_continued() {
                self.sinks.publish(&Event::Suspended);
                self.sinks.flush();
                if let Err(error) = terminal::stop_ourselves() {
                    let text = format!("could not {error}: {}", error.source.desc());
                    self.sinks.publish(&Event::Notice { text });
                }
                self.sinks.publish(&Event::Resumed);
            }
        }
        is_stopped
    }

    fn received(&mut self, info: &SignalInfo, bar: &ProgressBar) {
        self.sinks.publish(&Event::Received(info.clone()));
        if self.plan.function == Function::Sleep {
            let remaining = self.end - clock::now();
            self.sinks.publish(&Event::SleepInterrupted { remaining });
        }
        let is_key = matches!(info.signal, Signal::INT | Signal::QUIT);
        if is_key && !bar.is_hidden() && self.plan.stop_on.is_empty() {
            bar.println(format!(
                "childminder: {} is logged and does not end -f (see --stop-on)",
                info.signal
            ));
        }
    }

    /// The bar shows itself only on a terminal that the log does not use.
    fn progress_bar(&self) -> ProgressBar {
        if self.sinks.is_log_on_terminal() {
            return ProgressBar::hidden();
        }
        let length = u64::try_from(self.plan.span.as_millis()).unwrap_or(u64::MAX);
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        let template = "{prefix} {bar:24} {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(self.plan.function.word());
        bar
    }

    fn draw(&self, bar: &ProgressBar) {
        if bar.is_hidden() {
            return;
        }
        let left = self.end - clock::now();
        let passed = self.plan.span.saturating_sub(left);
        bar.set_position(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX));
        let rate = self.calls as f64 / passed.as_secs_f64().max(0.001);
        let calls = self.calls;
        let left = left.as_secs();
        bar.set_message(match self.plan.function {
            Function::Sleep => format!("{left} s left"),
            _ => format!("{left} s left, {calls} calls, {rate:.2} calls/s"),
        });
    }

    fn deadline(&self, bar: &ProgressBar) -> Moment {
        bar_deadline(bar).map_or(self.end, |draw| draw.min(self.end))
    }
}

/// A bar that nobody sees wakes nobody.
fn bar_deadline(bar: &ProgressBar) -> Option<Moment> {
    (!bar.is_hidden()).then(|| clock::now() + DRAW_INTERVAL)
}

/// The thread that calls.
struct CanaryThread {
    woken: Arc<EventFd>,
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: JoinHandle<()>,
}

impl CanaryThread {
    fn start(
        function: Function,
        end: Moment,
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
            call_until(function, end, &stopped, &sender, &waker);
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

    /// No call starts any more; the one that runs goes on to its end.
    fn stop(&self) {
        *lock(&self.stop.0) = true;
        self.stop.1.notify_all();
    }

    fn join(self) -> Result<(), SysError> {
        // A panic there is ours; it was reported on standard error, and ends that thread.
        self.thread.join().map_err(|_| SysError {
            action: "run a built-in function".into(),
            source: Errno::ECANCELED,
        })
    }
}

fn call_until(
    function: Function,
    end: Moment,
    stop: &(Mutex<bool>, Condvar),
    calls: &Sender<EndedCall>,
    waker: &EventFd,
) {
    let directory = temporary_directory();
    let is_stopped = || *lock(&stop.0);
    while clock::now() < end && !is_stopped() {
        let function = match function {
            Function::Random => canary::choose(u64::from_ne_bytes(clock::random())),
            other => other,
        };
        let begun = clock::now();
        let answer = canary::call(function, &directory);
        let took = clock::now() - begun;
        let has_failed = answer.is_err();
        let cpu = threads::current_cpu();
        if calls.send(EndedCall { function, answer, took, cpu }).is_err() {
            return;
        }
        waker.write(1).ok();
        if has_failed {
            let span = RETRY_AFTER.min(end - clock::now());
            let guard = lock(&stop.0);
            // Either the time is over or we were asked to stop: the loop's condition knows.
            drop(stop.1.wait_timeout_while(guard, span, |stopped| !*stopped));
        }
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
