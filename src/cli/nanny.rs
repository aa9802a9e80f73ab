//! The command line of `nanny`: what may be typed, and the question that comes of it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::cli::values::Conditions;
use crate::cli::{UsageError, completions, one_line, options, values};
use crate::question::{
    Collect, Dist, Filter, Import, ImportForm, ListForm, Patterns, Question, Report, Rerun, Runs,
    Since, Why,
};

/// What the user wants of the program.
#[derive(Debug, PartialEq, Eq)]
pub enum NannyInvocation {
    /// An answer.
    Ask(Question),
    /// This text, such as the help, on standard output.
    Show(String),
}

#[derive(Parser, Debug)]
#[command(
    name = "nanny",
    version,
    about = "Looks after the record of all jobs that childminder minded.",
    after_help = "Exit status: 0 done; 1 nothing was found, something may be missing because lines \
                  of the record cannot be read, or a rerun failed; 125 it could not be done. Times \
                  are UTC, as in the record.",
    term_width = 80,
    subcommand_required = true
)]
struct NannyArguments {
    /// The record: the FILE of childminder's --central-log; may be given again, for several
    /// [env: CHILDMINDER_CENTRAL_LOG]
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        env = "CHILDMINDER_CENTRAL_LOG",
        hide_env = true
    )]
    central_log: Vec<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// List runs, the newest last
    Runs(RunsTyped),
    /// Show why a run failed, as far as the record and its log know
    Why {
        /// The beginning of its id, or of the part that `runs` shows [default: the run that failed
        /// last]
        run: Option<String>,
    },
    /// Run again what failed and has not succeeded since
    Rerun(RerunTyped),
    /// Merge spooled rows into the record, and mark the runs that were lost
    Collect {
        /// That host will not come back: what ran there is lost; may be given again
        #[arg(long, value_name = "HOST")]
        host_gone: Vec<String>,
    },
    /// Make a record of the history of a batch system or of GNU parallel
    Import {
        /// What wrote it: sacct --parsable2, PBS accounting, the standard workload format, or
        /// parallel --joblog
        #[arg(value_enum, value_name = "FORMAT")]
        form: ImportTyped,
        /// Its files, also packed by gzip
        #[arg(value_name = "LOG", required = true)]
        logs: Vec<PathBuf>,
        /// The record that is made; it must not exist
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Find what failures have in common: campaigns, senders of signals, hosts, boots, commands, hours
    Patterns {
        #[command(flatten)]
        which: Which,
        /// The runs that are asked about: conditions with commas between, of failed, succeeded,
        /// verdict=WORD, slower=SPAN, since=WHEN, before=WHEN
        #[arg(long, value_name = "CONDITIONS", default_value = "failed", value_parser = values::conditions)]
        bad: Conditions,
        /// The runs that they are compared with [default: all others]
        #[arg(long, value_name = "CONDITIONS", value_parser = values::conditions)]
        against: Option<Conditions>,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Write one HTML page about all runs: failures over time, how they failed, commands, hosts, memory
    Report {
        #[command(flatten)]
        which: Which,
        /// Where the page goes [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Show how long the calls of built-in functions took (childminder -f), from their logs
    Dist(DistTyped),
    /// Show where the processes of a running job wait: system calls, native and Python frames
    Stacks {
        /// A process of the job, or its childminder; or the beginning of the run's id
        #[arg(value_name = "PID-OR-RUN")]
        target: String,
    },
    /// Print the newest runs of the record, for completions
    #[command(hide = true)]
    Ids,
    /// Write the completions of a shell for nanny and childminder
    Completions {
        /// The shell
        shell: Shell,
        /// The program
        #[arg(value_enum, default_value = "nanny")]
        program: NannyProgram,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ImportTyped {
    Sacct,
    Pbs,
    Swf,
    Joblog,
}

impl From<ImportTyped> for ImportForm {
    fn from(typed: ImportTyped) -> ImportForm {
        match typed {
            ImportTyped::Sacct => ImportForm::Sacct,
            ImportTyped::Pbs => ImportForm::Pbs,
            ImportTyped::Swf => ImportForm::Swf,
            ImportTyped::Joblog => ImportForm::Joblog,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum NannyProgram {
    Nanny,
    Childminder,
}

#[derive(clap::Args, Debug)]
struct RunsTyped {
    #[command(flatten)]
    which: Which,
    /// Only runs that failed
    #[arg(long)]
    failed: bool,
    /// Only runs that were lost: they began and will never end (see collect)
    #[arg(long)]
    lost: bool,
    /// Only runs with that verdict, such as oom_killed, or with that state: running
    #[arg(long, value_name = "WORD", value_parser = values::verdict_or_state)]
    verdict: Option<String>,
    /// Only the newest N
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<usize>,
    /// One JSON object a line
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// CSV with a header
    #[arg(long)]
    csv: bool,
}

#[derive(clap::Args, Debug)]
struct Which {
    /// Only since then: a span (2h, '2 days ago'), today, yesterday, monday, a date (2026-11-22,
    /// 20261122), or a date and time (2026-11-22T14:00)
    #[arg(long, value_name = "WHEN", value_parser = values::since)]
    since: Option<Since>,
    /// Only of that batch
    #[arg(long, value_name = "NAME")]
    batch: Option<String>,
    /// Only on that host
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Only jobs of that name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

impl From<Which> for Filter {
    fn from(which: Which) -> Filter {
        let Which { since, batch, host, name } = which;
        Filter { since, batch, host, name, ..Filter::default() }
    }
}

#[derive(clap::Args, Debug)]
struct RerunTyped {
    #[command(flatten)]
    which: Which,
    /// Jobs at the same time
    #[arg(short, long, value_name = "N", default_value = "1", value_parser = values::at_least_one)]
    jobs: usize,
    /// Only write the lines that a shell would need
    #[arg(long)]
    dry_run: bool,
    /// As root: run the jobs of all users, each as the user that its seal proves
    #[arg(long)]
    as_recorded_user: bool,
}

#[derive(clap::Args, Debug)]
struct DistTyped {
    /// Logs, and directories of logs [default: log]
    #[arg(value_name = "LOG")]
    paths: Vec<PathBuf>,
    /// A directory of logs, as the original's tdist.pl has it
    #[arg(short, long, value_name = "DIR", visible_alias = "log-directory")]
    log_dir: Vec<PathBuf>,
    /// A table of percentiles in place of the calls
    #[arg(long)]
    percentiles: bool,
    /// A histogram in place of the calls
    #[arg(long)]
    plot: bool,
    /// Draw histograms into FILE
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Reads the command line (without the program's own name).
///
/// # Errors
///
/// What was typed is not a question.
pub fn parse(arguments: Vec<OsString>) -> Result<NannyInvocation, UsageError> {
    let name = std::iter::once(OsString::from("nanny"));
    match NannyArguments::try_parse_from(name.chain(arguments)) {
        Ok(typed) => invocation(typed),
        Err(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            Ok(NannyInvocation::Show(error.render().to_string()))
        }
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            ) =>
        {
            Err(UsageError("no command was given".into()))
        }
        Err(error) => Err(UsageError(one_line(&error))),
    }
}

fn invocation(typed: NannyArguments) -> Result<NannyInvocation, UsageError> {
    let files = typed.central_log;
    let question = match typed.command {
        Command::Completions { shell, program } => {
            return Ok(NannyInvocation::Show(completions(shell, program)));
        }
        Command::Dist(dist) => Question::Dist(dist_question(dist)),
        Command::Import { form, logs, output } => {
            Question::Import(Import { form: form.into(), files: logs, output })
        }
        Command::Stacks { target } => Question::Stacks(target),
        _ if files.is_empty() => {
            return Err(UsageError(
                "no record was named: give --central-log FILE, or set CHILDMINDER_CENTRAL_LOG"
                    .into(),
            ));
        }
        Command::Runs(runs) => Question::Runs(runs_question(runs, files)),
        Command::Patterns { which, bad, against, json } => Question::Patterns(Patterns {
            files,
            filter: which.into(),
            bad: bad.0,
            against: against.map(|conditions| conditions.0),
            is_json: json,
        }),
        Command::Report { which, output } => {
            Question::Report(Report { files, filter: which.into(), output })
        }
        Command::Ids => Question::Ids(files),
        Command::Why { run } => Question::Why(Why { files, run }),
        Command::Rerun(rerun) => Question::Rerun(rerun_question(rerun, files)?),
        Command::Collect { host_gone } => {
            Question::Collect(Collect { files, gone_hosts: host_gone })
        }
    };
    Ok(NannyInvocation::Ask(question))
}

fn runs_question(typed: RunsTyped, files: Vec<PathBuf>) -> Runs {
    let filter = Filter {
        is_failed: typed.failed,
        is_lost: typed.lost,
        verdict: typed.verdict,
        ..typed.which.into()
    };
    let form = match (typed.json, typed.csv) {
        (true, _) => ListForm::Json,
        (_, true) => ListForm::Csv,
        _ => ListForm::Table,
    };
    Runs { files, filter, limit: typed.limit, form }
}

fn rerun_question(typed: RerunTyped, files: Vec<PathBuf>) -> Result<Rerun, UsageError> {
    // One lock, one place where the new rows go.
    let [file] = <[PathBuf; 1]>::try_from(files)
        .map_err(|_| UsageError("rerun works on one record: give --central-log once".into()))?;
    let filter = Filter { is_failed: true, ..typed.which.into() };
    Ok(Rerun {
        file,
        filter,
        jobs: typed.jobs,
        is_dry: typed.dry_run,
        is_as_recorded_user: typed.as_recorded_user,
    })
}

fn dist_question(typed: DistTyped) -> Dist {
    let mut paths = typed.log_dir;
    paths.extend(typed.paths);
    if paths.is_empty() {
        paths.push("log".into());
    }
    Dist { paths, percentiles: typed.percentiles, plot: typed.plot, svg: typed.svg }
}

fn completions(shell: Shell, program: NannyProgram) -> String {
    match program {
        NannyProgram::Nanny => completions::of_nanny(shell, NannyArguments::command()),
        NannyProgram::Childminder => {
            completions::of_childminder(shell, options::ChildminderArguments::command())
        }
    }
}

/// Every command and every option that is not hidden, as typed: the manual page must have them.
#[must_use]
pub fn vocabulary() -> Vec<String> {
    let mut words = Vec::new();
    let table = NannyArguments::command();
    let commands = table.get_subcommands().filter(|command| !command.is_hide_set());
    for command in std::iter::once(&table).chain(commands) {
        words.push(command.get_name().to_owned());
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            words.extend(argument.get_long().map(|long| format!("--{long}")));
            words.extend(argument.get_short().map(|short| format!("-{short}")));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &[&str]) -> Result<NannyInvocation, UsageError> {
        parse(line.iter().map(OsString::from).collect())
    }

    #[test]
    fn several_records_are_read_but_one_is_run_again() {
        let Ok(NannyInvocation::Ask(Question::Runs(runs))) =
            parsed(&["--central-log", "a", "runs", "--central-log", "b", "--failed"])
        else {
            panic!("no question")
        };
        // What stands behind the command takes the place of what stands before it.
        assert_eq!(runs.files, [PathBuf::from("b")]);
        let two = ["runs", "--central-log", "a", "--central-log", "b"];
        assert!(
            matches!(parsed(&two), Ok(NannyInvocation::Ask(Question::Runs(runs))) if runs.files.len() == 2)
        );
        let error = parsed(&["rerun", "--central-log", "a", "--central-log", "b"]).unwrap_err();
        assert!(error.0.contains("one record"), "{error}");
    }

    #[test]
    fn bad_lines_end_in_one_line_that_names_the_thing() {
        for (line, words) in [
            (&[][..], "no command"),
            (&["walk"], "'walk'"),
            (&["--central-log", "a", "runs", "--since", "tomorrow"], "tomorrow"),
            (&["--central-log", "a", "runs", "--since", "20260230"], "20260230"),
            (&["--central-log", "a", "runs", "--verdict", "typo"], "exit_nonzero"),
            (&["--central-log", "a", "runs", "--since", "2026-13-01"], "2026-13-01"),
            (&["--central-log", "a", "runs", "--json", "--csv"], "--csv"),
            (&["--central-log", "a", "rerun", "-j", "0"], "0"),
            (&["--central-log", "a", "patterns", "--bad", "typo"], "'typo'"),
            (&["--central-log", "a", "patterns", "--bad", "verdict=typo"], "exit_nonzero"),
            (&["--central-log", "a", "patterns", "--against", "slower=soon"], "soon"),
        ] {
            let message = parsed(line).expect_err(&line.join(" ")).to_string();
            assert!(message.contains(words), "{line:?}: {message}");
            assert!(!message.contains('\n'), "{line:?}: {message}");
        }
    }

    #[test]
    fn helps_fit_a_terminal_of_eighty_columns() {
        for line in [&["--help"][..], &["runs", "--help"], &["rerun", "-h"], &["dist", "-h"]] {
            let Ok(NannyInvocation::Show(help)) = parsed(line) else { panic!("no help") };
            assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
        }
    }

    #[test]
    fn completions_know_both_programs() {
        for (program, word) in [("nanny", "--percentiles"), ("childminder", "--restart-on")] {
            let Ok(NannyInvocation::Show(text)) = parsed(&["completions", "bash", program]) else {
                panic!("no completions")
            };
            assert!(text.contains(word), "{program}");
        }
    }
}
