//! What clients ask: well-formed requests in every legal dress, requests with one thing wrong, and what must become of
//! each.

mod wire;

use std::fmt;

use bytes::Bytes;
use proptest::prelude::*;

use super::stand::key;

/// Where a request is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    One,
    Two,
    Three,
    Nowhere,
    /// Over all vendors.
    Several,
}

impl Place {
    fn context(self) -> &'static str {
        match self {
            Self::One => "/one",
            Self::Two => "/team/two",
            Self::Three => "/three",
            Self::Nowhere => "/team",
            Self::Several => "/several",
        }
    }

    /// Number of the vendor; 0: none, or it is for the gateway to choose.
    pub(super) fn vendor(self) -> u8 {
        match self {
            Self::One | Self::Three => 1,
            Self::Two => 2,
            Self::Nowhere | Self::Several => 0,
        }
    }

    /// What precedes the vendor's path at vendor `number`.
    pub(super) fn prefix(number: u8) -> &'static str {
        if number == 2 { "/base" } else { "" }
    }
}

/// The key it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carried {
    Right,
    Missing,
    Malformed,
    Unknown,
    OfAnother,
}

/// Where it carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pocket {
    Header,
    Bearer,
    Query,
}

/// A body and its framing.
#[derive(Clone, Debug)]
enum Body {
    None,
    Sized(Bytes),
    /// Pieces, with whether they are dressed up, and whether trailers follow.
    Chunked(Vec<Bytes>, bool, bool),
}

/// The one thing that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    NoHost,
    TwoHosts,
    BadHost,
    OtherAuthority,
    LengthAndCoding,
    CodingAndLength,
    GzipChunked,
    ChunkedTwice,
    Identity,
    NominatesHost,
    NominatesKey,
    Upgrade,
    Trace,
    DotDot,
    EncodedDots,
    DoubleSlash,
    EncodedNul,
    Backslash,
    TwoKeys,
    NoColon,
    SpaceBeforeColon,
    Folded,
    Nul,
    BareReturn,
    LoneLineFeeds,
    Http09,
    NegativeLength,
    TwoLengths,
    SameLengthTwice,
    BadChunkSize,
    HugeChunkSize,
    NegativeChunkSize,
    LongChunk,
    ChunkSizeOfSpaces,
}

const DEFECTS: [Defect; 34] = [
    Defect::NoHost,
    Defect::TwoHosts,
    Defect::BadHost,
    Defect::OtherAuthority,
    Defect::LengthAndCoding,
    Defect::CodingAndLength,
    Defect::GzipChunked,
    Defect::ChunkedTwice,
    Defect::Identity,
    Defect::NominatesHost,
    Defect::NominatesKey,
    Defect::Upgrade,
    Defect::Trace,
    Defect::DotDot,
    Defect::EncodedDots,
    Defect::DoubleSlash,
    Defect::EncodedNul,
    Defect::Backslash,
    Defect::TwoKeys,
    Defect::NoColon,
    Defect::SpaceBeforeColon,
    Defect::Folded,
    Defect::Nul,
    Defect::BareReturn,
    Defect::LoneLineFeeds,
    Defect::Http09,
    Defect::NegativeLength,
    Defect::TwoLengths,
    Defect::SameLengthTwice,
    Defect::BadChunkSize,
    Defect::HugeChunkSize,
    Defect::NegativeChunkSize,
    Defect::LongChunk,
    Defect::ChunkSizeOfSpaces,
];

/// What must become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The vendor gets it.
    Forwarded,
    /// Nobody gets it; the client is told this label (empty: no body, the library's own answer).
    Refused { status: u16, label: &'static str, recorded: bool },
    /// The vendor may get its head and a part of its body, never an end of it.
    Broken,
    /// Forwarded as one well-formed request, or refused before anybody got it.
    Either,
}

/// A request, before it has a number and bytes.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    method: &'static str,
    pub(super) place: Place,
    segments: Vec<&'static str>,
    trailing_slash: bool,
    parameters: Vec<(&'static str, bool)>,
    carried: Carried,
    pocket: Pocket,
    body: Body,
    fields: Vec<Field>,
    /// How names and line starts are dressed, and where the list of headers begins.
    dress: u8,
    turn: usize,
    absolute: bool,
    old: bool,
    last: bool,
    defect: Option<Defect>,
}

/// A header field, and whether it reaches the vendor.
#[derive(Clone, Copy)]
struct Field(&'static str, &'static [u8], bool);

