//! What readers of vendors' formats must find, however the bytes are cut: the same that a reader finds who has all of
//! them at once and takes his time.

use proptest::prelude::*;
use serde_json::Value;

use crate::dialect::pointer::{EVERY, MAX_DEPTH, Pointers, Slot};
use crate::dialect::scan::{Scalar, Scanner, Sink};
use crate::dialect::{aws, sse};

/// Raw bytes of a text that a scanner keeps.
const MAX_TEXT: usize = 512;

/// A JSON value and how it is written.
#[derive(Clone, Debug)]
enum Json {
    /// A number, `true`, `false` or `null`, as written.
    Word(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["a", "b", "usage", "model", "a/b", "m~n", "é", "q\"\\", "}]"]).prop_map(str::to_owned),
        1 => "[ -~é\u{1F600}\n]{1,8}",
    ]
}

fn json() -> impl Strategy<Value = Json> {
    let word = prop_oneof![
        3 => any::<u64>().prop_map(|number| number.to_string()),
        3 => (0..3000_u64).prop_map(|number| number.to_string()),
        1 => any::<i64>().prop_map(|number| number.to_string()),
        1 => any::<f64>().prop_filter_map("a number", |number| serde_json::to_string(&number).ok()),
        3 => prop::sample::select(vec![
            "0", "-0", "12.0", "0.0", "12.50", "1e3", "1E+2", "2.0e0", "18446744073709551615", "18446744073709551616",
            "null", "true", "false",
        ]).prop_map(str::to_owned),
    ];
    let text = prop_oneof![
        4 => "[ -~é\u{1F600}\n\t\u{1}]{0,12}",
        1 => (500..530_usize, prop::sample::select(vec!["x", "\"", "é", "\u{1}"])).prop_map(|(length, letter)| {
            letter.repeat(length / letter.len())
        }),
    ];
    let leaf = prop_oneof![3 => word.prop_map(Json::Word), 2 => text.prop_map(Json::Text)];
    leaf.prop_recursive(12, 80, 6, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Json::List),
            3 => prop::collection::vec((name(), inner), 0..6).prop_map(|mut members| {
                // Who repeats a name means nobody knows what.
                let mut seen = std::collections::BTreeSet::new();
                members.retain(|(name, _)| seen.insert(name.clone()));
                Json::Object(members)
            }),
        ]
    })
}

/// Choices of the one who writes: spaces and escapes.
struct Dress<'a>(std::iter::Cycle<std::slice::Iter<'a, u8>>);

impl Dress<'_> {
    fn next(&mut self) -> u8 {
        *self.0.next().expect("there is at least one")
    }

    fn space(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self.next() % 8 {
            0 => b" ".as_slice(),
            1 => b"\r\n\t",
            _ => b"",
        });
    }

    /// Gives the raw bytes between the quotes.
    fn text(&mut self, text: &str, out: &mut Vec<u8>) -> usize {
        out.push(b'"');
        let from = out.len();
        for letter in text.chars() {
            let must = matches!(letter, '"' | '\\' | '\0'..='\u{1f}');
            if must || self.next().is_multiple_of(16) {
                let short = match letter {
                    '"' | '\\' | '/' if self.next().is_multiple_of(2) => Some(letter),
                    '\n' => Some('n'),
                    '\t' => Some('t'),
                    _ => None,
                };
                if let Some(short) = short {
                    out.extend_from_slice(&[b'\\', u8::try_from(short).unwrap()]);
                } else {
                    for unit in letter.encode_utf16(&mut [0; 2]) {
                        out.extend_from_slice(format!("\\u{unit:04X}").as_bytes());
                    }
                }
            } else {
                out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        let raw = out.len() - from;
        out.push(b'"');
        raw
    }

    fn write(&mut self, json: &Json, out: &mut Vec<u8>) {
        self.space(out);
        match json {
            Json::Word(word) => out.extend_from_slice(word.as_bytes()),
            Json::Text(text) => {
                self.text(text, out);
            }
            Json::List(items) => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    self.write(item, out);
                }
                self.space(out);
                out.push(b']');
            }
            Json::Object(members) => {
                out.push(b'{');
                for (index, (name, item)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    self.space(out);
                    self.text(name, out);
                    self.space(out);
                    out.push(b':');
                    self.write(item, out);
                }
                self.space(out);
                out.push(b'}');
            }
        }
        self.space(out);
    }
}

