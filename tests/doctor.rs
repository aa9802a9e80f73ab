//! `--doctor`: which evidence can be had here.

#![allow(missing_docs, reason = "the names say it")]

mod support;

use std::fs;
use std::net::TcpListener;

use serde_json::Value;
use support::{Done, Place};

const RECORD: &str = "CHILDMINDER_CENTRAL_LOG";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

fn doctor(place: &Place, words: &[&str], variables: &[(&str, &str)]) -> Done {
    let mut command = place.childminder([&["--doctor"], words].concat());
    command.envs(variables.iter().copied());
    let done = place.start_command(command).end_without_log();
    assert_eq!(
        (done.stderr.as_str(), fs::read_dir(place.path()).expect("ours").count()),
        ("", 0),
        "{done:?}"
    );
    done
}

fn findings(done: &Done) -> Vec<Value> {
    done.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn each_line_says_whether_it_can_be_had_and_the_status_whether_all_can() {
    let place = Place::new();
    let done = doctor(&place, &[], &[]);
    let missing = done.stdout.lines().filter(|line| line.starts_with("no   ")).count();
    let found = done.stdout.lines().filter(|line| line.starts_with("yes  ")).count();
    assert_eq!((missing + found, i32::from(missing > 0)), (10, done.code()), "{done:?}");
    let json = findings(&doctor(&place, &["--json"], &[]));
    let available = json.iter().filter(|finding| finding["available"] == true).count();
    assert_eq!((json.len(), available), (10, found));
    for finding in &json {
        assert_eq!(finding["available"] == true, finding["advice"].is_null(), "{finding}");
    }
    // What can be seen from here as well.
    let is_there =
        |name: &str| json.iter().find(|one| one["name"] == name).expect(name)["available"] == true;
    assert_eq!(is_there("kernel log"), fs::File::open("/dev/kmsg").is_ok());
    assert_eq!(is_there("pressure stall information"), fs::read("/proc/pressure/memory").is_ok());
}

#[test]
fn the_record_and_the_collector_that_a_run_would_use_are_tried() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let endpoint = format!("http://{address}");
    let of = |record: &str| {
        let done = doctor(&place, &["--json"], &[(RECORD, record), (ENDPOINT, &endpoint)]);
        let findings = findings(&done);
        let get = |name: &str| {
            let all: Vec<&Value> =
                findings.iter().filter(|finding| finding["name"] == name).collect();
            assert_eq!(all.len(), 1, "{name}: {done:?}");
            all[0].clone()
        };
        (get("central record"), get("collector"))
    };
    let (record, collector) = of("all.csv");
    assert_eq!(
        (&record["available"], &collector["available"]),
        (&true.into(), &true.into()),
        "{record} {collector}"
    );
    drop(listener);
    let (record, collector) = of("no/all.csv");
    assert!(record["reason"].as_str().is_some_and(|why| why.starts_with("no: ")), "{record}");
    assert!(collector["reason"].as_str().is_some_and(|why| why.contains(&address)), "{collector}");
}

#[test]
fn it_starts_no_job() {
    let place = Place::new();
    for (words, text) in
        [(&["--doctor", "true"][..], "starts no job"), (&["--json", "true"], "--doctor")]
    {
        let done = place.run(words);
        assert_eq!((done.code(), done.stderr.lines().count()), (125, 1), "{done:?}");
        assert!(done.stderr.contains(text), "{done:?}");
    }
}
