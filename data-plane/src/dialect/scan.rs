//! A JSON scanner that is fed piece by piece, keeps a bounded amount of state whatever the document, and reports the
//! few values that a set of pointers names. It does not judge the document: what it cannot follow it leaves unknown.
//!
//! An array at the top is a list of documents (a Gemini stream without `alt=sse`).

use super::pointer::{MAX_DEPTH, Passed, Place, Pointers, Slot};

/// Raw bytes of a name or text that are kept; a longer one is unknown.
const MAX_TEXT: usize = 512;

/// A value that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar<'a> {
    /// A whole number that is not negative.
    Number(u64),
    /// A text, unescaped.
    Text(&'a str),
    /// An object or an array.
    Nested,
    /// Anything else but `null`: a number that is no count, a text beyond all bounds, `true`.
    Odd,
}

/// Where findings go.
pub trait Sink {
    /// The value of one pointer. May come again for the same slot; the later one counts.
    fn value(&mut self, slot: Slot, scalar: Scalar<'_>);
    /// A part of a text that is wanted as it passes, as it stands in the document.
    fn passed(&mut self, _why: Passed, _bytes: &[u8]) {}
    /// A document is complete.
    fn end(&mut self);
}

/// The state between two pieces.
#[derive(Debug)]
pub struct Scanner {
    state: State,
    /// Objects and arrays that lie on the way to a pointer, outermost first.
    path: [Place; MAX_DEPTH + 1],
    depth: usize,
    /// Which of them are arrays, a bit for each.
    arrays: u16,
    /// Where the value that comes next, or is being read, would be.
    place: Option<Place>,
    /// Nesting of what is being skipped.
    skipped: u64,
    in_list: bool,
    escape: bool,
    escaped: bool,
    text: Vec<u8>,
    overlong: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a value.
    Value,
    /// Before the first element of an array on the path or of the list at the top, or its end.
    FirstElement,
    /// Before a name or the end of an object.
    Name,
    /// In a name.
    InName,
    /// Between a name and its value.
    Colon,
    /// Behind a value, in an object or array on the path or in the list at the top.
    Behind,
    /// In a text that is looked for.
    Text,
    /// In a text that is handed on.
    Passed(Passed),
    /// In a number or word that is looked for.
    Word,
    /// In a text that is not.
    SkipText,
    /// In a number or word that is not.
    SkipWord,
    /// In an object or array that is not.
    Skip,
    /// In a text within that.
    SkipInnerText,
    /// The document is complete; the rest does not matter.
    Done,
    /// Not JSON, or not followed.
    Lost,
}

impl Scanner {
    /// Before the first byte of a document.
    pub fn new(pointers: &Pointers) -> Self {
        let root = pointers.root();
        Self {
            state: State::Value,
            path: [root; MAX_DEPTH + 1],
            depth: 0,
            arrays: 0,
            place: Some(root),
            skipped: 0,
            in_list: false,
            escape: false,
            escaped: false,
            text: Vec::new(),
            overlong: false,
        }
    }

    /// Forgets the document and begins the next.
    pub fn reset(&mut self, pointers: &Pointers) {
        self.state = State::Value;
        self.depth = 0;
        self.place = Some(pointers.root());
        self.in_list = false;
        self.escape = false;
        self.text.clear();
    }

    /// Whether nothing more can be found.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Done | State::Lost)
    }

