//! The model in a JSON document.

use super::{Fault, MAX_NAME, Named};

/// Reads one document.
#[derive(Debug)]
pub struct JsonNaming {
    /// Names on the way to the model, outermost first.
    steps: Box<[Box<str>]>,
    state: State,
    /// Objects on the way that are open.
    depth: usize,
    /// On each level, the name that leads on has been met.
    met: Box<[bool]>,
    /// The value that comes next is on the way.
    relevant: bool,
    /// Nesting of what is skipped.
    skipped: u64,
    escape: bool,
    text: Vec<u8>,
    overlong: bool,
    /// Bytes before the piece that is being read.
    passed: u64,
    start: u64,
    named: Option<Named>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the document.
    Begin,
    /// Before a name, or the end of an object that has none.
    FirstName,
    /// Before a name.
    Name,
    InName,
    Colon,
    Value,
    Behind,
    /// In the text that is the model.
    Model,
    SkipText,
    SkipWord,
    /// In an object or array off the way.
    Skip,
    SkipInnerText,
    Done,
}

impl JsonNaming {
    /// `pointer`: where the model stands, e.g. `/model`.
    pub fn new(pointer: &str) -> Self {
        let unescaped = |step: &str| step.replace("~1", "/").replace("~0", "~").into();
        let steps: Box<[Box<str>]> = pointer.split('/').skip(1).map(unescaped).collect();
        Self {
            state: State::Begin,
            depth: 0,
            met: vec![false; steps.len()].into(),
            steps,
            relevant: false,
            skipped: 0,
            escape: false,
            text: Vec::new(),
            overlong: false,
            passed: 0,
            start: 0,
            named: None,
        }
    }

    pub(super) fn named(&self) -> Option<&Named> {
        self.named.as_ref()
    }

    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<(), Fault> {
        let mut at = 0;
        while at < piece.len() {
            at = match self.state {
                State::SkipText | State::SkipInnerText => self.skip_text(piece, at),
                State::Skip => self.skip(piece, at),
                State::InName | State::Model => self.take_text(piece, at)?,
                State::SkipWord if !is_end_of_word(piece[at]) => at + 1,
                State::SkipWord => {
                    // The byte behind a word belongs to what comes next.
                    self.state = State::Behind;
                    at
                }
                _ => {
                    if !matches!(piece[at], b' ' | b'\t' | b'\r' | b'\n') {
                        self.structure(piece[at], self.passed + at as u64)?;
                    }
                    at + 1
                }
            };
        }
        self.passed += piece.len() as u64;
        Ok(())
    }

    fn structure(&mut self, byte: u8, at: u64) -> Result<(), Fault> {
        self.state = match (self.state, byte) {
            (State::Begin, b'{') => {
                self.depth = 1;
                State::FirstName
            }
            (State::FirstName | State::Name, b'"') => {
                self.begin_text();
                State::InName
            }
            (State::FirstName | State::Behind, b'}') => {
                self.depth -= 1;
                if self.depth == 0 { State::Done } else { State::Behind }
            }
            (State::Colon, b':') => State::Value,
            (State::Behind, b',') => State::Name,
            (State::Value, _) => return self.value(byte, at),
            _ => return Err(Fault::Unreadable),
        };
        Ok(())
    }

    fn value(&mut self, byte: u8, at: u64) -> Result<(), Fault> {
        let last = self.depth == self.steps.len();
        self.state = match (byte, self.relevant) {
            (b'"', true) if last => {
                self.begin_text();
                self.start = at;
                State::Model
            }
            // A name that is none: nobody knows what a vendor makes of it.
            (_, true) if last => return Err(Fault::Unreadable),
            (b'{', true) => {
                self.depth += 1;
                State::FirstName
            }
            (b'{' | b'[', _) => {
                self.skipped = 1;
                State::Skip
            }
            (b'"', _) => State::SkipText,
            (b'-' | b'0'..=b'9' | b't' | b'f' | b'n', _) => State::SkipWord,
            _ => return Err(Fault::Unreadable),
        };
        Ok(())
    }

