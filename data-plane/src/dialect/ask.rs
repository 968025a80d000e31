//! Asking an OpenAI-shaped vendor for a stream's usage: one change in the body of the request, every other byte as it
//! was; and what comes of it, kept from a client that did not ask.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::members::{Member, Members};
use super::pointer::{Pointers, Slot};
use super::scan::{Scalar, Scanner, Sink};
use super::sse;

/// What to change in a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// These bytes go ...
    pub goes: Range<usize>,
    /// ... and these come in their place.
    pub comes: &'static [u8],
}

/// What a request must be changed by to ask for usage. `None`: it is no stream, asks by itself, has one of the members
/// `unless`, or is not clear.
pub fn asking(body: &[u8], unless: &[Box<str>]) -> Option<Change> {
    let (mut streams, mut options, mut end) = (None, None, None);
    for member in Members::of(body, 0)? {
        let Member { name, value } = member?;
        let raw = &body[value.clone()];
        match &*name {
            // A member that comes twice is read in more than one way.
            "stream" if streams.replace(raw == b"true").is_some() => return None,
            "stream_options" if options.replace(value.clone()).is_some() => return None,
            name if unless.iter().any(|other| **other == *name) && raw != b"null" => return None,
            _ => {}
        }
        end = Some(value.end);
    }
    if streams != Some(true) {
        return None;
    }
    let Some(options) = options else {
        let end = end?;
        return Some(Change { goes: end..end, comes: br#","stream_options":{"include_usage":true}"# });
    };
    if &body[options.clone()] == b"null" {
        return Some(Change { goes: options, comes: br#"{"include_usage":true}"# });
    }
    let (mut asked, mut empty) = (None, true);
    for member in Members::of(body, options.start)? {
        let Member { name, value } = member?;
        empty = false;
        if name == "include_usage" && asked.replace(value).is_some() {
            return None;
        }
    }
    let behind = options.start + 1;
    match asked {
        Some(value) if matches!(&body[value.clone()], b"false" | b"null") => {
            Some(Change { goes: value, comes: b"true" })
        }
        Some(_) => None,
        None if empty => Some(Change { goes: behind..behind, comes: br#""include_usage":true"# }),
        None => Some(Change { goes: behind..behind, comes: br#""include_usage":true,"# }),
    }
}

/// An event longer than this is no report of usage.
const LONGEST: usize = 16 * 1024;

/// Takes the report of usage out of a stream: the event whose list of choices is empty and whose usage is there. Holds
/// back no more than the beginning of an event of which it cannot tell yet.
#[derive(Debug)]
pub struct Veil {
    pointers: Pointers,
    splitter: sse::Splitter,
    scanner: Scanner,
    seen: Seen,
    held: BytesMut,
    /// The event that has begun is on its way already.
    passing: bool,
}

#[derive(Debug, Default)]
struct Seen {
    choices: bool,
    choice: bool,
    usage: bool,
}

const CHOICES: Slot = 0;
const CHOICE: Slot = 1;

impl Sink for Seen {
    fn value(&mut self, slot: Slot, scalar: Scalar<'_>) {
        match slot {
            CHOICE => self.choice = true,
            CHOICES => self.choices |= scalar == Scalar::Nested,
            _ => self.usage |= scalar == Scalar::Nested,
        }
    }

    fn end(&mut self) {}
}

impl Default for Veil {
    fn default() -> Self {
        let pointers = Pointers::new(["/choices", "/choices/*", "/usage"]).expect("these are pointers");
        let scanner = Scanner::new(&pointers);
        Self {
            pointers,
            splitter: sse::Splitter::default(),
            scanner,
            seen: Seen::default(),
            held: BytesMut::new(),
            passing: false,
        }
    }
}

impl Veil {
    /// Takes the next piece and gives what may pass; empty: nothing yet.
    pub fn feed(&mut self, piece: Bytes) -> Bytes {
        let Self { pointers, splitter, scanner, seen, held, passing } = self;
        let mut out: Option<BytesMut> = None;
        // Of this piece: where what has not been decided about begins, and what will pass.
        let (mut event, mut from, mut at) = (0, 0, 0);
        while at < piece.len() {
            let end = memchr::memchr(b'\n', &piece[at..]).map_or(piece.len(), |index| at + index + 1);
            splitter.feed(&piece[at..end], |part| match part {
                sse::Piece::Data(data) => scanner.feed(pointers, data, seen),
                sse::Piece::End => scanner.reset(pointers),
            });
            at = end;
            if !splitter.at_boundary() {
                continue;
            }
            let seen = std::mem::take(seen);
            if !*passing && seen.choices && !seen.choice && seen.usage {
                out.get_or_insert_default().extend_from_slice(&piece[from..event]);
                held.clear();
                from = at;
            } else if !held.is_empty() {
                out = Some(std::mem::take(held));
            }
            *passing = false;
            event = at;
        }
        if event < piece.len() && !*passing {
            *passing = seen.choice || held.len() + piece.len() - event > LONGEST;
            if !*passing {
                if event == 0 && out.is_none() {
                    held.extend_from_slice(&piece);
                    return Bytes::new();
                }
                let mut passed = out.unwrap_or_default();
                passed.extend_from_slice(&piece[from..event]);
                held.extend_from_slice(&piece[event..]);
                return passed.freeze();
            }
            if !held.is_empty() {
                out = Some(std::mem::take(held));
            }
        }
        match out {
            None => piece,
            Some(mut out) => {
                out.extend_from_slice(&piece[from..]);
                out.freeze()
            }
        }
    }

    /// What is held back; there is nothing more to wait for.
    pub fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.held).freeze()
    }

    /// Whether nothing is held back.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(body: &str) -> Option<String> {
        let Change { goes, comes } = asking(body.as_bytes(), &["data_sources".into()])?;
        Some([&body[..goes.start], std::str::from_utf8(comes).unwrap(), &body[goes.end..]].concat())
    }

    #[test]
    fn one_thing_is_changed_and_nothing_else() {
        for (body, expected) in [
            (r#"{"stream":true}"#, r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
            (
                " {\n \"a\": [\"}\\\"\", {\"stream\": false}], \"stream\" : true , \"z\": 1.5e-3 \n} ",
                " {\n \"a\": [\"}\\\"\", {\"stream\": false}], \"stream\" : true , \"z\": 1.5e-3,\"stream_options\":{\"include_usage\":true} \n} ",
            ),
            (r#"{"stream_options":{},"stream":true}"#, r#"{"stream_options":{"include_usage":true},"stream":true}"#),
            (
                r#"{"stream_options": {"include_obfuscation":false},"stream":true}"#,
                r#"{"stream_options": {"include_usage":true,"include_obfuscation":false},"stream":true}"#,
            ),
            (r#"{"stream":true,"stream_options":null}"#, r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
            (
                r#"{"stream":true,"stream_options":{ "include_usage" : false }}"#,
                r#"{"stream":true,"stream_options":{ "include_usage" : true }}"#,
            ),
            (r#"{"str\u0065am":true}"#, r#"{"str\u0065am":true,"stream_options":{"include_usage":true}}"#),
            (
                r#"{"stream":true,"data_sources":null}"#,
                r#"{"stream":true,"data_sources":null,"stream_options":{"include_usage":true}}"#,
            ),
        ] {
            assert_eq!(asked(body).as_deref(), Some(expected));
            // It is still a document, and only asks more.
            serde_json::from_str::<serde_json::Value>(expected).unwrap();
        }
    }

    #[test]
    fn what_is_no_stream_or_not_clear_is_left_alone() {
        for body in [
            "",
            "{}",
            "[]",
            "{",
            r#"{"stream":false}"#,
            r#"{"stream":"true"}"#,
            r#"{"stream":true"#,
            r#"{"stream":true,}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            r#"{"stream":true,"stream_options":[]}"#,
            r#"{"stream":true,"stream_options":7}"#,
            r#"{"stream":true,"stream":true}"#,
            r#"{"stream":true,"stream_options":{},"stream_options":{}}"#,
            r#"{"stream":true,"data_sources":[{}]}"#,
            r#"{"stream":true "a":1}"#,
            r#"{"a":{"stream":true}}"#,
            "{\"a",
            "{\"a\\",
            r#"{"a":["#,
            r#"{"stream":true,"stream_options":{"include_usage":1}}"#,
        ] {
            assert_eq!(asked(body), None, "{body}");
        }
    }

    const USAGE: &str = "data: {\"id\":\"x\",\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n";

    fn veiled(stream: &str, piece: usize) -> String {
        let mut veil = Veil::default();
        let mut passed = Vec::new();
        for piece in stream.as_bytes().chunks(piece) {
            passed.extend_from_slice(&veil.feed(Bytes::copy_from_slice(piece)));
        }
        passed.extend_from_slice(&veil.rest());
        String::from_utf8(passed).unwrap()
    }

    #[test]
    fn the_report_is_taken_out_however_the_stream_is_cut() {
        let first = "data: {\"choices\":[],\"usage\":null,\"prompt_filter_results\":[]}\n\n: hello\n\n";
        let second =
            "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"choices\\\":[] \\n\\n\"}}],\"usage\":{\"a\":1}}\r\n\r\n";
        let done = "data: [DONE]\n\n";
        for (stream, expected) in [
            ([first, second, USAGE, done].concat(), [first, second, done].concat()),
            ([second, USAGE].concat(), second.to_owned()),
            ([USAGE, USAGE, second].concat(), second.to_owned()),
            (
                [first, "data: {\"usage\":{}}\n\ndata: x\n\n", done, "data: {\"cho"].concat(),
                [first, "data: {\"usage\":{}}\n\ndata: x\n\n", done, "data: {\"cho"].concat(),
            ),
        ] {
            for piece in 1..=stream.len() {
                assert_eq!(veiled(&stream, piece), expected, "pieces of {piece}");
            }
        }
    }

    #[test]
    fn what_can_be_told_is_not_held_back() {
        let mut veil = Veil::default();
        assert_eq!(veil.feed(Bytes::from_static(b"data: {\"choices\":[{\"del")), "data: {\"choices\":[{\"del");
        assert_eq!(veil.feed(Bytes::from_static(b"ta\":{}}]}\n\ndata: {\"a")), "ta\":{}}]}\n\n");
        assert!(!veil.is_empty());
        let long = Bytes::from(vec![b'x'; LONGEST]);
        assert_eq!(veil.feed(long).len(), LONGEST + 9);
        let whole = Bytes::from_static(b"\n\ndata: {\"choices\":[{}]}\n\n");
        // The same bytes, not a copy of them.
        assert_eq!(veil.feed(whole.clone()).as_ptr(), whole.as_ptr());
    }
}
