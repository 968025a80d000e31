//! Which requests pass at all, compiled. A path can be read in several ways (an encoded slash is one or is none, some
//! vendors ignore case, a slash at the end, or what follows a semicolon), and nobody knows which is the vendor's: what
//! forbids holds if any reading is meant, what permits holds only if the path as it is written is meant in both.

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;

/// The rules of one endpoint.
#[derive(Debug)]
pub struct Access {
    deny_all: bool,
    exceptions: Box<[Exception]>,
}

#[derive(Debug)]
struct Exception {
    path: Pattern,
    methods: u8,
    /// As a person reads it.
    text: Box<str>,
}

/// Which paths a rule means.
#[derive(Debug)]
pub struct Pattern {
    segments: Box<[Segment]>,
    /// And everything below.
    below: bool,
}

#[derive(Debug)]
enum Segment {
    Literal(Box<[u8]>),
    /// Anything, but for how it begins and ends.
    Any(Box<[u8]>, Box<[u8]>),
}

/// What a rule's name is when no exception was made.
const DENY_ALL: &str = "denyAll";

impl Access {
    /// The rule that forbids it, in text; `Ok`: none does.
    pub fn judge(&self, method: &Method, path: &str) -> Result<(), &str> {
        let (method, path) = (bit(method.as_str()), Path::read(path));
        let mut relevant = self.exceptions.iter().filter(|exception| exception.methods & method != 0);
        if self.deny_all {
            let permitted = relevant.any(|exception| exception.path.surely_means(&path));
            if permitted { Ok(()) } else { Err(DENY_ALL) }
        } else {
            relevant.find(|exception| exception.path.may_mean(&path)).map_or(Ok(()), |exception| Err(&exception.text))
        }
    }
}

/// A path of a request, read in every way a vendor could.
pub struct Path<'a> {
    /// As it is written: what is encoded is no separator.
    whole: Vec<Cow<'a, [u8]>>,
    /// Encoded slashes are separators; what they leave empty is gone.
    split: Vec<Vec<u8>>,
    /// The same without segments that are nothing but what follows a semicolon; `None`: there are none.
    bare: Option<Vec<Vec<u8>>>,
}

impl<'a> Path<'a> {
    /// Decoded once, whatever comes out.
    pub fn read(path: &'a str) -> Self {
        let rest = path.strip_prefix('/').unwrap_or(path);
        let whole: Vec<Cow<'a, [u8]>> = match rest {
            "" => Vec::new(),
            rest => rest.split('/').map(|segment| percent_decode_str(segment).into()).collect(),
        };
        let pieces = whole.iter().flat_map(|segment| segment.split(|byte| *byte == b'/'));
        let split: Vec<Vec<u8>> = pieces.filter(|piece| !piece.is_empty()).map(<[u8]>::to_vec).collect();
        let parameters = |piece: &Vec<u8>| piece.starts_with(b";");
        let bare = split.iter().any(parameters);
        let bare = bare.then(|| split.iter().filter(|piece| !parameters(piece)).cloned().collect());
        Self { whole, split, bare }
    }
}

impl Pattern {
    /// `None`: no path could be meant.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix('/')?;
        let (rest, below) = match rest.strip_suffix('*') {
            Some("") => ("", true),
            Some(before) => (before.strip_suffix('/')?, true),
            None => (rest, false),
        };
        let segment = |text: &str| match (text.split_once('{'), text.contains('*')) {
            (_, true) => None,
            (Some((before, rest)), false) => {
                let (_, after) = rest.split_once('}')?;
                Some(Segment::Any(before.as_bytes().into(), after.as_bytes().into()))
            }
            (None, false) => (!text.is_empty()).then(|| Segment::Literal(text.as_bytes().into())),
        };
        let segments = match rest {
            "" => Box::default(),
            rest => rest.split('/').map(segment).collect::<Option<_>>()?,
        };
        Some(Self { segments, below })
    }

    /// Whether every reading of the path is meant.
    pub fn surely_means(&self, path: &Path<'_>) -> bool {
        let mut readings = path.bare.iter().chain([&path.split]);
        self.covers(&path.whole, Segment::is) && readings.all(|path| self.covers(path, Segment::is))
    }

    /// Whether any reading of the path is meant.
    pub fn may_mean(&self, path: &Path<'_>) -> bool {
        let whole = match path.whole.split_last() {
            Some((last, before)) if last.is_empty() => before,
            _ => &path.whole,
        };
        let mut readings = path.bare.iter().chain([&path.split]);
        self.covers(whole, Segment::resembles) || readings.any(|path| self.covers(path, Segment::resembles))
    }

    fn covers<T: AsRef<[u8]>>(&self, path: &[T], agrees: fn(&Segment, &[u8]) -> bool) -> bool {
        let length = if self.below { path.len() >= self.segments.len() } else { path.len() == self.segments.len() };
        length && self.segments.iter().zip(path).all(|(segment, part)| agrees(segment, part.as_ref()))
    }
}

