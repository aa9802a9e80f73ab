//! What the loop acts on.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::model::signal::Signal;
use crate::model::time::Moment;
use crate::run::environment::Variable;
use crate::supervisor::{AttemptContext, Input, Target};
use crate::sys::SysError;

/// What the supervisor acts on: the real one, or a scripted one in tests.
pub(super) trait World {
    fn now(&self) -> Moment;
    /// Starts an attempt, with these variables besides our own; the answer is `Spawned` or
    /// `SpawnFailed`. What runs between the start of the process and the answer cannot fail.
    fn spawn(&mut self, attempt: AttemptContext, variables: Vec<Variable>) -> Input;
    /// Begins to observe the attempt that was just started, once the loop knows its pid: a failure here
    /// costs evidence and nothing else.
    fn follow(&mut self);
    /// Sleeps until something happens, at the latest until the deadline.
    fn wait(&mut self, deadline: Option<Moment>) -> Input;
    /// Sends a signal; an integer goes with it as sigqueue(3) sends it.
    ///
    /// # Errors
    ///
    /// The kernel refused; that a process has gone is not an error.
    fn send(&mut self, to: Target, signal: Signal, value: Option<i32>) -> Result<(), SysError>;
    /// Looks which processes of the job live.
    fn look(&mut self) -> Input;
    /// Finds out where the processes of the job wait; the answer, `StallReport`, may come from a later
    /// wait.
    fn inspect(&mut self) -> Option<Input>;
}

/// Does what may fail without costing the job anything: a panic in it is reported by the hook of `run`,
/// and there is no result.
pub(super) fn contained<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}
