//! Items that wait to be sent: a bounded number, and of too many the oldest are dropped and counted.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::shared::lock;

/// See the module's documentation.
#[derive(Debug)]
pub struct BoundedQueue<T> {
    items: Mutex<VecDeque<T>>,
    capacity: usize,
    dropped: AtomicU64,
}

impl<T> BoundedQueue<T> {
    /// Makes one with room for that number of items.
    #[must_use]
    pub fn new(capacity: usize) -> BoundedQueue<T> {
        BoundedQueue { items: Mutex::default(), capacity, dropped: AtomicU64::new(0) }
    }

    /// Adds an item.
    pub fn push(&self, item: T) {
        let mut items = lock(&self.items);
        if items.len() >= self.capacity {
            items.pop_front();
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        items.push_back(item);
    }

    /// Takes out all that wait.
    #[must_use]
    pub fn take(&self) -> Vec<T> {
        lock(&self.items).drain(..).collect()
    }

    /// Puts back what could not be sent, for the next try, as far as there is room; returns how many of the
    /// oldest were dropped.
    pub fn put_back(&self, items: Vec<T>) -> u64 {
        let mut queue = lock(&self.items);
        let room = self.capacity.saturating_sub(queue.len());
        let dropped = items.len().saturating_sub(room);
        items.into_iter().skip(dropped).rev().for_each(|item| queue.push_front(item));
        dropped as u64
    }

    /// Returns how many were dropped by [`BoundedQueue::push`] since the last call.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_the_oldest_are_dropped_and_counted() {
        let queue = BoundedQueue::new(3);
        (0..5).for_each(|item| queue.push(item));
        assert_eq!((queue.take_dropped(), queue.take_dropped()), (2, 0));
        let taken = queue.take();
        assert_eq!(taken, [2, 3, 4]);
        queue.push(5);
        assert_eq!(queue.put_back(taken), 1, "there is room for two");
        assert_eq!(queue.take(), [3, 4, 5], "in order");
    }
}
