//! The `Host` of a request, where the port is open to this machine only and nobody has to say who they
//! are.
//!
//! A page of another site can have its own name resolve to 127.0.0.1 and then read our answers in the
//! browser of a user of this host (DNS rebinding). Such a request still bears the name of that site.

use std::net::IpAddr;

use hyper::Request;
use hyper::header::HOST;
use hyper::http::uri::Authority;

/// The names by which we may be asked, besides addresses and `localhost`.
pub(super) struct Hosts(Vec<String>);

impl Hosts {
    /// The hosts of `--web.listen-address`, each with its port, and the name of this one.
    pub(super) fn new(listen: &[String], host: &str) -> Hosts {
        let names = listen.iter().map(|address| address.rsplit_once(':').map_or("", |two| two.0));
        let mut names: Vec<String> = names.chain([host]).map(str::to_ascii_lowercase).collect();
        names.retain(|name| !name.is_empty());
        Hosts(names)
    }

    /// Returns whether the request names us. One of HTTP/1.0 may name nobody; browsers always do.
    pub(super) fn are_named_by<B>(&self, request: &Request<B>) -> bool {
        let headers = request.headers().get_all(HOST).iter();
        let by_header = headers.map(|value| value.to_str().ok().and_then(|text| text.parse().ok()));
        let by_target = request.uri().authority().cloned().map(Some);
        by_header
            .chain(by_target)
            .all(|named: Option<Authority>| named.is_some_and(|one| self.contains(one.host())))
    }

    fn contains(&self, host: &str) -> bool {
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        // A site whose name is an address cannot have it resolve to another one.
        address.parse::<IpAddr>().is_ok()
            || name == "localhost"
            || name.ends_with(".localhost")
            || self.0.contains(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_answered() {
        let hosts =
            Hosts::new(&["Node7.example:9000".into(), ":0".into(), "[::1]:0".into()], "node7");
        let named = |host: &str| {
            let request = Request::get("/status.json").header("host", host).body(());
            hosts.are_named_by(&request.expect("a request"))
        };
        for ours in [
            "127.0.0.1",
            "127.0.0.1:9000",
            "[::1]:9000",
            "localhost",
            "LOCALHOST:1",
            "job.localhost:1",
            "localhost.",
            "node7:9000",
            "node7.example",
        ] {
            assert!(named(ours), "{ours}");
        }
        for other in
            ["evil.example:9000", "evil", "127.0.0.1.evil", "localhost.evil", "", "@", "a b"]
        {
            assert!(!named(other), "{other}");
        }
    }

    #[test]
    fn every_name_in_a_request_counts() {
        let hosts = Hosts::new(&[], "node7");
        let is_let_in = |target: &str, names: &[&str]| {
            let mut request = Request::get(target);
            for name in names {
                request = request.header("host", *name);
            }
            hosts.are_named_by(&request.body(()).expect("a request"))
        };
        assert!(is_let_in("/", &[]));
        assert!(is_let_in("http://node7:1/", &["node7"]));
        assert!(!is_let_in("http://evil/", &["node7"]));
        assert!(!is_let_in("/", &["node7", "evil"]));
    }
}
