//! The command line of `childminder`: what may be typed, and the plan that comes of it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches};

use crate::cli::options::{
    ChildminderArguments, Cores, Format, OnLoss, Recorded, StragglerPolicy, TraceChoice,
    TypedObservation, TypedTelemetry,
};
use crate::cli::value_error::ValueError;
use crate::cli::variables::{self, FOR_JOBS, PREFIX, variable};
use crate::cli::{UsageError, doctor, one_line, otel, values};
use crate::model::policy::{Policy, Stragglers};
use crate::model::signal::Signal;
use crate::plan::{
    CanaryPlan, DoctorPlan, Function, HookPlan, InstanceId, JobPlan, LogFormat, LogPlan, LogTarget,
    Naming, Observation, RecordPlan, RunPlan, TelemetryPlan, TraceMode, WebPlan, Work,
};

/// What the user wants of the program.
#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    /// A run, and what to warn of before it.
    Run(Box<RunPlan>, Vec<String>),
    /// This text, such as the help, on standard output.
    Show(String),
    /// What evidence can be had here.
    Doctor(DoctorPlan),
}

/// Reads the command line (without the program's own name) and the environment, whose entries are
/// `NAME=value`.
///
/// # Errors
///
/// What was typed is not a run; nothing was opened or created.
pub fn parse<'a>(
    arguments: Vec<OsString>,
    environment: impl Iterator<Item = &'a [u8]>,
) -> Result<Invocation, UsageError> {
    let is_plain = arguments.first().is_some_and(|first| !first.as_bytes().starts_with(b"-"));
    let names: Vec<String> = environment.filter_map(name_of_ours).collect();
    // The usual case needs no parser: its work would take as long as starting the job.
    if is_plain && names.is_empty() {
        return job_plan(arguments, |job| job)
            .map(|work| Invocation::Run(Box::new(RunPlan::new(default_log(), work)), Vec::new()));
    }
    parse_options(arguments, &names)
}

/// `names` are those of the variables in the environment.
fn parse_options(arguments: Vec<OsString>, names: &[String]) -> Result<Invocation, UsageError> {
    let name = std::iter::once(OsString::from("childminder"));
    let mut table = variables::without_empty(ChildminderArguments::command());
    let parsed = table.try_get_matches_from_mut(name.chain(arguments)).and_then(|matches| {
        let is_from = |option, source| matches.value_source(option) == Some(source);
        let is_stop_on_typed = is_from("stop_on", ValueSource::CommandLine);
        let lists = ["tag", "metric_label"].map(|list| is_from(list, ValueSource::EnvVariable));
        Ok((ChildminderArguments::from_arg_matches(&matches)?, is_stop_on_typed, lists))
    });
    match parsed {
        Ok((mut typed, is_stop_on_typed, [are_tags_set, are_labels_set])) => {
            // On the command line the option is given again; a variable can only be set once.
            if are_tags_set {
                let tags = &mut typed.recorded.tag;
                *tags = split_pairs("CHILDMINDER_TAG", tags, values::tag)?;
            }
            if are_labels_set {
                let labels = &mut typed.telemetry.metric_label;
                *labels = split_pairs("CHILDMINDER_METRIC_LABEL", labels, values::metric_label)?;
            }
            if typed.doctor {
                return doctor_plan(&typed).map(Invocation::Doctor);
            }
            if typed.json {
                return Err(UsageError("--json is about --doctor".into()));
            }
            let warnings = variables::unknown(&table, names);
            plan(typed, is_stop_on_typed).map(|plan| Invocation::Run(Box::new(plan), warnings))
        }
        Err(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            Ok(Invocation::Show(error.render().to_string()))
        }
        Err(error) => Err(UsageError(one_line(&error) + &from_environment(&error))),
    }
}

/// Returns the name of a variable that sets an option, or OpenTelemetry; an empty one is unset.
fn name_of_ours(entry: &[u8]) -> Option<String> {
    let is_ours = entry.starts_with(PREFIX.as_bytes());
    if !is_ours && !entry.starts_with(b"OTEL_") {
        return None;
    }
    let (name, value) = std::str::from_utf8(entry).ok()?.split_once('=')?;
    (!value.is_empty() && !FOR_JOBS.contains(&name)).then(|| name.to_owned())
}

