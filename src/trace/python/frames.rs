//! What is found.

/// One call of a Python function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonFrame {
    pub file: String,
    pub function: String,
    pub line: i64,
}

/// One thread that runs Python.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonThread {
    /// The number of the thread as the kernel has it, in the pid namespace of the process; `None` if the
    /// interpreter does not know it.
    pub tid: Option<u64>,
    /// `pthread_self()`: before 3.11 all that the interpreter knows.
    pub pthread: u64,
    /// The innermost first.
    pub frames: Vec<PythonFrame>,
    /// Whether there are more frames than are kept.
    pub is_cut: bool,
}

/// All threads of all interpreters of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonStacks {
    /// Such as `3.11`, or `3.13.0` where the interpreter says so.
    pub version: String,
    pub threads: Vec<PythonThread>,
}

/// Why there are no frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PythonUnknown {
    /// A version whose layout is not known here.
    Version(String),
    /// Its memory cannot be read, or holds no interpreter.
    Unreadable,
}
