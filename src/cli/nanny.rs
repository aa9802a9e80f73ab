//! The command line of `nanny`, which so far has nothing to look after.

use std::ffi::OsString;

use clap::Parser;
use clap::error::ErrorKind;

use crate::cli::{UsageError, one_line};

#[derive(Parser, Debug)]
#[command(
    name = "nanny",
    version,
    about = "Looks after the record of all jobs that childminder minded.",
    after_help = "This version answers --help and --version only: childminder does not write the \
                  central record yet, so there is nothing to ask about.",
    term_width = 80
)]
struct Typed {}

/// Reads the command line (without the program's own name) and returns the text to show.
///
/// # Errors
///
/// Anything but `--help` and `--version`.
pub fn parse(arguments: Vec<OsString>) -> Result<String, UsageError> {
    let name = std::iter::once(OsString::from("nanny"));
    match Typed::try_parse_from(name.chain(arguments)) {
        Ok(Typed {}) => {
            Err(UsageError("no command was given, and this version has none yet".into()))
        }
        Err(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            Ok(error.render().to_string())
        }
        Err(error) => Err(UsageError(one_line(&error))),
    }
}