impl fmt::Debug for Field {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

const FIELDS: &[Field] = &[
    Field("Content-Type", b"application/json", true),
    Field("X-Custom", b"first, second", true),
    Field("X-Custom", b"third", true),
    Field("OpenAI-Beta", b"assistants=v2", true),
    Field("User-Agent", b"sdk/1", true),
    Field("Accept", b"*/*", true),
    Field("X-Empty", b"", true),
    Field("X-Bytes", b"caf\xc3\xa9 \xff\t;\"", true),
    Field("openai_organization", b"org", true),
    Field("Cookie", b"session=1", false),
    Field("Forwarded", b"for=1.2.3.4", false),
    Field("X-Forwarded-For", b"1.2.3.4", false),
    Field("X-Forwarded-Whatever", b"1", false),
    Field("X-Real-IP", b"1.2.3.4", false),
    Field("Via", b"1.1 proxy", false),
    Field("TE", b"trailers", false),
    Field("Keep-Alive", b"timeout=5", false),
    Field("Proxy-Authorization", b"Basic eDp5", false),
    Field("Proxy-Connection", b"keep-alive", false),
    Field("HTTP2-Settings", b"AAMAAABkAARAAAAAAAIAAAAA", false),
    Field("X-Lockgate-Anything", b"1", false),
    Field("X_API_Key", b"lgk_disguised", false),
    Field("X-Secret-Name", b"lgk_forgotten", false),
    Field("Content_Length", b"5", false),
    Field("X-Hop", b"1", false),
    Field("Trailer", b"x-checksum", false),
    Field("Expect", b"100-continue", false),
];

/// Query parameters, and whether they reach the vendor.
const PARAMETERS: &[(&str, bool)] = &[
    ("alt=sse", true),
    ("x=%26%2F+y", true),
    ("flag", true),
    ("a=b=c", true),
    ("", true),
    ("path=/../%2e%2e/", true),
    ("api_keys=1", true),
    ("x-secret-name=lgk_forgotten", false),
    ("authorization=lgk_forgotten", false),
    ("%61uthorization=lgk_forgotten", false),
];

const SEGMENTS: &[&str] = &[
    "v1",
    "chat",
    "completions",
    "models",
    "gemini-2.5:generateContent",
    "a%2Fb",
    "%C3%A9",
    "..a",
    "...",
    "a;b=c",
    "~",
    "%20",
    "one",
    "%252e%252e",
    "@!$&'()*+,=",
];

fn content() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..100),
        1 => (0_usize..4000).prop_map(|length| vec![b'b'; length]),
        // A request within a body, with a key that would open the door.
        2 => Just(
            format!("GET /one/smuggled HTTP/1.1\r\nHost: gw\r\nX-API-Key: {}\r\n\r\n", key(1)).into_bytes()
        ),
        1 => Just(
            format!("\r\n0\r\n\r\nPOST /one/smuggled HTTP/1.1\r\nHost: gw\r\nX-API-Key: {}\r\n\r\n", key(1)).into_bytes()
        ),
    ]
    .prop_map(Bytes::from)
}

impl Ask {
    pub(super) fn any() -> impl Strategy<Value = Self> {
        let method = prop::sample::select(vec!["POST", "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"]);
        let place = prop_oneof![
            4 => Just(Place::One),
            3 => Just(Place::Two),
            2 => Just(Place::Three),
            1 => Just(Place::Nowhere),
        ];
        let carried = prop_oneof![
            12 => Just(Carried::Right),
            1 => Just(Carried::Missing),
            1 => Just(Carried::Malformed),
            1 => Just(Carried::Unknown),
            1 => Just(Carried::OfAnother),
        ];
        let body = prop_oneof![
            2 => Just(Body::None),
            3 => content().prop_map(Body::Sized),
            3 => (prop::collection::vec(content(), 0..4), any::<bool>(), any::<bool>())
                .prop_map(|(pieces, dressed, trailers)| Body::Chunked(pieces, dressed, trailers)),
        ];
        let path = (
            prop::collection::vec(prop::sample::select(SEGMENTS), 0..4),
            any::<bool>(),
            prop::collection::vec(prop::sample::select(PARAMETERS), 0..3),
        );
        let dress = (any::<u8>(), 0..30_usize, prop::bool::weighted(0.1), prop::bool::weighted(0.05));
        let fields = prop::collection::vec(prop::sample::select(FIELDS), 0..5);
        let defect = prop::option::weighted(0.3, prop::sample::select(DEFECTS.to_vec()));
        let pocket = prop::sample::select(vec![Pocket::Header, Pocket::Bearer, Pocket::Query]);
        let rest = (prop::bool::weighted(0.05), defect);
        (method, place, path, carried, pocket, body, fields, dress, rest).prop_map(
            |(method, place, path, carried, pocket, body, fields, dress, (last, defect))| {
                let (segments, trailing_slash, parameters) = path;
                let (dress, turn, absolute, old) = dress;
                let ask = Self {
                    method,
                    place,
                    segments,
                    trailing_slash,
                    parameters,
                    carried,
                    pocket,
                    body,
                    fields,
                    dress,
                    turn,
                    absolute,
                    old,
                    last,
                    defect,
                };
                ask.sound()
            },
        )
    }