    fn begin_text(&mut self) {
        self.text.clear();
        self.overlong = false;
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.text.len() + bytes.len() > MAX_NAME {
            self.overlong = true;
        } else {
            self.text.extend_from_slice(bytes);
        }
    }

    /// To behind the closing quote, or the end of the piece.
    fn skip_text(&mut self, piece: &[u8], mut at: usize) -> usize {
        if std::mem::take(&mut self.escape) {
            at += 1;
        }
        while let Some(offset) = piece.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
            at += offset;
            if piece[at] == b'"' {
                self.state = if self.state == State::SkipInnerText { State::Skip } else { State::Behind };
                return at + 1;
            }
            at += 2;
        }
        self.escape = at > piece.len();
        piece.len()
    }

    fn skip(&mut self, piece: &[u8], at: usize) -> usize {
        for (index, byte) in piece[at..].iter().enumerate() {
            match byte {
                b'"' => {
                    self.state = State::SkipInnerText;
                    return at + index + 1;
                }
                b'{' | b'[' => self.skipped += 1,
                b'}' | b']' => {
                    self.skipped -= 1;
                    if self.skipped == 0 {
                        self.state = State::Behind;
                        return at + index + 1;
                    }
                }
                _ => {}
            }
        }
        piece.len()
    }

    fn take_text(&mut self, piece: &[u8], mut at: usize) -> Result<usize, Fault> {
        if std::mem::take(&mut self.escape) {
            self.keep(&piece[at..=at]);
            at += 1;
        }
        while let Some(offset) = piece.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
            self.keep(&piece[at..at + offset]);
            at += offset;
            if piece[at] == b'"' {
                self.end_text(self.passed + at as u64 + 1)?;
                return Ok(at + 1);
            }
            let Some(escaped) = piece.get(at..at + 2) else {
                self.keep(b"\\");
                self.escape = true;
                return Ok(piece.len());
            };
            self.keep(escaped);
            at += 2;
        }
        self.keep(piece.get(at..).unwrap_or_default());
        Ok(piece.len())
    }

    fn end_text(&mut self, end: u64) -> Result<(), Fault> {
        let text = if self.overlong { None } else { Some(unescape(&self.text).ok_or(Fault::Unreadable)?) };
        if self.state == State::Model {
            let model = text.ok_or(Fault::Unreadable)?;
            self.named = Some(Named { model, start: self.start, end });
            self.state = State::Behind;
            return Ok(());
        }
        let level = self.depth - 1;
        let step = &self.steps[level];
        self.relevant = match text {
            Some(name) if name.eq_ignore_ascii_case(step) => {
                // Some vendors read names without case.
                if *name != **step || std::mem::replace(&mut self.met[level], true) {
                    return Err(Fault::Ambiguous);
                }
                true
            }
            Some(_) | None => false,
        };
        self.state = State::Colon;
        Ok(())
    }
}

fn is_end_of_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b'}' | b']')
}

