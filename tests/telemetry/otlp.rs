//! What a collector gets, over both ways of OTLP, and what the job finds in its environment.

use std::process::Command;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use crate::collector::{Authority, Call, Collector, Seen, Wire, attribute, hex, traceparent};
use crate::support::{Done, Place, troubles};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

/// Says what it finds in its environment.
const TELLS: &str = r#"echo "$TRACEPARENT|$TRACESTATE""#;

/// childminder over a job of sh, telling the collector.
fn told(place: &Place, collector: &Collector, options: &[&str], job: &str) -> Command {
    let mut command = place.childminder(options);
    command.args(["sh", "-c", job]);
    command.envs(collector.variables());
    command
}

/// Runs it and returns what came.
fn seen(place: &Place, collector: &Collector, options: &[&str], job: &str) -> (Done, Seen) {
    ended(place, collector, told(place, collector, options, job))
}

/// Runs a command that must go well as far as telemetry is concerned.
#[track_caller]
fn ended(place: &Place, collector: &Collector, command: Command) -> (Done, Seen) {
    let done = place.run_command(command);
    assert_eq!(troubles(&done), Vec::<&str>::new(), "{done:?}");
    assert_eq!(done.count("telemetry"), 0, "{done:?}");
    (done, collector.seen().clone())
}

const RESTARTS: [&str; 4] = ["--restart-on", "failure", "--backoff", "0..0"];
const FAILS_ONCE: &str = "[ $CHILDMINDER_ATTEMPT = 2 ] || exit 3";

/// "Each run is a span, each attempt a span below it, linked to the attempt before it."
#[test]
fn a_run_is_a_span_and_so_is_each_attempt() {
    for wire in [Wire::Http, Wire::Grpc] {
        let (place, collector) = (Place::new(), Collector::start(wire));
        let job = format!("{TELLS}; {FAILS_ONCE}");
        let (done, seen) = seen(&place, &collector, &RESTARTS, &job);
        assert_eq!(done.code(), 0, "{done:?}");
        let (run, attempts) = (seen.run(), seen.spans("sh"));
        let [first, second] = attempts[..] else { panic!("two attempts: {:#?}", seen.spans) };
        assert_eq!((run.kind(), first.kind()), (SpanKind::Internal, SpanKind::Client));
        assert!(run.parent_span_id.is_empty() && run.links.is_empty(), "{run:#?}");
        for attempt in [first, second] {
            assert_eq!(attempt.parent_span_id, run.span_id);
            assert_eq!(attempt.trace_id, run.trace_id);
            assert!(run.start_time_unix_nano <= attempt.start_time_unix_nano);
            assert!(attempt.start_time_unix_nano <= attempt.end_time_unix_nano);
            assert!(attempt.end_time_unix_nano <= run.end_time_unix_nano);
        }
        assert!(first.links.is_empty());
        let links: Vec<_> = second.links.iter().map(|link| &link.span_id).collect();
        assert_eq!(links, [&first.span_id]);
        let code = |span| (attribute(span, "process.exit.code"), attribute(span, "error.type"));
        assert_eq!(code(&first.attributes), (Some("3".into()), Some("exit_nonzero".into())));
        assert_eq!(code(&second.attributes), (Some("0".into()), None));
        // A failure that was retried and made good is none of the run.
        assert_eq!(code(&run.attributes), (Some("0".into()), None));
        let status =
            |status: &Option<_>| status.clone().map(|s: StatusOf| s.code()).unwrap_or_default();
        assert_eq!(status(&first.status), StatusCode::Error);
        assert_eq!(status(&second.status), StatusCode::Unset);
        assert_eq!(status(&run.status), StatusCode::Unset);
        assert_eq!(attribute(&run.attributes, "childminder.attempts").as_deref(), Some("2"));
        let given: Vec<_> = done.stdout.lines().collect();
        assert_eq!(given, [first, second].map(|span| format!("{}|", traceparent(span))));
    }
}

type StatusOf = opentelemetry_proto::tonic::trace::v1::Status;

