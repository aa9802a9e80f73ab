//! What an answer is shown on.

/// What the answer is shown on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Screen {
    /// The columns of the terminal; `None` if it is not a terminal, and lines may be as long as they are.
    pub width: Option<usize>,
    pub is_terminal: bool,
    /// Whether colours are welcome.
    pub is_coloured: bool,
}
