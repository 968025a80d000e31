//! From an update to a served runtime: check, compile, swap, write down. Blocking work, called off the async threads;
//! the old runtime serves until the one pointer is stored.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use arc_swap::ArcSwapOption;
use proto::config::{Ack, Entry, Hello, Pinned, Rejection};

use super::{
    last_good::LastGood,
    replica::{Change, Fault, Position, Replica},
};
use crate::runtime::{self, Compiled, Configuration, Runtime};

/// Why a change is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error("the update was refused")]
    Fault(#[from] Fault),
    /// A defect: compiling must reject, not panic. The old runtime goes on serving.
    #[error("compiling the configuration panicked")]
    Panicked,
}

/// Everything that changes when an update is applied, in one owner.
pub(crate) struct Applier {
    replica: Replica,
    /// The bodies behind the runtime that serves; differs from the replica where something is rejected.
    served: Configuration,
    rejected: Vec<Rejection>,
    pinned: Vec<Entry>,
    last_good: LastGood,
    runtime: Arc<ArcSwapOption<Runtime>>,
}

impl Applier {
    pub(crate) fn new(last_good: LastGood, runtime: Arc<ArcSwapOption<Runtime>>) -> Self {
        Self {
            replica: Replica::default(),
            served: Configuration::default(),
            rejected: Vec::new(),
            pinned: Vec::new(),
            last_good,
            runtime,
        }
    }

    /// Serves what is on disk, if anything is.
    pub(crate) fn restore(&mut self) -> Option<Position> {
        let loaded = self.last_good.load()?;
        self.replica = loaded.replica;
        self.served = Configuration::default();
        for entry in loaded.pinned {
            // An entry that is no longer understood is no fallback.
            let _ = self.served.put(entry);
        }
        match self.compile() {
            Ok(()) => self.replica.position(),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the last known good configuration does not compile; waiting for the control plane"
                );
                None
            }
        }
    }

    pub(crate) fn position(&self) -> Option<Position> {
        self.replica.position()
    }

    /// Serves the change or, on an error, what was served before. The answer is the acknowledgement.
    pub(crate) fn apply(&mut self, change: Change) -> Result<Ack, ApplyError> {
        let started = Instant::now();
        let logged = change.clone();
        self.replica.apply(change)?;
        self.compile()?;
        let apply_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let persisted = match self.last_good.persist(&self.replica, Some(logged), &self.pinned) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the last known good configuration could not be written; serving goes on, a restart would not"
                );
                false
            }
        };
        Ok(Ack {
            cursor: self.replica.position().map(Position::to_wire),
            state_hash: self.replica.hash().to_bytes().to_vec().into(),
            rejected: self.rejected.clone(),
            apply_us,
            persisted,
        })
    }

    fn compile(&mut self) -> Result<(), ApplyError> {
        let wanted = self.replica.entries();
        let served = &self.served;
        let compiled = catch_unwind(AssertUnwindSafe(|| Runtime::compile(wanted, served)));
        let Ok(Compiled { runtime, served, rejected }) = compiled else {
            // Forget the position, so that the control plane sends everything anew.
            self.replica = Replica::default();
            return Err(ApplyError::Panicked);
        };
        self.runtime.store(Some(Arc::new(runtime)));
        self.pinned = if rejected.is_empty() {
            Vec::new()
        } else {
            let differs = |key, entry: &Entry| wanted.get(key).is_none_or(|wanted| wanted.body != entry.body);
            served.iter().filter(|(key, entry)| differs(**key, entry)).map(|(_, entry)| entry.clone()).collect()
        };
        for rejection in &rejected {
            tracing::warn!(resource.id = %rejection.key.1, pointer = rejection.pointer, code = rejection.code.label(),
                "a resource was rejected, its last good form stays: {}", rejection.message);
        }
        self.rejected = rejected.into_iter().map(to_wire).collect();
        self.served = served;
        Ok(())
    }

    /// The first message of a stream.
    pub(crate) fn hello(&self, node: &str, boot: uuid::Uuid) -> Hello {
        let position = self.replica.position();
        Hello {
            node: node.to_owned(),
            boot: boot.into_bytes().to_vec().into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cursor: position.map(Position::to_wire),
            state_hash: position.map(|_| self.replica.hash().to_bytes().to_vec().into()).unwrap_or_default(),
            pinned: self
                .pinned
                .iter()
                .map(|entry| Pinned { kind: entry.kind, id: entry.id.clone(), revision: entry.revision })
                .collect(),
            protocol: 1,
        }
    }
}

