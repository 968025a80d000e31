//! Step 2: which endpoint the path belongs to. The path is checked here, once: refused, never repaired, so what was
//! matched is what is forwarded.

use std::sync::Arc;

use super::receive::{Call, Received};
use crate::error::Refusal;
use crate::runtime::Runtime;
use crate::runtime::context::MAX_SEGMENTS;
use crate::runtime::endpoint::Endpoint;

/// The endpoint, and what of the path is the vendor's.
pub(super) struct Routed {
    pub(super) runtime: Arc<Runtime>,
    pub(super) endpoint: Arc<Endpoint>,
    /// Length of the context: the vendor's path is what follows.
    pub(super) context: usize,
}

/// Finds it.
pub(super) fn route(call: &mut Call, received: Received) -> Result<Routed, Refusal> {
    let Received { runtime } = received;
    let path = call.head.uri.path();
    if !is_plain(path.as_bytes()) {
        return Err(Refusal::BadPath);
    }
    let Some((context, endpoint)) = runtime.endpoint(path) else {
        // Where a context could have been, an encoded byte is another spelling of one.
        let encoded = path.split('/').skip(1).take(MAX_SEGMENTS).any(|segment| segment.contains('%'));
        return Err(if encoded { Refusal::BadPath } else { Refusal::UnknownContext });
    };
    let endpoint = Arc::clone(endpoint);
    call.account.routed(&endpoint, context);
    for name in super::headers::nominated(&call.head.headers) {
        if endpoint.stripped_headers.iter().any(|stripped| name.eq_ignore_ascii_case(stripped.as_str())) {
            return Err(Refusal::BadConnectionHeader);
        }
    }
    Ok(Routed { runtime, endpoint, context })
}

/// Whether every reader reads the path alike: no empty or dot segments however they are written, no encoded NUL, no
/// backslash, no bytes that must be encoded. `%2F` is fine, and separates segments in this check.
fn is_plain(path: &[u8]) -> bool {
    // `segment`: what the segment has been so far, for the dot rule.
    let mut segment = Segment::Empty;
    let mut index = 0;
    if path.first() != Some(&b'/') {
        return false;
    }
    while let Some(&byte) = path.get(index) {
        index += 1;
        let (byte, encoded) = if byte == b'%' {
            let Some(decoded) = path.get(index..index + 2).and_then(hex) else { return false };
            index += 2;
            (decoded, true)
        } else {
            (byte, false)
        };
        match byte {
            0x00..=0x1f | 0x7f | b'\\' => return false,
            b' ' | 0x80..=0xff | b'#' | b'?' if !encoded => return false,
            b'/' => {
                let first = index == 1;
                if segment.is_dots() || (segment == Segment::Empty && !encoded && !first) {
                    return false;
                }
                segment = if encoded { Segment::Encoded } else { Segment::Empty };
            }
            // Some servers cut a segment at its parameters: `..;x` is `..` to them.
            b';' if segment.is_dots() => return false,
            b'.' => segment = segment.dot(),
            _ => segment = Segment::Other,
        }
    }
    !segment.is_dots()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Segment {
    Empty,
    /// Nothing yet behind an encoded separator.
    Encoded,
    Dot,
    DotDot,
    Other,
}

impl Segment {
    fn dot(self) -> Self {
        match self {
            Self::Empty | Self::Encoded => Self::Dot,
            Self::Dot => Self::DotDot,
            Self::DotDot | Self::Other => Self::Other,
        }
    }

    fn is_dots(self) -> bool {
        matches!(self, Self::Dot | Self::DotDot)
    }
}

fn hex(pair: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_pass() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/a/v1/chat/completions",
            "/a/v1beta/models/gemini-2.5-flash:generateContent",
            "/a/x%2Fy",
            "/a/x%2f%2Fy",
            "/a/x%2F/y",
            "/a/%2F/%2f/",
            "/a/.well-known/x..y/...",
            "/a/%20%C3%A9%252e",
            "/a/b;c=d/e=f,g@h!$&'()*+~",
        ] {
            assert!(is_plain(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn what_two_readers_could_read_in_two_ways_is_refused() {
        for path in [
            "",
            "a",
            "*",
            "//",
            "//a",
            "/a//b",
            "/a//",
            "/.",
            "/..",
            "/a/./b",
            "/a/../b",
            "/a/..",
            "/a/%2e%2E/b",
            "/a/.%2e",
            "/a/%2e",
            "/a/x%2F..%2Fy",
            "/a/x%2F../y",
            "/a/x%2F//y",
            "/a/..%2f",
            "/a/..;/b",
            "/a/%00",
            "/a/%5c",
            "/a/%5Cb",
            "/a\\b",
            "/a/%",
            "/a/%2",
            "/a/%zz",
            "/a/%0d%0a",
            "/a/%7f",
            "/é",
            "/a b",
            "/a/\u{1}",
        ] {
            assert!(!is_plain(path.as_bytes()), "{path}");
        }
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;

    /// As the most lenient reader would read it: decoded, backslashes turned, parameters cut, then split.
    fn lenient(path: &str) -> Vec<String> {
        let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy().replace('\\', "/");
        decoded.split('/').skip(1).map(|segment| segment.split(';').next().unwrap_or_default().to_owned()).collect()
    }

    proptest! {
        #[test]
        fn no_reader_finds_a_way_up_in_what_passes(pieces in prop::collection::vec(
            prop::sample::select(vec![
                "/", ".", "..", "a", "%2e", "%2E", "%2f", "%2F", "%5c", "\\", ";", "%", "%25", "2e", "%00", "?", "x:y",
            ]), 0..12
        )) {
            let path = format!("/{}", pieces.concat());
            if is_plain(path.as_bytes()) {
                for segment in lenient(&path) {
                    prop_assert!(segment != "." && segment != "..", "{} in {}", segment, path);
                }
                prop_assert!(!path.contains("//") && !path.contains('\\'), "{}", path);
            }
        }
    }
}
