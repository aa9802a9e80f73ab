//! A total that several threads add to while they read a record.

use std::sync::Mutex;

use crate::model::shared::lock;

/// Threads that read a record at once; more would wait for each other here.
const PARTS: usize = 2;

/// One total for each thread that adds to it.
pub struct Parts<T>([Mutex<Option<T>>; PARTS]);

impl<T: Default> Parts<T> {
    #[must_use]
    pub fn new() -> Parts<T> {
        Parts([const { Mutex::new(None) }; PARTS])
    }

    /// Adds to a total that nobody else adds to at this moment.
    pub fn add(&self, add: impl FnOnce(&mut T)) {
        let free = self.0.iter().find_map(|part| part.try_lock().ok());
        let mut part = free.unwrap_or_else(|| lock(&self.0[0]));
        add(part.get_or_insert_default());
    }

    /// Returns the totals.
    pub fn totals(self) -> impl Iterator<Item = T> {
        self.0
            .into_iter()
            .filter_map(|part| part.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
