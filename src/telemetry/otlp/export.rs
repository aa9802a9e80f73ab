//! OTLP: sends what waits, on the telemetry thread, and keeps account of what could not be sent.
//!
//! The exporters are driven by us, one export at a time for each pipeline: the SDK's own batch threads
//! ignore the time limit of the final flush.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::logs::{LogBatch, LogExporter as _};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter as _;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::SpanExporter as _;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, timeout_at};

use crate::model::pipeline::{PerPipeline, Pipeline};
use crate::model::shared::lock;
use crate::plan::{OtlpPlan, PipelinePlan, Protocol};
use crate::telemetry::failures::{ExportCause, Failures};
use crate::telemetry::http_client::LastError;
use crate::telemetry::identity::TelemetryIdentity;
use crate::telemetry::otlp::exporters::{
    ExporterError, log_exporter, metric_exporter, span_exporter,
};
use crate::telemetry::otlp::instruments::Instruments;
use crate::telemetry::otlp::logs::{LogQueue, Logs};
use crate::telemetry::otlp::spans::SpanQueue;
use crate::telemetry::published::Published;
use crate::telemetry::warn::Warnings;

/// What it is about: the job, not ourselves (specification, Resource).
#[must_use]
pub fn resource(identity: &TelemetryIdentity, otlp: Option<&OtlpPlan>) -> Resource {
    let given = otlp.map(|otlp| otlp.attributes.as_slice()).unwrap_or_default();
    // What was derived has the lowest rank; the identity was already chosen from options and variables.
    let mut attributes =
        vec![KeyValue::new("host.name", identity.host.clone()), KeyValue::new("os.type", "linux")];
    attributes.extend(identity.machine.iter().map(|id| KeyValue::new("host.id", id.clone())));
    attributes.extend(given.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())));
    attributes.extend([
        KeyValue::new("service.name", identity.name.clone()),
        KeyValue::new("service.instance.id", identity.instance.clone()),
    ]);
    Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes(attributes)
        .build()
}

/// The most exports of increments that wait for a receiver: an hour of the default interval.
const INCREMENTS_MAX: usize = 60;

/// Returns the number of metrics in an export.
fn count(metrics: &ResourceMetrics) -> u64 {
    metrics.scope_metrics().map(|scope| scope.metrics().count() as u64).sum()
}

/// When an export has to be through.
#[derive(Clone, Copy, Debug)]
pub enum By {
    /// Nobody waits for it.
    NextTick,
    /// The run is over.
    Deadline(Instant),
}

/// The exporters, and what they send.
pub struct Exports {
    spans: Option<Mutex<(SpanExporter, Arc<SpanQueue>)>>,
    metrics: Option<Mutex<(MetricExporter, VecDeque<ResourceMetrics>)>>,
    records: Option<Mutex<(LogExporter, Arc<LogQueue>)>>,
    /// The metrics that are sent.
    pub instruments: Option<Instruments>,
    /// The records that are sent.
    pub logs: Option<Logs>,
    /// How long one export of each may take.
    timeouts: PerPipeline<Duration>,
    /// How many items go into one export of each; metrics go as a whole.
    batches: PerPipeline<usize>,
    /// Why the last export of each by HTTP had no answer.
    last_errors: PerPipeline<LastError>,
    failures: Failures,
    published: Arc<Published>,
}