impl Segment {
    fn is(&self, part: &[u8]) -> bool {
        match self {
            Self::Literal(text) => **text == *part,
            Self::Any(before, after) => {
                part.len() > before.len() + after.len() && part.starts_with(before) && part.ends_with(after)
            }
        }
    }

    /// Without case, and without what follows a semicolon.
    fn resembles(&self, part: &[u8]) -> bool {
        let cut = part.split(|byte| *byte == b';').next().unwrap_or_default();
        [part, cut].into_iter().any(|part| match self {
            Self::Literal(text) => text.eq_ignore_ascii_case(part),
            Self::Any(before, after) => {
                part.len() > before.len() + after.len()
                    && part[..before.len()].eq_ignore_ascii_case(before)
                    && part[part.len() - after.len()..].eq_ignore_ascii_case(after)
            }
        })
    }
}

const ALL: u8 = u8::MAX;

/// `HEAD` follows `GET`. A method that has none is in no rule but those for all.
fn bit(method: &str) -> u8 {
    match method {
        "GET" | "HEAD" => 1,
        "POST" => 1 << 1,
        "PUT" => 1 << 2,
        "PATCH" => 1 << 3,
        "DELETE" => 1 << 4,
        "OPTIONS" => 1 << 5,
        _ => 1 << 7,
    }
}

pub(super) mod wire {
    use proto::config::access_control;

    use super::{ALL, Access, Exception, Pattern, bit};
    use crate::runtime::invalid::{Code, Invalid};

    impl TryFrom<proto::config::AccessControl> for Access {
        type Error = Invalid;