fn to_wire(rejection: runtime::Rejection) -> Rejection {
    let runtime::Rejection { key: (kind, id), revision, pointer, code, message } = rejection;
    Rejection { kind, id: id.into_bytes().to_vec().into(), revision, pointer, code: code.label().to_owned(), message }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    use prost::Message as _;
    use proto::{
        config::{
            Dialect, Endpoint, KeyLocation, Kind, Settings, Template, Update, Upstream, endpoint::Target, key_location,
        },
        token::{self, TokenKind},
    };
    use uuid::Uuid;

    use super::*;
    use crate::{
        follow::replica::{Assembly, tests::at},
        link::GatewayToken,
    };

    const TEMPLATE: Uuid = Uuid::from_u128(1);
    const ONE: Uuid = Uuid::from_u128(2);
    const TWO: Uuid = Uuid::from_u128(3);

    type Entries = BTreeMap<(i32, Uuid), Entry>;

    fn node(directory: &Path) -> (Applier, Arc<ArcSwapOption<Runtime>>) {
        let entropy = std::array::from_fn(|index| u8::try_from(index).expect("below 128"));
        let text = token::mint(TokenKind::Gateway, Some(&token::fingerprint(b"ca")), &entropy).expect("entropy");
        let last_good = LastGood::new(directory.to_owned(), GatewayToken::parse(&text).unwrap());
        let runtime = Arc::new(ArcSwapOption::empty());
        (Applier::new(last_good, Arc::clone(&runtime)), runtime)
    }

    fn put(entries: &mut Entries, kind: Kind, id: Uuid, revision: u64, body: Vec<u8>) {
        let kind = i32::from(kind);
        let entry = Entry { kind, id: id.into_bytes().to_vec().into(), revision, body: body.into() };
        entries.insert((kind, id), entry);
    }

    fn endpoint(name: &str, url: &str) -> Vec<u8> {
        Endpoint {
            name: name.to_owned(),
            context: format!("/{name}"),
            template_id: TEMPLATE.into_bytes().to_vec().into(),
            key_locations: vec![KeyLocation {
                r#in: key_location::In::Header.into(),
                name: "x-api-key".to_owned(),
                prefix: String::new(),
            }],
            target: Some(Target::Upstream(Upstream { url: url.to_owned(), ..Upstream::default() })),
            ..Endpoint::default()
        }
        .encode_to_vec()
    }

    /// A gateway with two endpoints.
    fn healthy() -> Entries {
        let mut entries = Entries::new();
        put(&mut entries, Kind::Settings, Uuid::from_u128(9), 1, Settings::default().encode_to_vec());
        let template = Template {
            name: "openai".to_owned(),
            version: 1,
            dialect: Dialect::Openai.into(),
            credential_header: "authorization".to_owned(),
            credential_prefix: "Bearer ".to_owned(),
            ..Template::default()
        };
        put(&mut entries, Kind::Template, TEMPLATE, 1, template.encode_to_vec());
        put(&mut entries, Kind::Endpoint, ONE, 1, endpoint("one", "https://one.example"));
        put(&mut entries, Kind::Endpoint, TWO, 1, endpoint("two", "https://two.example"));
        entries
    }

    fn change(from: Option<u64>, to: u64, put: Vec<Entry>, state: &Entries) -> Change {
        let mut hash = proto::state::StateHash::default();
        for ((kind, id), entry) in state {
            hash.add(*kind, id.as_bytes(), &entry.body);
        }
        let update = Update {
            from: from.map(|revision| at(revision).to_wire()),
            to: Some(at(to).to_wire()),
            reset: from.is_none(),
            put,
            last: true,
            state_hash: hash.to_bytes().to_vec().into(),
            ..Update::default()
        };
        Assembly::default().take(update).unwrap().expect("one part")
    }

    fn served(runtime: &ArcSwapOption<Runtime>) -> Vec<String> {
        let runtime = runtime.load_full().expect("it serves");
        let mut names: Vec<_> = runtime.endpoints().map(|endpoint| endpoint.name.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_poisoned_resource_is_pinned_the_rest_advances_and_a_restart_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (mut applier, runtime) = node(directory.path());
        let mut state = healthy();
        let ack = applier.apply(change(None, 1, state.values().cloned().collect(), &state)).unwrap();
        assert!(ack.rejected.is_empty() && ack.persisted, "{ack:?}");
        assert_eq!(served(&runtime), ["one", "two"]);

        // One is poisoned, two gets another name; a body that is no message at all.
        put(&mut state, Kind::Endpoint, ONE, 2, vec![0xff; 40]);
        put(&mut state, Kind::Endpoint, TWO, 2, endpoint("second", "https://two.example"));
        let keys = [ONE, TWO].map(|id| (i32::from(Kind::Endpoint), id));
        let puts = keys.iter().map(|key| state[key].clone()).collect();
        let ack = applier.apply(change(Some(1), 2, puts, &state)).unwrap();
        assert_eq!(ack.cursor, Some(at(2).to_wire()), "the rest advances");
        assert_eq!((ack.rejected.len(), &ack.rejected[0].id[..]), (1, &ONE.as_bytes()[..]), "{ack:?}");
        assert_eq!(served(&runtime), ["one", "second"]);
        let pinned = applier.hello("node", Uuid::nil()).pinned;
        assert_eq!((pinned.len(), pinned[0].revision), (1, 1));

        let (mut restarted, runtime) = node(directory.path());
        assert_eq!(restarted.restore(), Some(at(2)));
        assert_eq!(served(&runtime), ["one", "second"], "the last good form survives a restart");
        assert_eq!(restarted.hello("node", Uuid::nil()).pinned, pinned);

        // Mended, the next change applies to what is held, poison included.
        put(&mut state, Kind::Endpoint, ONE, 3, endpoint("first", "https://one.example"));
        let puts = vec![state[&(i32::from(Kind::Endpoint), ONE)].clone()];
        let ack = restarted.apply(change(Some(2), 3, puts, &state)).unwrap();
        assert!(ack.rejected.is_empty(), "{ack:?}");
        assert_eq!(served(&runtime), ["first", "second"]);
        assert!(restarted.hello("node", Uuid::nil()).pinned.is_empty());
    }

    #[test]
    fn a_damaged_update_leaves_what_is_served_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let (mut applier, runtime) = node(directory.path());
        let state = healthy();
        applier.apply(change(None, 1, state.values().cloned().collect(), &state)).unwrap();
        let before = runtime.load_full();
        let mut damaged = change(Some(1), 2, Vec::new(), &state);
        damaged.remove.insert((i32::from(Kind::Endpoint), ONE));
        assert!(matches!(applier.apply(damaged), Err(ApplyError::Fault(Fault::Hash))));
        assert!(Arc::ptr_eq(&before.unwrap(), &runtime.load_full().unwrap()));
        assert_eq!(applier.position(), Some(at(1)));
    }

    #[test]
    fn a_disk_that_cannot_be_written_does_not_stop_serving() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (mut applier, runtime) = node(&file.path().join("below-a-file"));
        let state = healthy();
        let ack = applier.apply(change(None, 1, state.values().cloned().collect(), &state)).unwrap();
        assert!(!ack.persisted);
        assert_eq!(served(&runtime), ["one", "two"]);
    }
}
