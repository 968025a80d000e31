//! Ids of requests: a `UUIDv7`, in text `req_...`. Unique, not secret; made without a lock and without a system call.

use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;
use uuid::Uuid;

/// Makes the ids of one connection's requests.
#[derive(Debug)]
pub(crate) struct RequestIds {
    seed: u64,
    count: AtomicU64,
}

impl RequestIds {
    /// Connections of one process differ in `connection`, processes in `process` (random).
    pub(crate) fn new(process: u64, connection: u64) -> Self {
        Self { seed: mix(process ^ mix(connection)), count: AtomicU64::new(0) }
    }

    /// The next one, at this Unix time.
    pub(crate) fn next(&self, now_ms: u64) -> Uuid {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let one = mix(self.seed.wrapping_add(count));
        let other = mix(one ^ self.seed.rotate_left(32));
        let mut random = [0; 10];
        let (high, low) = random.split_at_mut(8);
        high.copy_from_slice(&one.to_le_bytes());
        low.copy_from_slice(&other.to_le_bytes()[..2]);
        uuid::Builder::from_unix_timestamp_millis(now_ms, &random).into_uuid()
    }
}

/// The finaliser of `SplitMix64`: a bijection that spreads every bit.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// An API key's id as the REST API tells it.
pub(crate) fn of_key(id: Uuid) -> String {
    proto::id::encode("key", id)
}

/// `req_` and 26 characters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text([u8; 30]);

impl Text {
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("made of ASCII")
    }

    /// As a header carries it.
    pub(crate) fn header(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.0).expect("a request id is plain ASCII")
    }
}

mod wire {
    use uuid::Uuid;

    use super::Text;

    pub(crate) fn text(id: Uuid) -> Text {
        let mut text = *b"req_00000000000000000000000000";
        text[4..].copy_from_slice(&proto::id::suffix(id));
        Text(text)
    }
}

pub(crate) use wire::text;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_of_many_connections_are_distinct() {
        let mut ids = BTreeSet::new();
        for connection in 0..100 {
            let source = RequestIds::new(7, connection);
            for _ in 0..100 {
                let id = source.next(1_700_000_000_000);
                assert_eq!(id.get_version_num(), 7);
                assert!(ids.insert(id));
            }
        }
        let id = ids.pop_first().unwrap();
        assert!(text(id).as_str().starts_with("req_01"));
        assert_eq!(text(id).as_str(), proto::id::encode("req", id));
        assert_eq!(text(id).header(), text(id).as_str());
    }
}
