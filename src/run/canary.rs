//! A built-in function, called again and again beside the signal loop, which stays awake.
//!
//! The calls run on a thread of their own. It reports each by a queue and wakes the loop by an
//! eventfd; the loop logs, watches signals and draws the progress bar.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::canary;
use crate::canary::wrong::differing_bits;
use crate::model::event::Event;
use crate::model::outcome::CANARY_FAILED;
use crate::model::signal::{Signal, SignalInfo};
use crate::model::time::Moment;
use crate::observe::processor::microcode;
use crate::plan::CanaryPlan;
use crate::run::canary_calls::{CallSchedule, CanaryThread, EndedCall};
use crate::run::senders::{NoJob, Senders};
use crate::run::sinks::Sinks;
use crate::sys::signals::SignalFd;
use crate::sys::{SysError, clock, poll, terminal, wait};

/// How often the progress bar is drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(200);

/// The span of what goes on until it is stopped: a hundred years.
const FOREVER: Duration = Duration::from_secs(100 * 366 * 86_400);

/// How often the calls are looked at besides when their thread wakes us: an eventfd can fail.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs the function until its time is up or a signal of `--stop-on` comes; returns the exit status.
pub(super) fn run(
    plan: &CanaryPlan,
    signals: &SignalFd,
    sinks: &mut Sinks,
) -> Result<u8, SysError> {
    let begun = clock::now();
    let end = begun + plan.span.unwrap_or(FOREVER);
    let worker = match plan.is_sleep() {
        true => None,
        false => Some(CanaryThread::start(CallSchedule::of(plan, end))?),
    };
    sinks.publish(&Event::Trapped { signals: Signal::trappable().collect() });
    let senders = Senders::new();
    let has_failed = false;
    let mut watch =
        CanaryLoop { plan, signals, sinks, senders, begun, end, calls: 0, failures: 0, has_failed };
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
    let name = plan.name();
    sinks.complain(format!("({name}) {failures} call(s) failed or gave a wrong answer"));
    Ok(CANARY_FAILED)
}

/// The loop beside the calls.
struct CanaryLoop<'a> {
    plan: &'a CanaryPlan,
    signals: &'a SignalFd,
    sinks: &'a mut Sinks,
    senders: Senders,
    begun: Moment,
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
            let fds = [Some(self.signals.as_fd()), Some(worker.woken())];
            self.sinks.flush();
            let polled = poll::wait(fds, Some(deadline));
            let [has_signals, has_calls] = polled.unwrap_or_else(|error| self.cannot_wait(&error));
            if has_calls {
                worker.take_wake();
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
            let bits = differing_bits(answer, right);
            let bits = bits.map(|bits| format!(", bits {bits} differ")).unwrap_or_default();
            let microcode = call.cpu.and_then(|cpu| microcode(Path::new("/proc"), cpu));
            let microcode =
                microcode.map(|word| format!(" (microcode {word})")).unwrap_or_default();
            let meaning = call.repeated.meaning();
            self.failed(format!(
                "({function}) gave a wrong answer{cpu}{microcode}: {answer} (expected {right}{bits}); {meaning}"
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
        if self.plan.is_sleep() {
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
        let span = self.plan.span.unwrap_or_default();
        let length = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        // What has no end is not drawn as a part of it.
        let template = match self.plan.span {
            Some(_) => "{prefix} {bar:24} {msg}",
            None => "{prefix} {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(self.plan.name());
        bar
    }

    fn draw(&self, bar: &ProgressBar) {
        if bar.is_hidden() {
            return;
        }
        let passed = clock::now() - self.begun;
        bar.set_position(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX));
        let rate = self.calls as f64 / passed.as_secs_f64().max(0.001);
        let calls = format!("{} calls, {rate:.2} calls/s", self.calls);
        let time = match self.plan.span {
            Some(_) => format!("{} s left", (self.end - clock::now()).as_secs()),
            None => format!("{} s", passed.as_secs()),
        };
        let is_sleep = self.plan.is_sleep();
        bar.set_message(if is_sleep { time } else { format!("{time}, {calls}") });
    }

    fn deadline(&self, bar: &ProgressBar) -> Moment {
        bar_deadline(bar).map_or(self.end, |draw| draw.min(self.end))
    }
}

/// A bar that nobody sees wakes nobody.
fn bar_deadline(bar: &ProgressBar) -> Option<Moment> {
    (!bar.is_hidden()).then(|| clock::now() + DRAW_INTERVAL)
}
