//! A request as bytes, with what is wrong with it.

use super::{Ask, Body, Defect, Field, Pocket};
use crate::properties::stand::key;

impl Ask {
    /// As bytes.
    pub(in crate::properties) fn bytes(&self, tag: usize) -> Vec<u8> {
        let mut path = format!("{}{}", self.place.context(), self.path(tag));
        match self.defect {
            Some(Defect::DotDot) => path += "/../x",
            Some(Defect::EncodedDots) => path += "/%2E%2e/x",
            Some(Defect::DoubleSlash) => path += "//x",
            Some(Defect::EncodedNul) => path += "/x%00",
            Some(Defect::Backslash) => path += "/x%5cy",
            _ => {}
        }
        let query = self.query(true).map(|query| format!("?{query}")).unwrap_or_default();
        let authority = match self.defect {
            Some(Defect::OtherAuthority) => "http://elsewhere.example",
            _ if self.absolute => "http://gw.example:8080",
            _ => "",
        };
        let version = match self.defect {
            Some(Defect::Http09) => "",
            _ if self.old => " HTTP/1.0",
            _ => " HTTP/1.1",
        };
        let mut bytes = if self.dress & 1 == 1 { b"\r\n".to_vec() } else { Vec::new() };
        bytes.extend(format!("{} {authority}{path}{query}{version}", self.method()).into_bytes());
        let mut fields = self.framing();
        let own: Vec<_> =
            self.fields.iter().map(|Field(name, value, _)| ((*name).to_owned(), value.to_vec())).collect();
        let mut own = own;
        self.rotate(&mut own);
        fields.splice(fields.len() / 2..fields.len() / 2, own);
        let end: &[u8] = if self.defect == Some(Defect::LoneLineFeeds) { b"\n" } else { b"\r\n" };
        for (index, (name, value)) in fields.iter().enumerate() {
            bytes.extend_from_slice(end);
            bytes.extend(self.dressed(name, index).into_bytes());
            bytes.extend_from_slice(match (self.defect, self.dress >> 5) {
                (Some(Defect::SpaceBeforeColon), _) if index == 0 => b" : ".as_slice(),
                (_, 0) => b":",
                (_, 1) => b":\t",
                (_, 2) => b":   ",
                _ => b": ",
            });
            bytes.extend_from_slice(value);
            if self.dress & 2 == 2 {
                bytes.extend_from_slice(b" \t");
            }
        }
        bytes.extend_from_slice(match self.defect {
            Some(Defect::NoColon) => b"\r\nno colon".as_slice(),
            Some(Defect::Folded) => b"\r\nX-Folded: a\r\n b",
            Some(Defect::Nul) => b"\r\nX-Nul: a\0b",
            Some(Defect::BareReturn) => b"\r\nX-Return: a\rb",
            _ => b"",
        });
        bytes.extend_from_slice(end);
        bytes.extend_from_slice(end);
        bytes.extend(self.framed());
        bytes
    }

    fn dressed(&self, name: &str, index: usize) -> String {
        match (usize::from(self.dress >> 2) + index) % 3 {
            0 => name.to_owned(),
            1 => name.to_ascii_lowercase(),
            _ => name.to_ascii_uppercase(),
        }
    }

    /// Headers that decide: host, key, lengths, connection.
    fn framing(&self) -> Vec<(String, Vec<u8>)> {
        let mut fields: Vec<(&str, String)> = Vec::new();
        let host = if self.absolute { "gw.example:8080" } else { "gw" };
        match self.defect {
            Some(Defect::NoHost) => {}
            Some(Defect::TwoHosts) => fields.extend([("Host", host.to_owned()), ("Host", host.to_owned())]),
            Some(Defect::BadHost) => fields.push(("Host", "user@gw".to_owned())),
            _ => fields.push(("Host", host.to_owned())),
        }
        match (self.key(), self.pocket) {
            (Some(key), Pocket::Header) => fields.push(("X-API-Key", key)),
            (Some(key), Pocket::Bearer) => fields.push(("Authorization", format!("bEaReR {key}"))),
            (Some(_), Pocket::Query) | (None, _) => {}
        }
        if self.defect == Some(Defect::TwoKeys) {
            fields.push(("X-API-Key", key(1)));
        }
        let length = |length: usize| ("Content-Length", length.to_string());
        let coding = |coding: &str| ("Transfer-Encoding", coding.to_owned());
        match &self.body {
            Body::None => {}
            Body::Sized(bytes) => match self.defect {
                Some(Defect::NegativeLength) => fields.push(("Content-Length", "-5".to_owned())),
                Some(Defect::TwoLengths) => fields.extend([length(bytes.len()), length(bytes.len() + 1)]),
                Some(Defect::SameLengthTwice) => fields.extend([length(bytes.len()), length(bytes.len())]),
                Some(Defect::Identity) => fields.extend([length(bytes.len()), coding("identity")]),
                _ => fields.push(length(bytes.len())),
            },
            Body::Chunked(pieces, ..) => match self.defect {
                Some(Defect::LengthAndCoding) => fields.extend([length(pieces.concat().len()), coding("chunked")]),
                Some(Defect::CodingAndLength) => fields.extend([coding("chunked"), length(0)]),
                Some(Defect::GzipChunked) => fields.push(coding("gzip, chunked")),
                Some(Defect::ChunkedTwice) => fields.push(coding("chunked, chunked")),
                _ => fields.push(coding(if self.dress & 4 == 4 { "Chunked" } else { "chunked" })),
            },
        }
        match self.defect {
            Some(Defect::NominatesHost) => fields.push(("Connection", "keep-alive, Host".to_owned())),
            Some(Defect::NominatesKey) => fields.push(("Connection", "X-API-Key".to_owned())),
            Some(Defect::Upgrade) => {
                fields.extend([("Connection", "upgrade".to_owned()), ("Upgrade", "irc/6.9".to_owned())]);
            }
            _ if self.is_last() => fields.push(("Connection", "close, X-Hop".to_owned())),
            _ => fields.push(("Connection", "X-Hop".to_owned())),
        }
        fields.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes())).collect()
    }

    /// The body with its framing.
    fn framed(&self) -> Vec<u8> {
        match &self.body {
            Body::None => Vec::new(),
            Body::Sized(bytes) => bytes.to_vec(),
            Body::Chunked(pieces, dressed, trailers) => {
                let mut bytes = Vec::new();
                for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
                    let size = if *dressed {
                        format!("00{:X};name=\"v\"\r\n", piece.len())
                    } else {
                        format!("{:x}\r\n", piece.len())
                    };
                    bytes.extend(size.into_bytes());
                    bytes.extend_from_slice(piece);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(match self.defect {
                    Some(Defect::BadChunkSize) => b"zz\r\nhello\r\n",
                    Some(Defect::HugeChunkSize) => b"fffffffffffffffff\r\nhello\r\n".as_slice(),
                    Some(Defect::NegativeChunkSize) => b"-1\r\nhello\r\n",
                    Some(Defect::LongChunk) => b"2\r\nhello\r\n",
                    Some(Defect::ChunkSizeOfSpaces) => b"  \r\nhello\r\n",
                    _ => b"",
                });
                bytes.extend_from_slice(
                    if *trailers && self.defect.is_none() {
                        format!("0\r\nX-API-Key: {}\r\nContent-Length: 3\r\nX-Checksum: 1\r\n\r\n", key(1)).into_bytes()
                    } else {
                        b"0\r\n\r\n".to_vec()
                    }
                    .as_slice(),
                );
                bytes
            }
        }
    }
}
