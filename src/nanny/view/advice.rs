//! What a verdict means, and what to try after it.

use crate::model::text::byte_size;
use crate::nanny::view::words::{end, peak_bytes};
use crate::record::row::Row;

/// Says what a verdict means.
#[must_use]
pub fn verdict(word: &str) -> &'static str {
    match word {
        "success" | "" => "it did what it should",
        "success_with_losses" => "it returned 0, but a process of it was killed or crashed",
        "exit_nonzero" => "it returned a failure by itself",
        "exec_failed" => "it could not be executed, or was not found",
        "oom_killed" => "the kernel killed it because memory ran out",
        "killed_by_process" => "a process sent the signal that ended it",
        "killed_by_terminal" => "the terminal ended it: Ctrl-C, Ctrl-\\ or a hang-up",
        "stop_requested" => "childminder was asked to stop, and passed that on",
        "crashed" => "it made a fault of its own",
        "broken_pipe" => "the reader of its output ended first",
        "cpu_limit" => "it used up its limit of CPU time",
        "file_size_limit" => "it wrote a file larger than its limit",
        "timed_out" => "--timeout ended it",
        "descendant_killed" => "a process below it was killed, and it failed for that",
        "stopped" => "it stayed stopped, and -p ended it",
        "status_lost" => "it is gone, and nobody can say how it ended",
        "lost" => "it began and will never have an end",
        "unknown" => "no cause can be shown",
        _ => "a verdict of another version of childminder",
    }
}

/// Says what to try after that verdict; the row may say more.
#[must_use]
pub fn advice(word: &str, row: &Row) -> Vec<String> {
    let signal = end(row);
    let again = "if it is right again: nanny rerun";
    let lines: Vec<String> = match word {
        "success" | "success_with_losses" | "" => Vec::new(),
        "exit_nonzero" => vec![
            "read its standard error (childminder -e FILE keeps it, and the log its last lines)".into(),
            "if that status means 'try again': childminder --restart-on exit:STATUS".into(),
        ],
        "exec_failed" => vec![
            "look at the name, PATH and permissions of the program, and at its #! line".into(),
            again.into(),
        ],
        "oom_killed" => vec![
            match peak_bytes(row) {
                Some(peak) => format!("ask for more memory than the {} it had used", byte_size(peak)),
                None => "ask for more memory".into(),
            },
            "or start fewer at once: nanny rerun -j 1".into(),
        ],
        "killed_by_process" => vec![
            "ask whoever sent it: a batch system does so at the limit of time or memory, a site for load".into(),
            "--neighbours notes who else was there; --timeout ends it before the batch system does".into(),
        ],
        "killed_by_terminal" => vec![
            "start it apart from the terminal: nohup or childminder --new-session".into(),
            again.into(),
        ],
        "stop_requested" => vec!["it was meant to stop; to go on: nanny rerun".into()],
        "crashed" => vec![
            format!("look at the core dump in a debugger (ulimit -c unlimited keeps one of {signal})"),
            "a crash on one host only may be the host: nanny runs --failed --host NAME".into(),
        ],
        "broken_pipe" => vec![
            "find out why the program that reads its output ended: it may have had enough, or have failed".into(),
        ],
        "cpu_limit" => vec!["raise the limit (ulimit -t), or make the job save its state".into()],
        "file_size_limit" => vec!["raise the limit (ulimit -f), or write several files".into()],
        "timed_out" => vec![
            "give it more time (--timeout), or find out what it waited for: the samples in the log show \
             whether it used the CPU".into(),
        ],
        "descendant_killed" => vec!["see the evidence for what was killed: that is what to mend".into()],
        "stopped" => vec!["give it -i /dev/null if it wanted the terminal; -c continues it".into()],
        "lost" | "status_lost" => vec![
            "nothing it did is known to be whole: look at its output before it runs again".into(),
            again.into(),
        ],
        _ => vec!["watch it more closely: --sample 100ms --files --neighbours".into()],
    };
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::verdict::VerdictKind;

    #[test]
    fn every_verdict_has_its_words_and_every_failure_an_advice() {
        for kind in VerdictKind::ALL {
            assert!(!verdict(kind.word()).contains("another version"), "{kind:?}");
            assert_eq!(advice(kind.word(), &Row::default()).is_empty(), kind.is_success());
        }
        assert!(!advice("lost", &Row::default()).is_empty());
    }
}
