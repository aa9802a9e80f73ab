//! The table of metrics as instruments of OpenTelemetry. They are read only when we ask: there is no
//! thread of the SDK's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Histogram, Meter, MeterProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{
    self, Aggregation, InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Stream,
    Temporality,
};

use crate::model::shared::lock;
use crate::sink::stats::{ATTEMPT_BOUNDS, CALL_BOUNDS};
use crate::telemetry::metrics::catalogue::FAMILIES;
use crate::telemetry::metrics::metric::{Family, Instrument, Otlp, Value};
use crate::telemetry::otlp::vocabulary;
use crate::telemetry::prometheus::exposition::Collected;

/// A reader that the provider and we hold.
#[derive(Clone, Debug)]
struct SharedReader(Arc<ManualReader>);

impl MetricReader for SharedReader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}

/// The numbers that instruments report next.
type Latest = Arc<Mutex<Option<Arc<Collected>>>>;

pub struct Instruments {
    reader: SharedReader,
    _provider: SdkMeterProvider,
    latest: Latest,
    attempts: Histogram<f64>,
    calls: Histogram<f64>,
    labels: Vec<KeyValue>,
}

impl Instruments {
    /// Makes them; `labels` go with every number.
    #[must_use]
    pub fn new(
        resource: Resource,
        (temporality, is_exponential): (Temporality, bool),
        labels: &[(String, String)],
    ) -> Instruments {
        let manual = ManualReader::builder().with_temporality(temporality).build();
        let reader = SharedReader(Arc::new(manual));
        let builder = SdkMeterProvider::builder().with_resource(resource);
        let builder = builder.with_reader(reader.clone());
        let provider = match is_exponential {
            true => builder.with_view(exponential).build(),
            false => builder.build(),
        };
        let meter = provider.meter_with_scope(vocabulary::scope());
        let labels: Vec<KeyValue> =
            labels.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
        let latest = Latest::default();
        let mut by_name: BTreeMap<&str, Vec<&'static Family>> = BTreeMap::new();
        for family in FAMILIES {
            if let Some(otlp) = family.otlp {
                by_name.entry(otlp.name).or_default().push(family);
            }
        }
        for (name, families) in by_name {
            observe(&meter, name, families, (&latest, &labels));
        }
        let (attempts, calls) = histograms(&meter);
        Instruments { reader, _provider: provider, latest, attempts, calls, labels }
    }

    /// An attempt took that long.
    pub fn attempt(&self, took: Duration) {
        self.attempts.record(took.as_secs_f64(), &self.labels);
    }

    /// A call of a built-in function took that long.
    pub fn call(&self, function: &'static str, took: Duration) {
        let own = KeyValue::new("childminder.workload", function);
        let all: Vec<KeyValue> = self.labels.iter().cloned().chain([own]).collect();
        self.calls.record(took.as_secs_f64(), &all);
    }

    /// Returns all numbers in the form that is sent.
    #[must_use]
    pub fn collect(&self, collected: Collected) -> Option<ResourceMetrics> {
        *lock(&self.latest) = Some(Arc::new(collected));
        let mut metrics = ResourceMetrics::default();
        self.reader.collect(&mut metrics).ok()?;
        Some(metrics)
    }
}

/// Exponential buckets for histograms, with the limits that the specification has as defaults.
fn exponential(instrument: &metrics::Instrument) -> Option<Stream> {
    if instrument.kind() != InstrumentKind::Histogram {
        return None;
    }
    let aggregation = Aggregation::Base2ExponentialHistogram {
        max_size: 160,
        max_scale: 20,
        record_min_max: true,
    };
    // The limits are good ones; without a stream the instrument has its own buckets.
    Stream::builder().with_aggregation(aggregation).build().ok()
}

/// The two histograms are recorded value by value, not observed.
fn histograms(meter: &Meter) -> (Histogram<f64>, Histogram<f64>) {
    let make = |name: &'static str, bounds: &[f64]| {
        let is_it = |family: &&Family| family.otlp.is_some_and(|otlp| otlp.name == name);
        let help = FAMILIES.iter().find(is_it).map_or("", |family| family.help);
        let builder = meter.f64_histogram(name).with_unit("s").with_description(help);
        builder.with_boundaries(bounds.to_vec()).build()
    };
    (
        make("childminder.attempt.duration", ATTEMPT_BOUNDS),
        make("childminder.canary.probe.duration", CALL_BOUNDS),
    )
}

/// Registers the instrument that reports the numbers of these families, which share a name.
fn observe(
    meter: &Meter,
    name: &'static str,
    families: Vec<&'static Family>,
    (latest, labels): (&Latest, &[KeyValue]),
) {
    let Some(Otlp { unit, instrument, .. }) = families.first().and_then(|one| one.otlp) else {
        return;
    };
    let help = families[0].help;
    let (latest, labels) = (Arc::clone(latest), labels.to_vec());
    let callback = move |observer: &dyn AsyncInstrument<f64>| {
        let collected = lock(&latest).clone();
        for (family, points) in collected.iter().flat_map(|all| all.iter()) {
            let Some(otlp) = family.otlp.filter(|otlp| otlp.name == name) else { continue };
            for point in points {
                let Value::Number(value) = point.value else { continue };
                let own = otlp.attributes.iter().zip(&point.labels);
                let own = own.map(|(name, value)| KeyValue::new(*name, value.clone()));
                let constant = otlp.constant.map(|(name, value)| KeyValue::new(name, value));
                let all: Vec<KeyValue> =
                    labels.iter().cloned().chain(own).chain(constant).collect();
                observer.observe(value, &all);
            }
        }
    };
    // The provider keeps what was built.
    match instrument {
        Instrument::Counter => drop(
            meter
                .f64_observable_counter(name)
                .with_unit(unit)
                .with_description(help)
                .with_callback(callback)
                .build(),
        ),
        Instrument::UpDownCounter => drop(
            meter
                .f64_observable_up_down_counter(name)
                .with_unit(unit)
                .with_description(help)
                .with_callback(callback)
                .build(),
        ),
        Instrument::Gauge => drop(
            meter
                .f64_observable_gauge(name)
                .with_unit(unit)
                .with_description(help)
                .with_callback(callback)
                .build(),
        ),
        Instrument::Histogram => {}
    }
}