fn written(json: &Json, dress: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Dress(dress.iter().cycle()).write(json, &mut out);
    out
}

/// Names from the top to somewhere in the document, and what stands there.
fn places(json: &Json, at: &[String], found: &mut Vec<Vec<String>>) {
    if let Json::Object(members) = json {
        for (name, member) in members {
            let mut path = at.to_vec();
            path.push(name.clone());
            found.push(path.clone());
            places(member, &path, found);
        }
    }
}

fn pointer(path: &[String]) -> String {
    path.iter().flat_map(|name| ["/".to_owned(), name.replace('~', "~0").replace('/', "~1")]).collect()
}

/// What was found, in order.
#[derive(Clone, Debug, PartialEq)]
enum Found {
    Number(Slot, u64),
    Text(Slot, String),
    End,
}

#[derive(Default)]
struct Notes(Vec<Found>);

impl Sink for Notes {
    fn value(&mut self, slot: Slot, scalar: Scalar<'_>) {
        self.0.push(match scalar {
            Scalar::Number(number) => Found::Number(slot, number),
            Scalar::Text(text) => Found::Text(slot, text.to_owned()),
            Scalar::Nested | Scalar::Odd => return,
        });
    }

    fn end(&mut self) {
        self.0.push(Found::End);
    }
}

fn pieces(bytes: &[u8], lengths: &[usize]) -> Vec<Vec<u8>> {
    let (mut rest, mut pieces) = (bytes, Vec::new());
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*length).min(rest.len()));
        pieces.push(piece.to_vec());
        rest = after;
    }
    pieces
}

fn scan(scanner: &mut Scanner, pointers: &Pointers, bytes: &[u8], lengths: &[usize]) -> Vec<Found> {
    let mut notes = Notes::default();
    for piece in pieces(bytes, lengths) {
        scanner.feed(pointers, &piece, &mut notes);
    }
    notes.0
}

/// Of one document, in order of the pointers.
fn expected(document: &Value, paths: &[Vec<String>], raw: &[u8]) -> Vec<Found> {
    let raw_of = |path: &[String]| raw_value(raw, path);
    let mut found = Vec::new();
    for (slot, path) in paths.iter().enumerate() {
        let slot = Slot::try_from(slot).unwrap();
        match path.iter().try_fold(document, |value, name| value.as_object()?.get(name)) {
            Some(Value::Number(number)) => {
                // A fraction of nothing is none; an exponent is left to those who calculate.
                let text = raw_of(path);
                let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
                let whole = number.as_f64().filter(|float| plain && float.fract() == 0.0 && *float < 1e15);
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, small, positive")]
                let number = number.as_u64().or(whole.map(|float| float as u64));
                found.extend(number.map(|number| Found::Number(slot, number)));
            }
            Some(Value::String(text)) if raw_of(path).len() <= MAX_TEXT + 2 => {
                found.push(Found::Text(slot, text.clone()));
            }
            Some(_) | None => {}
        }
    }
    found
}

/// As written, quotes included.
fn raw_value(raw: &[u8], path: &[String]) -> String {
    let mut at: Box<serde_json::value::RawValue> = serde_json::from_slice(raw).unwrap();
    for name in path {
        let mut members: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
            serde_json::from_str(at.get()).unwrap();
        at = members.remove(name).unwrap();
    }
    at.get().to_owned()
}

fn slot(found: &Found) -> Option<Slot> {
    match found {
        Found::Number(slot, _) | Found::Text(slot, _) => Some(*slot),
        Found::End => None,
    }
}

/// Pointers to some of the places of a document, and to some that are not there.
fn chosen(document: &Json, picks: &[prop::sample::Index], others: &[Vec<String>]) -> Vec<Vec<String>> {
    let mut places_of = Vec::new();
    places(document, &[], &mut places_of);
    places_of.retain(|path| path.len() <= MAX_DEPTH && path.iter().all(|name| !name.is_empty()));
    // A member of that name cannot be pointed at: there it means every item of a list.
    let named = |path: &Vec<String>| path.iter().all(|name| name != EVERY);
    places_of.retain(named);
    let mut paths: Vec<_> = others.iter().filter(|path| named(path)).cloned().collect();
    if !places_of.is_empty() {
        paths.extend(picks.iter().map(|pick| pick.get(&places_of).clone()));
    }
    paths
}

type Look = (Vec<prop::sample::Index>, Vec<Vec<String>>, Vec<u8>, Vec<usize>);

