//! From a plan back to the words that ask for it, so that a recorded run can be run again.
//!
//! Left out is what a site sets for all its runs and what a rerun does not need: the telemetry. All
//! else is there, and childminder makes the same plan of it.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use crate::model::policy::{Backoff, Forward, Policy, RestartCause};
use crate::model::signal::Signal;
use crate::plan::{
    CanaryPlan, HookPlan, JobPlan, LogFormat, LogPlan, LogTarget, Naming, Observation, RecordPlan,
    RunPlan, TraceMode, Work,
};

/// Returns the options of a plan; the command or function goes behind them.
#[must_use]
pub fn of_plan(plan: &RunPlan) -> Vec<OsString> {
    let RunPlan { working_directory, log, naming, record, telemetry: _, work } = plan;
    let mut words = Words(Vec::new());
    words.path("working-directory", working_directory.as_ref());
    words.log(log);
    words.naming(naming);
    if let Some(RecordPlan { file, sync }) = record {
        words.path("central-log", Some(file));
        words.flag("central-sync", *sync);
    }
    match work {
        Work::Job(job) => words.job(job),
        Work::Canary(CanaryPlan { functions: _, span, every, each_core, quiet, stop_on }) => {
            words.value("function", &seconds(span.unwrap_or_default()));
            if let Some(every) = every {
                words.value("every", &seconds(*every));
            }
            if *each_core {
                words.value("cores", "each");
            }
            words.flag("quiet-func", *quiet);
            words.list("stop-on", stop_on.iter().map(Signal::to_string));
        }
    }
    words.0
}

struct Words(Vec<OsString>);

impl Words {
    fn value(&mut self, name: &str, value: &str) {
        self.0.push(format!("--{name}={value}").into());
    }

    fn flag(&mut self, name: &str, is_set: bool) {
        if is_set {
            self.0.push(format!("--{name}").into());
        }
    }

    fn path(&mut self, name: &str, path: Option<&impl AsRef<OsStr>>) {
        if let Some(path) = path {
            let mut word = OsString::from(format!("--{name}="));
            word.push(path.as_ref());
            self.0.push(word);
        }
    }

    fn list(&mut self, name: &str, items: impl Iterator<Item = String>) {
        let items: Vec<String> = items.collect();
        if !items.is_empty() {
            self.value(name, &items.join(","));
        }
    }

    fn log(&mut self, log: &LogPlan) {
        let LogPlan { target, format, delete_on_success } = log;
        match target {
            LogTarget::Default => {}
            LogTarget::Directory(directory) => self.path("log-directory", Some(directory)),
            LogTarget::Stderr => self.value("log-directory", "stderr"),
            LogTarget::Stdout => self.value("log-directory", "stdout"),
        }
        match format {
            LogFormat::Text => {}
            LogFormat::Json => self.value("log-format", "json"),
        }
        self.flag("delete", *delete_on_success);
    }

    fn naming(&mut self, naming: &Naming) {
        let Naming { name, batch, tags, redact } = naming;
        name.iter().for_each(|name| self.value("name", name));
        batch.iter().for_each(|batch| self.value("batch", batch));
        tags.iter().for_each(|(key, value)| self.value("tag", &format!("{key}={value}")));
        redact.iter().for_each(|pattern| self.value("redact", pattern));
    }

    fn job(&mut self, job: &JobPlan) {
        let JobPlan {
            command: _,
            input,
            output,
            error,
            append,
            quiet_success,
            hooks,
            termination_log,
            directory,
            policy,
            observation,
        } = job;
        self.path("input", input.as_ref());
        self.path("output", output.as_ref());
        self.path("error", error.as_ref());
        self.flag("append", *append);
        self.path("termination-log", termination_log.as_ref());
        let HookPlan { on_failure, on_success, on_end, timeout } = hooks;
        self.path("on-failure", on_failure.as_ref());
        self.path("on-success", on_success.as_ref());
        self.path("on-end", on_end.as_ref());
        if *timeout != HookPlan::default().timeout {
            self.value("hook-timeout", &seconds(*timeout));
        }
        if let Some(bytes) = quiet_success {
            self.flag("quiet-success", true);
            self.value("keep-output", &bytes.to_string());
        }
        self.path("child-directory", directory.as_ref());
        self.policy(policy);
        let Observation { interval, files, clean_written, clean_within, neighbours, trace } =
            observation;
        if *interval != Observation::default().interval {
            self.value("sample", &seconds(*interval));
        }
        self.flag("files", *files);
        self.flag("clean-written", *clean_written);
        clean_within.iter().for_each(|directory| self.path("clean-within", Some(directory)));
        self.flag("neighbours", *neighbours);
        match trace {
            TraceMode::Off => {}
            TraceMode::All => self.flag("trace", true),
            TraceMode::Main => self.flag("trace=main", true),
            TraceMode::Required => self.flag("trace=required", true),
        }
    }

