//! Looks after the record of all jobs. See `childminder::cli::nanny` for what may be typed.

#![no_main]
#![expect(unsafe_code, reason = "C's main is exported here; sys::entry says why not Rust's")]

use std::error::Error;
use std::ffi::{OsString, c_char, c_int};
use std::io::{BufWriter, IsTerminal, Write};

use childminder::cli::nanny::{Invocation, parse};
use childminder::fleet::{self, Screen};
use childminder::model::outcome::OWN_FAILURE;
use childminder::model::text::{Guarded, Printable};
use childminder::question::Question;
use childminder::sys::entry::{self, Given};
use childminder::sys::{environment, terminal};

#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    // The jobs that are run again get the signal state that we were given, as from childminder.
    let status = match entry::begin() {
        Ok(given) => {
            // SAFETY: these are the arguments of main, as the C library passes them.
            let arguments = unsafe { entry::arguments(argc, argv) };
            carry_out(arguments, &given)
        }
        Err(error) => fail(&error, ""),
    };
    status.into()
}

fn carry_out(arguments: Vec<OsString>, given: &Given) -> u8 {
    match parse(arguments) {
        // Only rerun answers signals itself; anything else ends by them, as any program does.
        Ok(Invocation::Ask(question @ Question::Rerun(_))) => answer(&question, given),
        Ok(Invocation::Ask(question)) => given
            .mask
            .while_restored(|| answer(&question, given))
            .unwrap_or_else(|error| fail(&error, "")),
        Ok(Invocation::Show(text)) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => 0,
            Err(error) => fail(&error, ""),
        },
        Err(error) => fail(&error, " (try 'nanny --help')"),
    }
}

fn answer(question: &Question, given: &Given) -> u8 {
    let screen = screen();
    let out = BufWriter::with_capacity(1 << 16, std::io::stdout());
    // A record or a log that somebody else wrote must not command the terminal.
    let mut out = Guarded { out, is_coloured: screen.is_coloured };
    let status = match fleet::answer(question, given, &mut out, &screen) {
        Ok(status) => status,
        // Whoever read our answer, such as head(1), has enough of it.
        Err(error) if error.is_closed_pipe() => return 0,
        Err(error) => return fail(&error, ""),
    };
    match out.flush().map_err(fleet::Failure::Write) {
        Err(error) if !error.is_closed_pipe() => fail(&error, ""),
        // What was done is told by the status also if nobody reads the rest.
        _ => status,
    }
}

fn screen() -> Screen {
    let out = std::io::stdout();
    let is_plain = environment::entries().any(|entry| {
        // https://no-color.org: "when present and not an empty string".
        entry.strip_prefix(b"NO_COLOR=").is_some_and(|value| !value.is_empty())
            || entry == b"TERM=dumb"
    });
    Screen { width: terminal::columns(&out), is_coloured: out.is_terminal() && !is_plain }
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
    fleet::complain(&Printable(&line).to_string());
    OWN_FAILURE
}
