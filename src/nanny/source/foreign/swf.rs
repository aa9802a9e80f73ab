//! The standard workload format (version 2.2) of the Parallel Workloads Archive: 18 numbers a line, -1 for unknown.

use crate::model::verdict::VerdictKind;
use crate::nanny::source::foreign::{ForeignLine, ForeignLog, ForeignRun};

#[derive(Default)]
pub struct Swf {
    /// `UnixStartTime`: what times count from.
    epoch: Option<f64>,
    /// `Computer`: where all of it ran.
    computer: String,
}

impl ForeignLog for Swf {
    fn line(&mut self, line: &str) -> ForeignLine {
        if let Some(comment) = line.trim_start().strip_prefix(';') {
            match comment.split_once(':').map(|(name, value)| (name.trim(), value.trim())) {
                Some(("UnixStartTime", value)) => self.epoch = value.parse().ok(),
                Some(("Computer", value)) => self.computer = value.to_owned(),
                _ => {}
            }
            return ForeignLine::Nothing;
        }
        if line.trim().is_empty() {
            return ForeignLine::Nothing;
        }
        let Some(epoch) = self.epoch else {
            return ForeignLine::Bad("no 'UnixStartTime' stands before it".into());
        };
        let numbers: Vec<Option<f64>> =
            line.split_whitespace().map(|word| word.parse().ok()).collect();
        let Some(fields) = numbers.into_iter().collect::<Option<Vec<f64>>>() else {
            return ForeignLine::Bad("a field is not a number".into());
        };
        match <[f64; 18]>::try_from(fields) {
            Ok(fields) => self.run(&fields, epoch),
            Err(fields) => ForeignLine::Bad(format!("{} fields in place of 18", fields.len())),
        }
    }
}

impl Swf {
    fn run(&self, fields: &[f64; 18], epoch: f64) -> ForeignLine {
        let [
            id,
            submit,
            wait,
            time,
            used,
            cpu,
            memory,
            procs,
            limit,
            asked,
            status,
            user,
            group,
            app,
            queue,
            ..,
        ] = *fields;
        let (verdict, word) = match status as i64 {
            1 => (VerdictKind::Success, "completed"),
            0 => (VerdictKind::Unknown, "failed"),
            5 => (VerdictKind::StopRequested, "cancelled"),
            // Parts of a run that was checkpointed; the whole has a line of its own.
            2..=4 => return ForeignLine::Nothing,
            -1 => return ForeignLine::Bad("its status is unknown".into()),
            _ => return ForeignLine::Bad(format!("status {status} is not 0 to 5")),
        };
        let known = |value: f64| (value >= 0.0).then_some(value);
        let began = epoch + submit + wait.max(0.0);
        let number = |prefix: &str, value: f64| match known(value) {
            Some(value) => format!("{prefix}{value}"),
            None => String::new(),
        };
        let app = number("app", app);
        // Memory is counted for each processor.
        let bytes = |kib: f64, procs: f64| Some(known(kib)? * 1024.0 * known(procs)?.max(1.0));
        let request = [
            known(procs).map(|value| format!("PROCESSORS={value}")),
            known(limit).map(|value| format!("TIME_SECONDS={value}")),
            bytes(asked, procs).map(|value| format!("MEMORY_BYTES={value}")),
            known(queue).map(|value| format!("QUEUE={value}")),
        ];
        ForeignLine::Run(Box::new(ForeignRun {
            id: id.to_string(),
            began,
            ended: began + time.max(0.0),
            host: self.computer.clone(),
            user: number("u", user),
            name: if app.is_empty() { "job".into() } else { app },
            batch: number("g", group),
            verdict: Some(verdict),
            evidence: format!("the log says: {word}"),
            cpu_seconds: known(cpu).zip(known(used)).map(|(cpu, used)| cpu * used.max(1.0)),
            peak_bytes: bytes(memory, used).map(|bytes| bytes as u64).filter(|bytes| *bytes > 0),
            request: request.into_iter().flatten().collect(),
            ..ForeignRun::default()
        }))
    }
}
