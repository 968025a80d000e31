//! Which headers pass. To the vendor goes a new map; from the vendor comes what it sent, less what ends here.

use http::header::{
    ACCEPT_ENCODING, ALT_SVC, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::runtime::endpoint::{Compression, Endpoint};
use crate::runtime::provider::Provider;

const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// The tokens of `Connection`, which name what else ends here.
pub(super) fn nominated(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// RFC 9110 section 7.6.1 and what came before it.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    [
        &CONNECTION,
        &KEEP_ALIVE,
        &PROXY_CONNECTION,
        &PROXY_AUTHENTICATE,
        &PROXY_AUTHORIZATION,
        &TE,
        &TRAILER,
        &TRANSFER_ENCODING,
        &UPGRADE,
    ]
    .contains(&name)
        || name.as_str() == "http2-settings"
}

/// Says who the client is, or where it came from: nothing a vendor needs, and nothing a stranger's word counts for.
fn is_forwarding(name: &HeaderName) -> bool {
    let text = name.as_str();
    *name == FORWARDED
        || *name == VIA
        || text.starts_with("x-forwarded-")
        || [
            "x-real-ip",
            "x-client-ip",
            "x-cluster-client-ip",
            "x-original-forwarded-for",
            "x-original-url",
            "x-rewrite-url",
            "true-client-ip",
            "cf-connecting-ip",
            "fastly-client-ip",
        ]
        .contains(&text)
}

/// Names that servers behind a CGI-like bridge would take for another: `X_API_KEY` beside `X-API-Key`.
fn is_disguised(name: &str, stripped: &[HeaderName]) -> bool {
    name.contains('_') && {
        let plain = name.replace('_', "-");
        stripped.iter().any(|stripped| stripped.as_str() == plain)
            || ["content-length", "transfer-encoding", "host", "cookie", "connection"].contains(&plain.as_str())
            || plain.starts_with("x-forwarded-")
    }
}

/// The head of the request to the vendor. `sized`: the body's length is known and stated.
pub(super) fn outbound(headers: &HeaderMap, endpoint: &Endpoint, provider: &Provider, sized: bool) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(headers.len() + 3);
    out.insert(HOST, provider.upstream.authority.clone());
    let nominates = headers.contains_key(CONNECTION);
    for (name, value) in headers {
        let ends_here = *name == HOST
            || *name == EXPECT
            || (*name == ACCEPT_ENCODING && endpoint.compression == Compression::Identity)
            || *name == COOKIE
            || (*name == CONTENT_LENGTH && !sized)
            || is_hop_by_hop(name)
            || is_forwarding(name)
            || endpoint.stripped_headers.contains(name)
            || name.as_str().starts_with("x-lockgate-")
            || is_disguised(name.as_str(), &endpoint.stripped_headers)
            || (nominates && nominated(headers).any(|token| token.eq_ignore_ascii_case(name.as_str())));
        if !ends_here {
            out.append(name.clone(), value.clone());
        }
    }
    if !sized {
        // Said here, because hyper would send a GET of unknown length without its body.
        out.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    // Usage could not be read from a compressed answer. Without the header a vendor may send any coding.
    if !out.contains_key(ACCEPT_ENCODING) {
        out.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    if let Some((name, value)) = &provider.credential {
        out.insert(name.clone(), value.clone());
    }
    out
}

/// Takes out of a vendor's head what ends here.
pub(super) fn inbound(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = nominated(headers).filter_map(|token| token.parse().ok()).collect();
    // Two statements of one length: the chunks are what was read.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    let fixed = [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        PROXY_AUTHENTICATE,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        SET_COOKIE,
        ALT_SVC,
    ];
    for name in fixed.into_iter().chain([HeaderName::from_static("set-cookie2")]).chain(named) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_connection_are_split() {
        let mut headers = HeaderMap::new();
        headers.append(CONNECTION, HeaderValue::from_static("keep-alive, X-Foo"));
        headers.append(CONNECTION, HeaderValue::from_static(" ,bar"));
        assert_eq!(nominated(&headers).collect::<Vec<_>>(), ["keep-alive", "X-Foo", "bar"]);
    }

    #[test]
    fn disguises_are_seen_through() {
        let stripped = [HeaderName::from_static("x-api-key")];
        for (name, disguised) in
            [("x_api_key", true), ("x-api_key", true), ("content_length", true), ("openai_beta", false), ("x-y", false)]
        {
            assert_eq!(is_disguised(name, &stripped), disguised, "{name}");
        }
    }

    #[test]
    fn what_ends_here_leaves_a_vendors_head() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("set-cookie", "a=b"),
            ("set-cookie", "c=d"),
            ("alt-svc", "h3"),
            ("x-request-id", "req_vendor"),
            ("retry-after", "3"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        inbound(&mut headers);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["retry-after", "x-request-id"]);
    }
}
