//! Telemetry of a run, as the supervising thread has it: the numbers, the spans, and the way to the
//! thread that exports them.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf, absolute};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::unistd::{getpid, getuid};

use crate::model::event::Event;
use crate::model::history::RunHistory;
use crate::model::process::{Pid, RunId, Sender};
use crate::model::redact::Redactor;
use crate::model::shared::lock;
use crate::model::shell;
use crate::model::signal::SignalInfo;
use crate::model::text::ShellQuoted;
use crate::model::time::{Moment, Stamp};
use crate::plan::{RunPlan, TelemetryPlan, Work};
use crate::run::environment::Variable;
use crate::run::evidence::OnSample;
use crate::run::senders::user_name;
use crate::sink::past::Past;
use crate::sink::stats::Stats;
use crate::sink::{Sink, SinkError, console};
use crate::sys::signals::SignalFd;
use crate::sys::{activation, clock, environment, host, poll};
use crate::telemetry::identity::{JobFacts, TelemetryIdentity};
use crate::telemetry::messages::{Begin, Note, Until};
use crate::telemetry::otlp::export;
use crate::telemetry::otlp::spans::Traces;
use crate::telemetry::published::Published;
use crate::telemetry::thread::Telemetry;
use crate::telemetry::web::status::{About, Page};

/// How much longer than the flush itself the thread is waited for: it must be scheduled to say that it
/// is done.
const SLACK: Duration = Duration::from_millis(50);

/// How long the thread may take, once a signal asked for the end, to withdraw its announcement.
const GOODBYE: Duration = Duration::from_millis(250);

/// See the module's documentation. A panic in telemetry ends telemetry, and says so.
pub(super) struct TelemetrySink {
    telemetry: Option<Inside>,
    news: Vec<String>,
}

struct Inside {
    plan: TelemetryPlan,
    stats: Arc<Mutex<Stats>>,
    /// Only where a page is served.
    past: Option<Arc<Mutex<Past>>>,
    published: Arc<Published>,
    begun: Moment,
    traces: Option<Traces>,
    thread: Option<Telemetry>,
    redactor: Redactor,
    /// The command line of the job.
    command: Vec<OsString>,
    has_failed: bool,
    /// How long the end of the run is held up at most.
    until: Until,
}

/// Prepares what was asked for; no thread is started before the job.
pub(super) fn prepare(plan: &RunPlan, run_id: RunId, log: Option<&Path>) -> Option<TelemetrySink> {
    let asked = plan.telemetry.as_deref()?;
    let prepared = catch_unwind(AssertUnwindSafe(|| prepare_inside(plan, asked, (run_id, log))));
    let news = if prepared.is_err() { vec![NO_TELEMETRY.to_owned()] } else { Vec::new() };
    Some(TelemetrySink { telemetry: prepared.ok(), news })
}

fn prepare_inside(
    plan: &RunPlan,
    asked: &TelemetryPlan,
    (run_id, log): (RunId, Option<&Path>),
) -> Inside {
    if asked.web.systemd_socket {
        activation::seal();
    }
    let program = match &plan.work {
        Work::Job(job) => job.command.first().cloned().unwrap_or_default(),
        Work::Canary(canary) => canary.name().into(),
    };
    let uid = getuid().as_raw();
    let facts = JobFacts {
        name: plan.naming.name.clone(),
        program: program.to_string_lossy().into_owned(),
        user: user_name(uid).unwrap_or_else(|| uid.to_string()),
        host: host::name().to_string_lossy().into_owned(),
        run_id: run_id.to_string(),
    };
    let identity = TelemetryIdentity::new(facts, asked);
    let stamp = Stamp { wall: clock::wall(), elapsed: Duration::ZERO };
    let resource = export::resource(&identity, asked.otlp.as_ref());
    let mut traces = Traces::begin(asked, &identity, resource, stamp);
    let redactor = Redactor::new(&plan.naming.redact);
    if let (true, Some(traces), Work::Job(job)) = (asked.record_arguments, &mut traces, &plan.work)
    {
        let words = redactor.command(&job.command).words;
        traces.set_arguments(words.iter().map(|w| w.to_string_lossy().into_owned()).collect());
    }
    if let Some(traces) = &mut traces {
        let hidden = |text: &String| redactor.text(text);
        let tags = plan.naming.tags.iter().map(|(key, value)| (key.clone(), hidden(value)));
        let batch = plan.naming.batch.as_ref().map(hidden);
        traces.set_naming(batch.as_deref(), &tags.collect::<Vec<_>>());
    }
    let stats = Arc::new(Mutex::new(Stats::new(stamp.wall.0)));
    let begun = clock::now();
    let ourselves = Pid(getpid().as_raw());
    let mut published =
        Published::new(identity, ourselves, (clock::now, begun), Arc::clone(&stats));
    let past = asked.web.is_asked().then(Arc::<Mutex<Past>>::default);
    if let Some(past) = &past {
        let (past, redactor) = (Arc::clone(past), redactor.clone());
        let about = about(plan, &redactor, log);
        published = published.with_page(Page { about, past, redactor, ..Page::default() });
    }
    Inside {
        plan: asked.clone(),
        stats,
        past,
        published: Arc::new(published),
        begun,
        traces,
        thread: None,
        redactor,
        command: match &plan.work {
            Work::Job(job) => job.command.clone(),
            Work::Canary(_) => Vec::new(),
        },
        has_failed: false,
        until: Until { flush: begun, linger: None },
    }
}

