//! Spans: one for the run and one for each attempt, made on the supervising thread, because the job
//! gets its span before it starts. Ended spans wait in a bounded queue for the telemetry thread.
//!
//! Names and attributes are those of TELEMETRY's contract: the run is the callee of whoever called us,
//! the attempt the call of the job (semantic conventions for command line programs).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::propagation::{Injector, TextMapPropagator};
use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt,
    TraceFlags, TraceId, Tracer, TracerProvider,
};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    Sampler, SdkTracer, SdkTracerProvider, Span, SpanData, SpanProcessor,
};

use crate::model::event::Event;
use crate::model::history::{AttemptHistory, Ended, RunHistory, RunOutcome};
use crate::model::time::Stamp;
use crate::model::trace_context;
use crate::model::verdict::VerdictKind;
use crate::plan::{Choice, OtlpPlan, TelemetryPlan, TraceSampler as SamplerPlan};
use crate::telemetry::identity::TelemetryIdentity;
use crate::telemetry::otlp::attempt_span::{AttemptSpan, usage_attributes};
use crate::telemetry::otlp::queue::BoundedQueue;
use crate::telemetry::otlp::vocabulary;
use crate::telemetry::prometheus::exposition::Exemplar;

/// At most this number of events goes onto a span where log records are not sent.
const SPAN_EVENTS_MAX: usize = 64;

/// Ended spans that wait to be sent.
pub type SpanQueue = BoundedQueue<SpanData>;

/// Puts ended spans into the queue, with attributes of at most that length in characters.
#[derive(Debug)]
struct SpanCollector {
    queue: Arc<SpanQueue>,
    length: Option<usize>,
}