impl Exports {
    /// Makes what the plan asks for. What cannot be made is warned of and left out.
    #[must_use]
    pub fn new(
        plan: Option<&OtlpPlan>,
        span_queue: Option<Arc<SpanQueue>>,
        published: &Arc<Published>,
        warnings: &Arc<Warnings>,
    ) -> Exports {
        let resource = resource(&published.identity, plan);
        let of = |pipeline| plan.and_then(|plan| plan.pipelines[pipeline].as_ref());
        let PerPipeline { traces, metrics, logs } = PerPipeline::of(of);
        let timeouts = PerPipeline::of(|one| of(one).map(|plan| plan.timeout).unwrap_or_default());
        let addresses = PerPipeline::of(|one| of(one).map(address).unwrap_or_default());
        let last_errors = PerPipeline::<LastError>::default();
        let failures = Failures::new(addresses, warnings);
        let spans = traces.zip(span_queue).and_then(|(pipeline, queue)| {
            let mut exporter =
                failures.build(Pipeline::Traces, span_exporter(pipeline, &last_errors.traces))?;
            exporter.set_resource(&resource);
            Some(Mutex::new((exporter, queue)))
        });
        let metrics = metrics.and_then(|pipeline| {
            failures.build(Pipeline::Metrics, metric_exporter(pipeline, &last_errors.metrics))
        });
        let instruments = metrics.as_ref().map(|exporter| {
            let is_exponential = plan.is_some_and(|plan| plan.is_exponential);
            let form = (exporter.temporality(), is_exponential);
            Instruments::new(resource.clone(), form, &published.identity.labels)
        });
        let records = logs
            .and_then(|pipeline| {
                failures.build(Pipeline::Logs, log_exporter(pipeline, &last_errors.logs))
            })
            .zip(plan)
            .map(|(mut exporter, plan)| {
                exporter.set_resource(&resource);
                let (resource, run_id) = (resource.clone(), published.identity.run_id.clone());
                (exporter, Logs::new(resource, plan.log_queue, plan.record_limits, run_id))
            });
        let (records, logs) = match records {
            Some((exporter, logs)) => (Some(Mutex::new((exporter, logs.queue()))), Some(logs)),
            None => (None, None),
        };
        failures.report();
        Exports {
            spans,
            metrics: metrics.map(|exporter| Mutex::new((exporter, VecDeque::new()))),
            records,
            instruments,
            logs,
            timeouts,
            batches: PerPipeline {
                traces: plan.map_or(1, |plan| plan.span_batch),
                metrics: 1,
                logs: plan.map_or(1, |plan| plan.log_batch),
            },
            last_errors,
            failures,
            published: Arc::clone(published),
        }
    }

    /// Sends the spans that wait.
    pub async fn send_spans(&self, by: By) {
        let Some(spans) = &self.spans else { return };
        let Some(turn) = self.turn(Pipeline::Traces, spans, by).await else { return };
        let (exporter, queue) = &*turn;
        let dropped = queue.take_dropped();
        self.published.note_health(|health| health.dropped.traces += dropped);
        let mut rest = queue.take();
        while !rest.is_empty() {
            let batch = rest[..rest.len().min(self.batches.traces)].to_vec();
            let length = batch.len();
            if !self.tried(Pipeline::Traces, by, exporter.export(batch)).await {
                let dropped = queue.put_back(rest);
                self.published.note_health(|health| health.dropped.traces += dropped);
                return;
            }
            rest.drain(..length);
        }
    }

    /// Sends the records that wait.
    pub async fn send_records(&self, by: By) {
        let Some(records) = &self.records else { return };
        let Some(turn) = self.turn(Pipeline::Logs, records, by).await else { return };
        let (exporter, queue) = &*turn;
        let dropped = queue.take_dropped();
        self.published.note_health(|health| health.dropped.logs += dropped);
        let mut rest = queue.take();
        while !rest.is_empty() {
            let batch = rest.iter().take(self.batches.logs);
            let borrowed: Vec<_> = batch.map(|(record, scope)| (record, scope)).collect();
            let length = borrowed.len();
            if !self.tried(Pipeline::Logs, by, exporter.export(LogBatch::new(&borrowed))).await {
                let dropped = queue.put_back(rest);
                self.published.note_health(|health| health.dropped.logs += dropped);
                return;
            }
            rest.drain(..length);
        }
    }