/// What is looked for, how the document is written, and how it is cut.
fn look() -> impl Strategy<Value = Look> {
    (
        prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        prop::collection::vec(prop::collection::vec(name(), 1..4), 0..3),
        prop::collection::vec(any::<u8>(), 1..40),
        prop_oneof![1 => Just(vec![1]), 3 => prop::collection::vec(1..40_usize, 1..6)],
    )
}

fn compile(paths: &[Vec<String>]) -> Pointers {
    let texts: Vec<String> = paths.iter().map(|path| pointer(path)).collect();
    Pointers::new(texts.iter().map(String::as_str)).expect("each step has a name")
}

/// Lines as the standard has them, without their ends, and whether the last one is complete.
fn lines(bytes: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let (mut lines, mut line, mut complete) = (Vec::new(), Vec::new(), true);
    let mut bytes = bytes.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        complete = matches!(byte, b'\r' | b'\n');
        if byte == b'\r' && bytes.peek() == Some(&b'\n') {
            bytes.next();
        }
        if complete {
            lines.push(std::mem::take(&mut line));
        } else {
            line.push(byte);
        }
    }
    if !complete {
        lines.push(line);
    }
    (lines, complete)
}

/// The data of complete events, as the standard reads them.
fn events(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut lines, complete) = lines(bytes);
    if !complete {
        lines.pop();
    }
    let (mut events, mut data): (Vec<Vec<u8>>, Option<Vec<u8>>) = (Vec::new(), None);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = line.split_at(colon.unwrap_or(line.len()));
        if line.is_empty() {
            events.extend(data.take());
        } else if field == b"data" {
            let value = value.strip_prefix(b":").unwrap_or(value);
            let value = value.strip_prefix(b" ").unwrap_or(value);
            data = Some(match data {
                Some(before) => [&before, b"\n".as_slice(), value].concat(),
                None => value.to_vec(),
            });
        }
    }
    events
}

fn event_stream() -> impl Strategy<Value = Vec<u8>> {
    let bit = prop::sample::select(vec![
        "data:",
        "data: ",
        "data",
        "datax:",
        "dat",
        ": keep-alive",
        "event: x",
        "id:",
        "{\"a\":1}",
        " ",
        ":",
        "é",
        "\n",
        "\n",
        "\r",
        "\r\n",
        "\r\n\r\n",
        "\n\n",
        "[DONE]",
    ]);
    prop::collection::vec(bit, 0..40).prop_map(|bits| bits.concat().into_bytes())
}

fn message() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    (prop::collection::vec(any::<u8>(), 0..20), prop::collection::vec(any::<u8>(), 0..60))
}

fn framed(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = |length: usize| u32::try_from(length).unwrap().to_be_bytes();
    let total = length(16 + headers.len() + payload.len());
    [&total[..], &length(headers.len()), b"sum1", headers, payload, b"sum2"].concat()
}

