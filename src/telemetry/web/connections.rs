//! Connections from accept(2) to close(2), within the limits.
//!
//! At most a fixed number is open; the others wait in the kernel, where they cost us nothing. To take and
//! close them at once would answer sooner, but a flood would then keep a core busy that is the
//! job's. If somebody waits, the connection that has been silent longest is closed.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use crate::model::shared::lock;
use crate::telemetry::web::guard::Guard;
use crate::telemetry::web::hosts::Hosts;
use crate::telemetry::web::limits::ClientLimits;
use crate::telemetry::web::routes::{HttpAnswer, Routes, plain};

/// Headers of a request, in bytes and in number: Prometheus sends about 400 bytes in 8 of them, a
/// browser not 4 KiB.
const HEADER_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

/// Between two looks for a silent connection while somebody waits.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long we leave accept(2) alone after it failed: without descriptors or memory it would fail
/// again at once, and for ever.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What all connections share.
pub(super) struct Desk {
    routes: Routes,
    guard: Guard,
    hosts: Hosts,
    limits: ClientLimits,
    places: Arc<Semaphore>,
    open: Mutex<HashMap<u64, Arc<Pulse>>>,
    next: AtomicU64,
}

/// When a connection was active last, and what asks it to close.
struct Pulse {
    heard: Mutex<ReadHalf>,
    leave: Notify,
}

#[derive(Clone, Copy)]
struct ReadHalf {
    at: Instant,
    has_asked: bool,
    is_answering: bool,
    /// Whether the answer has the metrics of the run's end.
    is_of_the_end: bool,
}

impl Pulse {
    fn new() -> Pulse {
        let heard = ReadHalf {
            at: Instant::now(),
            has_asked: false,
            is_answering: false,
            is_of_the_end: false,
        };
        Pulse { heard: Mutex::new(heard), leave: Notify::new() }
    }

    fn heard(&self) -> ReadHalf {
        *lock(&self.heard)
    }

    fn begin(&self) {
        let heard =
            ReadHalf { at: Instant::now(), has_asked: true, is_answering: true, ..self.heard() };
        *lock(&self.heard) = heard;
    }

    fn end(&self, answer: &HttpAnswer) {
        let mut heard = lock(&self.heard);
        heard.is_answering = false;
        heard.is_of_the_end = Routes::is_of_the_end(answer);
    }

    async fn is_asked_to_go(&self) {
        loop {
            self.leave.notified().await;
            // It may have begun to ask at that very moment.
            if !self.heard().is_answering {
                return;
            }
        }
    }
}

impl Desk {
    pub(super) fn new(
        routes: Routes,
        (guard, hosts): (Guard, Hosts),
        limits: ClientLimits,
    ) -> Desk {
        Desk {
            routes,
            guard,
            hosts,
            limits,
            places: Arc::new(Semaphore::new(limits.connections)),
            open: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }

    /// Accepts connections until it is dropped.
    pub(super) async fn keep_open(self: Arc<Desk>, listener: TcpListener) {
        let mut inside = JoinSet::new();
        let mut pause = PAUSE_MIN;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    pause = PAUSE_MIN;
                    let Some(place) = self.place().await else { return };
                    self.let_in(&mut inside, stream, place);
                }
                // Whoever came has gone again.
                Err(error) if is_of_one(&error) => {}
                Err(_) => {
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
            // What has ended would stay in the set.
            while inside.try_join_next().is_some() {}
        }
    }

