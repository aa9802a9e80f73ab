//! What a client may take of the server.

use std::time::Duration;

/// What a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientLimits {
    pub(super) connections: usize,
    /// From the connection to the end of the first request's headers; as long for the handshake of
    /// TLS.
    pub(super) first_request: Duration,
    /// From the beginning of one request to the end of the next one's headers: the answer must have
    /// been taken by then, too. Longer than the minute between two scrapes.
    pub(super) next_request: Duration,
    /// For one answer, of which the password may take the most.
    pub(super) answer: Duration,
    /// A connection that has asked nothing for this time may be closed for another.
    pub(super) idle: Duration,
}

impl Default for ClientLimits {
    fn default() -> ClientLimits {
        ClientLimits {
            connections: 64,
            first_request: Duration::from_secs(5),
            next_request: Duration::from_secs(75),
            answer: Duration::from_secs(10),
            idle: Duration::from_secs(1),
        }
    }
}