    /// Sound, with the right key, and to this place.
    pub(super) fn sound_to(place: Place) -> impl Strategy<Value = Self> {
        Self::any().prop_map(move |ask| {
            Self { place, defect: None, carried: Carried::Right, old: false, last: false, absolute: false, ..ask }
                .sound()
        })
    }

    /// One thing is wrong with a request at most, or nobody could say what it must be told.
    fn sound(mut self) -> Self {
        let Some(defect) = self.defect else {
            if self.old && matches!(self.body, Body::Chunked(..)) {
                self.old = false;
            }
            self.fields.retain(|Field(name, ..)| !self.old || *name != "Expect");
            return self;
        };
        (self.carried, self.absolute, self.old) = (Carried::Right, false, false);
        if self.place == Place::Nowhere {
            self.place = Place::One;
        }
        self.fields.retain(|Field(name, ..)| *name != "Expect");
        match defect {
            Defect::LengthAndCoding
            | Defect::CodingAndLength
            | Defect::GzipChunked
            | Defect::ChunkedTwice
            | Defect::BadChunkSize
            | Defect::HugeChunkSize
            | Defect::NegativeChunkSize
            | Defect::LongChunk
            | Defect::ChunkSizeOfSpaces => {
                self.method = "POST";
                if !matches!(self.body, Body::Chunked(..)) {
                    self.body = Body::Chunked(vec![Bytes::from("hello")], false, false);
                }
            }
            Defect::NegativeLength | Defect::TwoLengths | Defect::SameLengthTwice | Defect::Identity => {
                self.method = "POST";
                self.body = Body::Sized(Bytes::from("hello"));
            }
            Defect::TwoKeys | Defect::NominatesKey => self.pocket = Pocket::Header,
            Defect::Trace => self.body = Body::None,
            _ => {}
        }
        self
    }

