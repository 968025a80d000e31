//! What the head of an HTTP/1.1 request says, judged before hyper sees it: its size, whether it can be read at all, and
//! in which one way it states the length of its body. Knows nothing of what is asked for.
//!
//! The parser is hyper's own, so that both read the same head; the verdicts are ours, so that they have a name, a
//! request id and a body.

use std::mem::MaybeUninit;

use http::Uri;

use super::body::Body;
use crate::config::{Limits, MAX_HEADERS};
use crate::error::Refusal;

/// What becomes of the bytes.
#[derive(Debug)]
pub(super) enum Verdict {
    /// More must come.
    Partial,
    /// So many bytes are a head that may pass; the body is yet to come.
    Whole(usize, Body),
    /// With what hyper is given instead: a head that says no more than who was refused.
    Refused(Refusal, Vec<u8>),
}

/// Judges what has come of a head.
pub(super) fn judge(bytes: &[u8], limits: &Limits) -> Verdict {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(bytes, &mut fields[..limits.headers.min(MAX_HEADERS)]);
    let (method, target) = (request.method, request.path);
    let refused = |refusal| Verdict::Refused(refusal, stand_in(method, target));
    if target.map_or_else(|| target_so_far(bytes), str::len) > limits.uri_bytes {
        return refused(Refusal::UriTooLong);
    }
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() <= limits.head_bytes => return Verdict::Partial,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => return refused(Refusal::HeadTooLarge),
        Err(_) => return refused(Refusal::Malformed),
    };
    if length > limits.head_bytes {
        return refused(Refusal::HeadTooLarge);
    }
    if !target.is_some_and(is_target) {
        return refused(Refusal::BadPath);
    }
    match framing(request.headers, request.version) {
        Ok(body) => Verdict::Whole(length, body),
        Err(refusal) => refused(refusal),
    }
}

/// Length of a target whose end has not come, or cannot be read.
fn target_so_far(bytes: &[u8]) -> usize {
    let line = memchr::memchr(b'\n', bytes).map_or(bytes, |end| &bytes[..end]);
    let method = memchr::memchr(b' ', line).map_or(line.len(), |end| end + 1);
    line[method..].iter().take_while(|byte| !byte.is_ascii_whitespace()).count()
}

/// Whether a URI can be made of it. Most are plain, and looking is cheaper than making one.
fn is_target(target: &str) -> bool {
    target.starts_with('/') && target.bytes().all(is_plain) || Uri::try_from(target).is_ok()
}

fn is_plain(byte: u8) -> bool {
    const PLAIN: [bool; 256] = {
        let mut plain = [false; 256];
        let mut byte = 0;
        while byte < 128_u8 {
            plain[byte as usize] = byte.is_ascii_alphanumeric()
                || matches!(
                    byte,
                    b'-' | b'.'
                        | b'_'
                        | b'~'
                        | b'!'
                        | b'$'
                        | b'&'
                        | b'\''
                        | b'('
                        | b')'
                        | b'*'
                        | b'+'
                        | b','
                        | b';'
                        | b'='
                        | b':'
                        | b'@'
                        | b'/'
                        | b'%'
                        | b'?'
                );
            byte += 1;
        }
        plain
    };
    PLAIN[usize::from(byte)]
}

/// RFC 9112 section 6.3, without its leniences: one length, in one field, in one way.
fn framing(fields: &[httparse::Header<'_>], version: Option<u8>) -> Result<Body, Refusal> {
    let (mut length, mut chunked) = (None, false);
    for field in fields {
        if field.name.eq_ignore_ascii_case("content-length") {
            if length.replace(number(field.value).ok_or(Refusal::BadFraming)?).is_some() {
                return Err(Refusal::BadFraming);
            }
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            if std::mem::replace(&mut chunked, true) {
                return Err(Refusal::BadFraming);
            }
            check_codings(field.value)?;
        }
    }
    match (length, chunked) {
        (length, false) => Ok(Body::sized(length.unwrap_or_default())),
        (None, true) if version == Some(1) => Ok(Body::chunked()),
        (Some(_) | None, true) => Err(Refusal::BadFraming),
    }
}

fn number(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()?;
    // Beyond this, lengths have other meanings to those who count on.
    (number <= i64::MAX.unsigned_abs()).then_some(number)
}

/// `chunked` and nothing else. A coding before it would have to be undone by someone, and nobody here does.
fn check_codings(value: &[u8]) -> Result<(), Refusal> {
    let is_chunked = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"chunked");
    let mut codings = value.rsplit(|byte| *byte == b',');
    if !codings.next().is_some_and(is_chunked) {
        return Err(Refusal::BadFraming);
    }
    let mut others = codings.filter(|coding| !coding.trim_ascii().is_empty()).peekable();
    match (others.peek().is_some(), others.any(is_chunked)) {
        (false, _) => Ok(()),
        (true, true) => Err(Refusal::BadFraming),
        (true, false) => Err(Refusal::CodingNotSupported),
    }
}

