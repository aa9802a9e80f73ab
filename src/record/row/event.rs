//! The words in the column `event`.

/// What a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowEvent {
    Start,
    Attempt,
    End,
}

impl RowEvent {
    /// Returns the word in the column `event`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            RowEvent::Start => "start",
            RowEvent::Attempt => "attempt",
            RowEvent::End => "end",
        }
    }

    /// Returns what that word means.
    #[must_use]
    pub fn from_word(word: &str) -> Option<RowEvent> {
        [RowEvent::Start, RowEvent::Attempt, RowEvent::End]
            .into_iter()
            .find(|one| one.word() == word)
    }
}