fn unescape(raw: &[u8]) -> Option<String> {
    serde_json::from_slice(&[b"\"", raw, b"\""].concat()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pointer: &str, document: &str, piece: usize) -> Result<Option<Named>, Fault> {
        let mut naming = JsonNaming::new(pointer);
        for piece in document.as_bytes().chunks(piece) {
            naming.feed(piece)?;
        }
        Ok(naming.named)
    }

    #[test]
    fn the_model_is_found_to_the_byte_however_the_bytes_are_cut() {
        let document = "{\"messages\":[{\"model\":\"no\",\"x\":\"}\\\"]\"}],\"n\":-1.5e3,\"t\":null ,\"e\":{}, \"mod\\u0065l\" :\r\n \
                        \"gpt\\u002d4o\\\"\" ,\"after\":[[],{\"model\":1}]} ";
        for piece in 1..=document.len() {
            let named = read("/model", document, piece).unwrap().unwrap();
            assert_eq!(named.model, "gpt-4o\"", "pieces of {piece}");
            let (start, end) = (usize::try_from(named.start).unwrap(), usize::try_from(named.end).unwrap());
            assert_eq!(&document[start..end], "\"gpt\\u002d4o\\\"\"");
        }
        let deeper = r#"{"a":{"model":"no"},"config":{"x":[1],"model":"yes"},"model":"no"}"#;
        for piece in 1..=deeper.len() {
            assert_eq!(read("/config/model", deeper, piece).unwrap().unwrap().model, "yes");
        }
        for none in ["{}", r#"{"a":{"model":"x"}}"#, r#"{"a":["model","x"]}"#, r#"{"models":"x"}"#] {
            assert_eq!(read("/model", none, 3), Ok(None), "{none}");
        }
    }

    #[test]
    fn a_second_one_or_one_in_another_case_is_ambiguous() {
        for document in [
            r#"{"model":"a","model":"b"}"#,
            r#"{"model":"a","x":1,"mod\u0065l":"a"}"#,
            r#"{"model":"a","Model":"b"}"#,
            r#"{"MODEL":"a"}"#,
            r#"{"model":"a","\u004dodel":"b"}"#,
        ] {
            for piece in 1..=document.len() {
                assert_eq!(read("/model", document, piece), Err(Fault::Ambiguous), "{document}");
            }
        }
        assert_eq!(read("/c/model", r#"{"c":{"model":"a"},"C":{"model":"b"}}"#, 4), Err(Fault::Ambiguous));
        assert_eq!(read("/c/model", r#"{"c":{"model":"a"},"c":{}}"#, 4), Err(Fault::Ambiguous));
    }

    #[test]
    fn what_another_reader_could_follow_and_this_one_cannot_is_unreadable() {
        let long = format!("{{\"model\":\"{}\"}}", "x".repeat(600));
        for document in [
            "[{\"model\":\"a\"}]",
            "\"model\"",
            "{'model':'a'}",
            "{/**/\"model\":\"a\"}",
            "{\"model\":1}",
            "{\"model\":null}",
            "{\"model\":[\"a\"]}",
            "{\"model\":\"a\"}{\"model\":\"b\"}",
            "{\"model\":\"a\"},",
            "{\"a\":NaN,\"model\":\"a\"}",
            "{\"a\":1,}",
            "{\"model\":\"\\x\"}",
            "\u{feff}{\"model\":\"a\"}",
            "{\0\"\0m\0",
            "model=a",
            &long,
        ] {
            for piece in 1..=document.len().min(40) {
                assert_eq!(read("/model", document, piece), Err(Fault::Unreadable), "{document}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn what_a_parser_reads_is_what_is_found(
            before in json(), after in json(), model in ".{0,20}", piece in 1_usize..64, spaces in "[ \t\r\n]{0,3}",
        ) {
            let text = serde_json::Value::from(model.clone()).to_string();
            let document = format!("{{{spaces}\"b\":{before}{spaces},\"model\"{spaces}:{text}{spaces},\"a\":{after}}}");
            let named = read("/model", &document, piece).unwrap().unwrap();
            proptest::prop_assert_eq!(&named.model, &model);
            let (start, end) = (usize::try_from(named.start).unwrap(), usize::try_from(named.end).unwrap());
            let mut replaced = document.clone();
            replaced.replace_range(start..end, "\"other\"");
            let mut expected: serde_json::Value = serde_json::from_str(&document).unwrap();
            expected["model"] = "other".into();
            proptest::prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&replaced).unwrap(), expected);
        }
    }

    fn json() -> impl proptest::strategy::Strategy<Value = serde_json::Value> {
        use proptest::prelude::*;
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "[\"\\\\a-z{}\\[\\]:,\u{e9}]{0,12}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                prop::collection::vec(("model|[a-z]{1,4}", inner), 0..5)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }
}
