//! What this node holds of its gateway's configuration, as raw bodies, and the only way it changes: an update that
//! applies on exactly the present position and ends in the promised hash. Anything else leaves it as it was. Pure.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    config::{Cursor, Entry, EntryKey, Update},
    state::StateHash,
};
use uuid::Uuid;

use crate::runtime::{Configuration, Key};

/// A point in the history of one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Of the store; positions of two lineages cannot be compared.
    pub lineage: Uuid,
    /// Of the organization's configuration.
    pub revision: u64,
}

impl Position {
    pub(crate) fn from_wire(cursor: &Cursor) -> Result<Self, Fault> {
        let Cursor { lineage, revision } = cursor;
        let lineage = Uuid::from_slice(lineage).map_err(|_| Fault::Malformed("lineage"))?;
        Ok(Self { lineage, revision: *revision })
    }

    pub(crate) fn to_wire(self) -> Cursor {
        Cursor { lineage: self.lineage.into_bytes().to_vec().into(), revision: self.revision }
    }
}

/// Why an update cannot be applied. The node keeps what it has and asks for everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// A field that must be there is missing or has another form.
    #[error("the update is malformed: {0}")]
    Malformed(&'static str),
    /// It starts somewhere else than where this node stands.
    #[error("the update does not apply to this position")]
    Position,
    /// A part is missing, repeated or belongs to another update.
    #[error("a part of the update is out of order")]
    Part,
    /// The state after it would not be the one that was promised.
    #[error("the state hash differs")]
    Hash,
}

/// An update whose parts are complete, not yet checked against a replica.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    /// `None`: a reset.
    pub(crate) from: Option<Position>,
    pub(crate) to: Position,
    pub(crate) put: BTreeMap<Key, Entry>,
    pub(crate) remove: BTreeSet<Key>,
    pub(crate) hash: StateHash,
    pub(crate) urgent: bool,
    pub(crate) committed_at_us: u64,
}

impl Change {
    /// As one message, for the log of changes on disk.
    pub(crate) fn to_update(&self) -> Update {
        Update {
            from: self.from.map(Position::to_wire),
            to: Some(self.to.to_wire()),
            reset: self.from.is_none(),
            put: self.put.values().cloned().collect(),
            remove: self
                .remove
                .iter()
                .map(|(kind, id)| EntryKey { kind: *kind, id: id.into_bytes().to_vec().into() })
                .collect(),
            last: true,
            urgent: self.urgent,
            state_hash: self.hash.to_bytes().to_vec().into(),
            committed_at_us: self.committed_at_us,
            part: 0,
        }
    }
}

/// Puts the parts of updates together.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    change: Change,
    next_part: u32,
}

impl Assembly {
    /// Takes one part; returns the change once the last is in. A fault forgets what was collected.
    pub(crate) fn take(&mut self, update: Update) -> Result<Option<Change>, Fault> {
        let open = self.open.take();
        let Update { from, to, reset, put, remove, last, urgent, state_hash, committed_at_us, part } = update;
        let from = from.as_ref().map(Position::from_wire).transpose()?;
        let to = Position::from_wire(&to.ok_or(Fault::Malformed("to"))?)?;
        if reset != from.is_none() {
            return Err(Fault::Malformed("reset"));
        }
        if from.is_some_and(|from| from.lineage != to.lineage || from.revision > to.revision) {
            return Err(Fault::Malformed("from"));
        }
        let mut open = match (open, part) {
            // A first part starts afresh, even if the update before it was never finished.
            (_, 0) => Open {
                change: Change {
                    from,
                    to,
                    put: BTreeMap::new(),
                    remove: BTreeSet::new(),
                    hash: StateHash::default(),
                    urgent,
                    committed_at_us,
                },
                next_part: 0,
            },
            (Some(open), part) if open.next_part == part && open.change.from == from && open.change.to == to => open,
            _ => return Err(Fault::Part),
        };
        open.next_part += 1;
        for EntryKey { kind, id } in remove {
            open.change.remove.insert((kind, entry_id(&id)?));
        }
        for entry in put {
            let key = (entry.kind, entry_id(&entry.id)?);
            if open.change.put.insert(key, entry).is_some() {
                return Err(Fault::Malformed("an entry twice"));
            }
        }
        if !last {
            self.open = Some(open);
            return Ok(None);
        }
        let mut change = open.change;
        change.hash = StateHash::from_bytes(&state_hash).ok_or(Fault::Malformed("state_hash"))?;
        change.urgent |= urgent;
        change.committed_at_us = change.committed_at_us.max(committed_at_us);
        // Removals come first, so what is also put stays.
        let Change { put, remove, .. } = &mut change;
        remove.retain(|key| !put.contains_key(key));
        Ok(Some(change))
    }
}

