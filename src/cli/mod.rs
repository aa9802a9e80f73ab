//! From what was typed to a checked plan.

pub mod childminder;
pub mod nanny;
mod options;
mod otel;
mod usage;
mod values;
mod variables;

pub use usage::UsageError;
use usage::one_line;
