//! Exports the run: metrics to whoever scrapes, OTLP to a collector, and files.
//!
//! On a thread of its own with one runtime, started after the job and only if asked for. All that it
//! knows comes from the one snapshot (`published`) and from a bounded queue; it may fall behind, be
//! dropped and be counted, and is waited for at the very end only, for a bounded time.

mod failures;
pub mod http_client;
pub mod identity;
pub mod messages;
pub mod metrics;
pub mod otlp;
pub mod prometheus;
pub mod published;
mod served;
pub mod thread;
pub mod warn;
pub mod web;
mod worker;
