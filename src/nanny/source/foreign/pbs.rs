//! Accounting records of PBS and Torque: `date;E;jobid;key=value ...`. Records of other types than `E` (end) are passed over.

use std::collections::HashMap;

use crate::model::verdict::VerdictKind;
use crate::nanny::source::foreign::{ForeignLine, ForeignLog, ForeignRun, size, span};

#[derive(Default)]
pub struct Pbs;

/// What the server says by an exit status below 0.
const MEMORY_EXCEEDED: i32 = -10;
const TIME_EXCEEDED: i32 = -11;

impl ForeignLog for Pbs {
    fn line(&mut self, line: &str) -> ForeignLine {
        let mut parts = line.splitn(4, ';');
        let (Some(_), Some(kind), Some(id), Some(rest)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return if line.trim().is_empty() {
                ForeignLine::Nothing
            } else {
                ForeignLine::Bad("it is not 'date;type;job;...'".into())
            };
        };
        if kind != "E" {
            return ForeignLine::Nothing;
        }
        let values: HashMap<&str, &str> =
            rest.split_whitespace().filter_map(|word| word.split_once('=')).collect();
        let value = |name: &str| values.get(name).copied().unwrap_or_default();
        let (Some(began), Some(ended)) = (value("start").parse().ok(), value("end").parse().ok())
        else {
            return ForeignLine::Bad("it has no start or no end".into());
        };
        let Ok(status) = value("Exit_status").parse::<i32>() else {
            return ForeignLine::Bad("it has no Exit_status".into());
        };
        let mut run = ForeignRun {
            id: id.to_owned(),
            began,
            ended,
            host: value("exec_host").split(['/', '+']).next().unwrap_or_default().to_owned(),
            user: value("user").to_owned(),
            name: value("jobname").to_owned(),
            batch: value("group").to_owned(),
            cpu_seconds: span(value("resources_used.cput")),
            peak_bytes: size(value("resources_used.mem"), 1).filter(|peak| *peak > 0),
            evidence: format!("PBS says: Exit_status {status}"),
            ..ForeignRun::default()
        };
        match status {
            // 256 and the signal (PBS Pro, Torque).
            257.. => run.end_by(0, status - 256),
            0.. => run.end_by(status, 0),
            MEMORY_EXCEEDED => run.verdict = Some(VerdictKind::OomKilled),
            TIME_EXCEEDED => run.verdict = Some(VerdictKind::TimedOut),
            _ => run.verdict = Some(VerdictKind::Unknown),
        }
        let asked = [
            (
                "TIME_SECONDS",
                span(value("Resource_List.walltime")).map(|seconds| seconds.to_string()),
            ),
            ("MEMORY_BYTES", size(value("Resource_List.mem"), 1).map(|bytes| bytes.to_string())),
            ("PROCESSORS", Some(value("Resource_List.ncpus").to_owned())),
            ("QUEUE", Some(value("queue").to_owned())),
        ];
        let asked = asked
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?)));
        run.request = asked.map(|(name, value)| format!("{name}={value}")).collect();
        ForeignLine::Run(Box::new(run))
    }
}