    /// Takes the next piece.
    pub fn feed(&mut self, pointers: &Pointers, bytes: &[u8], sink: &mut impl Sink) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            match self.state {
                State::Done | State::Lost => return,
                State::SkipText | State::SkipInnerText => rest = self.skip_text(rest, sink),
                State::Text | State::InName => rest = self.take_text(pointers, rest, sink),
                State::Passed(why) => rest = self.pass_text(why, rest, sink),
                State::Skip => rest = self.skip(rest, sink),
                State::Word | State::SkipWord => rest = self.take_word(pointers, rest, sink),
                // Nearly every name is followed by its colon, and nearly every value by a comma and the next name.
                State::Colon if byte == b':' => {
                    self.state = State::Value;
                    rest = after;
                }
                State::Behind if byte == b',' && after.first() == Some(&b'"') && self.in_object() => {
                    self.begin_text();
                    self.state = State::InName;
                    rest = &after[1..];
                }
                State::Value | State::FirstElement | State::Name | State::Colon | State::Behind => {
                    rest = after;
                    if !byte.is_ascii_whitespace() {
                        self.structure(pointers, byte, sink);
                    }
                }
            }
        }
    }

    /// One byte that is not in a text, number or word.
    fn structure(&mut self, pointers: &Pointers, byte: u8, sink: &mut impl Sink) {
        match (self.state, byte) {
            (State::Value, _) | (State::FirstElement, b'"' | b'{' | b'[' | b'-' | b'0'..=b'9' | b'a'..=b'z') => {
                self.value(pointers, byte, sink);
            }
            (State::FirstElement, b']') if self.depth == 0 => self.state = State::Done,
            (State::FirstElement | State::Behind, b']') if self.in_array() => {
                self.depth -= 1;
                self.behind(sink);
            }
            (State::Name, b'"') => {
                self.begin_text();
                self.state = State::InName;
            }
            (State::Name | State::Behind, b'}') if self.in_object() => {
                self.depth -= 1;
                self.behind(sink);
            }
            (State::Colon, b':') => self.state = State::Value,
            (State::Behind, b',') if self.depth == 0 => {
                self.place = Some(self.path[0]);
                self.state = State::Value;
            }
            (State::Behind, b',') if self.in_array() => {
                self.place = pointers.element(self.path[self.depth - 1]);
                self.state = State::Value;
            }
            (State::Behind, b',') => self.state = State::Name,
            (State::Behind, b']') if self.depth == 0 => self.state = State::Done,
            _ => self.state = State::Lost,
        }
    }

    /// Whether the innermost on the path is an array.
    fn in_array(&self) -> bool {
        self.depth > 0 && self.arrays & (1 << (self.depth - 1)) != 0
    }

    fn in_object(&self) -> bool {
        self.depth > 0 && !self.in_array()
    }

    /// Steps into an object or array at `place`.
    fn enter(&mut self, place: Place, array: bool) {
        if let Some(level) = self.path.get_mut(self.depth) {
            *level = place;
        }
        let bit = 1 << self.depth;
        self.arrays = if array { self.arrays | bit } else { self.arrays & !bit };
        self.depth += 1;
    }

    /// The first byte of a value.
    fn value(&mut self, pointers: &Pointers, byte: u8, sink: &mut impl Sink) {
        let slots = self.place.map_or(&[][..], |place| pointers.slots(place));
        if matches!(byte, b'{' | b'[') {
            for slot in slots {
                sink.value(*slot, Scalar::Nested);
            }
        }
        let room = self.depth <= MAX_DEPTH;
        match (byte, self.place) {
            (b'{', Some(place)) if room && pointers.has_children(place) => {
                self.enter(place, false);
                self.state = State::Name;
            }
            (b'[', _) if self.depth == 0 && !self.in_list => {
                self.in_list = true;
                self.place = Some(pointers.root());
                self.state = State::FirstElement;
            }
            (b'[', Some(place)) if room && self.depth > 0 && pointers.element(place).is_some() => {
                self.enter(place, true);
                self.place = pointers.element(place);
                self.state = State::FirstElement;
            }
            (b'{' | b'[', _) => {
                self.skipped = 1;
                self.state = State::Skip;
            }
            (b'"', place) => {
                self.begin_text();
                self.state = if slots.is_empty() {
                    let passed = place.and_then(|place| pointers.passed(place));
                    passed.map_or(State::SkipText, State::Passed)
                } else {
                    State::Text
                };
            }
            (b'-' | b'0'..=b'9' | b'a'..=b'z', _) => {
                self.begin_text();
                self.keep(&[byte]);
                self.state = if slots.is_empty() { State::SkipWord } else { State::Word };
            }
            _ => self.state = State::Lost,
        }
    }

    fn behind(&mut self, sink: &mut impl Sink) {
        if self.depth == 0 {
            sink.end();
            self.state = if self.in_list { State::Behind } else { State::Done };
        } else {
            self.state = State::Behind;
        }
    }

    fn begin_text(&mut self) {
        self.text.clear();
        self.escape = false;
        self.escaped = false;
        self.overlong = false;
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.text.len() + bytes.len() > MAX_TEXT {
            self.overlong = true;
        } else {
            self.text.extend_from_slice(bytes);
        }
    }

    /// Steps over a text to behind its closing quote, or to the end of the piece.
    fn skip_text<'a>(&mut self, bytes: &'a [u8], sink: &mut impl Sink) -> &'a [u8] {
        let mut rest = bytes;
        if std::mem::take(&mut self.escape) {
            rest = &rest[1..];
        }
        while let Some(index) = quote_or_escape(rest) {
            let quote = rest[index] == b'"';
            rest = &rest[index + 1..];
            if quote {
                if self.state == State::SkipInnerText {
                    self.state = State::Skip;
                } else {
                    self.behind(sink);
                }
                return rest;
            }
            if rest.is_empty() {
                self.escape = true;
                return rest;
            }
            rest = &rest[1..];
        }
        &[]
    }

    /// Hands on what it steps over.
    fn pass_text<'a>(&mut self, why: Passed, bytes: &'a [u8], sink: &mut impl Sink) -> &'a [u8] {
        let rest = self.skip_text(bytes, sink);
        let quote = usize::from(self.state != State::Passed(why));
        sink.passed(why, &bytes[..bytes.len() - rest.len() - quote]);
        rest
    }

    fn take_text<'a>(&mut self, pointers: &Pointers, bytes: &'a [u8], sink: &mut impl Sink) -> &'a [u8] {
        let mut from = 0;
        if std::mem::take(&mut self.escape) {
            self.keep(&bytes[..1]);
            from = 1;
        }
        while let Some(offset) = quote_or_escape(&bytes[from..]) {
            let index = from + offset;
            if bytes[index] == b'"' {
                if self.state == State::InName && !self.escaped && !self.overlong && self.text.is_empty() {
                    // The whole name lies in this piece.
                    let place = self.child(pointers, &bytes[from..index]);
                    self.named(place);
                } else {
                    self.keep(&bytes[from..index]);
                    self.end_text(pointers, sink);
                }
                return &bytes[index + 1..];
            }
            self.escaped = true;
            self.keep(&bytes[from..=index]);
            from = index + 1;
            let Some(escaped) = bytes.get(from..=from) else {
                self.escape = true;
                return &[];
            };
            self.keep(escaped);
            from += 1;
        }
        self.keep(&bytes[from..]);
        &[]
    }

    fn end_text(&mut self, pointers: &Pointers, sink: &mut impl Sink) {
        let unescaped = self.escaped.then(|| unescape(&self.text));
        let text = match &unescaped {
            _ if self.overlong => None,
            Some(unescaped) => unescaped.as_deref(),
            None => std::str::from_utf8(&self.text).ok(),
        };
        if self.state == State::InName {
            let place = text.and_then(|text| self.child(pointers, text.as_bytes()));
            self.named(place);
            return;
        }
        if let Some(place) = self.place {
            for slot in pointers.slots(place) {
                sink.value(*slot, text.map_or(Scalar::Odd, Scalar::Text));
            }
        }
        self.behind(sink);
    }

    fn child(&self, pointers: &Pointers, name: &[u8]) -> Option<Place> {
        pointers.child(self.path[self.depth.saturating_sub(1)], name)
    }

    /// A name has ended; what it stands for comes next.
    fn named(&mut self, place: Option<Place>) {
        self.place = place;
        self.state = State::Colon;
    }

    /// Takes a number or word up to what follows it, which is not taken, or to the end of the piece.
    fn take_word<'a>(&mut self, pointers: &Pointers, bytes: &'a [u8], sink: &mut impl Sink) -> &'a [u8] {
        let end = bytes.iter().position(|byte| is_end_of_word(*byte));
        let (word, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        let wanted = self.state == State::Word;
        if wanted {
            self.keep(word);
        }
        if end.is_some() {
            if wanted {
                self.word(pointers, sink);
            }
            self.behind(sink);
        }
        rest
    }

    fn word(&mut self, pointers: &Pointers, sink: &mut impl Sink) {
        let number = if self.overlong { None } else { whole_number(&self.text) };
        if let Some(place) = self.place.filter(|_| self.text != b"null") {
            for slot in pointers.slots(place) {
                sink.value(*slot, number.map_or(Scalar::Odd, Scalar::Number));
            }
        }
    }

    /// Steps on in what nobody asked for, to behind its end, the beginning of a text in it, or the end of the piece.
    fn skip<'a>(&mut self, bytes: &'a [u8], sink: &mut impl Sink) -> &'a [u8] {
        for (index, byte) in bytes.iter().enumerate() {
            match byte {
                b'"' => {
                    self.state = State::SkipInnerText;
                    return &bytes[index + 1..];
                }
                b'{' | b'[' => self.skipped += 1,
                b'}' | b']' => {
                    self.skipped -= 1;
                    if self.skipped == 0 {
                        self.behind(sink);
                        return &bytes[index + 1..];
                    }
                }
                _ => {}
            }
        }
        &[]
    }
}