impl SpanProcessor for SpanCollector {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, mut span: SpanData) {
        if let Some(length) = self.length {
            let events = span.events.events.iter_mut().flat_map(|event| &mut event.attributes);
            span.attributes.iter_mut().chain(events).for_each(|pair| cut(&mut pair.value, length));
        }
        self.queue.push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Cuts texts to a number of characters (specification, attribute limits).
fn cut(value: &mut Value, length: usize) {
    let cut_text = |text: &mut StringValue| {
        if let Some((end, _)) = text.as_str().char_indices().nth(length) {
            *text = text.as_str()[..end].to_owned().into();
        }
    };
    match value {
        Value::String(text) => cut_text(text),
        Value::Array(Array::String(texts)) => texts.iter_mut().for_each(cut_text),
        _ => {}
    }
}

fn sampler(plan: SamplerPlan) -> Sampler {
    let root = match plan.choice {
        Choice::On => Sampler::AlwaysOn,
        Choice::Off => Sampler::AlwaysOff,
        Choice::Ratio(bits) => Sampler::TraceIdRatioBased(f64::from_bits(bits)),
    };
    if plan.is_parent_based { Sampler::ParentBased(Box::new(root)) } else { root }
}

/// Returns the span in TRACEPARENT and TRACESTATE. A state that cannot be read is left out.
fn remote(parent: &str, state: &str) -> Option<SpanContext> {
    let parent = trace_context::parse(parent)?;
    let flags = if parent.is_sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let ids = (TraceId::from_hex(parent.trace_id).ok()?, SpanId::from_hex(parent.span_id).ok()?);
    Some(SpanContext::new(ids.0, ids.1, flags, true, state.parse().unwrap_or_default()))
}

/// The spans of one run.
pub struct Traces {
    tracer: SdkTracer,
    /// Spans end with it.
    _provider: SdkTracerProvider,
    queue: Arc<SpanQueue>,
    run: Span,
    attempt: Option<AttemptSpan>,
    last_attempt: Option<SpanContext>,
    propagates: bool,
    adds_events: bool,
    executable: String,
    owner: String,
    run_id: String,
    /// The arguments, if they are to be exported.
    arguments: Option<Vec<String>>,
}

fn system_time(stamp: Stamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + stamp.wall.0
}

/// The two headers of W3C Trace Context, under the names that the propagator asks for.
struct Carrier([(&'static str, String); 2]);

impl Injector for Carrier {
    fn set(&mut self, key: &str, value: String) {
        if let Some(entry) = self.0.iter_mut().find(|(name, _)| *name == key) {
            entry.1 = value;
        }
    }
}

impl Traces {
    /// Begins the run's span, if traces are sent.
    #[must_use]
    pub fn begin(
        plan: &TelemetryPlan,
        identity: &TelemetryIdentity,
        resource: Resource,
        stamp: Stamp,
    ) -> Option<Traces> {
        let otlp = plan.otlp.as_ref().filter(|otlp| otlp.pipelines.traces.is_some())?;
        let queue = Arc::new(SpanQueue::new(otlp.span_queue));
        let limits = otlp.span_limits;
        let collector =
            SpanCollector { queue: Arc::clone(&queue), length: limits.attributes.length };
        // Each is set, or the SDK would read the variables by rules of its own.
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(sampler(otlp.sampler))
            .with_max_attributes_per_span(limits.attributes.count)
            .with_max_events_per_span(limits.events)
            .with_max_links_per_span(limits.links)
            .with_max_attributes_per_event(limits.event_attributes)
            .with_max_attributes_per_link(limits.link_attributes)
            .with_span_processor(collector)
            .build();
        let tracer = provider.tracer_with_scope(vocabulary::scope());
        let run = begin_run(&tracer, otlp, plan.new_trace, stamp);
        let mut traces = Traces {
            tracer,
            _provider: provider,
            queue,
            run,
            attempt: None,
            last_attempt: None,
            propagates: otlp.propagates,
            adds_events: otlp.pipelines.logs.is_none(),
            executable: identity.executable.clone(),
            owner: identity.user.clone(),
            run_id: identity.run_id.clone(),
            arguments: None,
        };
        let pid = i64::from(std::process::id());
        traces.run.set_attributes([
            KeyValue::new("process.executable.name", "childminder"),
            KeyValue::new("process.pid", pid),
            KeyValue::new("childminder.run.id", identity.run_id.clone()),
        ]);
        Some(traces)
    }

    /// Puts the job's arguments onto its spans; secrets must be hidden in them.
    pub fn set_arguments(&mut self, arguments: Vec<String>) {
        self.arguments = Some(arguments);
    }

    /// Puts batch and tags onto the run's span; secrets must be hidden in them.
    pub fn set_naming(&mut self, batch: Option<&str>, tags: &[(String, String)]) {
        let batch = batch.map(|batch| KeyValue::new("childminder.batch", batch.to_owned()));
        let tags = tags
            .iter()
            .map(|(key, value)| KeyValue::new(format!("childminder.tag.{key}"), value.clone()));
        self.run.set_attributes(batch.into_iter().chain(tags));
    }

    /// Returns where ended spans wait.
    #[must_use]
    pub fn queue(&self) -> Arc<SpanQueue> {
        Arc::clone(&self.queue)
    }

    /// Returns the id of the trace.
    #[must_use]
    pub fn trace_id(&self) -> String {
        self.run.span_context().trace_id().to_string()
    }

    /// Begins an attempt and returns TRACEPARENT and TRACESTATE for the job: a value, or none to
    /// take the variable away.
    pub fn begin_attempt(&mut self, attempt: u32, stamp: Stamp) -> Vec<(String, Option<String>)> {
        let parent = Context::new().with_remote_span_context(self.run.span_context().clone());
        let mut builder = SpanBuilder::from_name(self.executable.clone())
            .with_kind(SpanKind::Client)
            .with_start_time(system_time(stamp))
            .with_attributes([
                KeyValue::new("childminder.run.id", self.run_id.clone()),
                KeyValue::new("process.owner", self.owner.clone()),
                KeyValue::new("process.creation.time", stamp.wall.rfc3339()),
                KeyValue::new("childminder.attempt", i64::from(attempt)),
            ]);
        if let Some(previous) = self.last_attempt.take() {
            builder = builder.with_links(vec![Link::with_context(previous)]);
        }
        let mut span = self.tracer.build_with_context(builder, &parent);
        if let Some(arguments) = &self.arguments {
            let words = arguments.iter().map(|word| word.clone().into()).collect();
            let words = opentelemetry::Value::Array(opentelemetry::Array::String(words));
            span.set_attribute(KeyValue::new("process.command_args", words));
        }
        let context = span.span_context().clone();
        self.last_attempt = Some(context.clone());
        self.attempt = Some(AttemptSpan { span, events: 0 });
        if !self.propagates {
            return Vec::new();
        }
        let mut carrier = Carrier([("traceparent", String::new()), ("tracestate", String::new())]);
        let context = Context::new().with_remote_span_context(context);
        TraceContextPropagator::new().inject_context(&context, &mut carrier);
        let variable = |(name, value): (&str, String)| {
            (name.to_uppercase(), Some(value).filter(|value| !value.is_empty()))
        };
        carrier.0.into_iter().map(variable).collect()
    }

    /// Returns the context that a log record of this moment belongs to.
    #[must_use]
    pub fn context(&self) -> SpanContext {
        let attempt = self.attempt.as_ref().map(|attempt| attempt.span.span_context());
        attempt.unwrap_or_else(|| self.run.span_context()).clone()
    }

    /// Returns the context of the run itself.
    #[must_use]
    pub fn run_context(&self) -> SpanContext {
        self.run.span_context().clone()
    }

    /// Returns the trace that exemplars lead to, if it is recorded.
    #[must_use]
    pub fn exemplar(&self) -> Option<Exemplar> {
        let context = self.context();
        context.is_sampled().then(|| Exemplar {
            trace_id: context.trace_id().to_string(),
            span_id: context.span_id().to_string(),
        })
    }

    /// Takes in an event, which the history has already.
    pub fn apply(&mut self, stamp: Stamp, event: &Event, history: &RunHistory) {
        let Some(attempt) = &mut self.attempt else { return };
        if self.adds_events
            && attempt.events < SPAN_EVENTS_MAX
            && let Some((name, _)) = vocabulary::name_and_severity(event)
        {
            attempt.events += 1;
            let attributes = vec![KeyValue::new("childminder.message", event.to_string())];
            attempt.span.add_event_with_timestamp(name, system_time(stamp), attributes);
        }
        match event {
            Event::Started { pid, .. } => {
                attempt.span.set_attribute(KeyValue::new("process.pid", i64::from(pid.0)));
                let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok();
                attempt.executed(path.as_deref(), &self.executable);
            }
            Event::StartFailed { failure, .. } => {
                attempt.executed(None, &self.executable);
                attempt.not_started(failure);
            }
            Event::Crashed(report) if history.attempt.pid == Some(report.pid) => {
                let signature = report.signature.clone();
                attempt.span.set_attribute(KeyValue::new("childminder.crash.signature", signature));
            }
            Event::DumpedCore { .. } => {
                attempt.span.set_attribute(KeyValue::new("childminder.exit.core_dumped", true));
            }
            Event::Usage { usage, .. } => attempt.span.set_attributes(usage_attributes(usage)),
            Event::Judged(verdict) => {
                attempt.judged(verdict.kind, history.attempt.end);
                let ended = history.attempt.ended.unwrap_or(stamp);
                attempt.span.end_with_timestamp(system_time(ended));
                self.attempt = None;
            }
            _ => {}
        }
    }

    /// Ends the run's span.
    pub fn finish(&mut self, ended: &Ended, last: &AttemptHistory) {
        if let Some(mut attempt) = self.attempt.take() {
            attempt.span.end_with_timestamp(system_time(ended.stamp));
        }
        self.run.set_attributes([
            KeyValue::new("process.exit.code", i64::from(ended.exit_status)),
            KeyValue::new("childminder.attempts", i64::from(last.number)),
            KeyValue::new("childminder.outcome", ended.outcome.word()),
        ]);
        if ended.outcome != RunOutcome::Success {
            let word = last.verdict.map_or(ended.outcome.word(), VerdictKind::word);
            self.run.set_attribute(KeyValue::new("error.type", word));
            self.run.set_status(Status::error("the job failed"));
        }
        self.run.end_with_timestamp(system_time(ended.stamp));
    }
}

/// The span of the run: the child of TRACEPARENT or, with `--new-trace`, linked to it.
fn begin_run(tracer: &SdkTracer, otlp: &OtlpPlan, is_new: bool, stamp: Stamp) -> Span {
    let given = otlp.parent.as_ref().and_then(|(parent, state)| remote(parent, state));
    let mut builder = SpanBuilder::from_name("childminder run")
        .with_kind(SpanKind::Internal)
        .with_start_time(system_time(stamp));
    // What is built in a context without a span begins a trace.
    let parent = match given {
        Some(given) if is_new => {
            builder = builder.with_links(vec![Link::with_context(given)]);
            Context::new()
        }
        Some(given) => Context::new().with_remote_span_context(given),
        None => Context::new(),
    };
    tracer.build_with_context(builder, &parent)
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::SpanId;

    use super::*;
    use crate::model::outcome::SpawnFailure;
    use crate::model::pipeline::PerPipeline;
    use crate::model::process::Pid;
    use crate::model::signal::Signal;
    use crate::model::time::WallTime;
    use crate::model::verdict::{Confidence, Verdict};
    use crate::plan::{AttributeLimits, Credentials, PipelinePlan, Protocol, SpanLimits};
    use crate::telemetry::prometheus::exposition::tests::identity;

    const PID: Pid = Pid(i32::MAX);

    fn stamp(seconds: u64) -> Stamp {
        let elapsed = Duration::from_secs(seconds);
        Stamp { wall: WallTime(Duration::from_secs(1_000) + elapsed), elapsed }
    }

    /// Traces are sent, and nothing else.
    fn otlp() -> OtlpPlan {
        let second = Duration::from_secs(1);
        let limits = AttributeLimits { count: 64, length: None };
        let traces = PipelinePlan {
            protocol: Protocol::HttpProtobuf,
            endpoint: None,
            credentials: Credentials::default(),
            timeout: second,
        };
        OtlpPlan {
            pipelines: PerPipeline { traces: Some(traces), metrics: None, logs: None },
            service_name: None,
            attributes: Vec::new(),
            metric_interval: second,
            is_exponential: false,
            span_delay: second,
            span_queue: 16,
            span_batch: 16,
            log_delay: second,
            log_queue: 16,
            log_batch: 16,
            span_limits: SpanLimits {
                attributes: limits,
                events: 64,
                links: 64,
                event_attributes: 64,
                link_attributes: 64,
            },
            record_limits: limits,
            sampler: SamplerPlan { is_parent_based: true, choice: Choice::On },
            propagates: true,
            parent: None,
            warnings: Vec::new(),
        }
    }

    fn begin(otlp: OtlpPlan) -> Traces {
        let plan = TelemetryPlan { otlp: Some(otlp), ..TelemetryPlan::default() };
        let resource = Resource::builder_empty().build();
        Traces::begin(&plan, &identity(), resource, stamp(0)).expect("traces are sent")
    }

    /// The traces of a run, and what all sinks know of it.
    struct TracedRun(Traces, RunHistory);

    impl TracedRun {
        fn publish(&mut self, seconds: u64, event: &Event) {
            self.1.apply(stamp(seconds), event);
            self.0.apply(stamp(seconds), event, &self.1);
        }

        fn finish(mut self, seconds: u64, exit_status: u8) -> Vec<SpanData> {
            self.1.finish(stamp(seconds), exit_status);
            self.0.finish(&self.1.ended.expect("it has ended"), &self.1.attempt);
            self.0.queue.take()
        }
    }

    fn started(attempt: u32) -> Event {
        Event::Started { attempt, pid: PID, command: String::new() }
    }

    fn judged(kind: VerdictKind) -> Event {
        Event::Judged(Verdict { kind, confidence: Confidence::Certain, evidence: Vec::new() })
    }

    fn value(span: &SpanData, key: &str) -> Option<String> {
        let pair = span.attributes.iter().find(|pair| pair.key.as_str() == key);
        pair.map(|pair| pair.value.to_string())
    }

    #[test]
    fn each_attempt_is_a_span_of_its_own_and_leads_to_the_one_before() {
        let mut run = TracedRun(begin(otlp()), RunHistory::default());
        let first = run.0.begin_attempt(1, stamp(1));
        let parent = first.iter().find(|(name, _)| name == "TRACEPARENT").expect("a context");
        let parent = parent.1.clone().expect("a value");
        run.publish(2, &started(1));
        run.publish(5, &Event::Signaled { pid: PID, signal: Signal::SEGV });
        run.publish(5, &Event::DumpedCore { pid: PID });
        run.publish(8, &judged(VerdictKind::Crashed));
        run.0.begin_attempt(2, stamp(10));
        run.publish(10, &started(2));
        run.publish(12, &Event::Exited { pid: PID, status: 0 });
        run.publish(13, &judged(VerdictKind::Success));
        let trace_id = run.0.trace_id();
        let spans = run.finish(15, 0);
        let [first, second, whole] = spans.as_slice() else { panic!("{} spans", spans.len()) };

        let ids = (first.span_context.trace_id(), first.span_context.span_id());
        assert_eq!(parent, format!("00-{}-{}-01", ids.0, ids.1));
        assert_eq!(ids.0.to_string(), trace_id);
        for attempt in [first, second] {
            assert_eq!(attempt.parent_span_id, whole.span_context.span_id());
        }
        assert_eq!(whole.parent_span_id, SpanId::INVALID);
        assert_eq!(second.links.links[0].span_context, first.span_context);
        // From before the start to when it was known to have ended, and not to the verdict.
        assert_eq!(first.start_time, system_time(stamp(1)));
        assert_eq!(first.end_time, system_time(stamp(5)));
        assert_eq!(value(first, "process.exit.code").as_deref(), Some("139"));
        assert_eq!(value(first, "childminder.exit.signal").as_deref(), Some("SIGSEGV"));
        assert_eq!(value(first, "childminder.exit.core_dumped").as_deref(), Some("true"));
        assert_eq!(value(first, "error.type").as_deref(), Some("crashed"));
        assert_eq!((value(second, "error.type"), &second.status), (None, &Status::Unset));
        assert_eq!(value(whole, "childminder.attempts").as_deref(), Some("2"));
        assert_eq!(value(whole, "childminder.outcome").as_deref(), Some("success"));
        assert_eq!(value(whole, "error.type"), None);
        assert_eq!(whole.end_time, system_time(stamp(15)));
    }

    #[test]
    fn a_job_that_could_not_be_started_has_its_reason() {
        let mut run = TracedRun(begin(otlp()), RunHistory::default());
        run.0.begin_attempt(1, stamp(1));
        let failure = SpawnFailure {
            step: "execute x".into(),
            errno: 2,
            is_exec: true,
            is_found: false,
            cause: None,
        };
        run.publish(2, &Event::StartFailed { attempt: 1, failure });
        run.publish(3, &judged(VerdictKind::ExecFailed));
        let spans = run.finish(4, 127);
        assert_eq!(value(&spans[0], "childminder.exec.errno").as_deref(), Some("ENOENT"));
        assert_eq!(value(&spans[0], "process.exit.code").as_deref(), Some("127"));
        assert_eq!(spans[0].end_time, system_time(stamp(2)));
        assert_eq!(value(&spans[1], "childminder.outcome").as_deref(), Some("spawn_error"));
        assert_eq!(value(&spans[1], "error.type").as_deref(), Some("exec_failed"));
    }

    #[test]
    fn an_attempt_that_goes_on_ends_with_the_run() {
        let mut run = TracedRun(begin(otlp()), RunHistory::default());
        run.0.begin_attempt(1, stamp(1));
        run.publish(2, &started(1));
        let spans = run.finish(4, 125);
        assert_eq!(spans[0].end_time, system_time(stamp(4)));
        assert_eq!(value(&spans[1], "error.type").as_deref(), Some("failure"));
    }

    #[test]
    fn events_on_a_span_are_bounded_and_their_texts_are_cut() {
        let mut plan = otlp();
        plan.span_limits.attributes.length = Some(5);
        plan.span_limits.events = 1_000;
        let mut run = TracedRun(begin(plan), RunHistory::default());
        run.0.begin_attempt(1, stamp(1));
        run.publish(1, &started(1));
        for second in 0..100 {
            run.publish(second, &Event::Stopped { pid: PID, signal: Signal::STOP });
        }
        let spans = run.finish(101, 0);
        assert_eq!(spans[0].events.events.len(), SPAN_EVENTS_MAX);
        let message = &spans[0].events.events[1].attributes[0];
        assert_eq!(message.value.to_string(), "child");
    }

    #[test]
    fn a_context_is_taken_over_as_a_whole_and_a_bad_state_is_left_out() {
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let parent = format!("00-{trace}-{span}-01");
        let context = remote(&parent, "vendor=1").expect("a context");
        assert_eq!(context.trace_id().to_string(), trace);
        assert!(context.is_sampled() && context.is_remote());
        assert_eq!(context.trace_state().header(), "vendor=1");
        let context = remote(&parent, "vendor").expect("a context");
        assert_eq!(context.trace_state().header(), "");
        assert!(remote("00-0-0-00", "").is_none());

        let given = || OtlpPlan { parent: Some((parent.clone(), String::new())), ..otlp() };
        assert_eq!(begin(given()).trace_id(), trace);
        let plan = TelemetryPlan { otlp: Some(given()), new_trace: true, ..Default::default() };
        let resource = Resource::builder_empty().build();
        let traces = Traces::begin(&plan, &identity(), resource, stamp(0)).expect("traces");
        assert_ne!(traces.trace_id(), trace);
    }
}