        fn try_from(control: proto::config::AccessControl) -> Result<Self, Invalid> {
            let proto::config::AccessControl { deny_all, exceptions } = control;
            let exception = |(index, exception): (usize, access_control::Exception)| {
                let access_control::Exception { path, methods } = exception;
                let pointer = format!("/accessControl/exceptions/{index}");
                let Some(pattern) = Pattern::parse(&path) else {
                    let message = "not a path with `{name}` segments and a final `/*`";
                    return Err(Invalid::new(format!("{pointer}/path"), Code::Malformed, message));
                };
                let bits = methods.iter().fold(0, |bits, method| bits | bit(method));
                if bits & 1 << 7 != 0 {
                    let message = "this node is too old to know this method";
                    return Err(Invalid::new(format!("{pointer}/methods"), Code::Unsupported, message));
                }
                let text = if methods.is_empty() { path } else { format!("{} {path}", methods.join(", ")) };
                Ok(Exception { path: pattern, methods: if bits == 0 { ALL } else { bits }, text: text.into() })
            };
            let exceptions = exceptions.into_iter().enumerate().map(exception).collect::<Result<_, _>>()?;
            Ok(Self { deny_all, exceptions })
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::config::{AccessControl, access_control::Exception as WireException};

    use super::*;

    fn access(deny_all: bool, rules: &[(&str, &[&str])]) -> Access {
        let exception = |(path, methods): &(&str, &[&str])| WireException {
            path: (*path).to_owned(),
            methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        };
        AccessControl { deny_all, exceptions: rules.iter().map(exception).collect() }.try_into().unwrap()
    }

    /// Every way to write `/v1/files/abc` that some vendor takes for it.
    const SPELLINGS: [&str; 14] = [
        "/v1/files/abc",
        "/v1/files/abc/",
        "/v1/%66iles/abc",
        "/v1/%66%69%6c%65%73/abc",
        "/v1%2Ffiles/abc",
        "/v1%2ffiles%2Fabc",
        "/v1%2F%2Ffiles/abc",
        "/V1/Files/abc",
        "/v1/%46iles/abc",
        "/v1/files;a=b/abc",
        "/v1/files%3Ba/abc",
        "/v1/files/abc%2F",
        "/v1/files/abc;v=1",
        "/v1/;v=1/files/abc",
    ];

    #[test]
    fn no_spelling_gets_around_what_is_forbidden() {
        for rule in ["/v1/files/*", "/v1/files/{file}", "/*", "/{version}/files/*", "/v1/f{rest}/*"] {
            let access = access(false, &[(rule, &[])]);
            for path in SPELLINGS {
                assert_eq!(access.judge(&Method::GET, path), Err(rule), "{path}");
            }
        }
        let access = access(false, &[("/v1/files/*", &["POST"])]);
        assert_eq!(access.judge(&Method::POST, "/v1/files"), Err("POST /v1/files/*"));
        assert_eq!(access.judge(&Method::POST, "/v1/files/"), Err("POST /v1/files/*"));
        for (method, path) in [
            (Method::GET, "/v1/files"),
            (Method::POST, "/v1/filesystem"),
            (Method::POST, "/v1/chat/completions"),
            (Method::POST, "/v2/files"),
            (Method::POST, "/"),
        ] {
            assert_eq!(access.judge(&method, path), Ok(()), "{method} {path}");
        }
    }

    #[test]
    fn only_the_plain_spelling_gets_what_is_permitted() {
        let access = access(true, &[("/v1/files/{file}", &["GET"]), ("/v1/chat/*", &[]), ("/", &["GET"])]);
        for path in
            ["/v1/files/abc", "/v1/%66iles/abc", "/v1/files/a%20b", "/v1/chat", "/v1/chat/a/b", "/v1/chat/", "/"]
        {
            assert_eq!(access.judge(&Method::GET, path), Ok(()), "{path}");
        }
        for path in [
            "/v1/files",
            "/v1/files/",
            "/v1/files/abc/",
            "/v1/files/abc%2Fcontent",
            "/v1/files/abc/content",
            "/v1%2Ffiles/abc",
            "/V1/files/abc",
            "/v1/files%2Fabc",
            "/v1/chats",
            "/v1/chat;x/completions",
            "/v1%2Fchat/a",
        ] {
            assert_eq!(access.judge(&Method::GET, path), Err("denyAll"), "{path}");
        }
        assert_eq!(access.judge(&Method::HEAD, "/v1/files/abc"), Ok(()), "HEAD follows GET");
        assert_eq!(access.judge(&Method::OPTIONS, "/v1/files/abc"), Err("denyAll"), "OPTIONS follows nobody");
        assert_eq!(access.judge(&Method::OPTIONS, "/v1/chat/x"), Ok(()), "and is one of all");
        assert_eq!(access.judge(&Method::POST, "/v1/files/abc"), Err("denyAll"));
    }

    #[test]
    fn a_part_of_a_segment_can_be_named() {
        let access = access(false, &[("/v1beta/models/{model}:countTokens", &[])]);
        let denied = Err("/v1beta/models/{model}:countTokens");
        for path in ["/v1beta/models/gemini:countTokens", "/v1beta/models/gemini%3AcountTokens"] {
            assert_eq!(access.judge(&Method::POST, path), denied, "{path}");
        }
        for path in ["/v1beta/models/gemini:generateContent", "/v1beta/models/:countTokens", "/v1beta/models"] {
            assert_eq!(access.judge(&Method::POST, path), Ok(()), "{path}");
        }
    }

    /// Decoded, cut and lowered, as the most lenient vendor would read it.
    fn lenient(path: &str) -> Vec<String> {
        let decoded = percent_decode_str(path).decode_utf8_lossy().to_lowercase();
        let segments = decoded.split('/').map(|segment| segment.split(';').next().unwrap_or_default().to_owned());
        segments.filter(|segment| !segment.is_empty()).collect()
    }

    proptest::proptest! {
        #[test]
        fn what_any_reader_takes_for_the_path_is_forbidden(pieces in proptest::collection::vec(
            proptest::sample::select(vec!["/", "%2F", "%2f", "a", "A", "%61", "%41", "b", ";x", "%3bx", "c"]), 0..10
        )) {
            let path = format!("/{}", pieces.concat());
            let access = access(false, &[("/a/b", &[]), ("/a/c/*", &[])]);
            let read = lenient(&path);
            let meant = read == ["a", "b"] || (read.len() >= 2 && read[..2] == ["a", "c"]);
            if meant && !path.contains("//") {
                proptest::prop_assert!(access.judge(&Method::GET, &path).is_err(), "{path}");
            }
        }
    }
}
