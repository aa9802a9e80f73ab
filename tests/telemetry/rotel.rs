//! A real collector, of another project: Rotel, which comes as a Python wheel.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

use crate::collector::Wire;
use crate::peers::Daemon;
use crate::support::{Place, skip, troubles, wait_until};

/// The program; a machine that cannot run it says so.
fn rotel(place: &Place) -> Option<PathBuf> {
    let program = std::env::var_os("CHILDMINDER_TEST_ROTEL").map(PathBuf::from);
    let program = program.filter(|path| !path.as_os_str().is_empty());
    let program = program.unwrap_or_else(|| "rotel-agent".into());
    let works = place.command(&program).arg("--version").output();
    if !works.is_ok_and(|output| output.status.success()) {
        let why = "it does not run: set CHILDMINDER_TEST_ROTEL (tests/run gets it by pip)";
        skip("what Rotel gets by OTLP", why);
        return None;
    }
    Some(program)
}

/// It cannot be told to take any free port: two that were free a moment ago are tried.
fn start(place: &Place, program: &PathBuf) -> (Daemon, [u16; 2]) {
    for _ in 0..5 {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let ports = listeners.each_ref().map(|one| one.local_addr().expect("an address").port());
        drop(listeners);
        let mut command = place.command(program);
        command.args(["start", "--exporter", "blackhole"]);
        command.arg(format!("--otlp-http-endpoint=127.0.0.1:{}", ports[0]));
        command.arg(format!("--otlp-grpc-endpoint=127.0.0.1:{}", ports[1]));
        for signal in ["traces", "metrics", "logs"] {
            command.args(["--debug-log", signal]);
        }
        command.args(["--debug-log-verbosity", "detailed"]);
        let mut daemon = Daemon::start(place, command);
        let mut is_up = false;
        wait_until("it listens or has ended", || {
            is_up = ports.iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok());
            is_up || daemon.has_ended()
        });
        if is_up && !daemon.has_ended() {
            return (daemon, ports);
        }
    }
    panic!("no two ports to be had")
}

/// The lines that say `-> KEY: ...`, as this collector shows attributes and names.
fn says(text: &str, line: &str) -> bool {
    text.lines().any(|one| one.trim() == line)
}

#[test]
fn a_real_collector_takes_all_three_signals() {
    for wire in [Wire::Http, Wire::Grpc] {
        let place = Place::new();
        let Some(program) = rotel(&place) else { return };
        let (daemon, ports) = start(&place, &program);
        let port = ports[usize::from(wire == Wire::Grpc)];
        let job = "[ $CHILDMINDER_ATTEMPT = 2 ] || exit 3; kill -TERM $$";
        let options = ["--restart-on", "exit:3", "--backoff", "0..0", "--name", "rotel test"];
        let mut command = place.childminder(options);
        command.args(["--otel-flush-timeout", "20", "sh", "-c", job]);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{port}"));
        command.env("OTEL_EXPORTER_OTLP_PROTOCOL", wire.word());
        command.env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
        let done = place.run_command(command);
        assert_eq!(done.code(), 143, "{done:?}");
        assert!(troubles(&done).is_empty() && done.count("telemetry") == 0, "{done:?}");
        for line in [
            "-> service.name: Str(rotel test)",
            "Name           : childminder run",
            "Kind           : SPAN_KIND_CLIENT",
            "-> childminder.exit.signal: Str(SIGTERM)",
            "-> Name: childminder.restarts",
            "-> Name: childminder.attempt.duration",
            "-> childminder.verdict: Str(exit_nonzero)",
        ] {
            wait_until(&format!("it says '{line}'"), || says(&daemon.says(), line));
        }
        wait_until("it has the last record", || {
            daemon.says().contains("run ended with status 143")
        });
    }
}