/// "process.exit.code for a signal death = 128+n (shell rule) plus childminder.exit.signal."
#[test]
fn a_death_by_a_signal_and_a_failed_start_are_told() {
    let (place, collector) = (Place::new(), Collector::start(Wire::Http));
    let (done, seen) = seen(&place, &collector, &[], "kill -KILL $$");
    assert_eq!(done.code(), 137);
    let attempts = seen.spans("sh");
    let [attempt] = attempts[..] else { panic!("one attempt: {:#?}", seen.spans) };
    let told = |name: &str| attribute(&attempt.attributes, name).unwrap_or_default();
    assert_eq!(told("process.exit.code"), "137");
    assert_eq!(told("childminder.exit.signal"), "SIGKILL");
    let verdict = told("childminder.verdict");
    assert_eq!(told("error.type"), verdict);
    // As the kernel has it: sh may be a link to another shell.
    let path = told("process.executable.path");
    let name = path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("sh");
    assert_eq!(told("process.executable.name"), name);
    let text = attempt.status.clone().map(|status| status.message).unwrap_or_default();
    assert_eq!(text, verdict, "no text that is another one for each run");
    assert!(told("process.creation.time").contains('T'), "{attempt:#?}");
    let run = seen.run();
    assert_eq!(attribute(&run.attributes, "process.exit.code").as_deref(), Some("137"));
    assert_eq!(attribute(&run.attributes, "error.type"), Some(verdict));
    assert_eq!(run.status.clone().map(|s| s.code()), Some(StatusCode::Error));

    let (place, collector) = (Place::new(), Collector::start(Wire::Http));
    let mut command = place.childminder(["./missing"]);
    command.envs(collector.variables());
    let done = place.run_command(command);
    assert_eq!(done.code(), 127, "{done:?}");
    let seen = collector.seen();
    let attempts = seen.spans("missing");
    let [attempt] = attempts[..] else { panic!("one attempt: {:#?}", seen.spans) };
    assert_eq!(attribute(&attempt.attributes, "error.type").as_deref(), Some("exec_failed"));
    let errno = attribute(&attempt.attributes, "childminder.exec.errno");
    assert_eq!(errno.as_deref(), Some("ENOENT"));
    assert_eq!(attribute(&attempt.attributes, "process.exit.code").as_deref(), Some("127"));
}

/// A record of the end says by itself what its verdict is about, and all of a run have its id.
#[test]
fn records_and_spans_name_the_run_and_how_the_attempt_ended() {
    let (place, collector) = (Place::new(), Collector::start(Wire::Http));
    let options = ["--batch", "night", "--tag", "team=red", "--tag", "url=http://u:hush@h/"];
    let (_, seen) = seen(&place, &collector, &options, "kill -KILL $$");
    let end = seen.record("childminder.attempt.end");
    let of_end = |name: &str| attribute(&end.attributes, name).unwrap_or_default();
    assert_eq!(of_end("process.exit.code"), "137");
    assert_eq!(of_end("childminder.exit.signal"), "SIGKILL");
    let memory = of_end("childminder.child.max_rss_bytes").parse::<u64>();
    assert!(memory.is_ok_and(|bytes| bytes > 0), "{end:#?}");
    assert!(!of_end("childminder.child.cpu_user_seconds").is_empty(), "{end:#?}");
    let run = seen.run();
    let of_run = |name: &str| attribute(&run.attributes, name).unwrap_or_default();
    assert_eq!(of_run("childminder.batch"), "night");
    assert_eq!(of_run("childminder.tag.team"), "red");
    assert!(!of_run("childminder.tag.url").contains("hush"), "{run:#?}");
    let id = of_run("childminder.run.id");
    assert!(!id.is_empty());
    let records = seen.records.iter().map(|record| &record.attributes);
    for attributes in seen.spans.iter().map(|span| &span.attributes).chain(records) {
        assert_eq!(attribute(attributes, "childminder.run.id").as_deref(), Some(id.as_str()));
    }
}

/// A secret is hidden where the words of the command are still apart: also inside of a quoted script.
#[test]
fn secrets_of_a_quoted_script_are_in_no_record_nor_span() {
    let (place, collector) = (Place::new(), Collector::start(Wire::Http));
    let options = ["--redact", "hush-*", "--record-args"];
    let (_, seen) = seen(&place, &collector, &options, ": 'for hush-room'; exit 3");
    let start = seen.record("childminder.attempt.start");
    let body = format!("{:?}", start.body);
    assert!(body.contains("for [hidden]"), "{body}");
    let all = format!("{:?}{:?}{:?}", seen.spans, seen.records, seen.metrics);
    assert!(!all.contains("hush"), "{all}");
}

