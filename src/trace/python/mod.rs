//! Python frames of CPython 3.8 to 3.15, from the memory of the interpreter.
//!
//! 3.13 and later publish where everything is (`_Py_DebugOffsets` at the beginning of `_PyRuntime`); before
//! that the layout is fixed within a minor version and stands in `layout`. The interpreter may run
//! meanwhile: who reads it says whether it did.

mod frames;
mod interpreter;
mod layout;
mod lines;
mod walk;

pub use crate::trace::python::frames::{PythonFrame, PythonStacks, PythonUnknown};
pub use crate::trace::python::interpreter::{Interpreter, Symbols, find};
pub use crate::trace::python::walk::stacks;
