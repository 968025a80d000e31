//! Step 1: what is true of every request whatever it asks for. Meaning and time are ours, framing is hyper's.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::header::{EXPECT, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version, request::Parts};
use hyper::body::Incoming;
use uuid::Uuid;

use super::Plane;
use super::account::Account;
use super::clock::Timers;
use super::handshake::{Handshake, Wish};
use crate::config::Limits;
use crate::error::Refusal;
use crate::presence::{Busy, Presence};
use crate::runtime::Runtime;
use crate::runtime::request_id;

/// A request and everything that is known of it so far.
pub(super) struct Call {
    pub(super) plane: Arc<Plane>,
    pub(super) head: Parts,
    /// `None`: on its way to the vendor.
    pub(super) body: Option<Incoming>,
    pub(super) account: Account,
    /// The client asks for a WebSocket; whether it does so properly. `None`: for an answer.
    pub(super) websocket: Option<Result<Handshake, Refusal>>,
    /// Keeps the connection's idle clock from running.
    pub(super) busy: Busy,
    pub(super) request_id: request_id::Text,
    pub(super) now_ms: u64,
    /// Serves the connection: vendors' connections and timers are those of this worker.
    pub(super) worker: usize,
}

/// Proof that the head was checked, with the configuration that decides about the request.
pub(super) struct Received {
    pub(super) runtime: Arc<Runtime>,
}

impl Call {
    pub(super) fn begin(plane: Arc<Plane>, presence: &Arc<Presence>, request: Request<Incoming>) -> Self {
        let started = Instant::now();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let id: Uuid = presence.ids().next(now_ms);
        let worker = presence.worker();
        let (mut head, body) = request.into_parts();
        let busy = Presence::enter(presence, head.extensions.remove());
        let now_us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let account = Account::open(Arc::clone(&plane), worker, id, now_us, started, &head);
        let request_id = request_id::text(id);
        Self { plane, head, body: Some(body), account, websocket: None, busy, request_id, now_ms, worker }
    }

    /// Those of the worker.
    pub(super) fn timers(&self) -> &Arc<Timers> {
        &self.plane.timers[self.worker]
    }
}

/// Checks the head.
pub(super) fn receive(call: &mut Call) -> Result<Received, Refusal> {
    let head = &call.head;
    let limits = &call.plane.limits;
    if let Some(refusal) = call.busy.refused() {
        return Err(refusal);
    }
    if call.plane.ending.load(Ordering::Relaxed) {
        return Err(Refusal::Draining);
    }
    if head.version == Version::HTTP_2 {
        // The heads of HTTP/1.1 were judged before they were parsed.
        check_size(head, limits)?;
    }
    check_method(head)?;
    check_host(head)?;
    check_connection(&head.headers)?;
    check_expectation(&head.headers)?;
    call.websocket = match Wish::of(head) {
        Wish::Answer => None,
        Wish::Unknown => return Err(Refusal::UpgradeNotSupported),
        Wish::WebSocket(handshake) => Some(handshake),
    };
    match call.plane.runtime.load_full() {
        Some(runtime) => {
            call.account.decided_by(&runtime);
            Ok(Received { runtime })
        }
        None => Err(Refusal::NotReady),
    }
}

/// As RFC 9113 counts: 32 bytes on top for every field.
fn check_size(head: &Parts, limits: &Limits) -> Result<(), Refusal> {
    let uri = head.uri.path_and_query().map_or(0, |uri| uri.as_str().len());
    if uri > limits.uri_bytes {
        return Err(Refusal::UriTooLong);
    }
    let fields: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    let fits = fields + uri <= limits.head_bytes && head.headers.len() <= limits.headers;
    if fits { Ok(()) } else { Err(Refusal::HeadTooLarge) }
}

fn check_method(head: &Parts) -> Result<(), Refusal> {
    // `OPTIONS *` asks about the gateway itself, which has nothing to say.
    let passes = head.uri.path() != "*"
        && matches!(
            head.method,
            Method::GET | Method::HEAD | Method::OPTIONS | Method::POST | Method::PUT | Method::PATCH | Method::DELETE
        );
    if passes { Ok(()) } else { Err(Refusal::MethodNotAllowed) }
}

/// RFC 9112 section 3.2: exactly one, well-formed, and the same as in the request line.
fn check_host(head: &Parts) -> Result<(), Refusal> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::BadHost);
    }
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    match (host, authority) {
        (Some(host), None) if is_host(host) => Ok(()),
        (Some(host), Some(authority))
            if is_host(host) && host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) =>
        {
            Ok(())
        }
        // HTTP/2 has `:authority` instead.
        (None, Some(authority)) if head.version == Version::HTTP_2 && is_host_text(authority) => Ok(()),
        (Some(_) | None, _) => Err(Refusal::BadHost),
    }
}

fn is_host(value: &HeaderValue) -> bool {
    value.to_str().is_ok_and(is_host_text)
}

/// `host[:port]`, without user information. A name with encoded bytes is another spelling of one without.
fn is_host_text(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, rest)) if address.parse::<std::net::Ipv6Addr>().is_ok() => (address, rest),
            Some(_) | None => return false,
        },
        None => match text.find(':') {
            Some(colon) => text.split_at(colon),
            None => (text, ""),
        },
    };
    let port_fits = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| {
            port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
        });
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:".contains(&byte);
    !host.is_empty() && host.bytes().all(letters) && port_fits
}