/// The raw configuration and where it stands.
#[derive(Debug, Default)]
pub(crate) struct Replica {
    position: Option<Position>,
    hash: StateHash,
    entries: Configuration,
}

impl Replica {
    /// `None`: nothing was ever received.
    pub(crate) fn position(&self) -> Option<Position> {
        self.position
    }

    pub(crate) fn hash(&self) -> StateHash {
        self.hash
    }

    pub(crate) fn entries(&self) -> &Configuration {
        &self.entries
    }

    /// Applies the change or, on a fault, nothing of it.
    pub(crate) fn apply(&mut self, change: Change) -> Result<(), Fault> {
        let Change { from, to, put, remove, hash: promised, urgent: _, committed_at_us: _ } = change;
        let mut hash = StateHash::default();
        if from.is_none() {
            for ((kind, id), entry) in &put {
                hash.add(*kind, id.as_bytes(), &entry.body);
            }
            if hash != promised {
                return Err(Fault::Hash);
            }
            self.entries = Configuration::at(to.revision);
        } else {
            if from != self.position {
                return Err(Fault::Position);
            }
            hash = self.hash;
            for key @ (kind, id) in remove.iter().chain(put.keys()) {
                if let Some(old) = self.entries.get(*key) {
                    hash.remove(*kind, id.as_bytes(), &old.body);
                }
            }
            for ((kind, id), entry) in &put {
                hash.add(*kind, id.as_bytes(), &entry.body);
            }
            if hash != promised {
                return Err(Fault::Hash);
            }
            for key in remove {
                self.entries.remove(key);
            }
            self.entries.revision = to.revision;
        }
        for entry in put.into_values() {
            self.entries.put(entry).map_err(|_| Fault::Malformed("id"))?;
        }
        self.hash = hash;
        self.position = Some(to);
        Ok(())
    }

    /// Everything as one reset, for the base of the file on disk; `None` if nothing was ever received.
    pub(crate) fn to_update(&self) -> Option<Update> {
        let to = self.position?;
        Some(Update {
            from: None,
            to: Some(to.to_wire()),
            reset: true,
            put: self.entries.iter().map(|(_, entry)| entry.clone()).collect(),
            remove: Vec::new(),
            last: true,
            urgent: false,
            state_hash: self.hash.to_bytes().to_vec().into(),
            committed_at_us: 0,
            part: 0,
        })
    }
}

