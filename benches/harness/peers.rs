//! What a sample of a process tree costs the programs that others use for it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The CPU microseconds of one sample of the tree below that pid, which has so many processes;
/// `None` if the peer is not installed.
type Measure = fn(i32, usize) -> Option<f64>;

/// The peers, each with its name and how it is installed.
pub const PEERS: [(&str, &str, Measure); 2] = [
    ("psutil", "apt-get install python3-psutil", psutil),
    ("process-exporter", "apt-get install prometheus-process-exporter", exporter),
];

const SAMPLES: usize = 9;
const PATIENCE: Duration = Duration::from_secs(60);

/// RSS and CPU time of each process and no more, which is the least that it is used for.
const PSUTIL: &str = r"
import psutil, sys, time
root, want, costs = psutil.Process(int(sys.argv[1])), int(sys.argv[2]), []
def sample():
    seen = 0
    for process in root.children(recursive=True):
        try:
            with process.oneshot():
                process.memory_info().rss, process.cpu_times()
            seen += 1
        except psutil.Error:
            pass
    return seen
assert sample() == want
for _ in range(int(sys.argv[3])):
    begin = time.process_time()
    sample()
    costs.append(time.process_time() - begin)
print(sorted(costs)[len(costs) // 2] * 1e6)
";

fn psutil(root: i32, processes: usize) -> Option<f64> {
    let has_it = |python: &&str| {
        let mut command = Command::new(python);
        command.args(["-c", "import psutil"]).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let python = ["python3", "/usr/bin/python3"].into_iter().find(has_it)?;
    let numbers = [root.to_string(), processes.to_string(), SAMPLES.to_string()];
    let output = Command::new(python).arg("-c").arg(PSUTIL).args(numbers).output().expect("python");
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    Some(text.trim().parse().unwrap_or_else(|_| panic!("psutil: {error}")))
}

/// A program in the background, ended with this.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().expect("it is ours");
        self.0.wait().expect("it is ours");
    }
}

/// One scrape, without the parts that can be switched off.
fn exporter(_: i32, processes: usize) -> Option<f64> {
    let config = Path::new(env!("CARGO_TARGET_TMPDIR")).join("process-exporter.yml");
    // So the processes of the tree call themselves, below its root.
    let names = "process_names:\n  - name: tree\n    comm:\n    - treenode\n";
    std::fs::write(&config, names).expect("written");
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a port");
    let mut command = Command::new("prometheus-process-exporter");
    command.arg("-config.path").arg(&config).args(["-web.listen-address", &port.to_string()]);
    command.args(["-threads=false", "-gather-smaps=false"]);
    let server = Server(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?);
    let scrape = || -> Option<String> {
        let mut stream = TcpStream::connect(port).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok().map(|_| text)
    };
    let begin = Instant::now();
    let text = loop {
        assert!(begin.elapsed() < PATIENCE, "process-exporter does not answer");
        match scrape() {
            Some(text) if text.contains("namedprocess_namegroup_num_procs{") => break text,
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    let seen = format!("namedprocess_namegroup_num_procs{{groupname=\"tree\"}} {processes}");
    assert!(text.contains(&seen), "{seen} is not in {text}");
    let pid = server.0.id();
    let mut costs: Vec<f64> = (0..SAMPLES)
        .map(|_| {
            let before = cpu_micros(pid);
            assert!(scrape().is_some(), "a scrape");
            cpu_micros(pid) - before
        })
        .collect();
    costs.sort_by(f64::total_cmp);
    Some(costs[SAMPLES / 2])
}

/// The CPU time of all threads of a process.
fn cpu_micros(pid: u32) -> f64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let nanos = threads.flatten().filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    nanos.sum::<f64>() / 1e3
}