/// A key and its value.
type Pair = (String, String);

/// Reads all pairs of a variable, `a=1,b=2`, whose first pair holds the others. A part without `=`
/// belongs to the value before it.
fn split_pairs(
    variable: &str,
    pairs: &[Pair],
    check: impl Fn(&str) -> Result<Pair, ValueError>,
) -> Result<Vec<Pair>, UsageError> {
    let mut texts: Vec<String> = Vec::new();
    for (key, values) in pairs {
        for part in format!("{key}={values}").split(',') {
            match texts.last_mut() {
                Some(last) if !part.contains('=') => *last = format!("{last},{part}"),
                _ => texts.push(part.trim_start().to_owned()),
            }
        }
    }
    let checked = texts.iter().map(|text| check(text)).collect::<Result<_, _>>();
    checked.map_err(|why| UsageError(format!("invalid value of {variable}: {why}")))
}

/// Names the variable that a bad value came from: nobody typed it.
#[expect(clippy::disallowed_methods, reason = "the environment is part of what was typed")]
fn from_environment(error: &clap::Error) -> String {
    use clap::error::{ContextKind, ContextValue};
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let (Some(option), Some(value)) =
        (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue))
    else {
        return String::new();
    };
    let name = option.split(' ').next().unwrap_or(option).trim_start_matches('-');
    let variable = format!("{PREFIX}{}", name.replace(['-', '.'], "_").to_uppercase());
    let set = std::env::var_os(&variable).unwrap_or_default();
    if set.to_string_lossy().contains(value) && !set.is_empty() {
        format!(" (set by {variable} in the environment)")
    } else {
        String::new()
    }
}

fn default_log() -> LogPlan {
    LogPlan { target: LogTarget::Default, format: LogFormat::Text, delete_on_success: false }
}

/// Makes a job of a command; `adjust` adds what options say about it.
fn job_plan(
    command: Vec<OsString>,
    adjust: impl FnOnce(JobPlan) -> JobPlan,
) -> Result<Work, UsageError> {
    match command.first() {
        None => return Err(UsageError("no command was given".into())),
        Some(first) if first.is_empty() => {
            return Err(UsageError("the command is an empty word".into()));
        }
        Some(_) => {}
    }
    Ok(Work::Job(Box::new(adjust(JobPlan {
        command,
        input: None,
        output: None,
        error: None,
        append: false,
        quiet_success: None,
        hooks: HookPlan::default(),
        termination_log: None,
        directory: None,
        policy: Policy::default(),
        observation: Observation::default(),
    }))))
}

fn plan(typed: ChildminderArguments, is_stop_on_typed: bool) -> Result<RunPlan, UsageError> {
    let log = log_plan(&typed)?;
    let (naming, record) = record_plan(&typed.recorded);
    let telemetry = telemetry_plan(&typed.telemetry)?;
    let telemetry = (telemetry != TelemetryPlan::default()).then(|| Box::new(telemetry));
    let working_directory = typed.working_directory.clone();
    let work = work(typed, is_stop_on_typed)?;
    Ok(RunPlan { working_directory, log, naming, record, telemetry, work })
}

fn doctor_plan(typed: &ChildminderArguments) -> Result<DoctorPlan, UsageError> {
    if !typed.command.is_empty() {
        return Err(UsageError("--doctor starts no job: leave the command out".into()));
    }
    let record = record_plan(&typed.recorded).1.map(|record| record.file);
    let telemetry = telemetry_plan(&typed.telemetry)?;
    Ok(doctor::plan(log_plan(typed)?.target, record, telemetry, typed.json))
}

fn log_plan(typed: &ChildminderArguments) -> Result<LogPlan, UsageError> {
    Ok(LogPlan {
        target: match typed.log_directory.as_deref().map(|path| (path, path.to_str())) {
            None => LogTarget::Default,
            Some((_, Some("stderr"))) => LogTarget::Stderr,
            Some((_, Some("stdout"))) => LogTarget::Stdout,
            Some((_, Some(""))) => {
                return Err(UsageError("the log directory is an empty word".into()));
            }
            Some((path, _)) => LogTarget::Directory(path.to_owned()),
        },
        format: match typed.log_format {
            Format::Text => LogFormat::Text,
            Format::Json => LogFormat::Json,
        },
        delete_on_success: typed.delete,
    })
}

