//! Which headers pass. To the vendor goes a new map; from the vendor comes what it sent, less what ends here.

use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::runtime::endpoint::{Compression, Endpoint};
use crate::runtime::provider::Provider;

/// The tokens of `Connection`, which name what else ends here.
pub(super) fn nominated(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// Whether a header of a request ends here, whatever the endpoint: it is about one hop (RFC 9110 section 7.6.1 and what
/// came before it), or about us, or says who the client is or where it came from, which is nothing a vendor needs and
/// nothing a stranger's word counts for.
#[expect(clippy::match_same_arms, reason = "one arm for each reason")]
fn is_ours(name: &str) -> bool {
    match name {
        "connection"
        | "keep-alive"
        | "proxy-connection"
        | "proxy-authenticate"
        | "proxy-authorization"
        | "te"
        | "trailer"
        | "transfer-encoding"
        | "upgrade"
        | "http2-settings" => true,
        "host" | "expect" | "cookie" => true,
        "forwarded"
        | "via"
        | "x-real-ip"
        | "x-client-ip"
        | "x-cluster-client-ip"
        | "x-original-forwarded-for"
        | "x-original-url"
        | "x-rewrite-url"
        | "true-client-ip"
        | "cf-connecting-ip"
        | "fastly-client-ip" => true,
        name => name.starts_with("x-") && (name.starts_with("x-forwarded-") || name.starts_with("x-lockgate-")),
    }
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
        let ends_here = is_ours(name.as_str())
            || (*name == ACCEPT_ENCODING && endpoint.compression == Compression::Identity)
            || (*name == CONTENT_LENGTH && !sized)
            || endpoint.stripped_headers.contains(name)
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
    // Most heads have nothing of it, and looking is cheaper than removing. Only `Connection` could name more.
    if headers.keys().any(|name| is_theirs(name.as_str())) {
        remove(headers);
    }
}

/// Whether a header of an answer ends here.
fn is_theirs(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "set-cookie"
            | "set-cookie2"
            | "alt-svc"
    )
}

fn remove(headers: &mut HeaderMap) {
    let ours = headers.keys().filter(|name| is_theirs(name.as_str())).cloned();
    let named = nominated(headers).filter_map(|token| token.parse().ok());
    let ends: Vec<HeaderName> = ours.chain(named).collect();
    // Two statements of one length: the chunks are what was read.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    for name in ends {
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

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Names that end somewhere, and such as only look like them.
    fn names() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
        let names = prop::sample::select(vec![
            "connection",
            "keep-alive",
            "proxy-connection",
            "proxy-authenticate",
            "proxy-authorization",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "http2-settings",
            "host",
            "expect",
            "cookie",
            "forwarded",
            "via",
            "x-real-ip",
            "x-client-ip",
            "x-cluster-client-ip",
            "x-original-forwarded-for",
            "x-original-url",
            "x-rewrite-url",
            "true-client-ip",
            "cf-connecting-ip",
            "fastly-client-ip",
            "x-forwarded-for",
            "x-forwarded-",
            "x-lockgate-x",
            "x-forwarded",
            "x-lockgate",
            "x-realip",
            "set-cookie",
            "set-cookie2",
            "set-cookie3",
            "alt-svc",
            "date",
            "content-type",
            "content-length",
            "x-request-id",
            "retry-after",
            "hosts",
            "tea",
            "vias",
            "x-nominated",
        ]);
        let values = prop::sample::select(vec!["x", "close", "x-nominated, date", "5", "chunked"]);
        prop::collection::vec((names, values), 0..12)
    }

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    /// The rule as a list: slower, and easier to compare with its source.
    fn ends_by_the_book(name: &str) -> bool {
        let hop = [
            "connection",
            "keep-alive",
            "proxy-connection",
            "proxy-authenticate",
            "proxy-authorization",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "http2-settings",
        ];
        let origin = [
            "forwarded",
            "via",
            "x-real-ip",
            "x-client-ip",
            "x-cluster-client-ip",
            "x-original-forwarded-for",
            "x-original-url",
            "x-rewrite-url",
            "true-client-ip",
            "cf-connecting-ip",
            "fastly-client-ip",
        ];
        let prefixes = ["x-forwarded-", "x-lockgate-"];
        hop.contains(&name)
            || origin.contains(&name)
            || ["host", "expect", "cookie"].contains(&name)
            || prefixes.iter().any(|prefix| name.starts_with(prefix))
    }

    proptest! {
        #[test]
        fn what_ends_here_is_what_the_lists_say(fields in names()) {
            for (name, _) in fields {
                prop_assert_eq!(is_ours(name), ends_by_the_book(name), "{}", name);
            }
        }

        #[test]
        fn looking_first_removes_the_same(fields in names()) {
            let (mut quick, mut thorough) = (map(&fields), map(&fields));
            inbound(&mut quick);
            let named: Vec<HeaderName> = nominated(&thorough).filter_map(|token| token.parse().ok()).collect();
            if thorough.contains_key(TRANSFER_ENCODING) {
                thorough.remove(CONTENT_LENGTH);
            }
            for name in [
                "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "te", "trailer",
                "transfer-encoding", "upgrade", "set-cookie", "set-cookie2", "alt-svc",
            ] {
                thorough.remove(name);
            }
            for name in named {
                thorough.remove(name);
            }
            prop_assert_eq!(quick, thorough);
        }
    }
}