    /// Waits for a place and, while there is none, closes what is silent.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        loop {
            if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                return Some(place);
            }
            self.close_silent();
            let place = Arc::clone(&self.places).acquire_owned();
            if let Ok(place) = timeout(LOOK_AGAIN, place).await {
                return place.ok();
            }
        }
    }

    fn close_silent(&self) {
        let now = Instant::now();
        let open = lock(&self.open);
        let silent = open.values().map(|pulse| (pulse.heard(), pulse));
        let silent =
            silent.filter(|(heard, _)| !heard.is_answering && now - heard.at >= self.limits.idle);
        if let Some((_, pulse)) = silent.min_by_key(|(heard, _)| heard.at) {
            pulse.leave.notify_one();
        }
    }

    fn let_in(
        self: &Arc<Desk>,
        inside: &mut JoinSet<()>,
        stream: TcpStream,
        place: OwnedSemaphorePermit,
    ) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let pulse = Arc::new(Pulse::new());
        lock(&self.open).insert(number, Arc::clone(&pulse));
        // It leaves the list however it ends, also if it never begins.
        let entry = ConnectionEntry { desk: Arc::clone(self), number, _place: place };
        let desk = Arc::clone(self);
        inside.spawn(async move {
            let _entry = entry;
            tokio::select! {
                () = desk.talk(stream, Arc::clone(&pulse)) => {}
                () = pulse.is_asked_to_go() => {}
            }
        });
    }

    async fn talk(self: Arc<Desk>, stream: TcpStream, pulse: Arc<Pulse>) {
        // An answer is one packet or a few: they are not to wait for more. It may fail, and then
        // does no harm.
        stream.set_nodelay(true).ok();
        let tls = match self.guard.protection() {
            Some(protection) => protection.tls.clone(),
            // What spoke TLS does not answer in the clear.
            None if self.guard.is_tls() => return,
            None => None,
        };
        let is_local = stream.local_addr().is_ok_and(|address| address.ip().is_loopback());
        let Some(tls) = tls else {
            return self.converse(stream, Door { is_tls: false, is_local }, pulse).await;
        };
        let handshake = TlsAcceptor::from(tls).accept(stream);
        if let Ok(Ok(stream)) = timeout(self.limits.first_request, handshake).await {
            self.converse(stream, Door { is_tls: true, is_local }, pulse).await;
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) async fn talk_in_the_clear(self: Arc<Desk>, stream: tokio::net::UnixStream) {
        let door = Door { is_tls: false, is_local: true };
        self.converse(stream, door, Arc::new(Pulse::new())).await;
    }

    async fn converse<S>(self: Arc<Desk>, stream: S, door: Door, pulse: Arc<Pulse>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let limits = self.limits;
        let service = service_fn(|request: Request<Incoming>| {
            let (desk, pulse) = (&self, &pulse);
            async move {
                pulse.begin();
                let answer = timeout(limits.answer, desk.answer(&request, door)).await;
                let late = |_| plain(StatusCode::SERVICE_UNAVAILABLE, "503: it took too long\n");
                let answer = answer.unwrap_or_else(late);
                pulse.end(&answer);
                Ok::<_, Infallible>(answer)
            }
        });
        // The time for headers is our own affair: hyper's is one for first and later requests.
        let connection = http1::Builder::new()
            .header_read_timeout(None)
            .max_buf_size(HEADER_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    // Without an error, all of the last answer was sent.
                    if ended.is_ok() && pulse.heard().is_of_the_end {
                        self.routes.note_end_scraped();
                    }
                    return;
                }
                () = sleep_until(deadline(pulse.heard(), &limits)) => {
                    if deadline(pulse.heard(), &limits) <= Instant::now() {
                        return;
                    }
                }
            }
        }
    }

    async fn answer(&self, request: &Request<Incoming>, door: Door) -> HttpAnswer {
        match self.guard.admit(request.headers(), door.is_tls).await {
            Err(refusal) => refusal,
            // A page of another site has neither our certificate nor a password.
            Ok(protection)
                if door.is_local
                    && !door.is_tls
                    && protection.users.is_empty()
                    && !self.hosts.are_named_by(request) =>
            {
                plain(StatusCode::MISDIRECTED_REQUEST, "421: that is not a name of this host\n")
            }
            Ok(protection) => {
                let mut answer = self.routes.answer(request);
                // Whoever set them knows what the page needs.
                for (name, value) in &protection.headers {
                    answer.headers_mut().insert(name, value.clone());
                }
                answer
            }
        }
    }
}

/// How a connection came in.
#[derive(Clone, Copy)]
struct Door {
    is_tls: bool,
    /// By a loopback address.
    is_local: bool,
}

fn deadline(heard: ReadHalf, limits: &ClientLimits) -> Instant {
    heard.at + if heard.has_asked { limits.next_request } else { limits.first_request }
}

/// Whether an error of accept(2) is about one connection only.
fn is_of_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// A connection's place, and its line in the list.
struct ConnectionEntry {
    desk: Arc<Desk>,
    number: u64,
    _place: OwnedSemaphorePermit,
}

impl Drop for ConnectionEntry {
    fn drop(&mut self) {
        lock(&self.desk.open).remove(&self.number);
    }
}