fn record_plan(typed: &Recorded) -> (Naming, Option<RecordPlan>) {
    let naming = Naming {
        name: typed.name.clone(),
        batch: typed.batch.clone(),
        tags: typed.tag.clone(),
        redact: typed.redact.clone(),
    };
    let sync = typed.central_sync;
    (naming, typed.central_log.clone().map(|file| RecordPlan { file, sync }))
}

/// More labels would be a way to make any number of series.
const LABELS_MAX: usize = 5;

fn telemetry_plan(typed: &TypedTelemetry) -> Result<TelemetryPlan, UsageError> {
    if typed.metric_label.len() > LABELS_MAX {
        let message = format!("--metric-label may be given {LABELS_MAX} times at most");
        return Err(UsageError(message));
    }
    for (number, (key, _)) in typed.metric_label.iter().enumerate() {
        if typed.metric_label[..number].iter().any(|(before, _)| before == key) {
            return Err(UsageError(format!("--metric-label: the label '{key}' is given twice")));
        }
    }
    let mut web = WebPlan {
        listen: typed.listen_address.clone(),
        systemd_socket: typed.systemd_socket,
        metrics_path: typed.telemetry_path.clone(),
        config: typed.web_config.clone(),
        file_sd: typed.file_sd.clone(),
        linger: typed.linger,
    };
    // A site may set it for all jobs; those that serve nothing have no use for it.
    if !web.is_asked() {
        web.linger = Duration::ZERO;
    }
    Ok(TelemetryPlan {
        web,
        textfile_directory: typed.textfile_directory.clone(),
        pushgateway: typed.pushgateway.clone(),
        labels: typed.metric_label.clone(),
        flush_timeout: typed.otel_flush_timeout,
        new_trace: typed.new_trace,
        record_arguments: typed.record_args,
        instance: match typed.instance_id.as_deref() {
            None => InstanceId::Derived,
            Some("random") => InstanceId::Random,
            Some(id) => InstanceId::Given(id.to_owned()),
        },
        strip_environment: typed.otel_env_strip,
        otlp: otel::plan(variable),
    })
}

fn work(typed: ChildminderArguments, is_stop_on_typed: bool) -> Result<Work, UsageError> {
    if let Some(span) = typed.function {
        return canary_plan(&typed, span);
    }
    // A site may set --stop-on for all its canaries.
    let is_about_functions =
        typed.quiet_func || is_stop_on_typed || typed.every.is_some() || typed.cores == Cores::Each;
    if is_about_functions {
        return Err(UsageError(
            "-q, --stop-on, --every and --cores are about built-in functions: add -f SECONDS"
                .into(),
        ));
    }
    let policy = policy(&typed);
    let TypedObservation { sample, files, clean_written, clean_within, neighbours, trace, .. } =
        typed.observed;
    if clean_written && sample.is_zero() {
        let message = "--clean-written needs samples to know the files by: not --sample 0";
        return Err(UsageError(message.into()));
    }
    let trace = match trace {
        TraceChoice::Off => TraceMode::Off,
        TraceChoice::All => TraceMode::All,
        TraceChoice::Main => TraceMode::Main,
        TraceChoice::Required => TraceMode::Required,
    };
    let observation =
        Observation { interval: sample, files, clean_written, clean_within, neighbours, trace };
    if typed.quiet_success && typed.output.is_some() && typed.error.is_some() {
        let message = "--quiet-success has nothing to keep: -o and -e take both outputs";
        return Err(UsageError(message.into()));
    }
    let termination_log = typed.end.termination_log.clone();
    let hooks = typed.end.into();
    let quiet_success = typed.quiet_success.then_some(typed.keep_output);
    let ChildminderArguments { command, input, output, error, append, child_directory, .. } = typed;
    job_plan(command, |job| JobPlan {
        input,
        output,
        error,
        append,
        quiet_success,
        hooks,
        termination_log,
        directory: child_directory,
        policy,
        observation,
        ..job
    })
}