/// What hyper answers in place of a refused head: its method and target where they can be shown.
fn stand_in(method: Option<&str>, target: Option<&str>) -> Vec<u8> {
    const SHOWN: usize = 256;
    let target = target.filter(|target| target.starts_with('/') && target.bytes().all(is_plain));
    let target = target.map_or("*", |target| &target[..target.len().min(SHOWN)]);
    let method = method.filter(|method| *method != "CONNECT").unwrap_or("GET");
    format!("{method} {target} HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn verdict(head: &str) -> Result<Option<usize>, Refusal> {
        match judge(head.as_bytes(), &Config::default().limits) {
            Verdict::Partial => Ok(None),
            Verdict::Whole(length, _) => Ok(Some(length)),
            Verdict::Refused(refusal, instead) => {
                assert!(matches!(judge(&instead, &Config::default().limits), Verdict::Whole(..)), "{refusal:?}");
                Err(refusal)
            }
        }
    }

    fn with(fields: &str) -> Result<Option<usize>, Refusal> {
        verdict(&format!("POST /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
    }

    #[test]
    fn a_length_is_stated_in_one_way() {
        for fields in
            ["", "Content-Length: 5\r\n", "transfer-ENCODING: Chunked\r\n", "Transfer-Encoding: , chunked\r\n"]
        {
            assert!(matches!(with(fields), Ok(Some(_))), "{fields}");
        }
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length:\r\n",
            "Content-Length: 18446744073709551615\r\n",
            "Content-Length: 99999999999999999999999\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: chunked, gzip, chunked\r\n",
            "Transfer-Encoding: gzip\r\n",
            "Transfer-Encoding: chunked, gzip\r\n",
            "Transfer-Encoding: \x0bchunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding:\r\n",
        ] {
            let found = with(fields);
            assert!(matches!(found, Err(Refusal::BadFraming | Refusal::Malformed)), "{fields}: {found:?}");
        }
        assert_eq!(with("Transfer-Encoding: gzip, chunked\r\n"), Err(Refusal::CodingNotSupported));
        assert_eq!(verdict("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Err(Refusal::BadFraming));
    }

    #[test]
    fn a_head_has_its_limits_to_the_byte() {
        let limits = Config::default().limits;
        let padded = |length: usize| {
            let rest = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(length - rest))
        };
        assert_eq!(verdict(&padded(limits.head_bytes)), Ok(Some(limits.head_bytes)));
        assert_eq!(verdict(&padded(limits.head_bytes + 1)), Err(Refusal::HeadTooLarge));
        assert_eq!(verdict(&padded(limits.head_bytes + 1)[..limits.head_bytes]), Ok(None));
        let uri = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(length - 1));
        assert!(verdict(&uri(limits.uri_bytes)).is_ok());
        assert_eq!(verdict(&uri(limits.uri_bytes + 1)), Err(Refusal::UriTooLong));
        assert_eq!(verdict(&uri(70_000)[..limits.uri_bytes + 10]), Err(Refusal::UriTooLong));
        let many = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "X: 1\r\n".repeat(count));
        assert!(matches!(verdict(&many(limits.headers)), Ok(Some(_))));
        assert_eq!(verdict(&many(limits.headers + 1)), Err(Refusal::HeadTooLarge));
    }

    #[test]
    fn what_is_no_head_is_malformed() {
        for head in [
            "hello\r\n\r\n",
            "\u{16}\u{3}\u{1}\u{2}",
            "GET / HTTP/2.0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
            "GET  / HTTP/1.1\r\n\r\n",
            "GET /\r\n\r\n",
        ] {
            assert_eq!(verdict(head), Err(Refusal::Malformed), "{head:?}");
        }
        for target in ["/a<b", "/a#b", "http://[x/", "/é", "::", "/a^`{}|"] {
            let found = verdict(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert!(Uri::try_from(target).is_ok() == found.is_ok(), "{target}: {found:?}");
        }
        for partial in ["", "\r\n", "G", "GET / HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r"] {
            assert_eq!(verdict(partial), Ok(None), "{partial:?}");
        }
    }
}
