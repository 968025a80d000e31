//! A line, as the rest of the log writes its own: byte for byte what the subscriber would make of the same event, without
//! its many small steps. A test holds the two together.

use std::fmt::Write as _;

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For people at a terminal.
    Coloured,
    /// One JSON object a line.
    Json,
}

/// What a line says.
pub(crate) struct Line<'a> {
    /// Unix microseconds.
    pub(crate) at_us: u64,
    /// The module that says it.
    pub(crate) target: &'a str,
    /// In pieces.
    pub(crate) message: &'a [&'a str],
    pub(crate) fields: &'a [(&'static str, Value<'a>)],
}

/// Of a field.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    /// The field is left out.
    Absent,
    /// Any text: quoted.
    Text(&'a str),
    /// A word of ours: plain where quotes are not needed.
    Word(&'a str),
    Number(u64),
}

impl<'a> Value<'a> {
    pub(crate) fn text(text: Option<&'a str>) -> Self {
        text.map_or(Self::Absent, Self::Text)
    }

    pub(crate) fn word(word: Option<&'a str>) -> Self {
        word.map_or(Self::Absent, Self::Word)
    }

    pub(crate) fn number(number: Option<u64>) -> Self {
        number.map_or(Self::Absent, Self::Number)
    }
}

impl Line<'_> {
    /// Appends it.
    pub(super) fn write(&self, format: Format, stamp: &mut Stamp, out: &mut Vec<u8>) {
        match format {
            Format::Text => self.write_text(&PLAIN, stamp, out),
            Format::Coloured => self.write_text(&COLOURED, stamp, out),
            Format::Json => self.write_json(stamp, out),
        }
    }

    fn write_text(&self, style: &Style, stamp: &mut Stamp, out: &mut Vec<u8>) {
        push(out, style.time);
        stamp.write(self.at_us, out);
        push(out, style.level);
        push(out, self.target);
        push(out, style.colon);
        for part in self.message {
            if part.bytes().all(|byte| matches!(byte, 0x20..=0x7e)) {
                push(out, part);
            } else {
                push(out, &disarmed(part));
            }
        }
        for (name, value) in self.fields {
            if matches!(value, Value::Absent) {
                continue;
            }
            push(out, style.name);
            push(out, name);
            push(out, style.equals);
            match value {
                Value::Absent => {}
                Value::Text(text) => quote(out, text),
                Value::Word(word) => push(out, word),
                Value::Number(number) => decimal(out, *number),
            }
        }
        out.push(b'\n');
    }

    fn write_json(&self, stamp: &mut Stamp, out: &mut Vec<u8>) {
        push(out, "{\"timestamp\":\"");
        stamp.write(self.at_us, out);
        push(out, "\",\"level\":\"INFO\",\"message\":\"");
        for part in self.message {
            escape(out, part);
        }
        out.push(b'"');
        for (name, value) in self.fields {
            if matches!(value, Value::Absent) {
                continue;
            }
            push(out, ",\"");
            push(out, name);
            push(out, "\":");
            match value {
                Value::Absent => {}
                Value::Text(text) | Value::Word(text) => {
                    out.push(b'"');
                    escape(out, text);
                    out.push(b'"');
                }
                Value::Number(number) => decimal(out, *number),
            }
        }
        push(out, ",\"target\":\"");
        push(out, self.target);
        push(out, "\"}\n");
    }
}

/// What stands between the parts of a text line.
struct Style {
    time: &'static str,
    level: &'static str,
    colon: &'static str,
    name: &'static str,
    equals: &'static str,
}

const PLAIN: Style = Style { time: "", level: "  INFO ", colon: ": ", name: " ", equals: "=" };
const COLOURED: Style = Style {
    time: "\u{1b}[2m",
    level: "\u{1b}[0m \u{1b}[32m INFO\u{1b}[0m \u{1b}[2m",
    colon: "\u{1b}[0m\u{1b}[2m:\u{1b}[0m ",
    name: " \u{1b}[3m",
    equals: "\u{1b}[0m\u{1b}[2m=\u{1b}[0m",
};

fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// As a Rust literal.
fn quote(out: &mut Vec<u8>, text: &str) {
    let plain = |byte: u8| matches!(byte, 0x20..=0x7e) && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        out.push(b'"');
        push(out, text);
        out.push(b'"');
    } else {
        push(out, &format!("{text:?}"));
    }
}

/// Without the characters that a terminal obeys.
fn disarmed(text: &str) -> String {
    let mut disarmed = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        // Writing to a string cannot fail.
        let _ = match letter {
            '\u{1b}' | '\u{7}' | '\u{8}' | '\u{c}' | '\u{7f}' => write!(disarmed, "\\x{:02x}", u32::from(letter)),
            '\u{80}'..='\u{9f}' => write!(disarmed, "\\u{{{:x}}}", u32::from(letter)),
            letter => disarmed.write_char(letter),
        };
    }
    disarmed
}

/// As a JSON string, without its quotes.
fn escape(out: &mut Vec<u8>, text: &str) {
    let mut plain = 0;
    for (index, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        push(out, &text[plain..index]);
        plain = index + 1;
        let short = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            0x09 => b't',
            b'\n' => b'n',
            0x0c => b'f',
            b'\r' => b'r',
            _ => {
                let digit = |value: u8| b"0123456789abcdef"[usize::from(value & 15)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte)]);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
    push(out, &text[plain..]);
}

/// A number in decimal digits.
pub(super) fn decimal(out: &mut Vec<u8>, number: u64) {
    let (mut digits, mut from, mut rest) = ([0; 20], 20, number);
    loop {
        from -= 1;
        digits[from] = digit(rest);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[from..]);
}

