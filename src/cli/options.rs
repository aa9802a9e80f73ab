//! The table of options: --help, the parser and the environment all come from it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Parser, ValueEnum};

use crate::cli::end_options::EndOptions;
use crate::cli::values;
use crate::model::policy::{Backoff, Forward, RestartCause};
use crate::model::signal::Signal;

const ABOUT: &str = "\
Minds one job: starts CMD, traps every signal it may, reaps it, explains its death and writes \
a log. The first word that is not an option is the job.";

const AFTER: &str = "\
Durations: a number of seconds, or 250ms, 1.5s, 2m, 1h30m, 1d.

Long options without a letter are also read from the environment, as CHILDMINDER_<OPTION>: \
CHILDMINDER_BACKOFF=5s..10m is --backoff 5s..10m.

Exit status: that of CMD; 128+n if signal n killed it; 124 if --timeout ended it; 125 if \
childminder could not do what was asked, and CMD was not started; 126 or 127 if CMD could not \
be executed or was not found; 0 when -f ran to its end, 1 if one of its calls failed or was wrong.

Example: childminder -d -s -t 2 --timeout 6h -o out.txt ./simulate --steps 1000";

#[derive(Parser, Debug)]
#[command(
    name = "childminder",
    version,
    about = ABOUT,
    after_help = AFTER,
    override_usage = "childminder [OPTIONS] CMD [ARG...]\n       childminder [OPTIONS] -f SECONDS FUNCTION",
    term_width = 80,
    disable_help_subcommand = true,
    args_override_self = true,
)]
pub(super) struct ChildminderArguments {
    /// The job and its arguments.
    #[arg(value_name = "CMD", trailing_var_arg = true, hide = true, value_hint = clap::ValueHint::CommandWithArguments)]
    pub(super) command: Vec<OsString>,

