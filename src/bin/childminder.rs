//! Minds one job. See `childminder::cli::childminder` for what may be typed.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use childminder::cli::childminder::{Invocation, parse};
use childminder::model::outcome::OWN_FAILURE;
use childminder::run;
use childminder::sys::signals;

fn main() -> ExitCode {
    // Before anything else and before any thread: from here on no signal ends us unseen.
    let given = match signals::block_all() {
        Ok(given) => given,
        Err(error) => return fail(&error, ""),
    };
    match parse(std::env::args_os().skip(1).collect()) {
        Ok(Invocation::Run(plan)) => match run::run(&plan, given) {
            Ok(status) => ExitCode::from(status),
            Err(error) => fail(&error, ""),
        },
        Ok(Invocation::Show(text)) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => fail(&error, " (try 'childminder --help')"),
    }
}

/// Tells a failure of our own on one line, with all its causes, and what to do.
fn fail(error: &dyn Error, advice: &str) -> ExitCode {
    let mut line = format!("childminder: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // std adds the number to the kernel's words.
        line.push_str(": ");
        line.push_str(text.split(" (os error ").next().unwrap_or(&text));
        cause = error.source();
    }
    line.push_str(advice);
    line.push('\n');
    // If standard error is closed, the status still tells.
    std::io::stderr().write_all(line.as_bytes()).ok();
    ExitCode::from(OWN_FAILURE)
}
