//! What a network client may try: the server answers the next request all the same.

use std::net::Shutdown;

use super::*;

/// A small generator (SplitMix64), so that a failure can be repeated.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).expect("below a usize")
    }

    /// Changes some bytes: replaced, removed, doubled or put in.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(6) {
            let at = self.below(bytes.len());
            let strange = [0, b'\r', b'\n', b' ', b':', b'%', b'/', 0x80, 0xff, b'\t'];
            match self.below(5) {
                0 if at < bytes.len() => bytes[at] = strange[self.below(strange.len())],
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.insert(at, strange[self.below(strange.len())]),
                3 => {
                    let end = (at + self.below(40)).min(bytes.len());
                    let part = bytes[at.min(end)..end].to_vec();
                    bytes.splice(at..at, part);
                }
                _ => bytes.truncate(at.max(1)),
            }
        }
    }
}

const REQUESTS: [&[u8]; 10] = [
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip;q=0.5, *;q=0\r\n\r\n",
    b"GET /status.json?x=1#y HTTP/1.1\r\nHost: 127.0.0.1:1\r\nConnection: close\r\n\r\n",
    b"HEAD / HTTP/1.0\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    b"GET http://evil.example/metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"GET /%2e%2e/%00/../../etc/passwd HTTP/1.1\r\nExpect: 100-continue\r\nAccept: a/b;q=9\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nAuthorization: Basic ====\r\nUpgrade: h2c\r\n X: folded\r\n\r\n",
];

/// Sends bytes and nothing more, and reads what comes.
fn send(server: &Server, bytes: &[u8]) -> String {
    let mut stream = server.connect();
    // It may close before it has read everything.
    stream.write_all(bytes).ok();
    stream.shutdown(Shutdown::Write).ok();
    rest(&mut stream)
}

#[test]
fn two_thousand_strange_requests_are_answered_or_left() {
    let server = serve(ClientLimits::default());
    let round = |seed: u64| {
        let mut numbers = Numbers(seed);
        for number in 0..250 {
            let mut bytes = REQUESTS[numbers.below(REQUESTS.len())].to_vec();
            numbers.mutate(&mut bytes);
            let answer = send(&server, &bytes);
            let shown = String::from_utf8_lossy(&bytes).into_owned();
            assert!(
                answer.is_empty() || answer.starts_with("HTTP/1."),
                "seed {seed}, {number}: {shown:?}: {answer:?}"
            );
            let is_fault = answer.starts_with("HTTP/1.1 5") && !answer.starts_with("HTTP/1.1 505");
            assert!(!is_fault, "seed {seed}, {number}: {shown:?}: {answer:?}");
        }
    };
    std::thread::scope(|threads| {
        (0..8).for_each(|seed| drop(threads.spawn(move || round(seed))));
    });
    assert!(server.is_alive());
}

#[test]
fn who_opens_many_and_says_little_does_not_keep_others_out() {
    let idle = Duration::from_millis(50);
    let server = serve(ClientLimits { connections: 8, idle, ..ClientLimits::default() });
    let slow: Vec<_> = (0..200)
        .filter_map(|_| {
            let mut stream = TcpStream::connect(server.address).ok()?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ").ok().map(|()| stream)
        })
        .collect();
    assert!(slow.len() > 100, "{}", slow.len());
    assert!(server.is_alive());
    // Whole requests whose answers nobody takes.
    let asking: Vec<_> = (0..200)
        .filter_map(|_| {
            let mut stream = TcpStream::connect(server.address).ok()?;
            stream.write_all(&REQUESTS[0].repeat(20)).ok().map(|()| stream)
        })
        .collect();
    assert!(!asking.is_empty());
    assert!(server.is_alive());
}

#[test]
fn three_hundred_times_junk_in_place_of_tls_changes_nothing() {
    let certificates = Certificates::new();
    let server =
        serve_published(published(), Some(&certificates.config("")), ClientLimits::default());
    let mut numbers = Numbers(7);
    // The beginning of a hello of TLS: record, version, length, handshake.
    let hello = [&[22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3][..], &[7; 194]].concat();
    for number in 0..300 {
        let mut bytes = match number % 3 {
            0 => clock::random::<256>().to_vec(),
            1 => hello.clone(),
            _ => REQUESTS[numbers.below(REQUESTS.len())].to_vec(),
        };
        numbers.mutate(&mut bytes);
        let answer = send(&server, &bytes);
        assert!(!answer.contains("HTTP"), "{answer:?}");
    }
    assert!(certificates.ask(&server, false).ends_with("ok\n"));
}

#[test]
fn only_the_right_name_and_password_open() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("web.yml");
    fs::write(&path, format!("basic_auth_users:\n  alice: {}\n", hash())).unwrap();
    let server = serve_published(published(), Some(&path), ClientLimits::default());
    let right = basic("alice", "secret");
    let code = right.strip_prefix("Basic ").unwrap();
    let line = |value: &str| format!("Authorization: {value}\r\n");
    let refused = [
        String::new(),
        line(""),
        line("Basic"),
        line("Basic !!!!"),
        line("Basic ===="),
        line(&basic("alice", "")),
        line(&basic("alice", "secret\0")),
        line(&basic("alice", "Secret")),
        line(&basic("alice", &"secret".repeat(20))),
        line(&basic("", "secret")),
        line(&basic("Alice", "secret")),
        line(&basic("alice:", "secret")),
        line(&format!("Bearer {code}")),
        line(code),
        line(&format!("Basic {}", &code[..code.len() - 2])),
        line(&basic("eve", "secret")) + &line(&right),
    ];
    for headers in refused {
        for path in ["/metrics", "/status.json", "/", "/nothing"] {
            let answer = server.get(path, &headers);
            let is_refused =
                answer.starts_with("HTTP/1.1 401") || answer.starts_with("HTTP/1.1 400");
            assert!(is_refused, "{headers:?}: {answer}");
            assert!(!answer.contains("childminder_") && !answer.contains("attempt"), "{answer}");
        }
    }
    assert!(server.get("/metrics", &line(&right)).starts_with("HTTP/1.1 200"));
}

/// DNS rebinding: the page of another site asks by the name of that site.
#[test]
fn a_page_of_another_site_reads_nothing() {
    let server = serve(ClientLimits::default());
    let code = |host: &str, path: &str| {
        let answer = server.get(path, &format!("Host: {host}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200") || !answer.contains("attempt"), "{answer}");
        answer[9..12].to_owned()
    };
    for path in ["/status.json", "/metrics", "/", "/nothing"] {
        for host in ["evil.example", "evil.example:9100", "127.0.0.1.evil.example", ""] {
            assert_eq!(code(host, path), "421", "{host} {path}");
        }
    }
    let port = server.address.port();
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        assert_eq!(code(&format!("{host}:{port}"), "/status.json"), "200", "{host}");
    }
    let by_target = "GET http://evil.example/status.json HTTP/1.1\r\nConnection: close\r\n\r\n";
    assert!(server.ask(by_target.as_bytes()).starts_with("HTTP/1.1 421"));
    // A page of another site does not know the password.
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("web.yml");
    fs::write(&path, format!("basic_auth_users:\n  alice: {}\n", hash())).unwrap();
    let server = serve_published(published(), Some(&path), ClientLimits::default());
    let headers = format!("Host: name.example\r\nAuthorization: {}\r\n", basic("alice", "secret"));
    assert!(server.get("/healthz", &headers).ends_with("ok\n"));
}