    /// Send SIGCONT to a job that was stopped
    #[arg(short = 'c', long = "continue")]
    pub(super) continue_stopped: bool,
    /// Delete the log of a run that ended with exit status 0 and lost nothing
    #[arg(short, long, help_heading = "Log")]
    pub(super) delete: bool,
    /// Redirect the job's standard error to FILE
    #[arg(short, long, value_name = "FILE", help_heading = "Redirection")]
    pub(super) error: Option<PathBuf>,
    /// Run built-in functions again and again for SECONDS, several in turn; 0: until a signal of
    /// --stop-on, which is then TERM,INT by default. FUNCTION is math-int, math-fp, string, file,
    /// memory, random (one of those five, chosen for each call) or sleep
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = values::duration, help_heading = "Built-in functions")]
    pub(super) function: Option<Duration>,
    /// Redirect the job's standard input from FILE
    #[arg(short, long, value_name = "FILE", help_heading = "Redirection")]
    pub(super) input: Option<PathBuf>,
    /// Where the log goes: a directory, made if it is missing, or stderr or stdout [default: log,
    /// or stderr where log cannot be made]
    #[arg(short, long, value_name = "DIR", help_heading = "Log")]
    pub(super) log_directory: Option<PathBuf>,
    /// Redirect the job's standard output to FILE
    #[arg(short, long, value_name = "FILE", help_heading = "Redirection")]
    pub(super) output: Option<PathBuf>,
    /// Restart a job that was stopped and stays so
    #[arg(short = 'p', long)]
    pub(super) restart_stopped: bool,
    /// No answer lines from built-in functions
    #[arg(short, long, help_heading = "Built-in functions")]
    pub(super) quiet_func: bool,
    /// Restart a job that is gone without a status to collect
    #[arg(short = 'r', long)]
    pub(super) restart_interrupt: bool,
    /// Restart a job that was ended by a signal
    #[arg(short = 's', long)]
    pub(super) restart_signalled: bool,
    /// Restart at most N times, whatever the causes
    #[arg(short = 't', long, visible_alias = "n-restarts", value_name = "N", allow_negative_numbers = true, value_parser = values::count, default_value = "4")]
    pub(super) n_restart: u32,
    /// Go to DIR first: both log directory and job
    #[arg(short, long, value_name = "DIR", help_heading = "Redirection")]
    pub(super) working_directory: Option<PathBuf>,

    /// Append to the files of -o and -e; the default empties them before the first attempt (a
    /// restart always appends)
    #[arg(long, value_parser = BoolishValueParser::new(), env = "CHILDMINDER_APPEND", hide_env = true, help_heading = "Redirection")]
    pub(super) append: bool,
    /// Show nothing of a success: what the job writes to standard output and standard error is kept aside, and
    /// shown on standard error if the run fails, with the verdict last
    #[arg(long, value_parser = BoolishValueParser::new(), env = "CHILDMINDER_QUIET_SUCCESS", hide_env = true, help_heading = "Redirection")]
    pub(super) quiet_success: bool,
    /// How much of the output --quiet-success shows: the first and the last half of SIZE
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = values::size, env = "CHILDMINDER_KEEP_OUTPUT", hide_env = true, help_heading = "Redirection")]
    pub(super) keep_output: u64,
    /// Working directory of the job alone
    #[arg(
        long,
        value_name = "DIR",
        env = "CHILDMINDER_CHILD_DIRECTORY",
        hide_env = true,
        help_heading = "Redirection"
    )]
    pub(super) child_directory: Option<PathBuf>,

    #[command(flatten)]
    pub(super) end: EndOptions,
    #[command(flatten)]
    pub(super) supervision: Supervision,
    #[command(flatten)]
    pub(super) observed: TypedObservation,
    #[command(flatten)]
    pub(super) recorded: Recorded,
    #[command(flatten)]
    pub(super) telemetry: TypedTelemetry,

    /// How a line of the log looks
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value = "text",
        env = "CHILDMINDER_LOG_FORMAT",
        hide_env = true,
        help_heading = "Log"
    )]
    pub(super) log_format: Format,
    /// Start no job: show which evidence can be had here, and how to get the rest (exit status 1 if
    /// something is missing)
    #[arg(long, help_heading = "Help")]
    pub(super) doctor: bool,
    /// --doctor: one JSON object a line
    #[arg(long, help_heading = "Help")]
    pub(super) json: bool,
    /// Start a call of -f that long after the one before, not at once: 1m is a small load
    #[arg(long, value_name = "DURATION", value_parser = values::positive_duration, env = "CHILDMINDER_EVERY", hide_env = true, help_heading = "Built-in functions")]
    pub(super) every: Option<Duration>,
    /// Where the calls of -f run: where the kernel puts them, or on each processor that is allowed,
    /// in turn
    #[arg(
        long,
        value_enum,
        value_name = "any|each",
        default_value = "any",
        env = "CHILDMINDER_CORES",
        hide_env = true,
        help_heading = "Built-in functions"
    )]
    pub(super) cores: Cores,
    /// Signals that end -f early; by default none does, for it is there to watch them
    #[arg(long, value_name = "SIGNAL,...", value_delimiter = ',', value_parser = values::trappable, env = "CHILDMINDER_STOP_ON", hide_env = true, help_heading = "Built-in functions")]
    pub(super) stop_on: Vec<Signal>,
}

