//! The model in a form (RFC 7578): the part whose name is `model`.

use super::{Fault, MAX_NAME, Named};

/// Bytes of a part's head that are read.
const MAX_HEAD: usize = 4096;

/// Reads one body.
#[derive(Debug)]
pub struct FormNaming {
    field: Box<str>,
    /// A line break and what begins every delimiter.
    delimiter: Vec<u8>,
    state: State,
    /// What has come and is not decided yet.
    rest: Vec<u8>,
    /// Bytes before `rest`.
    passed: u64,
    named: Option<Named>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first delimiter, which the body must begin with.
    Begin,
    /// Behind a delimiter.
    Delimited,
    /// In the head of a part.
    Head,
    /// In a part that is something else.
    Other,
    /// In the part that names the model.
    Model,
    /// Behind the last part.
    End,
}

impl FormNaming {
    /// `None`: the content type states no boundary, or not plainly.
    pub fn new(field: &str, content_type: &str) -> Option<Self> {
        let mut boundaries = content_type.split(';').skip(1).filter_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim())
        });
        let boundary = boundaries.next()?;
        let boundary = match boundary.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"')?,
            None => boundary,
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
        let fits = (1..=70).contains(&boundary.len()) && boundary.bytes().all(plain) && boundaries.next().is_none();
        fits.then(|| Self {
            field: field.into(),
            delimiter: [b"\n--", boundary.as_bytes()].concat(),
            state: State::Begin,
            rest: Vec::new(),
            passed: 0,
            named: None,
        })
    }

    pub(super) fn named(&self) -> Option<&Named> {
        self.named.as_ref()
    }

    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<(), Fault> {
        self.rest.extend_from_slice(piece);
        while self.step()? {}
        Ok(())
    }

    fn drop_front(&mut self, bytes: usize) {
        self.rest.drain(..bytes);
        self.passed += bytes as u64;
    }

    /// `false`: nothing more can be decided before more has come.
    fn step(&mut self) -> Result<bool, Fault> {
        match self.state {
            State::Begin => {
                let first = &self.delimiter[1..];
                let length = first.len().min(self.rest.len());
                if self.rest[..length] != first[..length] {
                    return Err(Fault::Unreadable);
                }
                let whole = length == first.len();
                if whole {
                    self.drop_front(length);
                    self.state = State::Delimited;
                }
                Ok(whole)
            }
            State::Delimited => {
                let Some(next) = self.rest.get(..2) else { return Ok(false) };
                self.state = match next {
                    b"\r\n" => State::Head,
                    b"--" => State::End,
                    _ => return Err(Fault::Unreadable),
                };
                // The line break stays: a head without fields is one as well.
                if self.state == State::End {
                    self.drop_front(2);
                }
                Ok(true)
            }
            State::Head => {
                let Some(length) = memchr::memmem::find(&self.rest, b"\r\n\r\n") else {
                    return if self.rest.len() > MAX_HEAD { Err(Fault::Unreadable) } else { Ok(false) };
                };
                let head = std::str::from_utf8(&self.rest[..length]).map_err(|_| Fault::Unreadable)?;
                let is_model = is_named(head, &self.field)?;
                if is_model && self.named.is_some() {
                    return Err(Fault::Ambiguous);
                }
                self.drop_front(length + 4);
                self.state = if is_model { State::Model } else { State::Other };
                Ok(true)
            }
            State::Other | State::Model => self.content(),
            State::End => {
                self.passed += self.rest.len() as u64;
                self.rest.clear();
                Ok(false)
            }
        }
    }

    fn content(&mut self) -> Result<bool, Fault> {
        let Some(found) = memchr::memmem::find(&self.rest, &self.delimiter) else {
            let undecided = self.delimiter.len();
            if self.state == State::Model {
                return if self.rest.len() > MAX_NAME + undecided { Err(Fault::Unreadable) } else { Ok(false) };
            }
            self.drop_front(self.rest.len().saturating_sub(undecided));
            return Ok(false);
        };
        // Where lines end in another way, readers differ.
        let end = found.checked_sub(1).filter(|end| self.rest[*end] == b'\r').ok_or(Fault::Unreadable)?;
        if self.state == State::Model {
            let model = std::str::from_utf8(&self.rest[..end]).map_err(|_| Fault::Unreadable)?.to_owned();
            if model.len() > MAX_NAME || model.contains(['\r', '\n']) {
                return Err(Fault::Unreadable);
            }
            self.named = Some(Named { model, start: self.passed, end: self.passed + end as u64 });
        }
        self.drop_front(found + self.delimiter.len());
        self.state = State::Delimited;
        Ok(true)
    }
}

