//! Failures of telemetry: reported once of each kind on standard error, and counted.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::model::redact::Redactor;
use crate::model::shared::lock;

/// Reports each kind of failure once.
pub struct Warnings {
    reported: Mutex<BTreeSet<&'static str>>,
    say: fn(&str),
}

impl Warnings {
    /// Makes it; `say` writes a line for the user.
    #[must_use]
    pub fn new(say: fn(&str)) -> Warnings {
        Warnings { reported: Mutex::default(), say }
    }

    /// Reports a failure, unless one of that kind was reported before.
    pub fn once(&self, kind: &'static str, text: &str) {
        if lock(&self.reported).insert(kind) {
            self.problem(text);
        }
    }

    /// Reports a problem, which does not change the job.
    pub fn problem(&self, text: &str) {
        self.always(&format!("{text}; the job goes on"));
    }

    /// Reports something each time. Other people's errors may name an address with its password.
    pub fn always(&self, text: &str) {
        (self.say)(&Redactor::default().text(text));
    }
}
