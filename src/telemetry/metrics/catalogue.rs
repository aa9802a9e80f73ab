//! The table of all metrics. README's table is made of it, and a test compares them.

use std::borrow::Cow;

use crate::canary;
use crate::model::history::RunOutcome;
use crate::model::pipeline::PerPipeline;
use crate::model::usage::ResourceUsage;
use crate::plan::Function;
use crate::sink::stats::Calls;
use crate::telemetry::metrics::metric::{
    Family, Instrument, MetricKind, MetricPoint, Otlp, Snapshot, Value, each, maybe, one, seconds,
};

const fn counter(
    name: &'static str,
    help: &'static str,
    points: fn(&Snapshot<'_>) -> Vec<MetricPoint>,
) -> Family {
    Family { name, kind: MetricKind::Counter, labels: &[], help, otlp: None, points }
}

const fn gauge(
    name: &'static str,
    help: &'static str,
    points: fn(&Snapshot<'_>) -> Vec<MetricPoint>,
) -> Family {
    Family { name, kind: MetricKind::Gauge, labels: &[], help, otlp: None, points }
}

impl Family {
    const fn by(self, labels: &'static [&'static str]) -> Family {
        Family { labels, ..self }
    }

    /// Its form in OTLP; the labels become attributes of those names.
    const fn otlp(
        self,
        name: &'static str,
        unit: &'static str,
        attributes: &'static [&'static str],
    ) -> Family {
        let instrument = match self.kind {
            MetricKind::Counter => Instrument::Counter,
            MetricKind::Gauge => Instrument::Gauge,
            MetricKind::Histogram => Instrument::Histogram,
        };
        Family { otlp: Some(Otlp { name, unit, instrument, attributes, constant: None }), ..self }
    }

    /// A quantity that may be added up over jobs.
    const fn summed(self) -> Family {
        match self.otlp {
            Some(otlp) => Family {
                otlp: Some(Otlp { instrument: Instrument::UpDownCounter, ..otlp }),
                ..self
            },
            None => self,
        }
    }

    const fn constant(self, name: &'static str, value: &'static str) -> Family {
        match self.otlp {
            Some(otlp) => {
                Family { otlp: Some(Otlp { constant: Some((name, value)), ..otlp }), ..self }
            }
            None => self,
        }
    }
}

