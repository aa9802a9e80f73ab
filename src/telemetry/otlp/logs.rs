//! Log records: an event of the run, named and with a severity, in the trace of its attempt.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use opentelemetry::InstrumentationScope;
use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider, Severity};
use opentelemetry::trace::SpanContext;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogProcessor, SdkLogRecord, SdkLogger, SdkLoggerProvider};

use crate::model::event::Event;
use crate::model::outcome::Termination;
use crate::model::process::Sender;
use crate::model::shared::lock;
use crate::model::time::Stamp;
use crate::model::tracing::TraceEvent;
use crate::plan::AttributeLimits;
use crate::telemetry::otlp::attempt_span::usage_values;
use crate::telemetry::otlp::queue::BoundedQueue;
use crate::telemetry::otlp::vocabulary;

/// Records that wait to be sent.
pub type LogQueue = BoundedQueue<(SdkLogRecord, InstrumentationScope)>;

#[derive(Debug)]
struct LogCollector(Arc<LogQueue>);

impl LogProcessor for LogCollector {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        self.0.push((record.clone(), scope.clone()));
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Makes records of events.
pub struct Logs {
    logger: SdkLogger,
    _provider: SdkLoggerProvider,
    queue: Arc<LogQueue>,
    limits: AttributeLimits,
    run_id: String,
    /// What is known of the end of the attempt, for the record of its verdict.
    end: Mutex<Attributes>,
}

type Attributes = Vec<(&'static str, AnyValue)>;

impl Logs {
    /// `capacity` is the number of records that may wait.
    #[must_use]
    pub fn new(
        resource: Resource,
        capacity: usize,
        limits: AttributeLimits,
        run_id: String,
    ) -> Logs {
        let queue = Arc::new(LogQueue::new(capacity));
        let provider = SdkLoggerProvider::builder()
            .with_resource(resource)
            .with_log_processor(LogCollector(Arc::clone(&queue)))
            .build();
        let logger = provider.logger_with_scope(vocabulary::scope());
        Logs { logger, _provider: provider, queue, limits, run_id, end: Mutex::default() }
    }

    /// Returns where records wait.
    #[must_use]
    pub fn queue(&self) -> Arc<LogQueue> {
        Arc::clone(&self.queue)
    }

    /// Makes a record of an event, if it is worth one.
    pub fn event(&self, stamp: Stamp, event: &Event, context: Option<&SpanContext>) {
        self.note_end(event);
        let Some((name, severity)) = vocabulary::name_and_severity(event) else { return };
        let mut attributes = attributes(event);
        if matches!(event, Event::Judged(_)) {
            attributes.append(&mut lock(&self.end));
        }
        self.record((name, severity), (stamp, context), event.to_string(), attributes);
    }

    /// Keeps what an event says of the end of the attempt.
    fn note_end(&self, event: &Event) {
        let code =
            |end: Termination| ("process.exit.code", AnyValue::Int(i64::from(end.exit_status())));
        let mut end = lock(&self.end);
        match event {
            Event::Started { .. } => end.clear(),
            Event::Exited { status, .. } => end.push(code(Termination::Exited(*status))),
            Event::Signaled { signal, .. } => {
                end.push(code(Termination::Signaled { signal: *signal, core_dumped: false }));
                end.push(("childminder.exit.signal", signal.to_string().into()));
            }
            Event::StartFailed { failure, .. } => {
                let status = AnyValue::Int(i64::from(failure.exit_status()));
                end.push(("process.exit.code", status));
            }
            Event::Usage { usage, .. } => {
                let (seconds, counts) = usage_values(usage);
                end.extend(seconds.map(|(name, value)| (name, AnyValue::Double(value))));
                end.extend(counts.map(|(name, value)| (name, AnyValue::Int(value))));
            }
            _ => {}
        }
    }

    pub fn record(
        &self,
        (name, severity): (&'static str, Severity),
        (stamp, context): (Stamp, Option<&SpanContext>),
        body: String,
        attributes: Attributes,
    ) {
        let at = SystemTime::UNIX_EPOCH + stamp.wall.0;
        let mut record = self.logger.create_log_record();
        record.set_event_name(name);
        record.set_severity_number(severity);
        record.set_severity_text(severity.name());
        record.set_timestamp(at);
        record.set_observed_timestamp(at);
        record.set_body(body.into());
        let count = usize::try_from(self.limits.count).unwrap_or(usize::MAX);
        let length = self.limits.length.unwrap_or(usize::MAX);
        let run_id = ("childminder.run.id", self.run_id.clone().into());
        let attributes = attributes.into_iter().chain([run_id]).take(count);
        record.add_attributes(attributes.map(|(name, value)| (name, cut(value, length))));
        if let Some(context) = context.filter(|context| context.is_valid()) {
            let flags = Some(context.trace_flags());
            record.set_trace_context(context.trace_id(), context.span_id(), flags);
        }
        self.logger.emit(record);
    }
}

/// Cuts a text to a number of characters.
fn cut(value: AnyValue, length: usize) -> AnyValue {
    match value {
        AnyValue::String(text) if text.as_str().chars().nth(length).is_some() => {
            text.as_str().chars().take(length).collect::<String>().into()
        }
        other => other,
    }
}

fn attributes(event: &Event) -> Attributes {
    let number = |number: i32| AnyValue::Int(number.into());
    match event {
        Event::Started { attempt, pid, .. } => vec![
            ("process.pid", number(pid.0)),
            ("childminder.attempt", AnyValue::Int((*attempt).into())),
        ],
        Event::Received(info) => {
            let mut all = vec![("childminder.signal.name", info.signal.to_string().into())];
            if let Sender::Process(sender) = &info.sender {
                all.push(("childminder.signal.sender_pid", number(sender.pid.0)));
                all.push(("childminder.signal.sender_uid", AnyValue::Int(sender.uid.into())));
            }
            all
        }
        Event::Traced(TraceEvent::Delivered { process, delivery }) => {
            let signal = delivery.info.signal.to_string();
            let mut all = vec![
                ("process.pid", number(process.pid.0)),
                ("childminder.signal.name", signal.into()),
            ];
            if let Some(sender) = delivery.sender() {
                all.push(("childminder.signal.sender_pid", number(sender.pid.0)));
                all.push(("childminder.signal.sender_uid", AnyValue::Int(sender.uid.into())));
            }
            all
        }
        Event::Forwarded { signal, .. } | Event::Stopped { signal, .. } => {
            vec![("childminder.signal.name", signal.to_string().into())]
        }
        Event::Judged(verdict) => vec![
            ("childminder.verdict", verdict.kind.word().into()),
            ("childminder.confidence", verdict.confidence.to_string().into()),
        ],
        Event::Restarting { delay, .. } => {
            vec![("childminder.delay", AnyValue::Double(delay.as_secs_f64()))]
        }
        Event::OrphanEnded { pid, .. } => vec![("process.pid", number(pid.0))],
        Event::Called { function, .. } => vec![("childminder.workload", (*function).into())],
        _ => Vec::new(),
    }
}
