//! Tells other machines about the run: metrics to whoever scrapes, OTLP to a collector, and files.
//!
//! On a thread of its own with one runtime, started after the job and only if asked for. All that it
//! knows comes from the one snapshot (`site`) and from a bounded queue; it may fall behind, be
//! dropped and be counted, and is waited for at the very end only, for a bounded time.

pub mod catalogue;
pub mod client;
pub mod exposition;
pub mod file_sd;
pub mod identity;
pub mod instruments;
pub mod logs;
pub mod metrics;
pub mod otlp;
pub mod pushgateway;
pub mod readings;
pub mod site;
pub mod textfile;
pub mod traces;
pub mod warn;
pub mod web;

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use opentelemetry::logs::{AnyValue, Severity};
use opentelemetry::trace::SpanContext;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::model::event::Event;
use crate::plan::TelemetryPlan;
use crate::sink::Stamp;
use crate::sink::stats::{Ended, Outcome};
use crate::telemetry::file_sd::{Announcement, FileSdError, Target};
use crate::telemetry::metrics::PIPELINES;
use crate::telemetry::otlp::{By, Exports};
use crate::telemetry::site::Site;
use crate::telemetry::textfile::TextFile;
use crate::telemetry::traces::SpanQueue;
use crate::telemetry::warn::Warnings;

/// So many events may wait for the telemetry thread.
const EVENTS_MAX: usize = 4096;

/// How often the text file is brought up to date; node_exporter is scraped about as often.
const TEXTFILE_EVERY: Duration = Duration::from_secs(15);

/// How often the charts of the page get a point.
const HISTORY_EVERY: Duration = Duration::from_secs(2);

/// The place of log records in [`metrics::Health`].
const LOGS: usize = 2;

/// What the thread is told.
enum Note {
    Event(Stamp, Box<Event>, Option<SpanContext>),
    Finish(Ended, Option<SpanContext>),
}

/// The telemetry thread, as the supervising thread sees it.
pub struct Telemetry {
    notes: Sender<Note>,
    dropped: Arc<AtomicU64>,
    done: Arc<EventFd>,
    site: Arc<Site>,
    news: News,
}

/// What the log shall tell of the thread's doings.
type News = Arc<Mutex<Vec<String>>>;

/// All that the thread works with.
pub struct Begin {
    /// What was asked for.
    pub plan: TelemetryPlan,
    /// Where the numbers are.
    pub site: Arc<Site>,
    /// Where ended spans wait.
    pub spans: Option<Arc<SpanQueue>>,
    /// When the run began, and its span.
    pub began: (Stamp, Option<SpanContext>),
    /// Writes a line for the user.
    pub say: fn(&str),
}

