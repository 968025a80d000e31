//! One gateway's newest configuration together with the way that led to it, and the choice of how a node gets there.
//! Pure.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use proto::state::StateHash;
use uuid::Uuid;

use crate::snapshot::{Key, Snapshot};

/// Keys remembered over all steps; a node further behind is brought forward by the change log or a reset.
const REMEMBERED: usize = 65_536;
const STEPS: usize = 1_024;

/// The newest configuration of a gateway and the steps before it.
#[derive(Debug)]
pub struct Published {
    /// The tenant.
    pub organization_id: Uuid,
    /// The configuration.
    pub snapshot: Snapshot,
    /// Unix microseconds of the newest transaction within it; 0: not known.
    pub committed_at_us: u64,
    steps: VecDeque<Arc<Step>>,
}

/// From one published configuration to the next.
#[derive(Debug)]
struct Step {
    from: i64,
    from_hash: StateHash,
    to: i64,
    keys: BTreeSet<Key>,
    urgent: bool,
}

/// Where a node says it stands, or stood when the last update was sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Of the store its configuration came from.
    pub lineage: Uuid,
    /// Of that configuration.
    pub revision: u64,
    /// Over what it holds.
    pub hash: StateHash,
}

/// How a node comes to the newest configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// It is there.
    Nothing,
    /// These entries are put or, where they are gone, removed.
    Delta(Delta),
    /// It stands before what is remembered: ask the change log.
    Unknown,
    /// It gets everything; says why.
    Reset(&'static str),
}

/// An update that is not everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// What may differ.
    pub keys: BTreeSet<Key>,
    /// Something is taken away.
    pub urgent: bool,
}

impl Published {
    /// The configuration that follows `before`; `urgent`: something was taken away between the two.
    pub fn after(organization_id: Uuid, before: Option<&Self>, snapshot: Snapshot, urgent: bool) -> Self {
        let mut steps = VecDeque::new();
        if let Some(before) = before.filter(|before| before.snapshot.lineage == snapshot.lineage) {
            let (from, to) = (before.snapshot.revision, snapshot.revision);
            // A store that went back in time: nothing that was remembered leads anywhere.
            if from <= to {
                steps.clone_from(&before.steps);
            }
            if from < to {
                let keys = before.snapshot.difference(&snapshot);
                steps.push_back(Arc::new(Step { from, from_hash: before.snapshot.hash, to, keys, urgent }));
            }
        }
        while steps.len() > STEPS || steps.iter().map(|step| step.keys.len()).sum::<usize>() > REMEMBERED {
            steps.pop_front();
        }
        Self { organization_id, snapshot, committed_at_us: 0, steps }
    }

    /// Of the configuration.
    pub fn revision(&self) -> i64 {
        self.snapshot.revision
    }