/// What the page says of the run.
fn about(plan: &RunPlan, redactor: &Redactor, log: Option<&Path>) -> About {
    let shown = |path: PathBuf| path.to_string_lossy().into_owned();
    About {
        command: match &plan.work {
            Work::Job(job) => shell::words(&redactor.command(&job.command).words),
            Work::Canary(canary) => canary.name(),
        },
        directory: std::env::current_dir().map(shown).unwrap_or_default(),
        log: log.map(|log| shown(absolute(log).unwrap_or_else(|_| log.to_owned()))),
        is_canary: matches!(plan.work, Work::Canary(_)),
    }
}

impl TelemetrySink {
    /// Does something with telemetry, if there is still any.
    fn contained<T: Default>(&mut self, action: impl FnOnce(&mut Inside) -> T) -> T {
        let Some(telemetry) = &mut self.telemetry else { return T::default() };
        let done = catch_unwind(AssertUnwindSafe(|| action(telemetry)));
        done.unwrap_or_else(|_| {
            self.telemetry = None;
            say(NO_TELEMETRY);
            self.news.push(NO_TELEMETRY.to_owned());
            T::default()
        })
    }

    /// Returns the id of the trace, if there is one.
    pub(super) fn trace_id(&self) -> Option<String> {
        self.telemetry.as_ref().and_then(|inside| inside.traces.as_ref()).map(Traces::trace_id)
    }

    /// Begins an attempt, and returns what the job finds in its environment, or finds no more.
    pub(super) fn begin_attempt(&mut self, attempt: u32) -> Vec<Variable> {
        self.contained(|inside| inside.begin_attempt(attempt))
    }

    /// Takes what is to be logged about telemetry.
    pub(super) fn take_news(&mut self) -> Vec<String> {
        let mut news = std::mem::take(&mut self.news);
        news.extend(self.contained(|inside| inside.take_news()));
        news
    }

    /// What the observing thread calls with each sample.
    pub(super) fn on_sample(&self) -> Option<OnSample> {
        let stats = Arc::clone(&self.telemetry.as_ref()?.stats);
        Some(Arc::new(move |sample| lock(&stats).sampled(*sample)))
    }

    /// The run is over, and its exit status fixed: begins to send what is left.
    pub(super) fn finish(&mut self, history: &RunHistory) {
        self.contained(|inside| inside.finish(history));
    }

    /// Waits until all is sent, for a bounded time and no longer than the user has patience:
    /// another SIGTERM, SIGINT or the like ends it. Returns what was lost, in words.
    pub(super) fn await_flush(&mut self, signals: &SignalFd) -> Option<String> {
        self.contained(|inside| inside.await_flush(signals))
    }
}

impl Sink for TelemetrySink {
    /// With the first event about the job the thread starts: the job has begun.
    fn publish(
        &mut self,
        stamp: Stamp,
        event: &Event,
        history: &RunHistory,
    ) -> Result<(), SinkError> {
        self.contained(|inside| inside.publish(stamp, event, history));
        Ok(())
    }
}

