//! The HTTP server: metrics, the page about the job, and whether we live.
//!
//! It runs on the telemetry thread and bounds whatever others may do to it: connections, headers,
//! time. Nothing that a client does reaches the job.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::plan::WebPlan;
use crate::sys::activation;
use crate::telemetry::published::Published;
use crate::telemetry::web::limits::ClientLimits;

mod config;
mod config_file;
mod connections;
mod guard;
mod hosts;
mod limits;
mod names;
mod negotiation;
mod passwords;
mod routes;
pub mod status;
mod tls;

use connections::Desk;
use guard::Guard;
use hosts::Hosts;
use routes::Routes;

/// A name server that does not answer must not keep us from the other addresses for long.
const LOOKUP_MAX: Duration = Duration::from_secs(5);

/// What waits while all places are taken; the kernel turns away the rest.
const BACKLOG: u32 = 128;

/// Open ports, and who may come in.
pub struct Web {
    listeners: Vec<TcpListener>,
    guard: Guard,
    metrics_path: String,
    /// What `--web.listen-address` said.
    listen: Vec<String>,
    limits: ClientLimits,
}

/// Opens the ports. Each that cannot be opened is reported in a line; the job runs in any case.
///
/// A port is not opened if the file that is to protect it cannot be used.
pub async fn bind(plan: &WebPlan) -> (Web, Vec<String>) {
    let mut web = Web {
        listeners: Vec::new(),
        guard: Guard::unprotected(),
        metrics_path: plan.metrics_path.clone(),
        listen: plan.listen.clone(),
        limits: ClientLimits::default(),
    };
    let mut warnings = Vec::new();
    let inherited = if plan.systemd_socket { activation::listeners() } else { Vec::new() };
    if let Some(path) = &plan.config {
        match Guard::new(path.clone()) {
            Ok(guard) => web.guard = guard,
            Err(error) => {
                let path = path.display();
                warnings.push(format!("metrics are not served: --web.config.file {path}: {error}"));
                return (web, warnings);
            }
        }
    }
    if plan.systemd_socket && inherited.is_empty() {
        warnings.push("--web.systemd-socket: no socket was passed".to_owned());
    }
    for socket in inherited {
        match adopt(socket) {
            Ok(listener) => web.listeners.push(listener),
            Err(error) => {
                warnings.push(format!("metrics are not served on the socket of systemd: {error}"))
            }
        }
    }
    for address in &plan.listen {
        match listen(address).await {
            Ok(listener) => web.listeners.push(listener),
            Err(error) => warnings.push(format!("metrics are not served at {address}: {error}")),
        }
    }
    (web, warnings)
}

fn adopt(socket: OwnedFd) -> io::Result<TcpListener> {
    let socket = std::net::TcpListener::from(socket);
    // One that is not of the internet has no such address.
    socket.local_addr()?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

/// Listens at the first address of the name that can be had.
async fn listen(address: &str) -> io::Result<TcpListener> {
    let found = timeout(LOOKUP_MAX, lookup_host(address)).await;
    let found = found.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let mut result = Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    for address in found {
        result = listen_at(address);
        if result.is_ok() {
            break;
        }
    }
    result
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // The port of the run before may have connections that the kernel still remembers.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Web {
    /// Returns where it listens.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Whether it speaks TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.guard.is_tls()
    }

    /// Who is informed, in a line each, of what fails while it serves.
    pub fn on_failure(&mut self, report: impl Fn(&str) + Send + Sync + 'static) {
        self.guard.complain = Box::new(report);
    }

    /// Serves until it is dropped, which closes all ports and connections.
    pub async fn serve(self, published: Arc<Published>) {
        let hosts = Hosts::new(&self.listen, &published.identity.host);
        let routes = Routes::new(published, &self.metrics_path);
        let desk = Arc::new(Desk::new(routes, (self.guard, hosts), self.limits));
        let mut doors = JoinSet::new();
        for listener in self.listeners {
            doors.spawn(Arc::clone(&desk).keep_open(listener));
        }
        while doors.join_next().await.is_some() {}
        std::future::pending().await
    }
}

/// What strangers send, given to the parsers that see it.
#[cfg(any(test, fuzzing))]
pub(crate) mod given {
    use std::io::{Read, Write};
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;
    use std::path::Path;

    use super::*;

    /// Checks a `--web.config.file` that names no other file.
    pub(crate) fn config(text: &str) -> Option<String> {
        let read = config::Read::of(text, Path::new("")).ok()?;
        if !read.others.is_empty() {
            return None;
        }
        read.check().err().map(|error| error.to_string())
    }

    /// Sends bytes to a server as a connection of its own; returns what it answers.
    pub(crate) fn request(published: Arc<Published>, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let hosts = Hosts::new(&[], &published.identity.host);
        let desk = Desk::new(
            Routes::new(published, "/metrics"),
            (Guard::unprotected(), hosts),
            ClientLimits::default(),
        );
        let (mut client, server) = UnixStream::pair()?;
        client.write_all(bytes)?;
        client.shutdown(Shutdown::Write)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // What is too long for the socket waits for its reader.
        let reader = std::thread::spawn(move || {
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).map(|_| answer)
        });
        runtime.block_on(async {
            server.set_nonblocking(true)?;
            let server = tokio::net::UnixStream::from_std(server)?;
            Arc::new(desk).talk_in_the_clear(server).await;
            io::Result::Ok(())
        })?;
        reader.join().map_err(|_| io::Error::other("the reader panicked"))?
    }
}

#[cfg(test)]
mod tests;
