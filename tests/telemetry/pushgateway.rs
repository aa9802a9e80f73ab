//! `--pushgateway`: a real one, and none.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::hostile::{Hostile, nobody};
use crate::peers::{Daemon, ask, get, tool, value};
use crate::support::{PATIENCE, Place, troubles, wait_until};

fn pushing(place: &Place, url: &str, options: &[&str], job: &str) -> Command {
    let mut command = place.childminder(["--pushgateway", url, "--otel-flush-timeout", "5"]);
    command.args(options).args(["sh", "-c", job]);
    command
}

/// "POST replaces metrics of the same name in our own group and nothing else."
#[test]
fn values_arrive_in_the_group_of_the_job() {
    let Some(gateway) = tool("prometheus-pushgateway") else { return };
    let place = Place::new();
    let mut command = place.command(gateway);
    command.args(["--web.listen-address=127.0.0.1:0", "--persistence.file="]);
    let mut gateway = Daemon::start(&place, command);
    let address = gateway.address();
    wait_until("it is ready", || ask(&address, "GET /-/ready", "").0.contains(" 200 "));
    let (head, _) = ask(&address, "PUT /metrics/job/other/instance/i", "other_total 7\n");
    assert!(head.contains(" 200 "), "{head}");
    let url = format!("http://{address}");
    for (name, job, log) in
        [("nightly", "exit 0", "l1"), ("nightly", "exit 3", "l2"), ("a/b ü", ":", "l3")]
    {
        let options = ["--name", name, "-l", log, "--metric-label", "team=red"];
        let done = place.run_command(pushing(&place, &url, &options, job));
        assert!(troubles(&done).is_empty(), "{done:?}");
    }
    let page = get(&address, "/metrics");
    let of_it = |name: &str| {
        value(&page, name, &["job=\"childminder\"", "job_name=\"nightly\"", "team=\"red\""])
    };
    assert_eq!(of_it("childminder_run_last_exit_code"), Some(3.0), "{page}");
    let succeeded = of_it("childminder_run_last_success_timestamp_seconds");
    let completed = of_it("childminder_run_last_completion_timestamp_seconds");
    assert!(succeeded.zip(completed).is_some_and(|(one, other)| one < other), "{page}");
    assert_eq!(value(&page, "childminder_run_last_exit_code", &["job_name=\"a/b ü\""]), Some(0.0));
    assert_eq!(value(&page, "other_total", &["job=\"other\"", "instance=\"i\""]), Some(7.0));
    let groups = page.lines().filter(|line| line.starts_with("push_time_seconds{")).count();
    assert_eq!(groups, 3, "{page}");
}

/// A gateway that is not there, or says nothing, or says no.
#[test]
fn a_gateway_at_its_worst_changes_nothing_for_the_job() {
    let hung = Hostile::hung();
    let half = Hostile::answering_half();
    let no = Hostile::answering_500();
    let urls = [
        format!("http://{}", nobody()),
        format!("http://{}", hung.address),
        format!("http://{}", half.address),
        format!("http://{}", no.address),
        format!("https://{}", hung.address),
        "http://gateway.invalid:9091".to_owned(),
    ];
    for url in urls {
        let place = Place::new();
        let began = Instant::now();
        let options = ["--otel-flush-timeout", "300ms"];
        let mut command = place.childminder(["--pushgateway", &url]);
        command.args(options).args(["sh", "-c", "echo out; exit 3"]);
        let done = place.run_command(command);
        assert!(began.elapsed() < Duration::from_secs(15), "{url}");
        assert_eq!((done.code(), done.stdout.as_str()), (3, "out\n"), "{url}: {done:?}");
        let said = troubles(&done);
        assert_eq!(said.len(), 1, "{url}: {done:?}");
        assert!(said[0].starts_with("childminder: no metrics pushed to "), "{url}: {said:?}");
    }
}

/// "Password in the URL is sent as basic auth" and is told nobody.
#[test]
fn a_password_is_sent_and_never_told() {
    for (status, is_well) in [("200 OK", true), ("401 Unauthorized", false)] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("childminder comes");
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
            let (mut text, mut buffer) = (String::new(), [0; 65536]);
            while !text.contains("childminder_signals_sent_total")
                && !text.contains("telemetry_dropped")
            {
                let count = stream.read(&mut buffer).expect("a request");
                assert!(count > 0, "{text}");
                text.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
            write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").expect("it reads");
            // What is closed with something unread is reset.
            while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
            text
        });
        let place = Place::new();
        let url = format!("http://user:s%40cret-pass@{address}/base/");
        let done = place.run_command(pushing(&place, &url, &["--name", "n"], "exit 3"));
        assert_eq!(done.code(), 3);
        let request = thread.join().expect("a request");
        // user:s@cret-pass
        assert!(request.contains("authorization: Basic dXNlcjpzQGNyZXQtcGFzcw=="), "{request}");
        assert!(
            request.starts_with("POST /base/metrics/job/childminder/job_name/n/instance/"),
            "{request}"
        );
        assert_eq!(troubles(&done).is_empty(), is_well, "{done:?}");
        let everything = format!("{done:?}{:?}", place.contents());
        for secret in ["cret-pass", "dXNlcjpz"] {
            assert!(!everything.contains(secret), "{everything}");
        }
    }
    for bad in ["ftp://user:cret-pass@h", "http://user:cret-pass@ h", "user:cret-pass@h"] {
        let place = Place::new();
        let done = place.run_command(pushing(&place, bad, &[], "exit 3"));
        let everything = format!("{done:?}{:?}", place.contents());
        assert!(
            done.status.code() == Some(125) && !everything.contains("cret-pass"),
            "{everything}"
        );
    }
}