    /// How a node that stands there comes here.
    pub fn plan(&self, standing: Option<&Standing>) -> Plan {
        let Some(standing) = standing else { return Plan::Reset("the node has nothing") };
        if standing.lineage != self.snapshot.lineage {
            return Plan::Reset("the node's configuration is of another store");
        }
        let Ok(revision) = i64::try_from(standing.revision) else {
            return Plan::Reset("the node is ahead of the store");
        };
        if revision > self.snapshot.revision {
            return Plan::Reset("the node is ahead of the store");
        }
        if revision == self.snapshot.revision {
            let same = standing.hash == self.snapshot.hash;
            return if same { Plan::Nothing } else { Plan::Reset("the node's state differs") };
        }
        let Some(first) = self.steps.iter().position(|step| step.from <= revision && revision < step.to) else {
            return Plan::Unknown;
        };
        if self.steps[first].from == revision && self.steps[first].from_hash != standing.hash {
            return Plan::Reset("the node's state differs");
        }
        let mut delta = Delta::default();
        for step in self.steps.range(first..) {
            delta.keys.extend(&step.keys);
            delta.urgent |= step.urgent;
        }
        Plan::Delta(delta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::entries;

    const LINEAGE: Uuid = Uuid::from_u128(1);

    fn snapshot(revision: i64, bodies: &[(u128, &str)]) -> Snapshot {
        Snapshot::new(LINEAGE, revision, entries(bodies))
    }

    fn chain(states: &[(i64, &[(u128, &str)])]) -> Published {
        let mut published: Option<Published> = None;
        for (revision, bodies) in states {
            published = Some(Published::after(Uuid::nil(), published.as_ref(), snapshot(*revision, bodies), false));
        }
        published.expect("one at least")
    }

    fn standing(snapshot: &Snapshot) -> Standing {
        Standing { lineage: snapshot.lineage, revision: u64::try_from(snapshot.revision).unwrap(), hash: snapshot.hash }
    }

    #[test]
    fn a_node_on_the_way_gets_what_changed_since() {
        let published = chain(&[(1, &[(1, "a"), (2, "b")]), (4, &[(1, "aa"), (2, "b")]), (5, &[(1, "aa"), (3, "c")])]);
        let keys = |ids: &[u128]| ids.iter().map(|id| (4, Uuid::from_u128(*id))).collect::<BTreeSet<_>>();
        let plan = published.plan(Some(&standing(&snapshot(1, &[(1, "a"), (2, "b")]))));
        assert_eq!(plan, Plan::Delta(Delta { keys: keys(&[1, 2, 3]), urgent: false }));
        let plan = published.plan(Some(&standing(&snapshot(4, &[(1, "aa"), (2, "b")]))));
        assert_eq!(plan, Plan::Delta(Delta { keys: keys(&[2, 3]), urgent: false }));
        // Between two that were published: more than needed is sent, never less.
        let mut between = standing(&snapshot(1, &[(1, "a"), (2, "b")]));
        between.revision = 3;
        assert!(matches!(published.plan(Some(&between)), Plan::Delta(delta) if delta.keys == keys(&[1, 2, 3])));
        assert_eq!(published.plan(Some(&standing(&published.snapshot))), Plan::Nothing);
    }

    #[test]
    fn whoever_cannot_be_led_gets_everything() {
        let published = chain(&[(3, &[(1, "a")]), (5, &[(1, "b")])]);
        assert!(matches!(published.plan(None), Plan::Reset(_)));
        let other_store = Standing { lineage: Uuid::from_u128(2), ..standing(&published.snapshot) };
        assert!(matches!(published.plan(Some(&other_store)), Plan::Reset(_)));
        let ahead = Standing { revision: 6, ..standing(&published.snapshot) };
        assert!(matches!(published.plan(Some(&ahead)), Plan::Reset(_)));
        let diverged = standing(&snapshot(5, &[(1, "x")]));
        assert!(matches!(published.plan(Some(&diverged)), Plan::Reset(_)));
        let diverged_before = standing(&snapshot(3, &[(1, "x")]));
        assert!(matches!(published.plan(Some(&diverged_before)), Plan::Reset(_)));
        let long_ago = Standing { revision: 2, ..standing(&published.snapshot) };
        assert_eq!(published.plan(Some(&long_ago)), Plan::Unknown);
    }

    #[test]
    fn a_way_is_urgent_when_one_of_its_steps_is() {
        let first = chain(&[(1, &[(1, "a")])]);
        let second = Published::after(Uuid::nil(), Some(&first), snapshot(2, &[]), true);
        let third = Published::after(Uuid::nil(), Some(&second), snapshot(3, &[(2, "b")]), false);
        let urgent = |from: &Published| match third.plan(Some(&standing(&from.snapshot))) {
            Plan::Delta(delta) => delta.urgent,
            plan => panic!("{plan:?}"),
        };
        assert!(urgent(&first));
        assert!(!urgent(&second), "what was urgent before is not urgent again");
    }

    #[test]
    fn a_store_that_went_back_in_time_forgets_its_steps() {
        let before = chain(&[(3, &[(1, "a")]), (5, &[(1, "b")])]);
        let restored = Published::after(Uuid::nil(), Some(&before), snapshot(4, &[(1, "z")]), false);
        assert_eq!(restored.plan(Some(&standing(&snapshot(3, &[(1, "a")])))), Plan::Unknown);
        assert!(matches!(restored.plan(Some(&standing(&before.snapshot))), Plan::Reset(_)));
    }
}