fn unframed(bytes: &[u8], lengths: &[usize]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut splitter, mut payloads, mut payload) = (aws::Splitter::default(), Vec::new(), Vec::new());
    for piece in pieces(bytes, lengths) {
        splitter.feed(&piece, |piece| match piece {
            aws::Piece::Data(data) => payload.extend_from_slice(data),
            aws::Piece::End => payloads.push(std::mem::take(&mut payload)),
        });
    }
    (payloads, payload)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_scanner_finds_what_a_parser_finds(document in json(), (picks, others, dress, lengths) in look()) {
        let paths = chosen(&document, &picks, &others);
        let (pointers, raw) = (compile(&paths), written(&document, &dress));
        let parsed: Value = serde_json::from_slice(&raw).expect("it is JSON");
        let mut scanner = Scanner::new(&pointers);
        let mut found = scan(&mut scanner, &pointers, &raw, &lengths);
        if let Json::List(items) = &document {
            // A list at the top is a list of documents.
            prop_assert_eq!(found.iter().filter(|found| **found == Found::End).count(), items.len());
            let each: Vec<Box<serde_json::value::RawValue>> = serde_json::from_slice(&raw).unwrap();
            for (item, text) in parsed.as_array().unwrap().iter().zip(each) {
                let end = found.iter().position(|found| *found == Found::End).unwrap();
                let mut of_one: Vec<Found> = found.drain(..=end).filter(|found| *found != Found::End).collect();
                of_one.sort_by_key(slot);
                prop_assert_eq!(of_one, expected(item, &paths, text.get().as_bytes()));
            }
            prop_assert!(found.is_empty(), "{:?}", found);
        } else {
            // A number at the top ends with the stream, which nobody tells the scanner.
            let ends = !matches!(document, Json::Word(_)) || raw.last().is_some_and(u8::is_ascii_whitespace);
            prop_assert_eq!(found.pop_if(|found| *found == Found::End).is_some(), ends);
            found.sort_by_key(slot);
            prop_assert_eq!(found, expected(&parsed, &paths, &raw));
        }
        prop_assert!(!raw.ends_with(b"]") || scanner.is_over());
    }

    #[test]
    fn a_scanner_stands_anything_and_says_the_same_of_it_however_it_is_cut(
        documents in prop::collection::vec(json(), 1..3),
        (picks, others, dress, lengths) in look(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 0..6),
    ) {
        let paths = chosen(&documents[0], &picks, &others);
        let pointers = compile(&paths);
        let mut raw: Vec<u8> = documents.iter().flat_map(|document| written(document, &dress)).collect();
        for (place, byte, how) in damage {
            let at = place.index(raw.len() + 1);
            match how {
                0 => raw.truncate(at),
                1 => raw.insert(at, byte),
                2 => raw.insert(at, b"{}[]\",:\\"[usize::from(byte % 8)]),
                _ => {
                    if let Some(there) = raw.get_mut(at) {
                        *there = byte;
                    }
                }
            }
        }
        let mut scanner = Scanner::new(&pointers);
        let whole = scan(&mut scanner, &pointers, &raw, &[raw.len().max(1)]);
        prop_assert_eq!(&scan(&mut Scanner::new(&pointers), &pointers, &raw, &lengths), &whole);
        // Whatever it was, the next document is read as if there had been none.
        scanner.reset(&pointers);
        let next = written(&documents[0], &dress);
        let fresh = scan(&mut Scanner::new(&pointers), &pointers, &next, &lengths);
        prop_assert_eq!(scan(&mut scanner, &pointers, &next, &lengths), fresh);
    }

    #[test]
    fn events_are_those_of_the_standard_and_their_boundaries_too(
        stream in event_stream(), lengths in prop::collection::vec(1..9_usize, 1..6),
    ) {
        let (mut splitter, mut found, mut event) = (sse::Splitter::default(), Vec::new(), Vec::new());
        let mut fed = Vec::new();
        for piece in pieces(&stream, &lengths) {
            fed.extend_from_slice(&piece);
            splitter.feed(&piece, |piece| match piece {
                sse::Piece::Data(data) => event.extend_from_slice(data),
                sse::Piece::End => found.push(std::mem::take(&mut event)),
            });
            prop_assert_eq!(&found, &events(&fed), "after {:?}", String::from_utf8_lossy(&fed));
            let (lines, complete) = lines(&fed);
            let boundary = complete && lines.last().is_none_or(Vec::is_empty);
            prop_assert_eq!(splitter.at_boundary(), boundary, "after {:?}", String::from_utf8_lossy(&fed));
        }
    }

    #[test]
    fn payloads_of_aws_messages_are_the_same_however_they_are_cut(
        messages in prop::collection::vec(message(), 0..5),
        lengths in prop::collection::vec(1..30_usize, 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let stream: Vec<u8> = messages.iter().flat_map(|(headers, payload)| framed(headers, payload)).collect();
        let (payloads, rest) = unframed(&stream, &lengths);
        let expected: Vec<Vec<u8>> = messages.iter().map(|(_, payload)| payload.clone()).collect();
        prop_assert_eq!(&payloads, &expected);
        prop_assert!(rest.is_empty());
        // What has come of a message that breaks off is a part of it.
        let stream = &stream[..cut.index(stream.len() + 1)];
        let (payloads, rest) = unframed(stream, &lengths);
        prop_assert_eq!(&payloads[..], &expected[..payloads.len()]);
        prop_assert!(rest.is_empty() || expected[payloads.len()].starts_with(&rest));
    }

    #[test]
    fn lies_of_aws_messages_are_the_same_however_they_are_cut(
        prelude in prop::collection::vec(prop_oneof![2 => 0..3_u8, 1 => any::<u8>()], 12..200),
        lengths in prop::collection::vec(1..30_usize, 1..6),
    ) {
        prop_assert_eq!(unframed(&prelude, &lengths), unframed(&prelude, &[prelude.len()]));
    }
}
