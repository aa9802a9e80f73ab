//! OpenTelemetry: spans, log records and metrics, and their export over OTLP.

pub mod attempt_span;
pub mod export;
mod exporters;
pub mod instruments;
pub mod logs;
pub mod partial_success;
mod queue;
pub mod spans;
pub mod vocabulary;