    pub(super) fn method(&self) -> &'static str {
        if self.defect == Some(Defect::Trace) { "TRACE" } else { self.method }
    }

    /// It speaks HTTP/1.0.
    pub(super) fn is_old(&self) -> bool {
        self.old
    }

    /// It announces no body.
    pub(super) fn has_no_body(&self) -> bool {
        match &self.body {
            Body::None => true,
            // As the library sees it, too.
            Body::Sized(bytes) => bytes.is_empty(),
            Body::Chunked(..) => false,
        }
    }

    /// The connection ends behind it.
    pub(super) fn is_last(&self) -> bool {
        self.last || self.old
    }

    /// What is sent up, without its framing.
    pub(super) fn content(&self) -> Vec<u8> {
        match &self.body {
            Body::None => Vec::new(),
            Body::Sized(bytes) => bytes.to_vec(),
            Body::Chunked(pieces, ..) => pieces.concat(),
        }
    }

    pub(super) fn verdict(&self) -> Verdict {
        let refused = |status, label| Verdict::Refused { status, label, recorded: false };
        let malformed = refused(400, "malformed_request");
        match self.defect {
            Some(Defect::NoHost | Defect::TwoHosts | Defect::BadHost | Defect::OtherAuthority) => {
                return refused(400, "bad_host");
            }
            Some(
                Defect::LengthAndCoding
                | Defect::CodingAndLength
                | Defect::ChunkedTwice
                | Defect::NegativeLength
                | Defect::TwoLengths
                | Defect::SameLengthTwice
                | Defect::Identity,
            ) => return refused(400, "bad_framing"),
            Some(Defect::GzipChunked) => return refused(501, "transfer_coding_not_supported"),
            Some(Defect::NominatesHost | Defect::NominatesKey) => return refused(400, "bad_connection_header"),
            Some(Defect::Upgrade) => return refused(405, "upgrade_not_supported"),
            Some(Defect::Trace) => return refused(405, "method_not_allowed"),
            Some(
                Defect::DotDot | Defect::EncodedDots | Defect::DoubleSlash | Defect::EncodedNul | Defect::Backslash,
            ) => return refused(400, "bad_path"),
            Some(Defect::TwoKeys) => return refused(400, "ambiguous_key"),
            Some(
                Defect::NoColon
                | Defect::SpaceBeforeColon
                | Defect::Folded
                | Defect::Nul
                | Defect::BareReturn
                | Defect::Http09,
            ) => return malformed,
            Some(Defect::LoneLineFeeds) => return Verdict::Either,
            Some(
                Defect::BadChunkSize
                | Defect::HugeChunkSize
                | Defect::NegativeChunkSize
                | Defect::LongChunk
                | Defect::ChunkSizeOfSpaces,
            ) => return Verdict::Broken,
            None => {}
        }
        if self.place == Place::Nowhere {
            // Where a context could have been, an encoded byte is another spelling of one.
            let encoded = self.segments.iter().take(2).any(|segment| segment.contains('%'));
            return if encoded { refused(400, "bad_path") } else { refused(404, "unknown_context") };
        }
        match self.carried {
            Carried::Right => Verdict::Forwarded,
            Carried::Missing | Carried::Malformed | Carried::Unknown => refused(401, "invalid_api_key"),
            Carried::OfAnother => Verdict::Refused { status: 403, label: "key_out_of_scope", recorded: true },
        }
    }

    fn path(&self, tag: usize) -> String {
        let mut path = format!("/t{tag}");
        for segment in &self.segments {
            path.push('/');
            path.push_str(segment);
        }
        if self.trailing_slash {
            path.push('/');
        }
        path
    }

    fn key(&self) -> Option<String> {
        let (right, other) = if self.place == Place::Two { (2, 1) } else { (1, 2) };
        match self.carried {
            Carried::Right => Some(key(right)),
            Carried::OfAnother => Some(key(other)),
            Carried::Unknown => Some(key(9)),
            Carried::Malformed => Some(format!("{}x", key(right))),
            Carried::Missing => None,
        }
    }

    /// The query as it is sent, or as the vendor must see it.
    fn query(&self, sent: bool) -> Option<String> {
        let carried = self.key().filter(|_| self.pocket == Pocket::Query).map(|key| format!("api_key={key}"));
        let mut left: Vec<&str> =
            self.parameters.iter().filter(|(_, passes)| sent || *passes).map(|(text, _)| *text).collect();
        if let (true, Some(carried)) = (sent, &carried) {
            left.insert(left.len() / 2, carried);
        }
        // A query of nothing but what was cut leaves no question mark; an empty one stays.
        (!left.is_empty()).then(|| left.join("&"))
    }

    /// The request target that the vendor must see, byte for byte.
    pub(super) fn target(&self, tag: usize, vendor: u8) -> String {
        let query = self.query(false).map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}{}{query}", Place::prefix(vendor), self.path(tag))
    }

    /// The path as records have it.
    pub(super) fn recorded_path(&self, tag: usize) -> String {
        self.path(tag)
    }

    /// Header fields that the vendor must see, in order.
    pub(super) fn passing(&self) -> Vec<(String, Vec<u8>)> {
        let mut fields: Vec<_> = self.fields.clone();
        self.rotate(&mut fields);
        let passing = fields.into_iter().filter(|Field(.., passes)| *passes);
        passing.map(|Field(name, value, _)| (name.to_ascii_lowercase(), value.trim_ascii().to_vec())).collect()
    }

    /// Without what belongs to HTTP/1.1 alone.
    pub(super) fn for_second(mut self) -> Self {
        const FIRST_ALONE: [&str; 5] = ["Keep-Alive", "Proxy-Connection", "HTTP2-Settings", "X-Hop", "Expect"];
        self.fields.retain(|Field(name, ..)| !FIRST_ALONE.contains(name));
        self
    }

    /// As a library takes it: the head, and the pieces of the body, if there is one.
    pub(super) fn request(&self, tag: usize) -> (http::request::Builder, Option<Vec<Bytes>>) {
        let query = self.query(true).map(|query| format!("?{query}")).unwrap_or_default();
        let mut request = http::Request::builder().method(self.method()).uri(format!(
            "http://gw{}{}{query}",
            self.place.context(),
            self.path(tag)
        ));
        match (self.key(), self.pocket) {
            (Some(key), Pocket::Header) => request = request.header("x-api-key", key),
            (Some(key), Pocket::Bearer) => request = request.header("authorization", format!("Bearer {key}")),
            (Some(_), Pocket::Query) | (None, _) => {}
        }
        let mut fields = self.fields.clone();
        self.rotate(&mut fields);
        for Field(name, value, _) in fields {
            request = request.header(name, value);
        }
        let pieces = match &self.body {
            Body::None => None,
            Body::Sized(bytes) => Some(vec![bytes.clone()]),
            Body::Chunked(pieces, ..) => Some(pieces.clone()),
        };
        (request, pieces)
    }

    fn rotate<T>(&self, list: &mut [T]) {
        if !list.is_empty() {
            list.rotate_left(self.turn % list.len());
        }
    }
}