/// A header that decides about the request must not be declared hop-by-hop: who strips it would see another request
/// than who does not.
fn check_connection(headers: &HeaderMap) -> Result<(), Refusal> {
    const DECIDING: [&str; 10] = [
        "host",
        "content-length",
        "transfer-encoding",
        "content-type",
        "content-encoding",
        "authorization",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "expect",
    ];
    for name in super::headers::nominated(headers) {
        if DECIDING.iter().any(|deciding| name.eq_ignore_ascii_case(deciding)) {
            return Err(Refusal::BadConnectionHeader);
        }
    }
    Ok(())
}

/// RFC 9110 section 10.1.1 knows one.
fn check_expectation(headers: &HeaderMap) -> Result<(), Refusal> {
    let known = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if headers.get_all(EXPECT).iter().all(known) { Ok(()) } else { Err(Refusal::ExpectationNotSupported) }
}

/// The authority the client used, for links that must lead back to it.
pub(super) fn authority(head: &Parts) -> Option<&str> {
    let uri: &Uri = &head.uri;
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    host.or_else(|| uri.authority().map(http::uri::Authority::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_from_what_is_none() {
        for host in ["gw.example", "gw.example:8080", "127.0.0.1:80", "[::1]", "[::1]:8080", "a_b", "x:"] {
            assert_eq!(is_host_text(host), host != "x:", "{host}");
        }
        for host in
            ["", ":80", "a:b", "a:99999", "a:1:2", "u@h", "a b", "a/b", "[::1", "[x]:1", "[::1]x", "a?b", "é", "a%62"]
        {
            assert!(!is_host_text(host), "{host}");
        }
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = String> {
        let bit = prop::sample::select(vec![
            "gw",
            "example",
            ".",
            ":",
            "8080",
            "80",
            "0",
            "65535",
            "65536",
            "99999",
            "127.0.0.1",
            "[",
            "]",
            "::1",
            "[::1]",
            "[::ffff:1.2.3.4]",
            "%",
            "%41",
            "%zz",
            "@",
            "user",
            "-",
            "_",
            "~",
            "!",
            ",",
            ";",
            "=",
            "*",
            "(",
            "/",
            "?",
            "#",
            " ",
            "\t",
            "<",
            "\\",
            "\"",
            "^",
            "xn--e1a",
            "GW",
            "+",
        ]);
        prop::collection::vec(bit, 0..5).prop_map(|bits| bits.concat())
    }

    /// RFC 3986 section 3.2, without user information and without an empty host.
    fn by_the_book(text: &str) -> bool {
        let port_of = |rest: &str| {
            rest.is_empty()
                || rest.strip_prefix(':').is_some_and(|port| {
                    (1..=5).contains(&port.len())
                        && port.chars().all(|digit| digit.is_ascii_digit())
                        && port.parse::<u32>().is_ok_and(|port| port <= 65535)
                })
        };
        if let Some(rest) = text.strip_prefix('[') {
            return rest
                .split_once(']')
                .is_some_and(|(address, rest)| address.parse::<std::net::Ipv6Addr>().is_ok() && port_of(rest));
        }
        let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "-._~!$&'()*+,;=".contains(letter);
        !name.is_empty() && name.chars().all(plain) && port_of(rest)
    }

    fn head(version: Version, uri: &Uri, hosts: &[String]) -> Option<Parts> {
        let mut request = Request::builder().version(version).uri(uri.clone());
        for host in hosts {
            request = request.header(HOST, HeaderValue::try_from(host.as_str()).ok()?);
        }
        Some(request.body(()).ok()?.into_parts().0)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_host_is_what_the_standard_calls_one_and_what_a_uri_may_carry(text in text()) {
            prop_assert_eq!(is_host_text(&text), by_the_book(&text));
            if is_host_text(&text) {
                let uri: http::uri::Authority = text.parse().expect("an authority");
                prop_assert_eq!(uri.as_str(), &text);
                let (host, port) = (uri.host().len(), uri.port().map_or(0, |port| port.as_str().len() + 1));
                prop_assert_eq!(host + port, text.len(), "nothing but a host and a port");
            }
        }

        #[test]
        fn one_request_has_one_authority(
            hosts in prop::collection::vec(text(), 0..3),
            in_line in prop::option::of((text(), any::<bool>())),
            second in any::<bool>(),
        ) {
            let version = if second { Version::HTTP_2 } else { Version::HTTP_11 };
            let named = in_line.map(|(text, same)| match hosts.first() {
                Some(host) if same => host.to_ascii_uppercase(),
                _ => text,
            });
            let uri = match &named {
                Some(authority) => Uri::builder().scheme("http").authority(authority.as_str()).path_and_query("/a").build(),
                None => Ok(Uri::from_static("/a")),
            };
            let Some(head) = uri.ok().and_then(|uri| head(version, &uri, &hosts)) else { return Ok(()) };
            let same = |host: &String| named.as_ref().is_none_or(|named| named.eq_ignore_ascii_case(host));
            let expected = match &hosts[..] {
                [host] => by_the_book(host) && same(host),
                [] => second && named.as_deref().is_some_and(by_the_book),
                _ => false,
            };
            prop_assert_eq!(check_host(&head).is_ok(), expected, "{:?} {:?} {:?}", hosts, named, version);
            if expected {
                // What links lead back to is what was asked for, whichever of the two is read.
                let used = authority(&head).expect("it has one");
                prop_assert!(hosts.first().into_iter().chain(&named).all(|one| one.eq_ignore_ascii_case(used)));
            }
        }
    }
}