/// Where the first quote or backslash is. Names and most values are short: eight bytes at a time finds theirs before a
/// search that is made for long texts has begun.
fn quote_or_escape(bytes: &[u8]) -> Option<usize> {
    const LOW: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    // A bit for each byte that is zero. Those above the first may be wrong; only the first is asked for.
    let zeros = |word: u64| word.wrapping_sub(LOW) & !word & HIGH;
    let (words, _) = bytes.as_chunks::<8>();
    let mut at = 0;
    for word in words.iter().take(4) {
        let word = u64::from_le_bytes(*word);
        let found = zeros(word ^ (LOW * u64::from(b'"'))) | zeros(word ^ (LOW * u64::from(b'\\')));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    memchr::memchr2(b'"', b'\\', &bytes[at..]).map(|index| at + index)
}

fn is_end_of_word(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b',' | b'}' | b']')
}

fn unescape(raw: &[u8]) -> Option<String> {
    let mut quoted = Vec::with_capacity(raw.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(raw);
    quoted.push(b'"');
    serde_json::from_slice(&quoted).ok()
}

fn whole_number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse().ok().or_else(|| {
        // Some imitators count in floats: `12.0`.
        let (whole, fraction) = text.split_once('.')?;
        fraction.bytes().all(|byte| byte == b'0').then(|| whole.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests;
