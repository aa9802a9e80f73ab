//! Minds one job. See `childminder::cli::childminder` for what may be typed.

#![no_main]
#![expect(unsafe_code, reason = "C's main is exported here; sys::entry says why not Rust's")]

use std::error::Error;
use std::ffi::{OsString, c_char, c_int};
use std::io::Write;
use std::panic::catch_unwind;

use childminder::cli::childminder::{Invocation, parse};
use childminder::model::outcome::OWN_FAILURE;
use childminder::model::text::Printable;
use childminder::run;
use childminder::sys::entry::{self, Given};
use childminder::sys::environment;

#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    // Before anything else and before any thread: from here on no signal ends us unseen.
    let status = match entry::begin() {
        Ok(given) => {
            // SAFETY: these are the arguments of main, as the C library passes them.
            let arguments = unsafe { entry::arguments(argc, argv) };
            let carried_out = catch_unwind(|| entry::with_stack(|| carry_out(arguments, given)));
            match carried_out {
                Ok(Ok(status)) => status,
                Ok(Err(error)) => fail(&error, " (RLIMIT_STACK is too low)"),
                // The panic has said what it is.
                Err(_) => OWN_FAILURE,
            }
        }
        Err(error) => fail(&error, ""),
    };
    status.into()
}

fn carry_out(arguments: Vec<OsString>, given: Given) -> u8 {
    match parse(arguments, environment::entries()) {
        Ok(Invocation::Run(plan, warnings)) => {
            for warning in warnings {
                // The job matters more than a warning that nobody can read.
                writeln!(std::io::stderr(), "childminder: {}", Printable(&warning)).ok();
            }
            match run::run(&plan, given) {
                Ok(status) => status,
                Err(error) => fail(&error, ""),
            }
        }
        Ok(Invocation::Show(text)) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => 0,
            Err(error) => fail(&error, ""),
        },
        Err(error) => fail(&error, " (try 'childminder --help')"),
    }
}

/// Tells a failure of our own on one line, with all its causes, and what to do.
fn fail(error: &dyn Error, advice: &str) -> u8 {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // std adds the number to the kernel's words.
        line.push_str(": ");
        line.push_str(text.split(" (os error ").next().unwrap_or(&text));
        cause = error.source();
    }
    line.push_str(advice);
    run::refuse(&Printable(&line).to_string());
    OWN_FAILURE
}