    /// Sends the metrics of this moment. Cumulative ones that cannot be sent are not kept: the next ones
    /// say more. Increments wait for the next tick, for nobody else knows them.
    pub async fn send_metrics(&self, by: By) {
        let (Some(metrics), Some(instruments)) = (&self.metrics, &self.instruments) else { return };
        let Some(mut turn) = self.turn(Pipeline::Metrics, metrics, by).await else { return };
        let (exporter, waiting) = &mut *turn;
        waiting.extend(instruments.collect(self.published.collect()));
        let most = match exporter.temporality() {
            Temporality::Delta => INCREMENTS_MAX,
            _ => 1,
        };
        while waiting.len() > most {
            let lost = waiting.pop_front();
            let count = lost.as_ref().map(count).filter(|_| most > 1).unwrap_or_default();
            self.published.note_health(|health| health.dropped.metrics += count);
        }
        while let Some(oldest) = waiting.front() {
            if !self.tried(Pipeline::Metrics, by, exporter.export(oldest)).await {
                return;
            }
            waiting.pop_front();
        }
    }

    /// Sends all that waits, by that time.
    pub async fn flush(&self, deadline: Instant) {
        let by = By::Deadline(deadline);
        tokio::join!(self.send_spans(by), self.send_records(by), self.send_metrics(by));
        self.failures.report();
    }

    /// Waits until the export before this one is through. In the background nobody waits: the next
    /// tick sends what this one leaves.
    async fn turn<'a, T>(
        &self,
        pipeline: Pipeline,
        mutex: &'a Mutex<T>,
        by: By,
    ) -> Option<MutexGuard<'a, T>> {
        match by {
            By::NextTick => mutex.try_lock().ok(),
            By::Deadline(deadline) => match timeout_at(deadline, mutex.lock()).await {
                Ok(guard) => Some(guard),
                Err(_) => {
                    self.note(pipeline, Err(OTelSdkError::Timeout(self.timeouts[pipeline])));
                    None
                }
            },
        }
    }

    /// Waits for an export within its limits of time, and returns whether all is well.
    async fn tried(
        &self,
        pipeline: Pipeline,
        by: By,
        export: impl Future<Output = Result<(), OTelSdkError>>,
    ) -> bool {
        let limit = self.timeouts[pipeline];
        // A limit longer than time itself is none.
        let own = Instant::now().checked_add(limit);
        let deadline = match (by, own) {
            (By::Deadline(deadline), own) => Some(own.map_or(deadline, |own| own.min(deadline))),
            (By::NextTick, own) => own,
        };
        let result = match deadline {
            Some(deadline) => timeout_at(deadline, export).await,
            None => Ok(export.await),
        };
        let is_well = self.note(pipeline, result.unwrap_or(Err(OTelSdkError::Timeout(limit))));
        if matches!(by, By::NextTick) {
            // Those of the last flush are reported together.
            self.failures.report();
        }
        is_well
    }

    /// Takes the account of an export, and returns whether all is well.
    fn note(&self, pipeline: Pipeline, result: Result<(), OTelSdkError>) -> bool {
        self.published.note_health(|health| {
            health.exports[pipeline] += 1;
            health.failures[pipeline] += u64::from(result.is_err());
        });
        if let Err(error) = &result {
            let connection = lock(&self.last_errors[pipeline]).take();
            self.failures.note(pipeline, ExportCause::of(error, connection));
        }
        result.is_ok()
    }
}

impl Failures {
    fn build<T>(&self, pipeline: Pipeline, built: Result<T, ExporterError>) -> Option<T> {
        // The same for all signals: their own paths are not part of it.
        let own_path = format!("/v1/{}", pipeline.word());
        let noted = |error: ExporterError| {
            self.note(pipeline, ExportCause::refused(&error.to_string().replace(&own_path, "")))
        };
        built.map_err(noted).ok()
    }
}

/// Returns scheme, host and port of where it goes, without a password.
fn address(pipeline: &PipelinePlan) -> String {
    let default = match pipeline.protocol {
        Protocol::HttpProtobuf => "http://localhost:4318",
        Protocol::Grpc => "http://localhost:4317",
    };
    let endpoint = pipeline.endpoint.as_deref().unwrap_or(default);
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("", endpoint));
    // A password may have a slash in it.
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let rest = rest.rsplit('@').next().unwrap_or_default();
    let host = rest.split('/').next().unwrap_or_default();
    if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
}