/// `--cores`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Cores {
    Any,
    Each,
}

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Supervision")]
pub(super) struct Supervision {
    /// Restart for these causes: failure, signal, signal:NAME, exit:STATUS, timeout, crash or
    /// another verdict
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = values::cause, env = "CHILDMINDER_RESTART_ON", hide_env = true)]
    pub(super) restart_on: Vec<RestartCause>,
    /// Never restart for these, whatever else was asked
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = values::cause, env = "CHILDMINDER_NEVER_ON", hide_env = true)]
    pub(super) never_on: Vec<RestartCause>,
    /// Wait before a restart: a random time between MIN and a bound that doubles with each
    /// restart in a row, up to MAX [default: 1s..60s]
    #[arg(long, value_name = "MIN..MAX", value_parser = values::backoff, env = "CHILDMINDER_BACKOFF", hide_env = true)]
    pub(super) backoff: Option<Backoff>,
    /// An attempt that lasts at least this long resets the back-off
    #[arg(long, value_name = "DURATION", allow_negative_numbers = true, value_parser = values::duration, default_value = "60", env = "CHILDMINDER_STABLE", hide_env = true)]
    pub(super) stable: Duration,
    /// End an attempt that takes longer: SIGTERM to all its processes, then SIGKILL
    #[arg(long, value_name = "DURATION", allow_negative_numbers = true, value_parser = values::positive_duration, env = "CHILDMINDER_TIMEOUT", hide_env = true)]
    pub(super) timeout: Option<Duration>,
    /// How long after SIGTERM comes SIGKILL [default: 30 when childminder ends the job; never
    /// for a SIGTERM that it only passed on]
    #[arg(long, value_name = "DURATION", allow_negative_numbers = true, value_parser = values::duration, env = "CHILDMINDER_KILL_AFTER", hide_env = true)]
    pub(super) kill_after: Option<Duration>,
    /// Which signals sent to childminder the job gets as well: all, none or a list
    #[arg(long, value_name = "LIST", value_parser = values::forward, default_value = "all", env = "CHILDMINDER_FORWARD", hide_env = true)]
    pub(super) forward: Forward,
    /// What to do with processes that outlive the job
    #[arg(
        long,
        value_name = "POLICY",
        value_enum,
        default_value = "leave",
        env = "CHILDMINDER_STRAGGLERS",
        hide_env = true
    )]
    pub(super) stragglers: StragglerPolicy,
    /// Start the job in a session of its own, away from the terminal
    #[arg(long, value_parser = BoolishValueParser::new(), env = "CHILDMINDER_NEW_SESSION", hide_env = true)]
    pub(super) new_session: bool,
}

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Observation")]
pub(super) struct TypedObservation {
    /// How often the job's processes are sampled; 0 is never
    #[arg(long, value_name = "DURATION", allow_negative_numbers = true, value_parser = values::duration, default_value = "1", env = "CHILDMINDER_SAMPLE", hide_env = true)]
    pub(super) sample: Duration,
    /// Note which files the job has open, and how
    #[arg(long, value_parser = BoolishValueParser::new(), env = "CHILDMINDER_FILES", hide_env = true)]
    pub(super) files: bool,
    /// Before a restart, move the files that the failed attempt created in its working directory
    /// to a folder beside the log; none is deleted, and none that existed before is touched
    #[arg(long, value_parser = BoolishValueParser::new(), env = "CHILDMINDER_CLEAN_WRITTEN", hide_env = true)]
    pub(super) clean_written: bool,
    /// Where --clean-written may move files from, besides the working directory
    #[arg(long, value_name = "DIR", env = "CHILDMINDER_CLEAN_WITHIN", hide_env = true)]
    pub(super) clean_within: Vec<PathBuf>,
    /// If the job fails, list what other users were running, by name
    #[arg(long, env = "CHILDMINDER_NEIGHBOURS", hide_env = true)]
    pub(super) neighbours: bool,
    /// Trace the job and its descendants (ptrace): which process sends them which signal, and what each
    /// of them dies of. With main, the job alone, so that gdb and strace work inside; with required, the
    /// job is not started if tracing is refused
    #[arg(
        long,
        value_name = "HOW",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_value = "off",
        default_missing_value = "all",
        hide_default_value = true,
        env = "CHILDMINDER_TRACE",
        hide_env = true
    )]
    pub(super) trace: TraceChoice,
    /// What a job is that returns 0 after a descendant was killed or crashed; fail returns 1
    #[arg(
        long,
        value_name = "WHAT",
        value_enum,
        default_value = "ok",
        env = "CHILDMINDER_ON_DESCENDANT_LOSS",
        hide_env = true
    )]
    pub(super) on_descendant_loss: OnLoss,
}

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Record")]
pub(super) struct Recorded {
    /// Add rows about this run to FILE, a CSV that all runs share
    #[arg(long, value_name = "FILE", env = "CHILDMINDER_CENTRAL_LOG", hide_env = true)]
    pub(super) central_log: Option<PathBuf>,
    /// Wait until each row is on the disk (fsync)
    #[arg(long, value_parser = BoolishValueParser::new(), env = "CHILDMINDER_CENTRAL_SYNC", hide_env = true)]
    pub(super) central_sync: bool,
    /// What the job is called in record and telemetry [default: the program's name]
    #[arg(long, value_parser = values::name, env = "CHILDMINDER_NAME", hide_env = true)]
    pub(super) name: Option<String>,
    /// The batch that the job belongs to
    #[arg(long, value_parser = values::name, env = "CHILDMINDER_BATCH", hide_env = true)]
    pub(super) batch: Option<String>,
    /// Anything else about the run; may be given again
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::tag, env = "CHILDMINDER_TAG", hide_env = true)]
    pub(super) tag: Vec<(String, String)>,
    /// Hide words of the command line that match, besides passwords and tokens, in everything that
    /// leaves the machine or is shared: `--redact 'key-*'` (* is anything); may be given again
    #[arg(long, value_name = "PATTERN", env = "CHILDMINDER_REDACT", hide_env = true)]
    pub(super) redact: Vec<String>,
}

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Telemetry")]
pub(super) struct TypedTelemetry {
    /// Serve metrics at ADDRESS: PORT alone is on loopback, 0 is any free port; may be given again
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS",
        value_delimiter = ',',
        value_parser = values::listen_address,
        env = "CHILDMINDER_WEB_LISTEN_ADDRESS",
        hide_env = true
    )]
    pub(super) listen_address: Vec<String>,
    /// Path of the metrics
    #[arg(long = "web.telemetry-path", value_name = "PATH", value_parser = values::web_path, default_value = "/metrics", env = "CHILDMINDER_WEB_TELEMETRY_PATH", hide_env = true)]
    pub(super) telemetry_path: String,
    /// TLS, client certificates and passwords, in the file format of the Prometheus exporter toolkit
    #[arg(
        long = "web.config.file",
        value_name = "FILE",
        env = "CHILDMINDER_WEB_CONFIG_FILE",
        hide_env = true
    )]
    pub(super) web_config: Option<PathBuf>,
    /// Serve metrics on sockets that systemd passes
    #[arg(long = "web.systemd-socket", value_parser = BoolishValueParser::new(), env = "CHILDMINDER_WEB_SYSTEMD_SOCKET", hide_env = true)]
    pub(super) systemd_socket: bool,
    /// Announce this job's address in FILE, for file_sd of Prometheus, while it runs
    #[arg(
        long = "web.file-sd",
        value_name = "FILE",
        env = "CHILDMINDER_WEB_FILE_SD",
        hide_env = true
    )]
    pub(super) file_sd: Option<PathBuf>,
    /// After the job's end, serve until one scrape was answered or DURATION has passed. SIGTERM,
    /// SIGINT, SIGHUP or SIGQUIT ends it at once; the exit status is the job's [default: 0, off]
    #[arg(long = "web.linger", value_name = "DURATION", allow_negative_numbers = true, value_parser = values::duration, default_value = "0", hide_default_value = true, env = "CHILDMINDER_WEB_LINGER", hide_env = true)]
    pub(super) linger: Duration,
    /// Write metrics to a file in DIR, for the textfile collector of node_exporter
    #[arg(long, value_name = "DIR", env = "CHILDMINDER_TEXTFILE_DIRECTORY", hide_env = true)]
    pub(super) textfile_directory: Option<PathBuf>,
    /// Push metrics to a Prometheus Pushgateway at the end
    #[arg(long, value_name = "URL", value_parser = values::pushgateway, env = "CHILDMINDER_PUSHGATEWAY", hide_env = true)]
    pub(super) pushgateway: Option<String>,
    /// A label for every metric; up to five
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::metric_label, env = "CHILDMINDER_METRIC_LABEL", hide_env = true)]
    pub(super) metric_label: Vec<(String, String)>,
    /// How long the end may be held up by telemetry that is not sent yet
    #[arg(long, value_name = "DURATION", allow_negative_numbers = true, value_parser = values::duration, default_value = "2", env = "CHILDMINDER_OTEL_FLUSH_TIMEOUT", hide_env = true)]
    pub(super) otel_flush_timeout: Duration,
    /// Begin a trace of its own, linked to the one in TRACEPARENT
    #[arg(long, value_parser = BoolishValueParser::new(), env = "CHILDMINDER_NEW_TRACE", hide_env = true)]
    pub(super) new_trace: bool,
    /// Put the job's arguments into spans, with secrets hidden
    #[arg(long, value_parser = BoolishValueParser::new(), env = "CHILDMINDER_RECORD_ARGS", hide_env = true)]
    pub(super) record_args: bool,
    /// service.instance.id: `random`, or a word [default: always the same for this host and job]
    #[arg(long, value_name = "ID", value_parser = values::name, env = "CHILDMINDER_INSTANCE_ID", hide_env = true)]
    pub(super) instance_id: Option<String>,
    /// Keep the OTEL_* variables, which may hold secrets, from the job
    #[arg(long, value_parser = BoolishValueParser::new(), env = "CHILDMINDER_OTEL_ENV_STRIP", hide_env = true)]
    pub(super) otel_env_strip: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OnLoss {
    Ok,
    Fail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TraceChoice {
    #[value(aliases = ["0", "no", "false"])]
    Off,
    #[value(aliases = ["1", "yes", "true", "on"])]
    All,
    Main,
    Required,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum StragglerPolicy {
    Leave,
    Wait,
    Kill,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::model::verdict::VerdictKind;

    /// The manual page: the options come out of the table above, what is around them is written.
    fn manual() -> String {
        let mut options = Vec::new();
        let man = clap_mangen::Man::new(ChildminderArguments::command());
        man.render_options_section(&mut options).expect("written to memory");
        let options = String::from_utf8(options).expect("it is text");
        let options: String = options.lines().map(in_the_options_section).collect();
        // What says nothing and makes formatters complain.
        let options = options.replace("\n.br\n\n.br\n", "\n.br\n");
        let (head, tail) = (include_str!("manual/head.roff"), include_str!("manual/tail.roff"));
        let version = env!("CARGO_PKG_VERSION");
        let title =
            format!(".TH CHILDMINDER 1 2026-11-22 \"childminder {version}\" \"User commands\"");
        let quotes = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '";
        format!("{title}\n{quotes}\n{head}{options}{tail}")
    }

    /// A heading of clap stands below OPTIONS here.
    fn in_the_options_section(line: &str) -> String {
        match line.strip_prefix(".SH ").filter(|title| *title != "OPTIONS") {
            Some(title) => format!(".SS {}{}\n", &title[..1], title[1..].to_lowercase()),
            None => format!("{line}\n"),
        }
    }

    /// Each page that explains them has all words.
    #[test]
    fn the_manual_pages_explain_every_verdict_and_status() {
        let record = include_str!("../../deploy/man/childminder-record.5");
        for kind in VerdictKind::ALL.map(VerdictKind::word) {
            let named = format!(".B {kind}\n");
            assert!(manual().contains(&named), "childminder(1) lacks {kind}");
            assert!(record.contains(&named), "childminder-record(5) lacks {kind}");
        }
        for status in ["0", "1", "124", "125", "126", "127"] {
            assert!(manual().contains(&format!(".B {status}\n")), "{status}");
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "UPDATE_GOLDEN is for whoever tests")]
    fn the_manual_page_is_made_of_this_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/man/childminder.1");
        let found = include_str!("../../deploy/man/childminder.1");
        if found != manual() && std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, manual()).expect("the page can be written");
            return;
        }
        assert!(
            found == manual(),
            "deploy/man/childminder.1 is old: UPDATE_GOLDEN=1 writes it again"
        );
    }
}