/// Whether a part's head gives it this name. What readers could take for another name is an error.
fn is_named(head: &str, field: &str) -> Result<bool, Fault> {
    let mut name = None;
    let mut encoded = false;
    for line in head.split("\r\n").filter(|line| !line.is_empty()) {
        if line.starts_with([' ', '\t']) || line.contains(['\r', '\n', '\0']) {
            return Err(Fault::Unreadable);
        }
        let (key, value) = line.split_once(':').ok_or(Fault::Unreadable)?;
        encoded |= key.trim().eq_ignore_ascii_case("content-transfer-encoding");
        if !key.trim().eq_ignore_ascii_case("content-disposition") {
            continue;
        }
        for (parameter, text) in parameters(value).ok_or(Fault::Unreadable)? {
            if parameter.starts_with("name*") || (parameter == "name" && name.replace(text).is_some()) {
                return Err(Fault::Unreadable);
            }
        }
    }
    let name = name.ok_or(Fault::Unreadable)?;
    if !name.trim().eq_ignore_ascii_case(field) {
        return Ok(false);
    }
    match (name == field, encoded) {
        (false, _) => Err(Fault::Ambiguous),
        (true, true) => Err(Fault::Unreadable),
        (true, false) => Ok(true),
    }
}

/// Of `form-data; name="x"; filename="y;z"`, names in lower case. `None`: not in this form, or with a backslash, which
/// readers take in different ways.
fn parameters(value: &str) -> Option<Vec<(String, &str)>> {
    let (kind, mut rest) = value.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("form-data") || value.contains('\\') {
        return None;
    }
    let mut found = Vec::new();
    while !rest.trim().is_empty() {
        let (name, value) = rest.split_once('=')?;
        let value = value.trim_start();
        let (text, after) = match value.strip_prefix('"') {
            Some(quoted) => {
                let (text, after) = quoted.split_once('"')?;
                let after = after.trim_start();
                (text, if after.is_empty() { after } else { after.strip_prefix(';')? })
            }
            None => value.split_once(';').map_or((value.trim_end(), ""), |(text, after)| (text.trim_end(), after)),
        };
        found.push((name.trim().to_ascii_lowercase(), text));
        rest = after;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str, piece: usize) -> Result<Option<Named>, Fault> {
        let mut naming = FormNaming::new("model", "multipart/form-data; boundary=\"xyz\"").unwrap();
        for piece in body.as_bytes().chunks(piece) {
            naming.feed(piece)?;
        }
        Ok(naming.named)
    }

    fn part(disposition: &str, content: &str) -> String {
        format!("--xyz\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{content}\r\n")
    }

    #[test]
    fn the_part_is_found_to_the_byte_however_the_bytes_are_cut() {
        let file =
            part("name=\"file\"; filename=\"model;\r\n.mp3\"".replace("\r\n", "").as_str(), "\r\n--xy\r\n--model\r\n");
        let body = [&file, &part("name=\"model\"", "whisper-1"), &part("name=\"n\"", "model"), "--xyz--\r\n"].concat();
        for piece in 1..=body.len() {
            let named = read(&body, piece).unwrap().unwrap();
            let (start, end) = (usize::try_from(named.start).unwrap(), usize::try_from(named.end).unwrap());
            assert_eq!((named.model.as_str(), &body[start..end]), ("whisper-1", "whisper-1"), "pieces of {piece}");
        }
        assert_eq!(read(&[&file, "--xyz--"].concat(), 5), Ok(None));
    }

    #[test]
    fn a_second_one_or_one_in_another_case_is_ambiguous() {
        let one = part("name=\"model\"", "a");
        for second in ["name=\"model\"", "name=model", "name=\"Model\"", "name=\" model\""] {
            assert_eq!(read(&[&one, &part(second, "b"), "--xyz--"].concat(), 7), Err(Fault::Ambiguous), "{second}");
        }
    }

    #[test]
    fn what_readers_could_take_in_two_ways_is_unreadable() {
        for body in [
            part("name=\"mo\\del\"", "a"),
            part("name*=utf-8''model", "a"),
            part("name=\"a\"; name=\"model\"", "a"),
            part("x=y", "a"),
            part("name=\"file\"", "a").replace("\r\n\r\n", "\r\n name=\"model\"\r\n\r\n"),
            part("name=\"model\"", "a").replace("\r\n\r\n", "\r\nContent-Transfer-Encoding: base64\r\n\r\n"),
            part("name=\"model\"", &"x".repeat(700)),
            part("name=\"x\"", "a\n--xyz\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nb"),
            "--xyz\nContent-Disposition: form-data; name=\"model\"\n\na\n--xyz--".to_owned(),
            format!("preamble\r\n{}", part("name=\"model\"", "a")),
        ] {
            for piece in [1, 3, 1000] {
                assert_eq!(read(&[&body, "--xyz--"].concat(), piece), Err(Fault::Unreadable), "{body}");
            }
        }
        for content_type in ["multipart/form-data", "multipart/form-data; boundary=a; boundary=b", "x; boundary=\"a"] {
            assert!(FormNaming::new("model", content_type).is_none(), "{content_type}");
        }
    }
}
