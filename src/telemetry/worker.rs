//! What the telemetry thread does from the first event to the final flush.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry::logs::{AnyValue, Severity};
use opentelemetry::trace::SpanContext;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::model::event::Event;
use crate::model::history::{Ended, RunOutcome};
use crate::model::pipeline::Pipeline;
use crate::model::time::Moment;
use crate::plan::TelemetryPlan;
use crate::sys::clock;
use crate::telemetry::messages::{Begin, Farewell, Finish, Inbox, News, Note, Until};
use crate::telemetry::otlp::export::{By, Exports};
use crate::telemetry::otlp::partial_success;
use crate::telemetry::prometheus::pushgateway::{self, PushError};
use crate::telemetry::prometheus::textfile::TextFile;
use crate::telemetry::published::Published;
use crate::telemetry::served::Served;
use crate::telemetry::warn::Warnings;

/// How often the text file is brought up to date; node_exporter is scraped about as often.
const TEXTFILE_EVERY: Duration = Duration::from_secs(15);

/// How often the charts of the page get a point.
const HISTORY_EVERY: Duration = Duration::from_secs(2);

/// Works until the run is over, and sends what is left then.
pub(super) async fn run(begin: Begin, mut inbox: Inbox, news: &News) {
    let warnings = Arc::new(Warnings::new(begin.say));
    let Begin { plan, published, spans, began: (stamp, context), .. } = begin;
    let _guard = plan.otlp.as_ref().map(|_| partial_success::report(&published, &warnings));
    if let Some(otlp) = &plan.otlp {
        otlp.warnings.iter().for_each(|text| warnings.always(text));
    }
    let exports = Arc::new(Exports::new(plan.otlp.as_ref(), spans, &published, &warnings));
    if let Some(logs) = &exports.logs {
        let name = ("childminder.run.start", Severity::Info);
        let body = format!("run of {} began", published.identity.name);
        logs.record(name, (stamp, context.as_ref()), body, Vec::new());
    }
    let mut worker = TelemetryWorker {
        textfile: plan
            .textfile_directory
            .as_ref()
            .map(|directory| TextFile::new(directory, &published.identity.name)),
        exports,
        published,
        warnings,
        plan,
    };
    let served = Served::begin(&worker.plan.web, &worker.published, &worker.warnings, news).await;
    let until = worker.work(&mut inbox).await;
    worker.part(served, until, &inbox.farewell).await;
}

/// What the thread does between the first event and the last.
pub(super) struct TelemetryWorker {
    plan: TelemetryPlan,
    published: Arc<Published>,
    exports: Arc<Exports>,
    textfile: Option<TextFile>,
    warnings: Arc<Warnings>,
}

impl TelemetryWorker {
    /// Works until the run is over; returns how long it is waited for then.
    async fn work(&mut self, inbox: &mut Inbox) -> Until {
        let every = |span: Option<Duration>| {
            let mut ticks = interval(span.unwrap_or(NEVER));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // The first tick comes at once, and there is nothing to send yet.
            ticks.reset();
            ticks
        };
        let otlp = self.plan.otlp.as_ref();
        let sent = |pipeline| otlp.filter(|otlp| otlp.pipelines[pipeline].is_some());
        let mut spans = every(sent(Pipeline::Traces).map(|otlp| otlp.span_delay));
        let mut metrics = every(sent(Pipeline::Metrics).map(|otlp| otlp.metric_interval));
        let mut records = every(sent(Pipeline::Logs).map(|otlp| otlp.log_delay));
        let mut files = every(self.textfile.as_ref().map(|_| TEXTFILE_EVERY));
        let mut history = every(self.plan.web.is_asked().then_some(HISTORY_EVERY));
        loop {
            // What is sent is never waited for here: events must be taken out of their queue.
            tokio::select! {
                Some(note) = inbox.notes.recv() => self.take(note),
                finish = inbox.finish.recv() => return self.finish(finish, inbox),
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
                _ = history.tick() => self.published.remember(),
            }
            let lost = inbox.dropped.swap(0, Ordering::Relaxed);
            if lost > 0 {
                self.published.note_health(|health| health.dropped.logs += lost);
            }
        }
    }