fn entry_id(id: &[u8]) -> Result<Uuid, Fault> {
    Uuid::from_slice(id).map_err(|_| Fault::Malformed("id"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const LINEAGE: Uuid = Uuid::from_u128(7);

    pub(crate) fn at(revision: u64) -> Position {
        Position { lineage: LINEAGE, revision }
    }

    pub(crate) fn entry(id: u128, body: &str) -> Entry {
        Entry { kind: 4, id: id.to_be_bytes().to_vec().into(), revision: 1, body: body.to_owned().into() }
    }

    /// The hash of a state with these entries.
    pub(crate) fn hash_of(entries: &[Entry]) -> StateHash {
        let mut hash = StateHash::default();
        for entry in entries {
            hash.add(entry.kind, &entry.id, &entry.body);
        }
        hash
    }

    pub(crate) fn reset(to: u64, entries: &[Entry]) -> Update {
        Update {
            to: Some(at(to).to_wire()),
            reset: true,
            put: entries.to_vec(),
            last: true,
            state_hash: hash_of(entries).to_bytes().to_vec().into(),
            ..Update::default()
        }
    }

    pub(crate) fn delta(from: u64, to: u64, put: &[Entry], remove: &[u128], state: &[Entry]) -> Update {
        Update {
            from: Some(at(from).to_wire()),
            reset: false,
            remove: remove.iter().map(|id| EntryKey { kind: 4, id: id.to_be_bytes().to_vec().into() }).collect(),
            put: put.to_vec(),
            ..reset(to, state)
        }
    }

    fn take(replica: &mut Replica, update: Update) -> Result<(), Fault> {
        replica.apply(Assembly::default().take(update)?.expect("one part"))
    }

    fn bodies(replica: &Replica) -> Vec<&[u8]> {
        replica.entries.iter().map(|(_, entry)| &entry.body[..]).collect()
    }

    #[test]
    fn an_update_and_a_reset_lead_to_the_same_state() {
        let (one, two, three) = (entry(1, "a"), entry(2, "b"), entry(3, "c"));
        let newer = entry(2, "bb");
        let end = [newer.clone(), three.clone()];
        let mut stepped = Replica::default();
        take(&mut stepped, reset(5, &[one, two])).unwrap();
        take(&mut stepped, delta(5, 9, &[newer, three], &[1], &end)).unwrap();
        let mut fresh = Replica::default();
        take(&mut fresh, reset(9, &end)).unwrap();
        assert_eq!((stepped.hash, stepped.position), (fresh.hash, Some(at(9))));
        assert_eq!(bodies(&stepped), bodies(&fresh));
        assert_eq!(stepped.to_update(), fresh.to_update());
    }

    #[test]
    fn removing_the_last_entry_leaves_the_empty_state() {
        let mut replica = Replica::default();
        take(&mut replica, reset(1, &[entry(1, "a")])).unwrap();
        take(&mut replica, delta(1, 2, &[], &[1], &[])).unwrap();
        assert_eq!((replica.hash, replica.entries.len()), (StateHash::default(), 0));
    }

    #[test]
    fn an_empty_update_moves_the_position() {
        let mut replica = Replica::default();
        take(&mut replica, reset(1, &[entry(1, "a")])).unwrap();
        take(&mut replica, delta(1, 8, &[], &[], &[entry(1, "a")])).unwrap();
        assert_eq!(replica.position, Some(at(8)));
    }

    #[test]
    fn a_replayed_reordered_or_damaged_update_changes_nothing() {
        let (one, two) = (entry(1, "a"), entry(2, "b"));
        let both = [one.clone(), two.clone()];
        let mut replica = Replica::default();
        take(&mut replica, reset(1, std::slice::from_ref(&one))).unwrap();
        let good = delta(1, 2, std::slice::from_ref(&two), &[], &both);
        let mut flipped = good.clone();
        flipped.put[0].body = "B".into();
        let mut truncated = good.clone();
        truncated.put.clear();
        let ahead = delta(2, 3, std::slice::from_ref(&two), &[], &both);
        let mut foreign = good.clone();
        foreign.from = Some(Position { lineage: Uuid::from_u128(8), revision: 1 }.to_wire());
        foreign.to = Some(Position { lineage: Uuid::from_u128(8), revision: 2 }.to_wire());
        for (update, fault) in
            [(flipped, Fault::Hash), (truncated, Fault::Hash), (ahead, Fault::Position), (foreign, Fault::Position)]
        {
            assert_eq!(take(&mut replica, update), Err(fault));
            assert_eq!((replica.position, bodies(&replica)), (Some(at(1)), vec![&b"a"[..]]));
        }
        take(&mut replica, good.clone()).unwrap();
        assert_eq!(take(&mut replica, good), Err(Fault::Position), "a replay");
        assert_eq!(replica.hash, hash_of(&both));
    }

    #[test]
    fn parts_are_put_together_in_order_only() {
        let (one, two) = (entry(1, "a"), entry(2, "b"));
        let mut first = reset(4, std::slice::from_ref(&one));
        first.last = false;
        let mut second = reset(4, &[one.clone(), two.clone()]);
        second.put = vec![two];
        second.part = 1;

        let mut assembly = Assembly::default();
        assert_eq!(assembly.take(first.clone()), Ok(None));
        let change = assembly.take(second.clone()).unwrap().expect("complete");
        Replica::default().apply(change).unwrap();

        assert_eq!(assembly.take(second.clone()), Err(Fault::Part), "without its first part");
        assert_eq!(assembly.take(first.clone()), Ok(None));
        let mut other = second.clone();
        other.to = Some(at(5).to_wire());
        assert_eq!(assembly.take(other), Err(Fault::Part), "of another update");
        assert_eq!(assembly.take(second), Err(Fault::Part), "after a fault nothing is left");
    }

    #[test]
    fn what_is_both_removed_and_put_stays() {
        let mut replica = Replica::default();
        take(&mut replica, reset(1, &[entry(1, "a")])).unwrap();
        take(&mut replica, delta(1, 2, &[entry(1, "b")], &[1], &[entry(1, "b")])).unwrap();
        assert_eq!(bodies(&replica), [b"b"]);
    }

    #[test]
    fn malformed_updates_are_faults_not_panics() {
        let mut no_to = reset(1, &[]);
        no_to.to = None;
        let mut short_hash = reset(1, &[]);
        short_hash.state_hash = vec![0; 31].into();
        let mut short_id = reset(1, &[entry(1, "a")]);
        short_id.put[0].id = vec![1].into();
        let mut twice = reset(1, &[entry(1, "a")]);
        twice.put.push(entry(1, "b"));
        let mut both = delta(1, 2, &[], &[], &[]);
        both.reset = true;
        for update in [no_to, short_hash, short_id, twice, both, delta(2, 1, &[], &[], &[])] {
            assert!(matches!(Assembly::default().take(update), Err(Fault::Malformed(_))));
        }
    }
}
