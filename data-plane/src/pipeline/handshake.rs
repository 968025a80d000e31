//! The WebSocket handshake (RFC 6455 section 4): what must stand in a request for one, what is asked of the vendor in its
//! place, and whether the vendor's answer belongs to it. What is said on the connection afterwards is unknown here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use sha1::{Digest as _, Sha1};

use super::headers::nominated;
use crate::error::Refusal;
use crate::runtime::endpoint::Endpoint;
use crate::runtime::key_location::KeyLocation;

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A client's wish for a WebSocket, sound as far as the request alone tells.
pub(super) struct Handshake {
    /// What a vendor that understood it must answer.
    accept: String,
}

/// What a request asks for beside an answer.
pub(super) enum Wish {
    /// Nothing.
    Answer,
    /// Another protocol than we know.
    Unknown,
    /// A WebSocket, and what is wrong with that.
    WebSocket(Result<Handshake, Refusal>),
}

impl Wish {
    pub(super) fn of(head: &Parts) -> Self {
        let protocols = head.headers.get_all(UPGRADE);
        let is = |value: &HeaderValue, wanted: &[u8]| value.as_bytes().trim_ascii().eq_ignore_ascii_case(wanted);
        // `h2c` may be ignored (RFC 9110 section 7.8) and some clients offer it on every request; anything else expects
        // to be understood.
        if protocols.iter().all(|protocol| is(protocol, b"h2c")) {
            return Self::Answer;
        }
        match only(&head.headers, &UPGRADE) {
            Ok(protocol) if head.version == Version::HTTP_11 && is(protocol, b"websocket") => {
                Self::WebSocket(Handshake::of(head))
            }
            Ok(_) | Err(_) => Self::Unknown,
        }
    }
}

impl Handshake {
    fn of(head: &Parts) -> Result<Self, Refusal> {
        let headers = &head.headers;
        let empty = headers.get(CONTENT_LENGTH).is_none_or(|length| length == "0");
        let hops = nominated(headers).any(|token| token.eq_ignore_ascii_case("upgrade"));
        if head.method != Method::GET || !hops || !empty || headers.contains_key(TRANSFER_ENCODING) {
            return Err(Refusal::BadWebSocket);
        }
        if only(headers, &SEC_WEBSOCKET_VERSION)?.as_bytes() != b"13" {
            return Err(Refusal::WebSocketVersion);
        }
        let key = only(headers, &SEC_WEBSOCKET_KEY)?.as_bytes();
        if STANDARD.decode(key).map_or(true, |nonce| nonce.len() != 16) {
            return Err(Refusal::BadWebSocket);
        }
        let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
        Ok(Self { accept: STANDARD.encode(digest) })
    }

    /// Whether the vendor's 101 answers this handshake.
    pub(super) fn is_answered_by(&self, headers: &HeaderMap) -> bool {
        let switches =
            headers.get(UPGRADE).is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
        let hops = nominated(headers).any(|token| token.eq_ignore_ascii_case("upgrade"));
        let accepts =
            only(headers, &SEC_WEBSOCKET_ACCEPT).is_ok_and(|accept| accept.as_bytes() == self.accept.as_bytes());
        switches && hops && accepts
    }
}

/// The value of a header that must stand there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a HeaderValue, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value),
        (Some(_) | None, _) => Err(Refusal::BadWebSocket),
    }
}

/// The key of a browser, which cannot set headers: it travels as a subprotocol. Only where the endpoint reads keys from
/// the vendor's own place as well, of which this is another form.
pub(super) fn key_in_protocol<'a>(headers: &'a HeaderMap, endpoint: &Endpoint) -> Result<Option<&'a str>, Refusal> {
    let template = &endpoint.template;
    let is_vendors = |location: &KeyLocation| match location {
        KeyLocation::Header { name, prefix: _ } => Some(name) == template.credential_header.as_ref(),
        KeyLocation::Query { .. } => false,
    };
    let prefix = &*template.realtime.key_protocol;
    if prefix.is_empty() || !endpoint.key_locations.iter().any(is_vendors) {
        return Ok(None);
    }
    let mut keys = protocols(headers).filter_map(|protocol| protocol.strip_prefix(prefix));
    match (keys.next(), keys.next()) {
        (Some(_), Some(_)) => Err(Refusal::AmbiguousKey),
        (key, _) => Ok(key.filter(|key| !key.is_empty())),
    }
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|protocol| !protocol.is_empty())
}