    /// Takes in what is left, and writes the last records.
    fn finish(&mut self, finish: Option<Finish>, inbox: &mut Inbox) -> Until {
        while let Ok(note) = inbox.notes.try_recv() {
            self.take(note);
        }
        // Without one, the program has given up telemetry.
        let Some(Finish { ended, context, until }) = finish else {
            return Until { flush: clock::now(), linger: None };
        };
        self.ended(&ended, context.as_ref());
        until
    }

    fn take(&self, Note { stamp, event, attempt_lasted, context }: Note) {
        if let Some(logs) = &self.exports.logs {
            logs.event(stamp, &event, context.as_ref());
        }
        let Some(instruments) = &self.exports.instruments else { return };
        match *event {
            Event::StartFailed { .. }
            | Event::Exited { .. }
            | Event::Signaled { .. }
            | Event::StatusLost { .. } => instruments.attempt(attempt_lasted),
            Event::Called { function, took, .. } => instruments.call(function, took),
            _ => {}
        }
    }

    fn ended(&self, ended: &Ended, context: Option<&SpanContext>) {
        let Some(logs) = &self.exports.logs else { return };
        let dropped = self.published.health().dropped.logs;
        if dropped > 0 {
            let name = ("childminder.telemetry.dropped", Severity::Warn);
            let body = format!("{dropped} log records were dropped");
            logs.record(name, (ended.stamp, context), body, Vec::new());
        }
        let is_success = ended.outcome == RunOutcome::Success;
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
        if let Err(error) = file.write(&self.published).await {
            let directory = self.plan.textfile_directory.clone().unwrap_or_default();
            let text = format!("no metrics written to '{}': {error}", directory.display());
            self.warnings.once("textfile", &text);
        }
    }

    /// Sends what is left while the last numbers wait for a scrape; both end at once when the program
    /// asks for it.
    async fn part(&mut self, served: Served, until: Until, farewell: &Farewell) {
        let is_asked_to_leave = || async {
            // An error would mean that nobody can ask any more.
            farewell.leave.subscribe().wait_for(|is_asked| *is_asked).await.map(drop).ok();
        };
        let (published, warnings) = (Arc::clone(&self.published), Arc::clone(&self.warnings));
        let linger = async {
            let until = until.linger.filter(|_| served.is_open());
            if let Some(until) = until {
                let scraped = timeout_at(instant(until), published.end_scraped());
                tokio::select! {
                    scraped = scraped => {
                        farewell.is_unscraped.store(scraped.is_err(), Ordering::SeqCst);
                    }
                    () = is_asked_to_leave() => {}
                }
            }
            served.end(&warnings).await;
        };
        let flush = async {
            tokio::select! {
                // What takes no time was not cut short.
                biased;
                () = self.flush(until.flush) => farewell.is_flushed.store(true, Ordering::SeqCst),
                () = is_asked_to_leave() => {}
            }
        };
        tokio::join!(linger, flush);
    }

    /// All that is left to do, at once and within one limit of time.
    async fn flush(&mut self, until: Moment) {
        let deadline = instant(until);
        let (exports, published) = (Arc::clone(&self.exports), Arc::clone(&self.published));
        let (url, warnings) = (self.plan.pushgateway.clone(), Arc::clone(&self.warnings));
        let push = async {
            let Some(url) = url else { return };
            let result = timeout_at(deadline, pushgateway::push(&url, &published)).await;
            let late = |_| Err(PushError::late(&url, &published));
            if let Err(error) = result.unwrap_or_else(late) {
                warnings.once("pushgateway", &format!("no metrics pushed to {error}"));
            }
        };
        // A file is written to its end, once it is begun: the lock is waited for a second at most.
        tokio::join!(exports.flush(deadline), push, self.write_file());
    }
}

/// Returns the moment in the runtime's own time.
fn instant(moment: Moment) -> Instant {
    Instant::now() + (moment - clock::now())
}

/// Longer than any run.
const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);
