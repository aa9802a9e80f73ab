//! Looks after the record of all jobs. See `childminder::cli::nanny`.

use std::io::Write;
use std::process::ExitCode;

use childminder::cli::nanny::parse;
use childminder::model::outcome::OWN_FAILURE;

fn main() -> ExitCode {
    match parse(std::env::args_os().skip(1).collect()) {
        Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            let line = format!("nanny: {error} (try 'nanny --help')\n");
            // If standard error is closed, the status still tells.
            std::io::stderr().write_all(line.as_bytes()).ok();
            ExitCode::from(OWN_FAILURE)
        }
    }
}
