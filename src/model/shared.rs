//! What several threads share.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks it, also where a thread panicked while it held the lock: what we share is whole at any
/// moment, and the thread that minds the job must not fall with another.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panicked_locks_nobody_out() {
        let mutex = Mutex::new(1);
        let panicked = std::thread::scope(|scope| {
            let fall = || {
                let _held = lock(&mutex);
                panic!("a panic of the test's own");
            };
            scope.spawn(fall).join().is_err()
        });
        assert!(panicked && mutex.is_poisoned());
        assert_eq!(*lock(&mutex), 1);
    }
}