/// "TRACEPARENT in the environment of childminder is the parent of the run."
#[test]
fn an_inherited_context_is_the_parent_and_decides_what_is_sampled() {
    for (flags, state) in [("01", "a=b,c=d"), ("00", "a=b"), ("01", "")] {
        let (place, collector) = (Place::new(), Collector::start(Wire::Http));
        let mut command = told(&place, &collector, &[], TELLS);
        let parent = format!("00-{TRACE}-{SPAN}-{flags}");
        command.env("TRACEPARENT", &parent).env("TRACESTATE", state);
        let (done, seen) = ended(&place, &collector, command);
        let (given, given_state) = done.stdout.trim_end().split_once('|').expect("both");
        assert_eq!(given_state, state);
        assert!(given.starts_with(&format!("00-{TRACE}-")), "{given}");
        assert!(given.ends_with(&format!("-{flags}")) && !given.contains(SPAN), "{given}");
        if flags == "00" {
            assert!(seen.spans.is_empty(), "{:#?}", seen.spans);
            assert!(!seen.metrics.is_empty() && !seen.records.is_empty());
            continue;
        }
        let run = seen.run();
        assert_eq!((hex(&run.trace_id), hex(&run.parent_span_id)), (TRACE.into(), SPAN.into()));
        assert_eq!(given, traceparent(seen.spans("sh")[0]));
        assert_eq!(seen.spans("sh")[0].trace_state, state);
    }
}

/// "--new-trace: Begin a trace of its own, linked to the one in TRACEPARENT"
#[test]
fn a_new_trace_is_linked_to_the_inherited_one() {
    let (place, collector) = (Place::new(), Collector::start(Wire::Grpc));
    let mut command = told(&place, &collector, &["--new-trace"], TELLS);
    command.env("TRACEPARENT", format!("00-{TRACE}-{SPAN}-01"));
    let (_, seen) = ended(&place, &collector, command);
    let run = seen.run();
    assert!(run.parent_span_id.is_empty() && hex(&run.trace_id) != TRACE);
    let [link] = &run.links[..] else { panic!("one link: {run:#?}") };
    assert_eq!((hex(&link.trace_id), hex(&link.span_id)), (TRACE.into(), SPAN.into()));
}

#[test]
fn what_nobody_can_read_as_a_context_begins_a_new_trace() {
    let (place, collector) = (Place::new(), Collector::start(Wire::Http));
    let mut command = told(&place, &collector, &[], TELLS);
    command.env("TRACEPARENT", "00-nonsense-01");
    let (done, seen) = ended(&place, &collector, command);
    assert!(seen.run().parent_span_id.is_empty());
    assert_eq!(done.stdout, format!("{}|\n", traceparent(seen.spans("sh")[0])));
}

/// "traceparent": version ff is none, digits are small, version 00 has four fields and no more.
#[test]
fn a_context_is_continued_by_the_grammar_alone() {
    for (parent, is_continued) in [
        (format!("00-{TRACE}-{SPAN}-01"), true),
        (format!("cc-{TRACE}-{SPAN}-01-what-is-to-come"), true),
        (format!("ff-{TRACE}-{SPAN}-01"), false),
        (format!("00-{TRACE}-{SPAN}-01-x"), false),
        (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), false),
        (format!(" 00-{TRACE}-{SPAN}-01"), false),
        (format!("00-{TRACE}-{}-01", "0".repeat(16)), false),
    ] {
        let (place, collector) = (Place::new(), Collector::start(Wire::Http));
        let mut command = told(&place, &collector, &[], ":");
        command.env("TRACEPARENT", &parent).env("TRACESTATE", "a=b");
        let (_, seen) = ended(&place, &collector, command);
        let run = seen.run();
        assert_eq!(hex(&run.trace_id) == TRACE, is_continued, "{parent}");
        assert_eq!(!run.parent_span_id.is_empty(), is_continued, "{parent}");
        assert_eq!(run.trace_state == "a=b", is_continued, "{parent}");
        // The record reads it the same.
        let mut command = place.childminder(["--central-log", "r.csv", "true"]);
        command.env("TRACEPARENT", &parent);
        assert_eq!(place.run_command(command).code(), 0);
        assert_eq!(place.text("r.csv").contains(TRACE), is_continued, "{parent}");
    }
}

/// "OTEL_TRACES_SAMPLER=always_off: the job's TRACEPARENT ends in -00."
#[test]
fn a_sampler_that_says_no_is_passed_on_to_the_job() {
    let (place, collector) = (Place::new(), Collector::start(Wire::Http));
    let mut command = told(&place, &collector, &[], TELLS);
    command.env("OTEL_TRACES_SAMPLER", "always_off");
    let (done, seen) = ended(&place, &collector, command);
    assert!(seen.spans.is_empty(), "{:#?}", seen.spans);
    assert!(done.stdout.ends_with("-00|\n"), "{done:?}");
}

