//! The log of `parallel --joblog`: columns with tabs between, `Seq Host Starttime JobRuntime Send Receive Exitval Signal Command`.

use crate::nanny::source::foreign::{ForeignLine, ForeignLog, ForeignRun, name_of};

const HEADING: &str = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand";

#[derive(Default)]
pub struct JobLog;

impl ForeignLog for JobLog {
    fn line(&mut self, line: &str) -> ForeignLine {
        if line == HEADING || line.trim().is_empty() {
            return ForeignLine::Nothing;
        }
        let cells: Vec<&str> = line.splitn(9, '\t').collect();
        let [number, host, began, time, _, _, status, signal, command] = cells[..] else {
            return ForeignLine::Bad(format!("{} columns in place of 9", cells.len()));
        };
        let finite =
            |text: &str| text.trim().parse().ok().filter(|number: &f64| number.is_finite());
        let (Some(began), Some(time)) = (finite(began), finite(time)) else {
            return ForeignLine::Bad("its time is not a number".into());
        };
        let (Ok(status), Ok(signal)) = (status.trim().parse::<i32>(), signal.trim().parse::<i32>())
        else {
            return ForeignLine::Bad("its exit status or signal is not a number".into());
        };
        let mut run = ForeignRun {
            id: format!("{number} at {began}"),
            began,
            ended: began + time.max(0.0),
            host: if host == ":" { String::new() } else { host.to_owned() },
            name: name_of(command),
            command: command.to_owned(),
            evidence: format!("the log of parallel says: exit status {status}, signal {signal}"),
            ..ForeignRun::default()
        };
        run.end_by(status, signal);
        ForeignLine::Run(Box::new(run))
    }
}
