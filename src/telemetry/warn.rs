//! Trouble of telemetry: told once of each kind on standard error, and counted.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::model::redact::Redactor;
use crate::model::shared::lock;

/// Tells each kind of trouble once.
pub struct Warnings {
    told: Mutex<BTreeSet<&'static str>>,
    say: fn(&str),
}

impl Warnings {
    /// Makes it; `say` writes a line for the user.
    #[must_use]
    pub fn new(say: fn(&str)) -> Warnings {
        Warnings { told: Mutex::default(), say }
    }

    /// Tells trouble, unless there was some of that kind before.
    pub fn once(&self, kind: &'static str, text: &str) {
        if lock(&self.told).insert(kind) {
            self.problem(text);
        }
    }

    /// Tells a problem, which does not change the job.
    pub fn problem(&self, text: &str) {
        self.always(&format!("{text}; the job goes on"));
    }

    /// Tells something each time. Other people's errors may name an address with its password.
    pub fn always(&self, text: &str) {
        (self.say)(&Redactor::default().text(text));
    }
}