#[rustfmt::skip] // One metric, one paragraph.
pub const FAMILIES: &[Family] = &[
    gauge("childminder_build_info", "Build information.", |_| {
        let labels = vec![env!("CARGO_PKG_VERSION").into(), REVISION.into()];
        vec![MetricPoint { labels, value: Value::Number(1.0) }]
    }).by(&["version", "revision"]),
    gauge("childminder_job_info", "Static facts about the supervised job.", |all| {
        let labels = vec![Cow::Owned(all.identity.executable.clone()), Cow::Owned(all.identity.user.clone())];
        vec![MetricPoint { labels, value: Value::Number(1.0) }]
    }).by(&["executable", "user"]),
    counter("childminder_runs_total", "Finished runs by outcome.", |all| {
        let ended = all.stats.history.ended.map(|ended| ended.outcome);
        each(RunOutcome::ALL.map(|outcome| (outcome.word(), f64::from(u8::from(ended == Some(outcome))))))
    }).by(&["outcome"]).otlp("childminder.runs", "{run}", &["childminder.outcome"]),
    counter("childminder_attempts_total", "Finished attempts by outcome.", |all| {
        each(RunOutcome::ALL.map(|outcome| (outcome.word(), all.stats.attempts[outcome as usize] as f64)))
    }).by(&["outcome"]).otlp("childminder.attempts", "{attempt}", &["childminder.outcome"]),
    counter("childminder_verdicts_total", "Finished attempts by verdict.", |all| {
        each(all.stats.verdicts.iter().map(|(kind, count)| (kind.word(), *count as f64)))
    }).by(&["verdict"]).otlp("childminder.verdicts", "{attempt}", &["childminder.verdict"]),
    counter("childminder_restarts_total", "Restarts of the child.", |all| one(all.stats.history.restarts().into()))
        .otlp("childminder.restarts", "{restart}", &[]),
    counter("childminder_exits_total", "Attempts that exited, by exit code.", exits)
        .by(&["exit_code"]).otlp("childminder.exits", "{exit}", &["childminder.exit_code"]),
    counter("childminder_child_signal_deaths_total", "Attempts ended by a signal.", |all| {
        each(all.stats.deaths.iter().map(|(signal, count)| (signal.to_string(), *count as f64)))
    }).by(&["signal"]).otlp("childminder.child.signal_deaths", "{death}", &["childminder.signal"]),
    counter("childminder_signals_received_total", "Signals received by childminder.", |all| {
        each(all.stats.history.received.iter().map(|(signal, count)| (signal.to_string(), *count as f64)))
    }).by(&["signal"]).otlp("childminder.signals.received", "{signal}", &["childminder.signal"]),
    counter("childminder_signals_sent_total", "Signals sent to the child.", |all| {
        let sent = all.stats.sent.iter();
        sent.map(|((signal, origin), count)| MetricPoint {
            labels: vec![signal.to_string().into(), origin.word().into()],
            value: Value::Number(*count as f64),
        }).collect()
    }).by(&["signal", "origin"]).otlp("childminder.signals.sent", "{signal}", &["childminder.signal", "childminder.origin"]),
    counter("childminder_child_stops_total", "Times the child was stopped.", |all| one(all.stats.history.stops as f64))
        .otlp("childminder.child.stops", "{stop}", &[]),
    counter("childminder_child_stopped_seconds_total", "Time the child spent stopped.", |all| one(seconds(all.stats.history.stopped)))
        .otlp("childminder.child.stopped", "s", &[]),
    counter("childminder_orphans_reaped_total", "Adopted descendants reaped.", |all| one(all.stats.history.orphans as f64))
        .otlp("childminder.orphans.reaped", "{process}", &[]),
    gauge("childminder_child_running", "Whether the child is running.", |all| one(f64::from(u8::from(all.stats.history.child().is_some()))))
        .otlp("childminder.child.running", "{process}", &[]).summed(),
    gauge("childminder_run_start_timestamp_seconds", "Start of the current or last run, Unix time.", |all| one(seconds(all.stats.begun)))
        .otlp("childminder.run.start_timestamp", "s", &[]),
    gauge("childminder_run_last_completion_timestamp_seconds", "End of the last run, Unix time.", |all| {
        maybe(all.stats.history.ended.map(|ended| seconds(ended.stamp.wall.0)))
    }).otlp("childminder.run.last_completion_timestamp", "s", &[]),
    gauge("childminder_run_last_success_timestamp_seconds", "End of the last successful run, Unix time.", |all| {
        let success = all.stats.history.ended.filter(|ended| ended.outcome == RunOutcome::Success);
        maybe(success.map(|ended| seconds(ended.stamp.wall.0)))
    }).otlp("childminder.run.last_success_timestamp", "s", &[]),
    gauge("childminder_run_last_duration_seconds", "Wall time of the last run.", |all| {
        maybe(all.stats.history.ended.map(|ended| seconds(ended.stamp.elapsed)))
    }).otlp("childminder.run.last_duration", "s", &[]),
    gauge("childminder_run_last_exit_code", "Status childminder returned for the last run.", |all| {
        maybe(all.stats.history.ended.map(|ended| f64::from(ended.exit_status)))
    }).otlp("childminder.run.last_exit_code", "", &[]),
    Family { kind: MetricKind::Histogram, ..gauge("childminder_attempt_duration_seconds", "Attempt wall time.", |all| {
        let durations = all.stats.durations.iter().cloned();
        durations.map(|all| MetricPoint { labels: Vec::new(), value: Value::Histogram(all) }).collect()
    }) }.otlp("childminder.attempt.duration", "s", &[]),
    counter("childminder_child_cpu_seconds_total", "CPU time of the child and its waited-for descendants.", |all| {
        let live = all.child.unwrap_or_default();
        let ended = all.stats.history.usage;
        each([("user", seconds(ended.user + live.user)), ("system", seconds(ended.system + live.system))])
    }).by(&["mode"]).otlp("process.cpu.time", "s", &["cpu.mode"]),
    gauge("childminder_child_max_rss_bytes", "Largest peak resident set of any attempt.", |all| one(peak_bytes(all)))
        .otlp("childminder.child.max_rss", "By", &[]),
    counter("childminder_child_page_faults_total", "Page faults.", |all| {
        let ([minor, major], ended) = (all.child.unwrap_or_default().faults, all.stats.history.usage);
        each([("minor", (ended.minor_faults + minor) as f64), ("major", (ended.major_faults + major) as f64)])
    }).by(&["fault"]).otlp("process.paging.faults", "{fault}", &["system.paging.fault.type"]),
    counter("childminder_child_context_switches_total", "Context switches.", |all| {
        let live = all.child.and_then(|child| child.switches).unwrap_or_default();
        let ResourceUsage { voluntary_switches, involuntary_switches, .. } = all.stats.history.usage;
        each([("voluntary", (voluntary_switches + live[0]) as f64), ("involuntary", (involuntary_switches + live[1]) as f64)])
    }).by(&["switch"]).otlp("process.context_switches", "{context_switch}", &["process.context_switch.type"]),
    counter("childminder_child_read_bytes_total", "Storage bytes read.", |all| one(storage_bytes(all, 0)))
        .otlp("process.disk.io", "By", &[]).constant("disk.io.direction", "read"),
    counter("childminder_child_written_bytes_total", "Storage bytes written.", |all| one(storage_bytes(all, 1)))
        .otlp("process.disk.io", "By", &[]).constant("disk.io.direction", "write"),
    gauge("childminder_child_resident_memory_bytes", "Resident memory of the child.", |all| {
        maybe(all.child.map(|child| child.resident_bytes as f64))
    }).otlp("process.memory.usage", "By", &[]).summed(),
    gauge("childminder_child_virtual_memory_bytes", "Virtual memory of the child.", |all| {
        maybe(all.child.map(|child| child.virtual_bytes as f64))
    }).otlp("process.memory.virtual", "By", &[]).summed(),
    gauge("childminder_child_threads", "Threads of the child.", |all| maybe(all.child.map(|child| child.threads as f64)))
        .otlp("process.thread.count", "{thread}", &[]).summed(),
    gauge("childminder_child_open_fds", "Open descriptors of the child.", |all| {
        maybe(all.child.and_then(|child| child.open_fds).map(|count| count as f64))
    }).otlp("process.unix.file_descriptor.count", "{file_descriptor}", &[]).summed(),
    gauge("childminder_tree_processes", "Living processes of the job, the child among them, in the last sample.", |all| {
        maybe(all.stats.tree.map(|tree| tree.processes as f64))
    }).otlp("childminder.tree.processes", "{process}", &[]).summed(),
    gauge("childminder_tree_threads", "Threads of all processes of the job in the last sample.", |all| {
        maybe(all.stats.tree.map(|tree| tree.threads as f64))
    }).otlp("childminder.tree.threads", "{thread}", &[]).summed(),
    gauge("childminder_tree_resident_memory_bytes", "Resident memory of all processes of the job in the last sample.", |all| {
        maybe(all.stats.tree.map(|tree| tree.rss_bytes as f64))
    }).otlp("childminder.tree.resident_memory", "By", &[]).summed(),
    counter("childminder_tree_cpu_seconds_total", "CPU time of all processes of the job, ended ones too, as sampled.", |all| {
        one(seconds(all.stats.tree_cpu()))
    }).otlp("childminder.tree.cpu", "s", &[]),
    gauge("childminder_host_pressure_at_death_ratio", "Share of time in which some task of the host waited, in the ten seconds before the last failure.", |all| {
        let load = all.stats.load_at_death.unwrap_or_default();
        let shares = [("cpu", load.cpu_pressure), ("memory", load.memory_pressure), ("io", load.io_pressure)];
        each(shares.into_iter().filter_map(|(name, share)| Some((name, share? / 100.0))))
    }).by(&["resource"]).otlp("childminder.host.pressure_at_death", "1", &["childminder.resource"]),
    counter("childminder_canary_operations_total", "Canary operations completed.", |all| {
        by_workload(all, |word, calls| (calls.calls - calls.failures) as f64 * operations(word))
    }).by(&["workload"]).otlp("childminder.canary.operations", "{operation}", &["childminder.workload"]),
    counter("childminder_canary_busy_seconds_total", "Time spent inside probes.", |all| by_workload(all, |_, calls| calls.durations.sum))
        .by(&["workload"]).otlp("childminder.canary.busy", "s", &["childminder.workload"]),
    counter("childminder_canary_probes_total", "Probes run.", |all| by_workload(all, |_, calls| calls.calls as f64))
        .by(&["workload"]).otlp("childminder.canary.probes", "{probe}", &["childminder.workload"]),
    counter("childminder_canary_probe_failures_total", "Probes that failed or gave a wrong answer.", |all| {
        by_workload(all, |_, calls| calls.failures as f64)
    }).by(&["workload"]).otlp("childminder.canary.probe.failures", "{probe}", &["childminder.workload"]),
    Family { kind: MetricKind::Histogram, ..gauge("childminder_canary_probe_duration_seconds", "Probe wall time.", |all| {
        let calls = all.stats.calls.iter();
        calls.map(|(word, calls)| MetricPoint {
            labels: vec![(*word).into()],
            value: Value::Histogram(calls.durations.clone()),
        }).collect()
    }) }.by(&["workload"]).otlp("childminder.canary.probe.duration", "s", &["childminder.workload"]),
    counter("childminder_telemetry_exports_total", "Exports of telemetry that were tried.", |all| pipelines(all.health.exports))
        .by(&["pipeline"]).otlp("childminder.telemetry.exports", "{export}", &["childminder.pipeline"]),
    counter("childminder_telemetry_export_failures_total", "Exports of telemetry that failed.", |all| pipelines(all.health.failures))
        .by(&["pipeline"]).otlp("childminder.telemetry.export.failures", "{export}", &["childminder.pipeline"]),
    counter("childminder_telemetry_dropped_items_total", "Items of telemetry that were dropped.", |all| pipelines(all.health.dropped))
        .by(&["pipeline"]).otlp("childminder.telemetry.dropped_items", "{item}", &["childminder.pipeline"]),
    counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", |all| maybe(all.itself.map(|own| seconds(own.cpu)))),
    gauge("process_open_fds", "Number of open file descriptors.", |all| maybe(all.itself.map(|own| own.open_fds as f64))),
    gauge("process_max_fds", "Maximum number of open file descriptors.", |all| maybe(all.itself.and_then(|own| own.max_fds).map(|count| count as f64))),
    gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", |all| maybe(all.itself.map(|own| own.virtual_bytes as f64))),
    gauge("process_resident_memory_bytes", "Resident memory size in bytes.", |all| maybe(all.itself.map(|own| own.resident_bytes as f64))),
    gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", |all| maybe(all.itself.and_then(|own| own.start).map(seconds))),
    gauge("process_threads", "Number of OS threads in the process.", |all| maybe(all.itself.map(|own| own.threads as f64))),
];

