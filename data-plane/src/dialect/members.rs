//! Where the parts of a JSON text stand, so that some can be replaced and every other byte stays as it is.

use std::ops::Range;

/// Of an object.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) value: Range<usize>,
}

/// The members of one object. An error, told as `None`, ends them.
pub(super) struct Members<'a> {
    body: &'a [u8],
    at: usize,
    first: bool,
    over: bool,
}

impl<'a> Members<'a> {
    /// The object that begins behind `at` and whitespace.
    pub(super) fn of(body: &'a [u8], at: usize) -> Option<Self> {
        let at = space(body, at);
        (body.get(at) == Some(&b'{')).then_some(Self { body, at: at + 1, first: true, over: false })
    }

    #[expect(clippy::option_option, reason = "not JSON, the end, a member")]
    fn read(&mut self) -> Option<Option<Member>> {
        let body = self.body;
        let mut at = space(body, self.at);
        match body.get(at)? {
            b'}' => return Some(None),
            b',' if !self.first => at = space(body, at + 1),
            b'"' if self.first => {}
            _ => return None,
        }
        self.first = false;
        if body.get(at)? != &b'"' {
            return None;
        }
        let end = text(body, at)?;
        let name = serde_json::from_slice(&body[at..end]).ok()?;
        let colon = space(body, end);
        if body.get(colon)? != &b':' {
            return None;
        }
        let start = space(body, colon + 1);
        self.at = value(body, start)?;
        Some(Some(Member { name, value: start..self.at }))
    }
}

impl Iterator for Members<'_> {
    type Item = Option<Member>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        match self.read() {
            Some(Some(member)) => Some(Some(member)),
            Some(None) => None,
            None => {
                self.over = true;
                Some(None)
            }
        }
    }
}

/// Behind the whitespace at `at`.
pub(super) fn space(body: &[u8], at: usize) -> usize {
    let rest = body.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count()
}

/// Behind the text whose quote is at `at`.
fn text(body: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', body.get(at..)?)?;
        if body[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Behind the value that begins at `at`.
fn value(body: &[u8], at: usize) -> Option<usize> {
    match body.get(at)? {
        b'"' => text(body, at),
        b'{' | b'[' => {
            let (mut at, mut depth) = (at, 0_usize);
            loop {
                at += memchr::memchr3(b'"', b'{', b'[', &body[at..])
                    .map_or(body.len() - at, |index| index)
                    .min(memchr::memchr2(b'}', b']', &body[at..]).unwrap_or(body.len() - at));
                match body.get(at)? {
                    b'"' => at = text(body, at)?,
                    b'{' | b'[' => {
                        depth += 1;
                        at += 1;
                    }
                    _ => {
                        depth -= 1;
                        at += 1;
                        if depth == 0 {
                            return Some(at);
                        }
                    }
                }
            }
        }
        b'-' | b'0'..=b'9' | b'a'..=b'z' => {
            let length = body[at..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte));
            Some(at + length.count())
        }
        _ => None,
    }
}

/// Where the elements of the array stand that begins at `at`. `None`: it is no array.
pub(super) fn elements(body: &[u8], at: usize) -> Option<Vec<Range<usize>>> {
    if body.get(at)? != &b'[' {
        return None;
    }
    let (mut elements, mut at) = (Vec::new(), space(body, at + 1));
    while body.get(at)? != &b']' {
        let end = value(body, at)?;
        elements.push(at..end);
        at = space(body, end);
        match body.get(at)? {
            b',' => at = space(body, at + 1),
            b']' => {}
            _ => return None,
        }
    }
    Some(elements)
}