impl Telemetry {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// No thread, descriptor or runtime is to be had.
    pub fn start(begin: Begin) -> io::Result<Telemetry> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let done = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        let (notes, received) = mpsc::channel(EVENTS_MAX);
        let (dropped, site) = (Arc::new(AtomicU64::new(0)), Arc::clone(&begin.site));
        let news = News::default();
        let told = Arc::clone(&news);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(2)
            .build()?;
        let (theirs, signal) = (Arc::clone(&dropped), Arc::clone(&done));
        std::thread::Builder::new().name("telemetry".to_owned()).spawn(move || {
            // A panic in here ends this thread and not the program; then, too, nobody waits for it.
            let _announce = Announce(signal);
            runtime.block_on(run(begin, received, &theirs, &told));
            // A name that is still looked up must not hold us up.
            runtime.shutdown_background();
        })?;
        Ok(Telemetry { notes, dropped, done, site, news })
    }

    /// Passes an event on; if the queue is full it is dropped and counted.
    pub fn publish(&self, stamp: Stamp, event: &Event, context: Option<SpanContext>) {
        let note = Note::Event(stamp, Box::new(event.clone()), context);
        if self.notes.try_send(note).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes what there is to tell in the log.
    #[must_use]
    pub fn take_news(&self) -> Vec<String> {
        std::mem::take(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks for the final flush.
    pub fn finish(&self, ended: Ended, context: Option<SpanContext>) {
        // Only a full queue is in the way; the thread takes out of it as fast as it can.
        let mut note = Note::Finish(ended, context);
        while let Err(mpsc::error::TrySendError::Full(refused)) = self.notes.try_send(note) {
            note = refused;
            std::thread::yield_now();
        }
    }

    /// Becomes readable when the thread is done.
    #[must_use]
    pub fn done(&self) -> &EventFd {
        &self.done
    }

    /// Returns what did not reach anybody, as a sentence; `None` if all did.
    #[must_use]
    pub fn losses(&self) -> Option<String> {
        let health = self.site.health();
        let lost = |index: usize| health.failures[index] > 0 || health.dropped[index] > 0;
        let parts: Vec<String> = (0..PIPELINES.len())
            .filter(|index| lost(*index))
            .map(|index| {
                let (failed, dropped) = (health.failures[index], health.dropped[index]);
                format!(
                    "{} ({failed} export(s) failed, {dropped} item(s) dropped)",
                    PIPELINES[index]
                )
            })
            .collect();
        (!parts.is_empty()).then(|| format!("telemetry was lost: {}", parts.join(", ")))
    }
}

/// Says that the thread is done, however it ends.
struct Announce(Arc<EventFd>);

impl Drop for Announce {
    fn drop(&mut self) {
        // An eventfd takes a one at any time.
        self.0.write(1).ok();
    }
}

async fn run(begin: Begin, mut notes: Receiver<Note>, dropped: &AtomicU64, news: &News) {
    let warnings = Arc::new(Warnings::new(begin.say));
    let Begin { plan, site, spans, began: (stamp, context), .. } = begin;
    if let Some(otlp) = &plan.otlp {
        otlp.warnings.iter().for_each(|text| warnings.always(text));
    }
    let exports = Arc::new(Exports::new(plan.otlp.as_ref(), spans, &site, &warnings));
    if let Some(logs) = &exports.logs {
        let name = ("childminder.run.start", Severity::Info);
        let body = format!("run of {} began", site.identity.name);
        logs.record(name, (stamp, context.as_ref()), body, Vec::new());
    }
    let mut worker = Worker {
        textfile: plan
            .textfile_directory
            .as_ref()
            .map(|directory| TextFile::new(directory, &site.identity.name)),
        attempt_began: Duration::ZERO,
        exports,
        site,
        warnings,
        plan,
    };
    let served = Served::begin(&worker, news).await;
    worker.work(&mut notes, dropped).await;
    served.end(&worker.warnings).await;
    worker.flush().await;
}

/// The server of the metrics, if there is one, and what leads Prometheus to it.
struct Served {
    announcement: Option<Announcement>,
}

impl Served {
    async fn begin(worker: &Worker, news: &News) -> Served {
        let plan = &worker.plan.web;
        if !plan.is_asked() {
            return Served { announcement: None };
        }
        let (mut web, troubles) = web::bind(plan).await;
        troubles
            .iter()
            .for_each(|text| worker.warnings.always(&format!("{text}; the job goes on")));
        let warnings = Arc::clone(&worker.warnings);
        web.on_trouble(move |text| warnings.always(text));
        let addresses = web.addresses();
        let scheme = if web.is_tls() { "https" } else { "http" };
        for address in &addresses {
            let text = format!("metrics at {scheme}://{address}{}", plan.metrics_path);
            // Nobody can know which port was free.
            if plan.listen.iter().any(|asked| asked.ends_with(":0")) {
                worker.warnings.always(&text);
            }
            news.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        }
        let target = Target {
            addresses: &addresses,
            metrics_path: &plan.metrics_path,
            is_tls: web.is_tls(),
            identity: &worker.site.identity,
        };
        let mut announcement = None;
        if let (Some(file), false) = (&plan.file_sd, addresses.is_empty()) {
            match Announcement::make(file, &target).await {
                Ok(made) => announcement = Some(made),
                Err(error) => tell_file_sd(&worker.warnings, &error),
            }
        }
        // It ends with the runtime.
        drop(tokio::spawn(web.serve(Arc::clone(&worker.site))));
        Served { announcement }
    }

    async fn end(self, warnings: &Warnings) {
        let Some(announcement) = self.announcement else { return };
        if let Err(error) = announcement.withdraw().await {
            tell_file_sd(warnings, &error);
        }
    }
}

fn tell_file_sd(warnings: &Warnings, error: &FileSdError) {
    let reason = error.source().map(ToString::to_string).unwrap_or_default();
    warnings.once("file_sd", &format!("{error}: {reason}"));
}

/// What the thread does between the first event and the last.
struct Worker {
    plan: TelemetryPlan,
    site: Arc<Site>,
    exports: Arc<Exports>,
    textfile: Option<TextFile>,
    warnings: Arc<Warnings>,
    attempt_began: Duration,
}

impl Worker {
    async fn work(&mut self, notes: &mut Receiver<Note>, dropped: &AtomicU64) {
        let every = |span: Option<Duration>| {
            let mut ticks = interval(span.unwrap_or(NEVER));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // The first tick comes at once, and there is nothing to send yet.
            ticks.reset();
            ticks
        };
        let otlp = self.plan.otlp.as_ref();
        let sent = |index: usize| otlp.filter(|otlp| otlp.pipelines[index].is_some());
        let mut spans = every(sent(0).map(|otlp| otlp.span_delay));
        let mut metrics = every(sent(1).map(|otlp| otlp.metric_interval));
        let mut records = every(sent(2).map(|otlp| otlp.log_delay));
        let mut files = every(self.textfile.as_ref().map(|_| TEXTFILE_EVERY));
        let mut history = every(self.plan.web.is_asked().then_some(HISTORY_EVERY));
        loop {
            // What is sent is never waited for here: events must be taken out of their queue.
            tokio::select! {
                note = notes.recv() => match note {
                    Some(Note::Event(stamp, event, context)) => self.take(stamp, &event, context),
                    Some(Note::Finish(ended, context)) => return self.ended(&ended, context.as_ref()),
                    None => return,
                },
                _ = spans.tick() => {
                    let exports = Arc::clone(&self.exports);
                    drop(tokio::spawn(async move { exports.send_spans(By::NextTick).await }));
                }
                _ = metrics.tick() => {
                    let exports = Arc::clone(&self.exports);
                    drop(tokio::spawn(async move { exports.send_metrics(By::NextTick).await }));
                }
                _ = records.tick() => {
                    let exports = Arc::clone(&self.exports);
                    drop(tokio::spawn(async move { exports.send_records(By::NextTick).await }));
                }
                _ = files.tick() => self.write_file().await,
                _ = history.tick() => self.site.remember(),
            }
            let lost = dropped.swap(0, Ordering::Relaxed);
            if lost > 0 {
                self.site.note_health(|health| health.dropped[LOGS] += lost);
            }
        }
    }

    fn take(&mut self, stamp: Stamp, event: &Event, context: Option<SpanContext>) {
        if let Some(logs) = &self.exports.logs {
            logs.event(stamp, event, context.as_ref());
        }
        let Some(instruments) = &self.exports.instruments else { return };
        match event {
            Event::Started { .. } => self.attempt_began = stamp.elapsed,
            Event::StartFailed { .. } => instruments.attempt(Duration::ZERO),
            Event::Exited { .. } | Event::Signaled { .. } | Event::StatusLost { .. } => {
                instruments.attempt(stamp.elapsed.saturating_sub(self.attempt_began));
            }
            Event::Called { function, took, .. } => instruments.call(function, *took),
            _ => {}
        }
    }

    /// The last records.
    fn ended(&self, ended: &Ended, context: Option<&SpanContext>) {
        let Some(logs) = &self.exports.logs else { return };
        let dropped = self.site.health().dropped[LOGS];
        if dropped > 0 {
            let name = ("childminder.telemetry.dropped", Severity::Warn);
            let body = format!("{dropped} log records were dropped");
            logs.record(name, (ended.stamp, context), body, Vec::new());
        }
        let is_success = ended.outcome == Outcome::Success;
        let severity = if is_success { Severity::Info } else { Severity::Error };
        let body = format!("run ended with status {}: {}", ended.exit_status, ended.outcome.word());
        let attributes = vec![
            ("process.exit.code", AnyValue::Int(ended.exit_status.into())),
            ("childminder.outcome", ended.outcome.word().into()),
        ];
        logs.record(("childminder.run.end", severity), (ended.stamp, context), body, attributes);
    }

    async fn write_file(&mut self) {
        let Some(file) = &mut self.textfile else { return };
        if let Err(error) = file.write(&self.site).await {
            let directory = self.plan.textfile_directory.clone().unwrap_or_default();
            let text = format!("no metrics written to '{}': {error}", directory.display());
            self.warnings.once("textfile", &text);
        }
    }

    /// All that is left to do, at once and within one limit of time.
    async fn flush(&mut self) {
        let deadline = Instant::now() + self.plan.flush_timeout;
        let (exports, site) = (Arc::clone(&self.exports), Arc::clone(&self.site));
        let (url, warnings) = (self.plan.pushgateway.clone(), Arc::clone(&self.warnings));
        let push = async {
            let Some(url) = url else { return };
            let result = timeout_at(deadline, pushgateway::push(&url, &site)).await;
            let late = Err("no answer within the limit of time".to_owned());
            if let Err(reason) = result.unwrap_or(late) {
                warnings.once("pushgateway", &format!("no metrics pushed: {reason}"));
            }
        };
        // A file is written to its end, once it is begun: the lock is waited for a second at most.
        tokio::join!(exports.flush(deadline), push, self.write_file());
    }
}

/// Longer than any run.
const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);