/// The git revision that was built (build.rs); `unknown` for an archive of the sources.
const REVISION: &str = match option_env!("CHILDMINDER_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

fn exits(all: &Snapshot<'_>) -> Vec<MetricPoint> {
    let named = all.stats.exits.iter().map(|(status, count)| (status.to_string(), *count as f64));
    let others = (all.stats.other_exits > 0).then_some(all.stats.other_exits as f64);
    each(named.chain(others.map(|count| ("other".to_owned(), count))))
}

fn peak_bytes(all: &Snapshot<'_>) -> f64 {
    let live = all.child.map_or(0, |child| child.resident_bytes);
    live.max(all.stats.history.usage.max_rss_kib * 1024) as f64
}

/// An attempt that ended has blocks of 512 bytes (getrusage(2)); one that lives has bytes.
fn storage_bytes(all: &Snapshot<'_>, direction: usize) -> f64 {
    let live = all.child.and_then(|child| child.storage_bytes).unwrap_or_default();
    let ResourceUsage { input_blocks, output_blocks, .. } = all.stats.history.usage;
    ([input_blocks, output_blocks][direction] * 512 + live[direction]) as f64
}

fn by_workload(all: &Snapshot<'_>, value: fn(&str, &Calls) -> f64) -> Vec<MetricPoint> {
    each(all.stats.calls.iter().map(|(word, calls)| (*word, value(word, calls))))
}

fn operations(word: &str) -> f64 {
    let function = Function::ALL.into_iter().find(|function| function.word() == word);
    function.map_or(0.0, |function| canary::operations(function) as f64)
}

fn pipelines(counts: PerPipeline<u64>) -> Vec<MetricPoint> {
    each(counts.each().map(|(pipeline, count)| (pipeline.word(), *count as f64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table as README has it.
    fn table() -> String {
        let mut out =
            String::from("| metric | type | labels | in OTLP | says |\n|---|---|---|---|---|\n");
        for family in FAMILIES {
            let labels = family.labels.join(", ");
            let otlp = family.otlp.map_or(String::new(), |otlp| match otlp.constant {
                Some((key, value)) => format!("`{}` ({key}={value})", otlp.name),
                None => format!("`{}`", otlp.name),
            });
            let (name, kind, help) = (family.name, family.kind.word(), family.help);
            out += &format!("| `{name}` | {kind} | {labels} | {otlp} | {help} |\n");
        }
        out
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "UPDATE_GOLDEN is for whoever tests")]
    fn the_table_in_the_documents_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        let page = include_str!("../../../docs/metrics.md");
        let (begin, end) = ("<!-- metrics: begin -->\n", "<!-- metrics: end -->");
        let (before, rest) = page.split_once(begin).expect("the mark");
        let (found, after) = rest.split_once(end).expect("the second mark");
        if found != table() && std::env::var_os("UPDATE_GOLDEN").is_some() {
            let text = format!("{before}{begin}{}{end}{after}", table());
            std::fs::write(path, text).expect("the page can be written");
            return;
        }
        assert_eq!(found, table(), "UPDATE_GOLDEN=1 writes it again");
    }

    /// As a Collector and Prometheus translate a name: dots become underscores, then come the unit
    /// and `_total`.
    fn translated(otlp: &Otlp, kind: MetricKind) -> String {
        let unit = match otlp.unit {
            "s" => "_seconds",
            "By" => "_bytes",
            "1" => "_ratio",
            _ => "",
        };
        let total = if kind == MetricKind::Counter { "_total" } else { "" };
        format!("{}{unit}{total}", otlp.name.replace('.', "_"))
    }

    #[test]
    fn own_names_are_the_same_through_a_collector() {
        let own = FAMILIES
            .iter()
            .filter(|family| family.otlp.is_some_and(|otlp| otlp.name.starts_with("childminder.")));
        for family in own {
            let otlp = family.otlp.expect("it has one");
            assert_eq!(translated(&otlp, family.kind), family.name);
        }
    }

    #[test]
    fn no_two_metrics_have_one_name() {
        let mut names: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FAMILIES.len());
    }
}