fn policy(typed: &ChildminderArguments) -> Policy {
    let supervision = &typed.supervision;
    Policy {
        continue_stopped: typed.continue_stopped,
        restart_stopped: typed.restart_stopped,
        restart_lost: typed.restart_interrupt,
        restart_signalled: typed.restart_signalled,
        restart_on: supervision.restart_on.clone(),
        never_on: supervision.never_on.clone(),
        max_restarts: typed.n_restart,
        backoff: supervision.backoff.unwrap_or_default(),
        stable: supervision.stable,
        timeout: supervision.timeout,
        kill_after: supervision.kill_after,
        forward: supervision.forward.clone(),
        stragglers: match supervision.stragglers {
            StragglerPolicy::Leave => Stragglers::Leave,
            StragglerPolicy::Wait => Stragglers::Wait,
            StragglerPolicy::Kill => Stragglers::Kill,
        },
        new_session: supervision.new_session,
        loss_is_failure: typed.observed.on_descendant_loss == OnLoss::Fail,
    }
}

fn canary_plan(typed: &ChildminderArguments, span: Duration) -> Result<Work, UsageError> {
    let words = || Function::ALL.map(Function::word).join(", ");
    let function = |word: &OsString| {
        let found = Function::ALL.into_iter().find(|function| word == function.word());
        found.ok_or_else(|| {
            let word = word.to_string_lossy();
            UsageError(format!("no function is called '{word}': it is one of {}", words()))
        })
    };
    let functions: Vec<Function> =
        typed.command.iter().map(function).collect::<Result<_, UsageError>>()?;
    if functions.is_empty() {
        return Err(UsageError(format!("-f needs a function: one of {}", words())));
    }
    if functions.len() > 1 && functions.contains(&Function::Sleep) {
        let message = "'sleep' waits for the whole time: it cannot take turns with other functions";
        return Err(UsageError(message.into()));
    }
    let span = (!span.is_zero()).then_some(span);
    let mut stop_on = typed.stop_on.clone();
    // What has no end must be possible to end.
    if span.is_none() && stop_on.is_empty() {
        stop_on = vec![Signal::TERM, Signal::INT];
    }
    Ok(Work::Canary(CanaryPlan {
        functions,
        span,
        every: typed.every,
        each_core: typed.cores == Cores::Each,
        quiet: typed.quiet_func,
        stop_on,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &[&str]) -> Result<Invocation, UsageError> {
        parse_options(line.iter().map(OsString::from).collect(), &[])
    }

    fn job(line: &[&str]) -> JobPlan {
        match parsed(line) {
            Ok(Invocation::Run(plan, _)) => match plan.work {
                Work::Job(job) => *job,
                Work::Canary(_) => panic!("{line:?} is a canary"),
            },
            other => panic!("{line:?} is not a job: {other:?}"),
        }
    }

    fn refused(line: &[&str]) -> String {
        parsed(line).expect_err(&line.join(" ")).to_string()
    }

    #[test]
    fn the_short_way_without_a_parser_gives_the_same_plan() {
        let line: Vec<OsString> = ["ls", "-lR", "--", "-c"].map(OsString::from).into();
        assert_eq!(parse(line.clone(), std::iter::empty()), parse_options(line, &[]));
    }

    #[test]
    fn an_empty_variable_is_unset_and_those_for_jobs_are_not_options() {
        let entries =
            [&b"CHILDMINDER_TIMEOUT="[..], b"CHILDMINDER_ATTEMPT=2", b"HOME=/x", b"OTEL_X="];
        assert_eq!(entries.into_iter().find_map(name_of_ours), None);
        assert_eq!(name_of_ours(b"OTEL_SDK_DISABLED=true"), Some("OTEL_SDK_DISABLED".into()));
    }

    #[test]
    fn a_misspelt_variable_is_reported_with_the_nearest_name() {
        let names = ["CHILDMINDER_TIMEUOT", "CHILDMINDER_TIMEOUT", "CHILDMINDER_ZZZ", "OTEL_X"];
        let names = names.map(String::from);
        let line = vec![OsString::from("ls")];
        let Ok(Invocation::Run(_, warnings)) = parse_options(line, &names) else {
            panic!("no run")
        };
        assert_eq!(
            warnings,
            [
                "unknown variable CHILDMINDER_TIMEUOT in the environment; did you mean \
                 CHILDMINDER_TIMEOUT?",
                "unknown variable CHILDMINDER_ZZZ in the environment",
            ]
        );
    }

    #[test]
    fn a_comma_is_part_of_a_value_and_parts_the_pairs_of_a_variable() {
        let Ok(Invocation::Run(plan, _)) = parsed(&["--tag", "note=a, b", "--tag", "x=1", "ls"])
        else {
            panic!("no run")
        };
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(plan.naming.tags, [pair("note", "a, b"), pair("x", "1")]);
        let split = |text: &str| {
            let first = values::tag(text).expect("a pair");
            split_pairs("CHILDMINDER_TAG", &[first], values::tag)
        };
        assert_eq!(split("a=1,b=2,c, d"), Ok(vec![pair("a", "1"), pair("b", "2,c, d")]));
        assert!(split("a=1,=2").is_err());
    }

    #[test]
    fn options_behind_the_command_belong_to_it() {
        let job = job(&["-c", "ls", "-c", "--help", "-t", "9"]);
        assert_eq!(job.command, ["ls", "-c", "--help", "-t", "9"]);
        assert!(job.policy.continue_stopped);
        assert_eq!(job.policy.max_restarts, 4);
    }

    #[test]
    fn every_letter_of_the_original_has_its_long_name() {
        let letters =
            job(&["-c", "-p", "-r", "-s", "-t", "2", "-i", "a", "-o", "b", "-e", "c", "x"]);
        let names = job(&[
            "--continue",
            "--restart-stopped",
            "--restart-interrupt",
            "--restart-signalled",
            "--n-restarts",
            "2",
            "--input",
            "a",
            "--output",
            "b",
            "--error",
            "c",
            "x",
        ]);
        assert_eq!(letters, names);
        assert!(letters.policy.restart_lost && letters.policy.restart_signalled);
        assert_eq!(job(&["-cprst2", "--", "-x"]).command, ["-x"]);
    }

    #[test]
    fn bad_lines_end_in_one_line_that_names_the_thing() {
        for (line, words) in [
            (&["--bogus", "ls"][..], "'--bogus'"),
            (&["-o"], "--output"),
            (&["-t", "-1", "ls"], "-1"),
            (&["-t", "1.5", "ls"], "1.5"),
            (&["--timeout", "0", "ls"], "'0'"),
            (&["--timeout", "9999999d", "ls"], "longer than ten years"),
            (&["--backoff", "9..1", "ls"], "--backoff"),
            (&["--restart-on", "sunspots", "ls"], "sunspots"),
            (&["--forward", "KILL", "ls"], "SIGKILL cannot be trapped"),
            (&["--log-format", "xml", "ls"], "xml"),
            (&["-f", "5", "math"], "no function is called 'math'"),
            (&["-f", "5"], "needs a function"),
            (&["-f", "5", "sleep", "9"], "'9'"),
            (&["-f", "-5", "sleep"], "-5"),
            (&["-q", "ls"], "-f SECONDS"),
            (&["-c"], "no command"),
            (&["-c", ""], "empty word"),
            (&["-l", "", "ls"], "--log-directory"),
            (
                &["--tiemout", "5", "ls"],
                "unexpected argument '--tiemout'; did you mean '--timeout'?",
            ),
            (
                &["-t", "many", "ls"],
                "invalid value for '--n-restart': 'many' is not a whole number",
            ),
            (&["--timeout", "-5", "ls"], "invalid value for '--timeout': '-5' is not a duration"),
            (&["--timeout"], "'--timeout' needs a value: DURATION"),
            (&["--log-format"], "'--log-format' needs a value: text or json"),
            (
                &["--stragglers", "foo", "ls"],
                "invalid value 'foo' for '--stragglers': say leave, wait or kill",
            ),
            (&["--append=maybe", "ls"], "'--append' takes no value, but 'maybe' was given"),
            (&["-x", "ls"], "unexpected argument '-x'"),
            (&["--pushgateway", "foo", "ls"], "'--pushgateway': it is not an address"),
        ] {
            let message = refused(line);
            assert!(message.contains(words), "{line:?}: {message}");
            assert!(!message.contains('\n'), "{line:?}: {message}");
        }
    }

    #[test]
    fn the_help_fits_a_terminal_of_eighty_columns() {
        let Ok(Invocation::Show(help)) = parsed(&["--help"]) else { panic!("no help") };
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        for heading in ["Redirection:", "Supervision:", "Log:", "Built-in functions:"] {
            assert!(help.contains(heading), "{heading}");
        }
    }
}