/// "Tracing off: inherited TRACEPARENT/TRACESTATE/BAGGAGE pass untouched."
#[test]
fn without_traces_the_context_passes_through_untouched() {
    let (place, collector) = (Place::new(), Collector::start(Wire::Http));
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let job = r#"echo "$TRACEPARENT|$TRACESTATE|$BAGGAGE""#;
    let off: [&[(&str, &str)]; 3] = [
        &[],
        &[("OTEL_TRACES_EXPORTER", "none"), ("OTEL_LOGS_EXPORTER", "otlp")],
        &[("OTEL_SDK_DISABLED", "true"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")],
    ];
    for variables in off {
        let mut command = place.childminder(["sh", "-c", job]);
        command.env(
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
            format!("http://{}/v1/logs", collector.address),
        );
        command.envs(variables.iter().copied());
        command.env("TRACEPARENT", &parent).env("TRACESTATE", "a=b").env("BAGGAGE", "k=v");
        let done = place.run_command(command);
        assert_eq!(done.stdout, format!("{parent}|a=b|k=v\n"), "{variables:?}: {done:?}");
        assert_eq!(troubles(&done), Vec::<&str>::new(), "{done:?}");
    }
}

/// "Telemetry off until asked", and by OTEL_SDK_DISABLED and `none`.
#[test]
fn nothing_is_sent_that_was_not_asked_for() {
    let (place, collector) = (Place::new(), Collector::start(Wire::Http));
    let none: [&[(&str, &str)]; 2] = [
        &[("OTEL_SDK_DISABLED", "TRUE")],
        &[
            ("OTEL_TRACES_EXPORTER", "none"),
            ("OTEL_METRICS_EXPORTER", "none"),
            ("OTEL_LOGS_EXPORTER", "none"),
        ],
    ];
    for variables in none {
        let place = Place::new();
        let mut command = told(&place, &collector, &[], "exit 4");
        command.envs(variables.iter().copied());
        let (done, seen) = ended(&place, &collector, command);
        assert_eq!((done.code(), seen.calls.len()), (4, 0), "{seen:#?}");
    }
    // Without a variable nothing runs beside the supervising thread.
    let done = place.run(["sh", "-c", "sleep 0.05; ls /proc/$PPID/task | wc -l"]);
    let plain: u32 = done.stdout.trim().parse().expect("a number");
    let place = Place::new();
    let job = "sleep 0.05; ls /proc/$PPID/task | wc -l";
    let (done, _) = seen(&place, &collector, &[], job);
    let telling: u32 = done.stdout.trim().parse().expect("a number");
    assert_eq!(telling, plain + 1, "one thread more, and only when asked");
}

/// "If logs are off (OTEL_LOGS_EXPORTER=none) the same names are added as span events"
#[test]
fn events_are_on_the_span_if_there_are_no_log_records() {
    let (place, collector) = (Place::new(), Collector::start(Wire::Http));
    let mut command = told(&place, &collector, &[], "exit 3");
    command.env("OTEL_LOGS_EXPORTER", "none");
    let (_, without) = ended(&place, &collector, command);
    let names: Vec<_> = without.spans("sh")[0].events.iter().map(|e| e.name.as_str()).collect();
    assert!(names.contains(&"childminder.attempt.start"), "{names:?}");
    assert!(names.contains(&"childminder.attempt.end"), "{names:?}");
    assert!(without.records.is_empty());
    let (place, collector) = (Place::new(), Collector::start(Wire::Http));
    let (_, with) = seen(&place, &collector, &[], "exit 3");
    assert!(with.spans("sh")[0].events.is_empty());
}

/// "Metrics: restarts, signals received, exits and verdicts"
#[test]
fn metrics_tell_what_happened_to_the_job() {
    for (wire, temporality, code) in [(Wire::Http, "cumulative", 2), (Wire::Grpc, "delta", 1)] {
        let (place, collector) = (Place::new(), Collector::start(wire));
        let job = r#"
            trap "exit 3" USR1
            [ $CHILDMINDER_ATTEMPT = 1 ] || exit 4
            : > ready; while :; do sleep 0.02; done"#;
        let options = ["--restart-on", "failure", "--backoff", "0..0", "-t", "1"];
        let mut command = told(&place, &collector, &options, job);
        command.env("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", temporality);
        let running = place.start_command(command);
        crate::support::wait_until("the job is ready", || place.file("ready").exists());
        running.signal("USR1");
        let done = running.end();
        assert_eq!(done.code(), 4, "{done:?}");
        let seen = collector.seen();
        let value = |name: &str, attributes: &[(&str, &str)]| seen.value(name, attributes);
        assert_eq!(value("childminder.restarts", &[]), Some(1.0));
        let signal = [("childminder.signal", "SIGUSR1")];
        assert_eq!(value("childminder.signals.received", &signal), Some(1.0));
        let sent = [signal[0], ("childminder.origin", "forward")];
        assert_eq!(value("childminder.signals.sent", &sent), Some(1.0));
        for exit_code in ["3", "4"] {
            assert_eq!(
                value("childminder.exits", &[("childminder.exit_code", exit_code)]),
                Some(1.0)
            );
        }
        assert_eq!(
            value("childminder.verdicts", &[("childminder.verdict", "exit_nonzero")]),
            Some(2.0)
        );
        assert_eq!(value("childminder.runs", &[("childminder.outcome", "failure")]), Some(1.0));
        assert_eq!(value("childminder.runs", &[("childminder.outcome", "success")]), Some(0.0));
        assert_eq!(value("childminder.run.last_exit_code", &[]), Some(4.0));
        assert!(value("process.cpu.time", &[("cpu.mode", "user")]).is_some());
        let temporalities: Vec<i32> =
            seen.points("childminder.restarts").iter().map(|(_, kind)| *kind).collect();
        assert!(temporalities.iter().all(|kind| *kind == code), "{temporalities:?}");
    }
}

/// "Log records: an event of the run, named and with a severity, in the trace of its attempt."
#[test]
fn events_are_log_records_in_the_trace_of_their_attempt() {
    let (place, collector) = (Place::new(), Collector::start(Wire::Grpc));
    let (_, seen) = seen(&place, &collector, &["--name", "told"], "(exit 0) & wait; exit 3");
    let (run, attempt) = (seen.run(), seen.spans("sh")[0]);
    for (name, severity, span) in [
        ("childminder.run.start", "INFO", run),
        ("childminder.attempt.start", "INFO", attempt),
        ("childminder.attempt.end", "WARN", attempt),
        ("childminder.run.end", "ERROR", run),
    ] {
        let record = seen.record(name);
        assert_eq!(record.severity_text, severity, "{record:#?}");
        assert_eq!(record.trace_id, span.trace_id, "{record:#?}");
        assert_eq!(record.span_id, span.span_id, "{record:#?}");
        assert!(record.time_unix_nano > 0 && record.observed_time_unix_nano > 0, "{record:#?}");
        assert!(record.body.is_some(), "{record:#?}");
    }
    let start = seen.record("childminder.attempt.start");
    assert_eq!(
        attribute(&start.attributes, "process.pid"),
        attribute(&attempt.attributes, "process.pid")
    );
    let end = seen.record("childminder.run.end");
    assert_eq!(attribute(&end.attributes, "process.exit.code").as_deref(), Some("3"));
    assert!(
        seen.scopes.iter().all(|scope| scope.name == "childminder" && !scope.version.is_empty())
    );
}

/// "service.name = --name > OTEL_SERVICE_NAME > service.name in OTEL_RESOURCE_ATTRIBUTES > program"
#[test]
fn the_resource_is_the_job() {
    let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=from%20there,team=a%2Cb%3D");
    let service = ("OTEL_SERVICE_NAME", "service");
    for (options, variables, name) in [
        (&["--name", "named"][..], &[attributes, service][..], "named"),
        (&[], &[attributes, service], "service"),
        (&[], &[attributes], "from there"),
        (&[], &[], "sh"),
    ] {
        let (place, collector) = (Place::new(), Collector::start(Wire::Http));
        let mut command = told(&place, &collector, options, ":");
        command.envs(variables.iter().copied());
        let (_, seen) = ended(&place, &collector, command);
        assert!(seen.resources.len() >= 3, "all three signals");
        for resource in &seen.resources {
            let told = |key: &str| attribute(&resource.attributes, key);
            assert_eq!(told("service.name").as_deref(), Some(name));
            let team = (!variables.is_empty()).then_some("a,b=");
            assert_eq!(told("team").as_deref(), team);
            assert!(told("service.instance.id").is_some_and(|id| id.len() == 36));
            assert!(told("host.name").is_some() && told("telemetry.sdk.name").is_some());
            assert_eq!(told("os.type").as_deref(), Some("linux"));
        }
    }
}

/// What is given by a variable comes before what is derived, and blank values are none.
#[test]
fn an_attribute_of_the_resource_that_is_given_holds() {
    let (place, collector) = (Place::new(), Collector::start(Wire::Http));
    let given = "service.instance.id=i7,host.name=h7,host.id=m7,os.type=other,service.name=%20";
    for (options, instance) in [(&[][..], "i7"), (&["--instance-id", "typed"], "typed")] {
        let mut command = told(&place, &collector, options, ":");
        command.env("OTEL_RESOURCE_ATTRIBUTES", given);
        let (_, seen) = ended(&place, &collector, command);
        let resource = seen.resources.last().expect("one");
        let told = |key: &str| attribute(&resource.attributes, key);
        assert_eq!(told("service.instance.id").as_deref(), Some(instance));
        assert_eq!(told("host.name").as_deref(), Some("h7"));
        assert_eq!(told("host.id").as_deref(), Some("m7"));
        assert_eq!(told("os.type").as_deref(), Some("other"));
        assert_eq!(told("service.name").as_deref(), Some("sh"));
    }
}

/// "All `OTEL_*` variables of the specification for OTLP, samplers, queues and limits hold"
#[test]
fn attributes_are_no_more_and_no_longer_than_their_limits() {
    let (place, collector) = (Place::new(), Collector::start(Wire::Http));
    let mut command = told(&place, &collector, &["--record-args"], ": a long word");
    command.env("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "7");
    command.env("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "3");
    command.env("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "1");
    let (_, seen) = ended(&place, &collector, command);
    let span = seen.spans("sh")[0];
    let given = attribute(&span.attributes, "process.command_args").expect("the arguments");
    assert!(given.contains(": a lon") && !given.contains("long"), "{given}");
    let texts = |span: &Span| {
        let values = span.attributes.iter().filter_map(|pair| pair.value.clone()?.value);
        values
            .filter_map(|value| match value {
                Value::StringValue(text) => Some(text),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert!(seen.spans.iter().flat_map(texts).all(|text| text.chars().count() <= 7));
    let end = seen.record("childminder.attempt.end");
    assert_eq!(end.attributes.len(), 1, "{end:?}");
    assert_eq!(attribute(&end.attributes, "childminder.verdict").as_deref(), Some("suc"));

    let (place, collector) = (Place::new(), Collector::start(Wire::Grpc));
    let mut command = told(&place, &collector, &[], ":");
    command.env("OTEL_ATTRIBUTE_COUNT_LIMIT", "2").env("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "5");
    command.env("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "4");
    let (_, seen) = ended(&place, &collector, command);
    assert!(seen.spans.iter().all(|span| span.attributes.len() == 2), "{:#?}", seen.spans);
    assert!(seen.spans.iter().flat_map(texts).all(|text| text.chars().count() <= 4));
    assert!(seen.spans.iter().all(|span| span.dropped_attributes_count > 0));
}

/// A bad value "is warned of" once, and all is sent as if it was not set.
#[test]
fn bad_values_are_reported_once_and_the_rest_holds() {
    let (place, collector) = (Place::new(), Collector::start(Wire::Http));
    let mut command = told(&place, &collector, &[], ":");
    command.env("OTEL_TRACES_SAMPLER", "traceidratio").env("OTEL_TRACES_SAMPLER_ARG", "NaN");
    command.env("OTEL_EXPORTER_OTLP_COMPRESSION", "zip");
    command.env("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "hourly");
    command.env("OTEL_EXPORTER_OTLP_HEADERS", "x-good=1,x bad=hush");
    command.env("OTEL_ATTRIBUTE_COUNT_LIMIT", "many");
    let done = place.run_command(command);
    for (text, count) in [
        ("OTEL_TRACES_SAMPLER_ARG=NaN: not a ratio from 0 to 1; 1 is used", 1),
        ("OTEL_EXPORTER_OTLP_COMPRESSION=zip: gzip and none are known; none is used", 1),
        ("TEMPORALITY_PREFERENCE=hourly: cumulative, delta and lowmemory are known", 1),
        ("OTEL_EXPORTER_OTLP_HEADERS: header 2:", 1),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT=many: not a number from 0 up; 128 is used", 1),
        ("hush", 0),
    ] {
        assert_eq!(done.stderr.matches(text).count(), count, "{text}: {}", done.stderr);
    }
    let seen = collector.seen();
    assert_eq!(seen.spans.len(), 2, "{done:?}");
    let has_header = |call: &Call| call.headers.get("x-good").is_some_and(|value| value == "1");
    assert!(seen.calls.iter().all(has_header), "{:?}", seen.calls);
}

/// Secrets of an endpoint are nowhere on standard error, with and without a scheme.
#[test]
fn secrets_of_an_endpoint_are_not_shown() {
    for endpoint in [
        "u:hunter2@127.0.0.1:1",
        "http://u:hunter2@127.0.0.1:1",
        "http://u:hun/ter2@127.0.0.1:1",
        "http://127.0.0.1:1/?api_key=hunter2",
        "127.0.0.1:1?api_key=hunter2",
    ] {
        for protocol in ["http/protobuf", "grpc", "pushgateway"] {
            let place = Place::new();
            let mut command = place.childminder(["true"]);
            if protocol == "pushgateway" {
                command = place.childminder(["--pushgateway", endpoint, "true"]);
            } else {
                command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
                command.env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
            }
            let done = place.run_command(command);
            assert!(!done.stderr.is_empty(), "{endpoint} {protocol}");
            assert!(!done.stderr.contains("ter2"), "{endpoint} {protocol}: {}", done.stderr);
        }
    }
}

/// "service.instance.id ... two copies do not share counters"
#[test]
fn an_instance_is_the_same_for_each_run_and_another_for_a_copy() {
    let name = format!("copies-{}", std::process::id());
    let instance = |collector: &Collector| {
        let seen = collector.seen();
        attribute(&seen.resources[0].attributes, "service.instance.id").expect("an id")
    };
    let collectors = [(); 3].map(|()| Collector::start(Wire::Http));
    let (place, other) = (Place::new(), Place::new());
    let job = ": > ready; until [ -e go ]; do sleep 0.02; done";
    let first = place.start_command(told(&place, &collectors[0], &["--name", &name], job));
    crate::support::wait_until("the first runs", || place.file("ready").exists());
    seen(&other, &collectors[1], &["--name", &name], ":");
    place.write("go", "");
    assert_eq!(first.end().code(), 0);
    let again = Place::new();
    seen(&again, &collectors[2], &["--name", &name], ":");
    assert_eq!(instance(&collectors[0]), instance(&collectors[2]));
    assert_ne!(instance(&collectors[0]), instance(&collectors[1]));
    let given = Collector::start(Wire::Http);
    seen(&Place::new(), &given, &["--instance-id", "mine"], ":");
    assert_eq!(instance(&given), "mine");
}

/// OTEL_EXPORTER_OTLP_COMPRESSION and _HEADERS, whose values are percent-encoded.
#[test]
fn requests_are_compressed_and_have_the_headers() {
    for wire in [Wire::Http, Wire::Grpc] {
        let (place, collector) = (Place::new(), Collector::start(wire));
        let mut command = told(&place, &collector, &[], ":");
        command.env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
        command.env("OTEL_EXPORTER_OTLP_HEADERS", "x-one=a%2Cb%20c,x-two=2");
        let (_, seen) = ended(&place, &collector, command);
        assert!(seen.calls.len() >= 3);
        for call in &seen.calls {
            assert!(call.was_compressed, "{call:?}");
            let header = |name: &str| call.headers.get(name).map(String::as_str);
            assert_eq!((header("x-one"), header("x-two")), (Some("a,b c"), Some("2")), "{call:?}");
        }
    }
}

/// "generic endpoint gets /v1/... appended, per-signal used as is"
#[test]
fn each_signal_may_have_an_endpoint_of_its_own() {
    let (place, collector) = (Place::new(), Collector::start(Wire::Http));
    let traces = Collector::start(Wire::Grpc);
    let mut command = told(&place, &collector, &[], ":");
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}/base", collector.address));
    command
        .env("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", format!("http://{}/my-logs", collector.address));
    command.env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", format!("http://{}", traces.address));
    command.env("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc");
    let (_, seen) = ended(&place, &collector, command);
    let mut paths: Vec<_> = seen.calls.iter().map(|call| call.path.as_str()).collect();
    paths.sort_unstable();
    paths.dedup();
    assert_eq!(paths, ["/base/v1/metrics", "/my-logs"]);
    assert!(seen.spans.is_empty());
    assert_eq!(traces.seen().spans.len(), 2);
}

/// OTEL_EXPORTER_OTLP_CERTIFICATE, _CLIENT_CERTIFICATE and _CLIENT_KEY.
#[test]
fn collectors_are_known_and_know_us_by_certificates() {
    for wire in [Wire::Http, Wire::Grpc] {
        for is_mutual in [false, true] {
            let place = Place::new();
            let authority = Authority::new(&place);
            let collector = Collector::secure(wire, authority.server(is_mutual));
            let mut command = told(&place, &collector, &[], "exit 3");
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("https://{}", collector.address));
            command.env("OTEL_EXPORTER_OTLP_CERTIFICATE", place.file("ca.pem"));
            if is_mutual {
                command.env("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", place.file("client.pem"));
                command.env("OTEL_EXPORTER_OTLP_CLIENT_KEY", place.file("client.key"));
            }
            let (done, seen) = ended(&place, &collector, command);
            assert_eq!((done.code(), seen.spans.len()), (3, 2), "{wire:?} {is_mutual}");
            assert!(!seen.metrics.is_empty() && !seen.records.is_empty());
        }
    }
}

/// An endpoint without a scheme is gRPC's, and is secure unless that is waived.
#[test]
fn an_endpoint_without_a_scheme_may_be_insecure() {
    let (place, collector) = (Place::new(), Collector::start(Wire::Grpc));
    let mut command = told(&place, &collector, &[], ":");
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address.to_string());
    command.env("OTEL_EXPORTER_OTLP_INSECURE", "true");
    let (_, seen) = ended(&place, &collector, command);
    assert_eq!(seen.spans.len(), 2);

    let place = Place::new();
    let authority = Authority::new(&place);
    let collector = Collector::secure(Wire::Grpc, authority.server(false));
    let mut command = told(&place, &collector, &[], ":");
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.address.to_string());
    command.env("OTEL_EXPORTER_OTLP_CERTIFICATE", place.file("ca.pem"));
    let (_, seen) = ended(&place, &collector, command);
    assert_eq!(seen.spans.len(), 2);
}

/// PEERS, T33: secrets in argv end up in logs and labels. "--record-args: Put the job's arguments into
/// spans, with secrets hidden"
#[test]
fn secrets_in_the_arguments_do_not_leave_the_machine() {
    for (options, is_told) in [(&[][..], false), (&["--record-args"], true)] {
        for logs in ["otlp", "none"] {
            let (place, collector) = (Place::new(), Collector::start(Wire::Http));
            let mut command = place.childminder(options);
            // The second attempt cannot be started.
            command.args(RESTARTS).args(["-t", "1", "./job", "plainword", "--password=hunter2"]);
            command.envs(collector.variables()).env("OTEL_LOGS_EXPORTER", logs);
            let job = "#!/bin/sh\nrm job\n(kill -USR1 $PPID)\n: word; exit 3\n";
            place.executable("job", job);
            let done = place.run_command(command);
            assert_eq!(done.code(), 127, "{done:?}");
            let seen = collector.seen();
            assert_eq!(seen.spans.len(), 3, "{done:?}");
            let everything = format!("{:?}", *seen);
            let given: Vec<_> = seen.spans("job")[0]
                .attributes
                .iter()
                .filter(|pair| pair.key == "process.command_args")
                .collect();
            assert_eq!(given.len(), usize::from(is_told), "{given:?}");
            // The sentences of the log name the command, hidden words and all.
            assert!(!everything.contains("hunter2") && everything.contains("[hidden]"));
        }
    }
}

/// "--otel-env-strip: Keep the OTEL_* variables, which may hold secrets, from the job"
#[test]
fn the_variables_with_secrets_can_be_kept_from_the_job() {
    let job = "env | grep -c ^OTEL_; env | grep -c ^TRACEPARENT; :";
    for (options, count) in [(&[][..], "3\n1\n"), (&["--otel-env-strip"], "0\n1\n")] {
        let (place, collector) = (Place::new(), Collector::start(Wire::Http));
        let mut command = told(&place, &collector, options, job);
        command.env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret");
        let (done, _) = ended(&place, &collector, command);
        assert_eq!(done.stdout, count);
    }
}

/// "--metric-label: A label for every metric"
#[test]
fn labels_for_every_metric_are_attributes_here() {
    let (place, collector) = (Place::new(), Collector::start(Wire::Http));
    let (_, seen) = seen(&place, &collector, &["--metric-label", "team=red"], ":");
    let is_red = |attributes: &[_]| attribute(attributes, "team").as_deref() == Some("red");
    assert!(seen.points("childminder.runs").iter().all(|(point, _)| is_red(&point.attributes)));
    assert_eq!(seen.value("childminder.restarts", &[("team", "red")]), Some(0.0));
}

/// Long jobs: what waits is sent while the job runs.
#[test]
fn a_running_job_is_told_of() {
    let (place, collector) = (Place::new(), Collector::start(Wire::Http));
    let mut command = told(&place, &collector, &[], "until [ -e go ]; do sleep 0.02; done");
    command.env("OTEL_METRIC_EXPORT_INTERVAL", "50").env("OTEL_BLRP_SCHEDULE_DELAY", "50");
    let running = place.start_command(command);
    collector.wait("the start is told", |seen| {
        seen.records.iter().any(|record| record.event_name == "childminder.attempt.start")
    });
    collector.wait("numbers are told", |seen| {
        seen.value("childminder.child.running", &[]) == Some(1.0)
            && seen.value("process.thread.count", &[]) == Some(1.0)
    });
    assert!(collector.seen().spans.is_empty(), "a span is sent when it ends");
    place.write("go", "");
    assert_eq!(running.end().code(), 0);
    let seen = collector.seen();
    assert_eq!(seen.value("childminder.child.running", &[]), Some(0.0));
    assert_eq!(seen.spans.len(), 2);
    // Of a job that has ended already nobody can say it.
    let path = attribute(&seen.spans("sh")[0].attributes, "process.executable.path");
    assert!(path.is_some_and(|path| path.starts_with('/')));
}
