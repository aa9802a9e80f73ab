//! What is run, where, and by which user: the first line of a log.

use std::fmt;

use serde::Serialize;

use crate::model::text::Escaped;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogHeader {
    pub version: &'static str,
    /// In the words of a shell, with nothing hidden: the log is the user's own.
    pub command: String,
    /// Where childminder is; a job with `--child-directory` is elsewhere.
    pub directory: String,
    /// The effective user.
    pub uid: u32,
    /// Its name; empty if passwd(5) has none.
    pub user: String,
    /// Those that differ from the defaults, wherever they were set.
    pub options: String,
}

impl fmt::Display for LogHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LogHeader { version, command, directory, uid, user, options } = self;
        write!(f, "childminder {version} runs {}", Escaped(command))?;
        write!(f, " in {} as user {uid} ({})", Escaped(directory), Escaped(user))?;
        match options.is_empty() {
            true => f.write_str(" without options; times are UTC"),
            false => write!(f, " with options {}; times are UTC", Escaped(options)),
        }
    }
}