    fn policy(&mut self, policy: &Policy) {
        let usual = Policy::default();
        self.flag("continue", policy.continue_stopped);
        self.flag("restart-stopped", policy.restart_stopped);
        self.flag("restart-interrupt", policy.restart_lost);
        self.flag("restart-signalled", policy.restart_signalled);
        self.list("restart-on", policy.restart_on.iter().copied().map(cause));
        self.list("never-on", policy.never_on.iter().copied().map(cause));
        if policy.max_restarts != usual.max_restarts {
            self.value("n-restart", &policy.max_restarts.to_string());
        }
        if policy.backoff != usual.backoff {
            let Backoff { min, max } = policy.backoff;
            self.value("backoff", &format!("{}..{}", seconds(min), seconds(max)));
        }
        if policy.stable != usual.stable {
            self.value("stable", &seconds(policy.stable));
        }
        policy.timeout.iter().for_each(|span| self.value("timeout", &seconds(*span)));
        policy.kill_after.iter().for_each(|span| self.value("kill-after", &seconds(*span)));
        match &policy.forward {
            Forward::All => {}
            Forward::None => self.value("forward", "none"),
            Forward::Only(list) => self.list("forward", list.iter().map(Signal::to_string)),
        }
        if policy.stragglers != usual.stragglers {
            self.value("stragglers", policy.stragglers.word());
        }
        self.flag("new-session", policy.new_session);
        if policy.loss_is_failure {
            self.value("on-descendant-loss", "fail");
        }
    }
}

/// A number without exponent that is read back as the same span.
fn seconds(span: Duration) -> String {
    span.as_secs_f64().to_string()
}

fn cause(cause: RestartCause) -> String {
    match cause {
        RestartCause::Failure => "failure".to_owned(),
        RestartCause::AnySignal => "signal".to_owned(),
        RestartCause::Signal(signal) => format!("signal:{signal}"),
        RestartCause::Exit(status) => format!("exit:{status}"),
        RestartCause::Verdict(kind) => kind.word().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::childminder::{Invocation, parse};
    use crate::model::shell;

    fn plan(words: &[OsString]) -> RunPlan {
        match parse(words.to_vec(), std::iter::empty()) {
            Ok(Invocation::Run(plan, _)) => *plan,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    /// The plan of a line is that of its recorded options, after they went through a cell.
    #[track_caller]
    fn assert_comes_back(line: &[&str], command: &[&str]) {
        let os = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let typed = plan(&[os(line), os(command)].concat());
        let cell = shell::words(&of_plan(&typed));
        let read = shell::split(&cell).expect("words of ours");
        assert_eq!(plan(&[read, os(&["--"]), os(command)].concat()), typed, "{cell}");
    }

    #[test]
    fn the_options_of_a_run_make_the_same_plan_again() {
        let job = &["ls", "-l", "--", "-c"][..];
        for line in [
            &["-c"][..],
            &["-cprsd", "-t", "2", "-w", "/tmp/a b", "-l", "stderr", "--log-format", "json"],
            &["--input=-x", "-o", "it's", "-e", "\u{1}é", "--append", "--child-directory", "=d"],
            &["--restart-on", "oom,signal:RTMIN+2,exit:75,failure,signal", "--never-on", "crash"],
            &["--backoff", "250ms..1h30m", "--stable", "1.000000001", "--timeout", "9d"],
            &["--kill-after", "0", "--forward", "none", "--stragglers", "kill", "--new-session"],
            &["--forward", "TERM,HUP", "--on-descendant-loss", "fail", "--sample", "0.1"],
            &["--files", "--clean-written", "--clean-within", "/a", "--clean-within", "/b"],
            &["--neighbours", "--name", "a b", "--batch=-b", "--tag", "k=v w", "--tag", "l="],
            &["--redact", "key-*", "--redact", "?x", "--central-log", "r.csv", "--central-sync"],
            &["-l-", "-t", "0"],
            &["--trace"],
            &["--trace=main"],
            &["--trace=required", "--files"],
        ] {
            assert_comes_back(line, job);
        }
        assert_comes_back(&["-f", "2.5", "-q", "--stop-on", "INT,TERM"], &["math-int"]);
    }

    #[test]
    fn a_run_without_options_has_none() {
        assert_eq!(of_plan(&plan(&["ls".into()])), Vec::<OsString>::new());
    }
}