/// Makes the head of a request to the vendor ask for a WebSocket. A subprotocol that carries a key stays here.
pub(super) fn ask(headers: &mut HeaderMap, endpoint: &Endpoint) {
    let prefix = &*endpoint.template.realtime.key_protocol;
    let carries = |protocol: &str| !prefix.is_empty() && protocol.starts_with(prefix);
    if protocols(headers).any(carries) {
        let left: Vec<&str> = protocols(headers).filter(|protocol| !carries(protocol)).collect();
        let left = (!left.is_empty()).then(|| HeaderValue::try_from(left.join(", ")).ok()).flatten();
        headers.remove(SEC_WEBSOCKET_PROTOCOL);
        if let Some(left) = left {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, left);
        }
    }
    switch(headers);
}

/// The two headers that switch protocols.
pub(super) fn switch(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, WEBSOCKET);
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const GOOD: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn wish(method: &str, headers: &[(&str, &str)]) -> Wish {
        let request = headers
            .iter()
            .fold(Request::builder().method(method).uri("/"), |request, (name, value)| request.header(*name, *value));
        Wish::of(&request.body(()).unwrap().into_parts().0)
    }

    fn refused(headers: &[(&str, &str)]) -> Refusal {
        match wish("GET", headers) {
            Wish::WebSocket(Err(refusal)) => refusal,
            Wish::WebSocket(Ok(_)) => panic!("{headers:?} is sound"),
            Wish::Answer | Wish::Unknown => panic!("{headers:?} is no WebSocket"),
        }
    }

    fn with(name: &str, values: &[&'static str]) -> Vec<(&'static str, &'static str)> {
        let kept = GOOD.into_iter().filter(|(header, _)| *header != name);
        let name = GOOD.into_iter().find(|(header, _)| *header == name).map_or("content-length", |(header, _)| header);
        kept.chain(values.iter().map(|value| (name, *value))).collect()
    }

    #[test]
    fn the_answer_is_checked_against_the_key() {
        let Wish::WebSocket(Ok(handshake)) = wish("GET", &GOOD) else { panic!("it is sound") };
        // The example of RFC 6455 section 1.3.
        assert_eq!(handshake.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let answer = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            handshake.is_answered_by(&headers)
        };
        let right = ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(answer(&[("upgrade", "WebSocket"), ("connection", "upgrade"), right]));
        assert!(!answer(&[("upgrade", "h2c"), ("connection", "upgrade"), right]));
        assert!(!answer(&[("upgrade", "websocket"), right]));
        assert!(!answer(&[("upgrade", "websocket"), ("connection", "upgrade")]));
        assert!(!answer(&[("upgrade", "websocket"), ("connection", "upgrade"), right, right]));
        assert!(!answer(&[("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-accept", "x")]));
    }

    #[test]
    fn half_a_handshake_is_named() {
        for headers in [
            with("connection", &["keep-alive"]),
            with("connection", &[]),
            with("sec-websocket-version", &[]),
            with("sec-websocket-key", &[]),
            with("sec-websocket-key", &["c2hvcnQ="]),
            with("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZQ"]),
            with("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=="]),
            with("", &["5"]),
        ] {
            assert_eq!(refused(&headers), Refusal::BadWebSocket, "{headers:?}");
        }
        assert_eq!(refused(&with("sec-websocket-version", &["8"])), Refusal::WebSocketVersion);
        assert!(matches!(wish("POST", &GOOD), Wish::WebSocket(Err(Refusal::BadWebSocket))));
    }

    #[test]
    fn other_protocols_are_told_from_those_that_may_be_ignored() {
        assert!(matches!(wish("GET", &[]), Wish::Answer));
        assert!(matches!(wish("GET", &[("upgrade", "h2c")]), Wish::Answer));
        for protocols in [vec!["foo"], vec!["websocket, h2c"], vec!["h2c", "websocket"], vec!["websocket", "websocket"]]
        {
            let headers: Vec<_> = protocols.iter().map(|protocol| ("upgrade", *protocol)).collect();
            assert!(matches!(wish("GET", &headers), Wish::Unknown), "{protocols:?}");
        }
    }
}
