//! The two programs, from the arguments of C's `main` to the exit status.

use std::error::Error;
use std::ffi::{OsString, c_char, c_int};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::panic::catch_unwind;

use crate::cli::{childminder as minding, nanny as asking};
use crate::model::outcome::OWN_FAILURE;
use crate::model::text::{Guarded, Printable};
use crate::nanny::view::screen::Screen;
use crate::nanny::{self, notes};
use crate::question::Question;
use crate::run;
use crate::sink::console;
use crate::sys::entry::{self, Given};
use crate::sys::{environment, terminal};

/// `childminder`: minds one job.
///
/// # Safety
///
/// To be called once, with the arguments of C's `main`, before anything else and before any thread.
#[expect(unsafe_code, reason = "the arguments of C's main are passed on")]
pub unsafe fn childminder(argc: c_int, argv: *const *const c_char) -> ! {
    // From here on no signal ends us unseen.
    let status = match entry::begin() {
        Ok(given) => {
            // SAFETY: the caller passes the arguments of main.
            let arguments = unsafe { entry::arguments(argc, argv) };
            let carried_out = catch_unwind(|| entry::with_stack(|| mind(arguments, given)));
            match carried_out {
                Ok(Ok(status)) => status,
                Ok(Err(error)) => fail(run::refuse, &error, " (RLIMIT_STACK is too low)"),
                // The panic has said what it is.
                Err(_) => OWN_FAILURE,
            }
        }
        Err(error) => fail(run::refuse, &error, ""),
    };
    entry::end(status)
}

fn mind(arguments: Vec<OsString>, given: Given) -> u8 {
    match minding::parse(arguments, environment::entries()) {
        Ok(minding::Invocation::Run(plan, warnings)) => {
            for warning in warnings {
                // The job matters more than a warning that nobody can read.
                console::say(&warning).ok();
            }
            match run::run(&plan, given) {
                Ok(status) => status,
                Err(error) => fail(run::refuse, &error, ""),
            }
        }
        Ok(minding::Invocation::Show(text)) => show(run::refuse, &text),
        Ok(minding::Invocation::Doctor(plan)) => {
            let examined = given.mask.while_restored(|| run::doctor(&plan, &mut io::stdout()));
            match examined {
                Ok(Ok(status)) => status,
                Ok(Err(error)) => fail(run::refuse, &error, ""),
                Err(error) => fail(run::refuse, &error, ""),
            }
        }
        Err(error) => fail(run::refuse, &error, " (try 'childminder --help')"),
    }
}

/// `nanny`: answers questions about the record of all jobs.
///
/// # Safety
///
/// As of [`childminder`].
#[expect(unsafe_code, reason = "the arguments of C's main are passed on")]
pub unsafe fn nanny(argc: c_int, argv: *const *const c_char) -> c_int {
    // The jobs that are run again get the signal state that we were given, as from childminder.
    let status = match entry::begin() {
        Ok(given) => {
            // SAFETY: the caller passes the arguments of main.
            let arguments = unsafe { entry::arguments(argc, argv) };
            ask(arguments, &given)
        }
        Err(error) => fail(notes::complain, &error, ""),
    };
    status.into()
}

fn ask(arguments: Vec<OsString>, given: &Given) -> u8 {
    match asking::parse(arguments) {
        // Only rerun answers signals itself; anything else ends by them, as any program does.
        Ok(asking::NannyInvocation::Ask(question @ Question::Rerun(_))) => answer(&question, given),
        Ok(asking::NannyInvocation::Ask(question)) => given
            .mask
            .while_restored(|| answer(&question, given))
            .unwrap_or_else(|error| fail(notes::complain, &error, "")),
        Ok(asking::NannyInvocation::Show(text)) => show(notes::complain, &text),
        Err(error) => fail(notes::complain, &error, " (try 'nanny --help')"),
    }
}

fn answer(question: &Question, given: &Given) -> u8 {
    let screen = screen();
    let out = BufWriter::with_capacity(1 << 16, io::stdout());
    // A record or a log that somebody else wrote must not command the terminal.
    let mut out = Guarded { out, is_coloured: screen.is_coloured };
    let status = match nanny::answer(question, given, &mut out, &screen) {
        Ok(status) => status,
        // Whoever read our answer, such as head(1), has enough of it.
        Err(error) if error.is_closed_pipe() => return 0,
        Err(error) => return fail(notes::complain, &error, ""),
    };
    match out.flush().map_err(nanny::failure::Failure::Write) {
        Err(error) if !error.is_closed_pipe() => fail(notes::complain, &error, ""),
        // The status says what was done also if nobody reads the rest.
        _ => status,
    }
}

fn screen() -> Screen {
    let out = io::stdout();
    let is_plain = environment::entries().any(|entry| {
        // https://no-color.org: "when present and not an empty string".
        entry.strip_prefix(b"NO_COLOR=").is_some_and(|value| !value.is_empty())
            || entry == b"TERM=dumb"
    });
    let is_terminal = out.is_terminal();
    let width = terminal::columns(&out);
    Screen { width, is_terminal, is_coloured: is_terminal && !is_plain }
}

/// Writes what was asked for, such as a help text, to standard output.
fn show(complain: fn(&str), text: &str) -> u8 {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => 0,
        Err(error) => fail(complain, &error, ""),
    }
}

/// Reports a failure of our own on one line, with all its causes, and what to do.
fn fail(complain: fn(&str), error: &dyn Error, advice: &str) -> u8 {
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
    complain(&Printable(&line).to_string());
    OWN_FAILURE
}
