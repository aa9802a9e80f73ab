//! The recording thread, which alone touches the shared file: a network filesystem that hangs stops
//! it and nobody else.
//!
//! It inherits a mask that blocks all signals. `run` starts it after the job and waits for it at the
//! end, not longer than until a deadline.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use crate::model::shared::lock;
use crate::record::row::Row;
use crate::record::write::{KeepError, Kept, Writer};

/// How long the end of the run waits for its rows at most.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// Rows that wait at most; a run has two, and one for each attempt.
const QUEUE_MAX: usize = 1024;

/// Room for the header, a batch of rows and the standard library; pages are only used when touched.
pub const STACK_BYTES: usize = 256 * 1024;

/// Makes the cells that all rows of a run have in common.
pub type MakeBase = Box<dyn Fn() -> Row + Send + Sync>;

/// The thread, as long as this exists.
pub struct Recorder {
    shared: Arc<RecorderShared>,
}

/// What is reported about the rows of a run.
#[derive(Debug, Default)]
pub struct KeepReport {
    /// Rows that are nowhere but here, and why.
    pub lost: Vec<(Row, String)>,
    /// Where rows went that are not in the shared file, or why they have no seal.
    pub apart: Vec<String>,
}

struct RecorderShared {
    state: Mutex<RecorderState>,
    changed: Condvar,
    /// Made on the thread, where it holds up nobody.
    base: OnceLock<Row>,
    make_base: MakeBase,
}

#[derive(Default)]
struct RecorderState {
    waiting: VecDeque<Row>,
    /// Taken by the thread and not kept yet.
    in_hand: Vec<Row>,
    is_over: bool,
    account: KeepReport,
}

impl Recorder {
    /// Starts the thread, which makes the common cells and keeps all rows that it is handed.
    ///
    /// # Errors
    ///
    /// There can be no more threads.
    pub fn start(writer: Writer, make_base: MakeBase) -> io::Result<Recorder> {
        let shared = Arc::new(RecorderShared {
            state: Mutex::default(),
            changed: Condvar::new(),
            base: OnceLock::new(),
            make_base,
        });
        let theirs = Arc::clone(&shared);
        thread::Builder::new()
            .name("record".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || record(&theirs, writer))?;
        Ok(Recorder { shared })
    }

    /// Hands a row over; returns it if too many wait already.
    ///
    /// # Errors
    ///
    /// The row, which was not taken.
    pub fn hand_over(&self, row: Row) -> Result<(), Box<Row>> {
        let mut state = self.shared.lock();
        if state.waiting.len() >= QUEUE_MAX {
            return Err(Box::new(row));
        }
        state.waiting.push_back(row);
        drop(state);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Returns what became known about rows, once; waits for those that were handed over, at most this long. Also
    /// returns whether all of them were kept or refused by then.
    #[must_use]
    pub fn take_news(&self, within: Duration) -> (Vec<String>, bool) {
        let waited = self.shared.changed.wait_timeout_while(self.shared.lock(), within, is_busy);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut state.account.apart), !waited.timed_out())
    }

    /// Waits until all rows are kept, at most this long, and says which are not.
    #[must_use]
    pub fn finish(self, within: Duration) -> KeepReport {
        let mut state = self.shared.lock();
        state.is_over = true;
        self.shared.changed.notify_all();
        let waited = self.shared.changed.wait_timeout_while(state, within, is_busy);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let mut late = std::mem::take(&mut state.in_hand);
        late.extend(std::mem::take(&mut state.waiting));
        let reason = format!("central log: no answer within {} seconds", within.as_secs_f64());
        let mut account = std::mem::take(&mut state.account);
        drop(state);
        account.lost.extend(late.into_iter().map(|row| (row, reason.clone())));
        account.lost.iter_mut().for_each(|(row, _)| row.fill(self.shared.base()));
        account
    }
}

fn is_busy(state: &mut RecorderState) -> bool {
    !state.waiting.is_empty() || !state.in_hand.is_empty()
}

impl RecorderShared {
    /// No one panics while holding the lock, and what is in there is whole in any case.
    fn lock(&self) -> MutexGuard<'_, RecorderState> {
        lock(&self.state)
    }

    fn base(&self) -> &Row {
        self.base.get_or_init(|| (self.make_base)())
    }

    /// Waits for rows and takes them all; `None` when there will be no more.
    fn take(&self) -> Option<Vec<Row>> {
        let is_idle = |state: &mut RecorderState| state.waiting.is_empty() && !state.is_over;
        let waited = self.changed.wait_while(self.lock(), is_idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.in_hand = std::mem::take(&mut state.waiting).into();
        let mut rows = state.in_hand.clone();
        drop(state);
        rows.iter_mut().for_each(|row| row.fill(self.base()));
        (!rows.is_empty()).then_some(rows)
    }

    fn kept(&self, result: Result<Kept, KeepError>) {
        let mut state = self.lock();
        let rows = std::mem::take(&mut state.in_hand);
        match result {
            Ok(Kept::Shared) => {}
            Ok(Kept::Apart(path, error)) => {
                let path = path.display();
                state.account.apart.push(format!("{error}; {} row(s) are in {path}", rows.len()));
            }
            Err(error) => {
                let reason = error.to_string();
                state.account.lost.extend(rows.into_iter().map(|row| (row, reason.clone())));
            }
        }
        drop(state);
        self.changed.notify_all();
    }
}

fn record(shared: &RecorderShared, mut writer: Writer) {
    while let Some(rows) = shared.take() {
        if let Some(why) = writer.take_no_key() {
            let text =
                format!("central log: rows have no seal, so nanny rerun may refuse them: {why}");
            shared.lock().account.apart.push(text);
        }
        shared.kept(writer.keep(&rows));
    }
}
