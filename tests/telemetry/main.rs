//! README: telemetry "never changes the job and its exit status". The real program tells receivers of
//! the tests' own, hostile ones, and the real ones.

#![expect(clippy::disallowed_methods, reason = "tests start programs and read the clock")]

#[path = "../support/collector.rs"]
mod collector;
#[path = "../support/peers.rs"]
mod peers;
#[path = "../support/mod.rs"]
mod support;

mod deploy;
mod hostile;
mod increments;
mod otlp;
mod pushgateway;
mod rotel;
mod scrape;
mod semconv;
mod textfile;