/// The last digit.
fn digit(number: u64) -> u8 {
    b'0' + u8::try_from(number % 10).unwrap_or_default()
}

/// The text of a second, made once for all its lines.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    /// Unix seconds plus one; 0: none yet.
    second: u64,
    /// `2026-11-23T19:39:45`
    text: [u8; 19],
}

impl Stamp {
    /// As RFC 3339 has it, in UTC, with microseconds.
    fn write(&mut self, at_us: u64, out: &mut Vec<u8>) {
        let second = at_us / 1_000_000;
        if self.second != second + 1 {
            self.second = second + 1;
            self.text = text(second);
        }
        out.extend_from_slice(&self.text);
        let mut fraction = [b'.', 0, 0, 0, 0, 0, 0, b'Z'];
        let mut rest = at_us % 1_000_000;
        for place in fraction[1..7].iter_mut().rev() {
            *place = digit(rest);
            rest /= 10;
        }
        out.extend_from_slice(&fraction);
    }
}

/// Date and time of a Unix second.
fn text(second: u64) -> [u8; 19] {
    let (year, month, day) = date(second / 86_400);
    let mut text = *b"0000-00-00T00:00:00";
    let mut put = |from: usize, to: usize, mut value: u64| {
        for place in text[from..to].iter_mut().rev() {
            *place = digit(value);
            value /= 10;
        }
    };
    put(0, 4, year);
    put(5, 7, month);
    put(8, 10, day);
    put(11, 13, second / 3600 % 24);
    put(14, 16, second / 60 % 60);
    put(17, 19, second % 60);
    text
}

/// Year, month and day. Years are counted from a March, so that the leap day is their last, and in eras of 400 of them.
fn date(days: u64) -> (u64, u64, u64) {
    const ERA: u64 = 146_097;
    // From 1 March of the year 0 to 1 January 1970.
    let days = days + 719_468;
    let (era, day_of_era) = (days / ERA, days % ERA);
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / (ERA - 1)) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::*;

    /// Keeps what a subscriber writes.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What the subscriber makes of it, without the time.
    fn theirs(format: Format, message: &str, text: &str, word: &str, number: u64) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let lines = tracing_subscriber::fmt().with_writer(move || writer.clone());
        let event = || {
            let absent: Option<u64> = None;
            tracing::info!(a.text = text, b.word = %word, absent, d_ms = number, "{message} end");
        };
        match format {
            Format::Text => tracing::subscriber::with_default(lines.with_ansi(false).finish(), event),
            Format::Coloured => tracing::subscriber::with_default(lines.with_ansi(true).finish(), event),
            Format::Json => {
                let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
                tracing::subscriber::with_default(lines.finish(), event);
            }
        }
        let bytes = kept.0.lock().unwrap().clone();
        without_time(std::str::from_utf8(&bytes).unwrap())
    }

    fn ours(format: Format, message: &str, text: &str, word: &str, number: u64) -> String {
        let mut out = Vec::new();
        let line = Line {
            at_us: 1_700_000_000_000_001,
            target: module_path!(),
            message: &[message, " ", "end"],
            fields: &[
                ("a.text", Value::Text(text)),
                ("b.word", Value::word(Some(word))),
                ("absent", Value::number(None)),
                ("d_ms", Value::Number(number)),
            ],
        };
        line.write(format, &mut Stamp::default(), &mut out);
        without_time(std::str::from_utf8(&out).unwrap())
    }

    fn without_time(line: &str) -> String {
        let at = line.find('T').unwrap() - 10;
        assert_eq!(line.as_bytes()[at + 26], b'Z', "{line}");
        line[..at].to_owned() + &line[at + 27..]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_line_is_what_the_subscriber_would_write(
            message in any::<String>(), text in any::<String>(), word in "[a-z0-9-]{0,40}", number in any::<u64>(),
        ) {
            for format in [Format::Text, Format::Coloured, Format::Json] {
                let (ours, theirs) =
                    (ours(format, &message, &text, &word, number), theirs(format, &message, &text, &word, number));
                prop_assert_eq!(ours, theirs);
            }
        }

        #[test]
        fn every_json_line_reads_back(message in any::<String>(), text in any::<String>(), number in any::<u64>()) {
            let line = ours(Format::Json, &message, &text, "w", number);
            prop_assert_eq!(line.matches('\n').count(), 1);
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(&line["message"], &format!("{message} end"));
            prop_assert_eq!(&line["a.text"], &text);
            prop_assert_eq!(&line["d_ms"], number);
        }
    }

    #[test]
    fn controls_and_quotes_are_escaped_as_theirs_are() {
        for text in ["", "\"\\\u{0}\u{1f}\u{7f}\u{80}\u{9f}\t\r\n", "\u{1b}[31mred\u{7}\u{8}\u{c}", "é 世界 \u{200b}'"]
        {
            for format in [Format::Text, Format::Coloured, Format::Json] {
                assert_eq!(ours(format, text, text, "w", 0), theirs(format, text, text, "w", 0), "{text:?}");
            }
        }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (second, expected) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_709_164_800, "2024-02-29T00:00:00"),
            (1_735_689_599, "2024-12-31T23:59:59"),
            (1_795_462_785, "2026-11-23T19:39:45"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(std::str::from_utf8(&text(second)).unwrap(), expected);
        }
        let (mut stamp, mut out) = (Stamp::default(), Vec::new());
        for at_us in [1_795_462_785_108_280, 1_795_462_785_000_007, 1_795_462_786_999_999] {
            stamp.write(at_us, &mut out);
        }
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "2026-11-23T19:39:45.108280Z2026-11-23T19:39:45.000007Z2026-11-23T19:39:46.999999Z");
    }
}
