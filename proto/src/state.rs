//! The state hash: one figure for a whole gateway configuration, kept incrementally.
//!
//! Each entry hashes to 256 bits; the state is their sum in four 64-bit lanes, so that putting and removing an entry
//! costs one hash whatever the size of the rest, and order does not matter. It finds loss and divergence between two
//! honest parties; it is no proof against an adversary who chooses the entries.

/// Sum of the hashes of all entries. Empty state: all zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateHash([u64; 4]);

impl StateHash {
    /// Adds one entry: its kind (the wire enum's number), its 16-byte id, and its encoded body.
    pub fn add(&mut self, kind: i32, id: &[u8], body: &[u8]) {
        for (lane, part) in self.0.iter_mut().zip(entry(kind, id, body)) {
            *lane = lane.wrapping_add(part);
        }
    }

    /// Takes away an entry that was added with the same values.
    pub fn remove(&mut self, kind: i32, id: &[u8], body: &[u8]) {
        for (lane, part) in self.0.iter_mut().zip(entry(kind, id, body)) {
            *lane = lane.wrapping_sub(part);
        }
    }

    /// 32 bytes, lanes little-endian.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, lane) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&lane.to_le_bytes());
        }
        bytes
    }

    /// Reads [`Self::to_bytes`]; `None` unless there are exactly 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 32] = bytes.try_into().ok()?;
        let mut lanes = [0; 4];
        for (lane, chunk) in lanes.iter_mut().zip(bytes.chunks_exact(8)) {
            *lane = u64::from_le_bytes(chunk.try_into().ok()?);
        }
        Some(Self(lanes))
    }
}

fn entry(kind: i32, id: &[u8], body: &[u8]) -> [u64; 4] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&kind.to_le_bytes());
    // Lengths first, so that no two entries can be cut from the same bytes in two ways.
    hasher.update(&(id.len() as u64).to_le_bytes());
    hasher.update(id);
    hasher.update(body);
    let digest = hasher.finalize();
    let mut lanes = [0; 4];
    for (lane, chunk) in lanes.iter_mut().zip(digest.as_bytes().chunks_exact(8)) {
        *lane = u64::from_le_bytes(chunk.try_into().expect("chunks of eight"));
    }
    lanes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_removal_undoes() {
        let mut one = StateHash::default();
        one.add(1, b"a", b"x");
        one.add(2, b"b", b"y");
        let mut other = StateHash::default();
        other.add(2, b"b", b"y");
        other.add(3, b"c", b"z");
        other.add(1, b"a", b"x");
        other.remove(3, b"c", b"z");
        assert_eq!(one, other);
        assert_eq!(StateHash::from_bytes(&one.to_bytes()), Some(one));
    }

    #[test]
    fn the_kind_the_id_and_the_body_all_count() {
        let of = |kind, id: &[u8], body: &[u8]| {
            let mut hash = StateHash::default();
            hash.add(kind, id, body);
            hash
        };
        let hash = of(1, b"ab", b"c");
        assert_ne!(hash, of(2, b"ab", b"c"));
        assert_ne!(hash, of(1, b"a", b"bc"));
        assert_ne!(hash, of(1, b"ab", b"d"));
    }
}
