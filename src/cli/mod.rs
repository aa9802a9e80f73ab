//! From what was typed to a checked plan.

use std::fmt;

use crate::model::text::Escaped;

pub mod childminder;
pub mod nanny;
mod options;
mod otel;
mod values;

/// A command line that cannot be carried out: one line that names the thing, what is wrong with
/// it and what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Escaped(&self.0))
    }
}

impl std::error::Error for UsageError {}

/// The plan that such variables ask for.
#[cfg(any(test, fuzzing))]
pub(crate) fn otlp_plan_of(
    variable: impl Fn(&str) -> Option<String>,
) -> Option<crate::plan::OtlpPlan> {
    otel::plan(variable)
}

/// Makes one line of clap's message, which has its details on lines of their own.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let paragraph: Vec<&str> =
        text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:")).collect();
    let line = paragraph.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    let line = line.split(" For more information").next().unwrap_or(line);
    line.to_owned()
}
