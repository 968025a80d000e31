//! A gateway's whole configuration as wire entries, and what lies between two of them. Pure, sorted, deterministic:
//! the same catalogue gives the same bytes, so that all nodes of a gateway hold the same state hash.

mod wire;

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use proto::{
    config::{ApiKey, Endpoint, Entry, Kind as WireKind, Limit},
    quota::Rule,
    state::StateHash,
};
use uuid::Uuid;

pub use self::wire::compile;
use crate::store::change::Kind;

/// Kind (the wire enum's number) and id of an entry.
pub type Key = (i32, Uuid);

/// A gateway's configuration at one revision.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Of the store.
    pub lineage: Uuid,
    /// Of the organization.
    pub revision: i64,
    /// Sorted by kind and id.
    pub entries: BTreeMap<Key, Entry>,
    /// Over all entries.
    pub hash: StateHash,
}

impl Snapshot {
    /// Hashes the entries.
    pub fn new(lineage: Uuid, revision: i64, entries: BTreeMap<Key, Entry>) -> Self {
        let mut hash = StateHash::default();
        for ((kind, id), entry) in &entries {
            hash.add(*kind, id.as_bytes(), &entry.body);
        }
        Self { lineage, revision, entries, hash }
    }

    /// Keys of entries that are in one of the two only, or differ.
    pub fn difference(&self, other: &Self) -> BTreeSet<Key> {
        let differs = |key: &&Key| {
            let (one, two) = (self.entries.get(key), other.entries.get(key));
            one.map(|entry| &entry.body) != two.map(|entry| &entry.body)
        };
        self.entries.keys().chain(other.entries.keys()).filter(differs).copied().collect()
    }
}

/// The wire's number for a kind.
pub fn wire_kind(kind: Kind) -> i32 {
    let kind = match kind {
        Kind::Settings => WireKind::Settings,
        Kind::Template => WireKind::Template,
        Kind::Endpoint => WireKind::Endpoint,
        Kind::ApiKey => WireKind::ApiKey,
        Kind::Secret => WireKind::Secret,
        Kind::Prices => WireKind::Prices,
    };
    kind.into()
}

/// The kind with this number on the wire; `None`: none that we know.
pub fn kind_from_wire(number: i32) -> Option<Kind> {
    match WireKind::try_from(number).ok()? {
        WireKind::Unspecified => None,
        WireKind::Settings => Some(Kind::Settings),
        WireKind::Template => Some(Kind::Template),
        WireKind::Endpoint => Some(Kind::Endpoint),
        WireKind::ApiKey => Some(Kind::ApiKey),
        WireKind::Secret => Some(Kind::Secret),
        WireKind::Prices => Some(Kind::Prices),
    }
}

/// What the configuration says of a rule that a node speaks of; `None`: nothing.
pub fn limit(snapshot: &Snapshot, rule: &Rule) -> Option<u64> {
    let kind = if rule.api_key { WireKind::ApiKey } else { WireKind::Endpoint };
    let entry = snapshot.entries.get(&(kind.into(), Uuid::from_slice(&rule.owner).ok()?))?;
    let limits = match kind {
        WireKind::ApiKey => ApiKey::decode(entry.body.clone()).ok()?.limits,
        _ => Endpoint::decode(entry.body.clone()).ok()?.limits,
    };
    let is = |limit: &&Limit| {
        let window = limit.window_ms == rule.window_ms && u32::try_from(limit.calendar) == Ok(rule.calendar);
        window && limit.name == rule.name && u32::try_from(limit.metric) == Ok(rule.metric)
    };
    limits.iter().find(is).map(|limit| limit.limit)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// API keys with these ids and bodies.
    pub(crate) fn entries(bodies: &[(u128, &str)]) -> BTreeMap<Key, Entry> {
        let entry = |(id, body): &(u128, &str)| {
            let id = Uuid::from_u128(*id);
            let key = (WireKind::ApiKey.into(), id);
            let body = (*body).to_owned().into();
            (key, Entry { kind: key.0, id: id.into_bytes().to_vec().into(), revision: 1, body })
        };
        bodies.iter().map(entry).collect()
    }

    #[test]
    fn the_difference_is_what_came_went_or_changed() {
        let one = Snapshot::new(Uuid::nil(), 1, entries(&[(1, "a"), (2, "b"), (3, "c")]));
        let two = Snapshot::new(Uuid::nil(), 2, entries(&[(2, "b"), (3, "cc"), (4, "d")]));
        let ids: Vec<_> = one.difference(&two).into_iter().map(|(_, id)| id.as_u128()).collect();
        assert_eq!(ids, [1, 3, 4]);
        assert!(one.difference(&one.clone()).is_empty());
    }

    #[test]
    fn every_kind_has_its_number_both_ways() {
        for kind in [Kind::Settings, Kind::Template, Kind::Endpoint, Kind::ApiKey, Kind::Secret, Kind::Prices] {
            assert_eq!(kind_from_wire(wire_kind(kind)), Some(kind));
        }
        assert_eq!(kind_from_wire(0), None);
        assert_eq!(kind_from_wire(99), None);
    }
}