impl Inside {
    /// Hides secrets in what leaves the machine.
    fn hidden<'a>(&self, event: &'a Event) -> Cow<'a, Event> {
        let mut event = Cow::Borrowed(event);
        match event.as_ref() {
            Event::Started { .. } | Event::Received(_) | Event::Judged(_) => {}
            Event::StartFailed { .. } => {}
            _ => return event,
        }
        let hide = |text: &mut String| *text = self.redactor.text(text);
        // Command lines of senders and descendants have lost the bounds of their words.
        let hide_blurred = |text: &mut String| *text = self.redactor.blurred(text);
        match event.to_mut() {
            // Words say more than the text that was made of them.
            Event::Started { command, .. } => {
                let words = self.redactor.command(&self.command).words;
                *command = ShellQuoted(&words).to_string();
            }
            Event::StartFailed { failure, .. } => hide(&mut failure.step),
            Event::Received(SignalInfo { sender: Sender::Process(sender), .. }) => {
                sender.command.iter_mut().for_each(hide_blurred);
            }
            Event::Judged(verdict) => {
                verdict.evidence.iter_mut().for_each(|one| hide_blurred(&mut one.fact));
            }
            _ => {}
        }
        event
    }

    fn begin_attempt(&mut self, attempt: u32) -> Vec<Variable> {
        let stamp = Stamp { wall: clock::wall(), elapsed: clock::now() - self.begun };
        let traces = self.traces.as_mut();
        let mut variables =
            traces.map(|traces| traces.begin_attempt(attempt, stamp)).unwrap_or_default();
        if self.plan.web.systemd_socket {
            variables.extend(activation::VARIABLES.map(|name| (name.to_owned(), None)));
        }
        if self.plan.strip_environment {
            let names = environment::entries().filter_map(|entry| {
                let name = entry.split(|byte| *byte == b'=').next()?;
                Some(String::from_utf8_lossy(name).into_owned())
            });
            let ours = names.filter(|name| name.starts_with("OTEL_"));
            variables.extend(ours.map(|name| (name, None)));
        }
        variables
    }

    fn publish(&mut self, stamp: Stamp, event: &Event, history: &RunHistory) {
        let hidden = self.hidden(event);
        let event = &*hidden;
        lock(&self.stats).apply(event, history);
        if let Some(past) = &self.past {
            lock(past).apply(stamp, event, history);
        }
        let context = self.traces.as_ref().map(Traces::context);
        if let Some(traces) = &mut self.traces {
            traces.apply(stamp, event, history);
            if matches!(event, Event::Started { .. })
                && let Some(exemplar) = traces.exemplar()
            {
                self.published.set_exemplar(exemplar);
            }
        }
        let is_beginning = matches!(
            event,
            Event::Started { .. } | Event::StartFailed { .. } | Event::Trapped { .. }
        );
        if is_beginning && self.thread.is_none() && !self.has_failed {
            self.start(stamp);
        }
        if let Some(thread) = &self.thread {
            let attempt_lasted = history.attempt.lasted(stamp.elapsed);
            let event = Box::new(event.clone());
            thread.publish(Note { stamp, event, attempt_lasted, context });
        }
    }

    fn take_news(&self) -> Vec<String> {
        self.thread.as_ref().map(Telemetry::take_news).unwrap_or_default()
    }

    fn start(&mut self, stamp: Stamp) {
        let begin = Begin {
            plan: self.plan.clone(),
            published: Arc::clone(&self.published),
            spans: self.traces.as_ref().map(Traces::queue),
            began: (stamp, self.traces.as_ref().map(Traces::run_context)),
            say,
        };
        match Telemetry::start(begin) {
            Ok(thread) => self.thread = Some(thread),
            Err(error) => {
                self.has_failed = true;
                say(&format!("no telemetry: {error}; the job goes on"));
            }
        }
    }

    fn finish(&mut self, history: &RunHistory) {
        lock(&self.stats).finish(history);
        let Some(ended) = history.ended else { return };
        if let Some(traces) = &mut self.traces {
            traces.finish(&ended, &history.attempt);
        }
        if let Some(thread) = &self.thread {
            let was_asked_to_stop = history.received.keys().any(|signal| signal.asks_to_stop());
            let (now, linger) = (clock::now(), self.plan.web.linger);
            // Whoever asked for an end may kill us if we stay.
            let is_lingering = !linger.is_zero() && !was_asked_to_stop;
            self.until = Until {
                flush: now + self.plan.flush_timeout,
                linger: is_lingering.then(|| now + linger),
            };
            thread.finish(ended, self.traces.as_ref().map(Traces::context), self.until);
        }
    }

    fn await_flush(&mut self, signals: &SignalFd) -> Option<String> {
        let thread = self.thread.take()?;
        let Until { flush, linger } = self.until;
        let mut deadline = linger.map_or(flush, |linger| linger.max(flush)) + SLACK;
        let mut has_left = false;
        // What was sent by the time that the thread is done counts.
        let cut_short = |has_left: bool| {
            let is_cut = has_left && !thread.is_flushed();
            is_cut.then(|| "telemetry was cut short by a signal".to_owned())
        };
        loop {
            let fds = [Some(thread.done().as_fd()), Some(signals.as_fd())];
            let [is_done, has_signals] = poll::wait(fds, Some(deadline)).unwrap_or_else(|_| {
                poll::sleep_until(deadline);
                [false; 2]
            });
            if is_done || thread.is_done() {
                return cut_short(has_left).or_else(|| thread.losses());
            }
            if has_signals && signals.ask_to_stop() {
                if has_left {
                    return cut_short(has_left);
                }
                has_left = true;
                thread.leave();
                deadline = deadline.min(clock::now() + GOODBYE);
            }
            if clock::now() >= deadline {
                let text = || Some("telemetry did not end in time".to_owned());
                return if has_left { cut_short(has_left) } else { text() };
            }
        }
    }
}

/// What is said after a panic, whose own words are on standard error by then.
const NO_TELEMETRY: &str = "no telemetry: internal error; the job goes on";

/// Reports something to the user on standard error, which is all that telemetry may do.
fn say(text: &str) {
    console::say(text).ok();
}
