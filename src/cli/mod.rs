//! From what was typed to a checked plan.

pub mod childminder;
mod completions;
mod doctor;
mod end_options;
pub mod nanny;
mod options;
mod otel;
mod usage;
mod value_error;
mod values;
mod variables;

pub use usage::UsageError;
use usage::one_line;

/// The plan that such variables ask for.
#[cfg(any(test, fuzzing))]
pub(crate) fn otlp_plan_of(
    variable: impl Fn(&str) -> Option<String>,
) -> Option<crate::plan::OtlpPlan> {
    otel::plan(variable)
}
