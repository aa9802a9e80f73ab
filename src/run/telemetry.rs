//! Telemetry of a run, as the supervising thread has it: the numbers, the spans, and the way to the
//! thread that tells others of them.

use std::borrow::Cow;
use std::cell::RefCell;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::unistd::{getpid, getuid};

use crate::model::event::Event;
use crate::model::process::{Pid, RunId, Sender};
use crate::model::redact::Redactor;
use crate::model::sample::TreeSample;
use crate::model::shared::lock;
use crate::model::signal::SignalInfo;
use crate::model::time::Moment;
use crate::plan::{RunPlan, TelemetryPlan, Work};
use crate::run::senders::user_name;
use crate::sink::Stamp;
use crate::sink::console::Console;
use crate::sink::stats::Stats;
use crate::sys::signals::SignalFd;
use crate::sys::{activation, clock, environment, poll};
use crate::telemetry::identity::{Facts, Identity};
use crate::telemetry::site::Site;
use crate::telemetry::traces::Traces;
use crate::telemetry::{Begin, Telemetry, otlp};

/// Longer than the flush itself: the thread may have to write a file, or may be kept from running.
const SLACK: Duration = Duration::from_secs(1);

/// The world starts attempts and the sinks see events: both are here, on one thread.
pub(super) type Shared = Rc<RefCell<Told>>;

/// See the module's documentation.
pub(super) struct Told {
    plan: TelemetryPlan,
    stats: Arc<Mutex<Stats>>,
    site: Arc<Site>,
    begun: Moment,
    traces: Option<Traces>,
    thread: Option<Telemetry>,
    redactor: Redactor,
    has_failed: bool,
}

/// Prepares what was asked for; no thread is started before the job.
pub(super) fn prepare(plan: &RunPlan, run_id: RunId) -> Option<Shared> {
    let asked = plan.telemetry.as_deref()?;
    if asked.web.systemd_socket {
        activation::seal();
    }
    let program = match &plan.work {
        Work::Job(job) => job.command.first().cloned().unwrap_or_default(),
        Work::Probe(probe) => probe.function.word().into(),
    };
    let uid = getuid().as_raw();
    let facts = Facts {
        name: plan.naming.name.clone(),
        program: program.to_string_lossy().into_owned(),
        user: user_name(uid).unwrap_or_else(|| uid.to_string()),
        host: nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned(),
        run_id: run_id.to_string(),
    };
    let identity = Identity::new(facts, asked);
    let stamp = Stamp { wall: clock::wall(), elapsed: Duration::ZERO };
    let resource = otlp::resource(&identity, asked.otlp.as_ref());
    let mut traces = Traces::begin(asked, &identity, resource, stamp);
    let redactor = Redactor::new(&plan.naming.redact);
    if let (true, Some(traces), Work::Job(job)) = (asked.record_arguments, &mut traces, &plan.work)
    {
        let words = redactor.command(&job.command).words;
        traces.set_arguments(words.iter().map(|w| w.to_string_lossy().into_owned()).collect());
    }
    let stats = Arc::new(Mutex::new(Stats::new(stamp.wall.0)));
    let begun = clock::now();
    let ourselves = Pid(getpid().as_raw());
    let site = Site::new(identity, ourselves, (clock::now, begun), Arc::clone(&stats));
    Some(Rc::new(RefCell::new(Told {
        plan: asked.clone(),
        stats,
        site: Arc::new(site),
        begun,
        traces,
        thread: None,
        redactor,
        has_failed: false,
    })))
}

impl Told {
    /// Returns the id of the trace, if there is one.
    pub(super) fn trace_id(&self) -> Option<String> {
        self.traces.as_ref().map(Traces::trace_id)
    }

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
            Event::Started { command, .. } => hide(command),
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

    /// Begins an attempt, and returns what the job finds in its environment, or finds no more.
    pub(super) fn begin_attempt(&mut self, attempt: u32) -> Vec<(String, Option<String>)> {
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

    /// Takes in an event. With the first one about the job the thread starts: the job has begun.
    pub(super) fn publish(&mut self, stamp: Stamp, event: &Event) {
        let hidden = self.hidden(event);
        let event = &*hidden;
        lock(&self.stats).apply(stamp, event);
        let context = self.traces.as_ref().map(Traces::context);
        if let Some(traces) = &mut self.traces {
            traces.apply(stamp, event);
            if matches!(event, Event::Started { .. })
                && let Some(exemplar) = traces.exemplar()
            {
                self.site.set_exemplar(exemplar);
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
            thread.publish(stamp, event, context);
        }
    }

    /// Takes what the log shall tell of telemetry.
    pub(super) fn take_news(&self) -> Vec<String> {
        self.thread.as_ref().map(Telemetry::take_news).unwrap_or_default()
    }

    fn start(&mut self, stamp: Stamp) {
        let begin = Begin {
            plan: self.plan.clone(),
            site: Arc::clone(&self.site),
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

    /// What the observing thread calls with each sample.
    pub(super) fn on_sample(&self) -> impl Fn(&TreeSample) + Send + Sync + use<> {
        let stats = Arc::clone(&self.stats);
        move |sample| lock(&stats).sampled(*sample)
    }

    /// The run is over, and its exit status fixed: begins to send what is left.
    pub(super) fn finish(&mut self, exit_status: u8) {
        let stamp = Stamp { wall: clock::wall(), elapsed: clock::now() - self.begun };
        let ended = {
            let mut stats = lock(&self.stats);
            stats.finish(stamp, exit_status);
            stats.ended
        };
        let Some(ended) = ended else { return };
        if let Some(traces) = &mut self.traces {
            traces.finish(&ended);
        }
        if let Some(thread) = &self.thread {
            thread.finish(ended, self.traces.as_ref().map(Traces::context));
        }
    }

    /// Waits until all is sent, for a bounded time and no longer than the user has patience:
    /// another SIGTERM, SIGINT or the like ends it. Returns what was lost, in words.
    pub(super) fn await_flush(&mut self, signals: &SignalFd) -> Option<String> {
        let thread = self.thread.take()?;
        let deadline = clock::now() + self.plan.flush_timeout + SLACK;
        let mut batch = Vec::new();
        while clock::now() < deadline {
            let fds = [Some(thread.done().as_fd()), Some(signals.as_fd())];
            let Ok([is_done, has_signals]) = poll::wait(fds, Some(deadline)) else { break };
            if is_done {
                return thread.losses();
            }
            batch.clear();
            let has_read = has_signals && signals.read(&mut batch).is_ok();
            if has_read && batch.iter().any(|raw| raw.signal.asks_to_stop()) {
                return Some("telemetry was cut short by a signal".to_owned());
            }
        }
        Some("telemetry did not end in time".to_owned())
    }
}

/// Tells the user something on standard error, which is all that telemetry may do.
fn say(text: &str) {
    Console.say(text).ok();
}
