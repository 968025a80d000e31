//! Watches the revision and publishes each gateway's newest configuration to whoever streams it.
//!
//! It decides when to look (a wake-up, at least once a second), how long to gather (10 ms of quiet, at most 50 ms, not
//! at all when something is taken away), and how a node comes from where it stands to the newest state. It does not
//! know nodes; see [`crate::stream`].

mod feed;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use self::feed::{Delta, Plan, Published, Standing};
use crate::{
    events::Events,
    model::{
        error::{Error, Internal},
        id::SecretId,
    },
    seal::Keyring,
    snapshot::{self, Snapshot},
    store::{Catalog, Store, catalog, node},
};

/// Whatever wake-ups were lost, the revision is looked at this often.
const FLOOR: Duration = Duration::from_secs(1);
/// A gateway token that was revoked or has expired ends its streams within this and one query.
const TOKENS: Duration = Duration::from_millis(400);
const QUIET: Duration = Duration::from_millis(10);
const LONGEST_GATHER: Duration = Duration::from_millis(50);

/// Publishes. Cheap to clone.
#[derive(Clone)]
pub struct Publisher(Arc<Inner>);

struct Inner {
    store: Store,
    keyring: Arc<Keyring>,
    events: Events,
    gateways: Mutex<BTreeMap<Uuid, Gateway>>,
    /// A gateway is followed for the first time.
    subscribed: Notify,
    tokens: watch::Sender<Arc<BTreeSet<Uuid>>>,
}

struct Gateway {
    organization_id: Uuid,
    feed: Feed,
}

/// Keeps the newest configuration only; `None` until it is first compiled.
type Feed = watch::Sender<Option<Arc<Published>>>;

impl Publisher {
    /// Publishes nothing until [`Self::run`].
    pub fn new(store: Store, keyring: Arc<Keyring>, events: Events) -> Self {
        Self(Arc::new(Inner {
            store,
            keyring,
            events,
            gateways: Mutex::default(),
            subscribed: Notify::new(),
            tokens: watch::Sender::default(),
        }))
    }

    /// The newest configuration of a gateway, now and whenever it changes; `None` until it is first compiled. Only the
    /// newest is kept: whoever is slow skips.
    pub fn subscribe(&self, organization_id: Uuid, gateway_id: Uuid) -> watch::Receiver<Option<Arc<Published>>> {
        let mut gateways = self.0.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        let gateway = gateways.entry(gateway_id).or_insert_with(|| {
            self.0.subscribed.notify_one();
            Gateway { organization_id, feed: watch::Sender::new(None) }
        });
        gateway.feed.subscribe()
    }

    /// Ids of the gateway tokens that are live, refreshed several times a second. Call [`Self::vouch`] first.
    pub fn tokens(&self) -> watch::Receiver<Arc<BTreeSet<Uuid>>> {
        let mut tokens = self.0.tokens.subscribe();
        // It may have been revoked since it was looked up: the first look is not waited for.
        tokens.mark_changed();
        tokens
    }

    /// Takes in a token that was just found to be live, so that its stream need not wait for the next refresh.
    pub fn vouch(&self, token_id: Uuid) {
        self.0.tokens.send_if_modified(|live| !live.contains(&token_id) && Arc::make_mut(live).insert(token_id));
    }

    /// What changed above a revision, for a node that stands before what [`Published`] remembers; `None`: too much, or
    /// not of this history. Should the change log know too little, the node's state hash finds out.
    pub async fn changed_since(&self, published: &Published, revision: u64) -> Result<Option<Delta>, Error> {
        let Ok(from) = i64::try_from(revision) else { return Ok(None) };
        let changes =
            catalog::changes_since(&self.0.store, published.organization_id, from, published.revision()).await?;
        Ok(changes.map(|changes| Delta {
            keys: changes.touched.into_keys().map(|(kind, id)| (snapshot::wire_kind(kind), id)).collect(),
            urgent: changes.urgent,
        }))
    }

    /// Runs until stopped. An error of the store is logged and waited out; what was published stays.
    pub async fn run(&self, stop: CancellationToken) {
        tokio::join!(self.publish(&stop), self.watch_tokens(&stop));
    }

    async fn publish(&self, stop: &CancellationToken) {
        let mut wakes = self.0.store.revisions();
        let mut heads = BTreeMap::new();
        let mut away = false;
        loop {
            wakes.mark_unchanged();
            match self.look(&mut heads, &mut wakes).await {
                Ok(()) => away = false,
                Err(error) if away => tracing::debug!(?error, "the newest configuration can still not be published"),
                Err(error) => {
                    tracing::error!(
                        ?error,
                        "the newest configuration could not be published; nodes serve what they have"
                    );
                    away = true;
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = wakes.changed() => if changed.is_err() { return },
                () = self.0.subscribed.notified() => {}
                () = tokio::time::sleep(FLOOR) => {}
            }
        }
    }

    /// Compares every organization's revision with what was published and catches up.
    async fn look(&self, heads: &mut BTreeMap<Uuid, i64>, wakes: &mut watch::Receiver<u64>) -> Result<(), Error> {
        let mut organizations = BTreeSet::from([self.0.store.first_organization()]);
        organizations.extend(self.gateways().values().map(|(organization_id, _)| *organization_id));
        for organization_id in organizations {
            let known = heads.get(&organization_id).copied();
            let (mut head, _) = catalog::revision(&self.0.store, organization_id).await?;
            let waiting =
                self.gateways().values().any(|(owner, feed)| *owner == organization_id && feed.borrow().is_none());
            if known == Some(head) && !waiting {
                continue;
            }
            if let Some(known) = known.filter(|known| *known < head) {
                head = self.gather(organization_id, known, head, wakes).await?;
            }
            let published = self.publish_organization(organization_id).await?;
            heads.insert(organization_id, published);
            if known.is_some_and(|known| known != published) {
                self.0.events.revision(organization_id, published);
            }
            debug_assert!(published >= head, "a later read sees no earlier revision");
        }
        Ok(())
    }

    /// Waits for the end of a burst of writes, unless one of them takes something away.
    async fn gather(
        &self,
        organization_id: Uuid,
        known: i64,
        mut head: i64,
        wakes: &mut watch::Receiver<u64>,
    ) -> Result<i64, Error> {
        let deadline = Instant::now() + LONGEST_GATHER;
        let mut looked_to = known;
        loop {
            let changes = catalog::changes_since(&self.0.store, organization_id, looked_to, head).await?;
            let quiet = QUIET.min(deadline.saturating_duration_since(Instant::now()));
            if changes.is_none_or(|changes| changes.urgent) || quiet.is_zero() {
                return Ok(head);
            }
            looked_to = head;
            if !matches!(timeout(quiet, wakes.changed()).await, Ok(Ok(()))) {
                return Ok(head);
            }
            (head, _) = catalog::revision(&self.0.store, organization_id).await?;
        }
    }

    /// Compiles and publishes for every followed gateway of an organization; returns the revision that was read.
    async fn publish_organization(&self, organization_id: Uuid) -> Result<i64, Error> {
        let gateways: Vec<_> = self
            .gateways()
            .into_iter()
            .filter(|(_, (owner, _))| *owner == organization_id)
            .map(|(gateway_id, (_, feed))| {
                let before = feed.borrow().clone();
                (gateway_id, feed, before)
            })
            .collect();
        if gateways.is_empty() {
            return Ok(catalog::revision(&self.0.store, organization_id).await?.0);
        }
        let mut oldest = i64::MAX;
        for (gateway_id, feed, before) in gateways {
            match self.publish_gateway(organization_id, gateway_id, &feed, before).await? {
                Some(head) => oldest = oldest.min(head),
                // Its tokens are gone with it, and so are its streams.
                None => {
                    self.0.gateways.lock().unwrap_or_else(PoisonError::into_inner).remove(&gateway_id);
                }
            }
        }
        if oldest == i64::MAX { Ok(catalog::revision(&self.0.store, organization_id).await?.0) } else { Ok(oldest) }
    }

    /// `None`: there is no such gateway any more.
    async fn publish_gateway(
        &self,
        organization_id: Uuid,
        gateway_id: Uuid,
        feed: &Feed,
        before: Option<Arc<Published>>,
    ) -> Result<Option<i64>, Error> {
        let Some(catalog) = Catalog::read(&self.0.store, organization_id, gateway_id).await? else { return Ok(None) };
        let head = catalog.revision;
        let since = before.as_ref().map_or(head, |before| before.revision());
        let changes = catalog::changes_since(&self.0.store, organization_id, since, head).await?;
        let urgent = changes.is_some_and(|changes| changes.urgent);
        let keyring = self.0.keyring.clone();
        let compiled = tokio::task::spawn_blocking(move || {
            let (entries, closed) = snapshot::compile(&catalog, &keyring);
            for (id, error) in closed {
                tracing::error!(secret.id = %SecretId(id), gateway.id = %gateway_id, ?error,
                    "a secret does not open and is left out; what needs it is rejected by the nodes");
            }
            let snapshot = Snapshot::new(catalog.lineage, head, entries);
            let mut published = Published::after(organization_id, before.as_deref(), snapshot, urgent);
            published.committed_at_us = u64::try_from(catalog.committed_at_us).unwrap_or(0);
            Arc::new(published)
        });
        let published = compiled.await.map_err(|error| Error::Internal(Internal::new(error)))?;
        feed.send_replace(Some(published));
        Ok(Some(head))
    }

    fn gateways(&self) -> BTreeMap<Uuid, (Uuid, Feed)> {
        let gateways = self.0.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        gateways.iter().map(|(id, gateway)| (*id, (gateway.organization_id, gateway.feed.clone()))).collect()
    }

    async fn watch_tokens(&self, stop: &CancellationToken) {
        let mut wakes = self.0.store.revisions();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = wakes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(TOKENS) => {}
            }
            // Nobody connected, nobody to send away. While the store is away, nobody is: that is no revocation.
            if self.0.tokens.receiver_count() == 0 {
                continue;
            }
            let asked = self.0.tokens.borrow().clone();
            if let Ok(live) = node::live_tokens(&self.0.store, crate::store::now()).await {
                let live: BTreeSet<_> = live.into_iter().collect();
                self.0.tokens.send_if_modified(|known| {
                    // A token vouched for during the query may be younger than its answer.
                    let vouched = known.difference(&asked).copied().collect::<Vec<_>>();
                    let mut next = live;
                    next.extend(vouched);
                    let changed = **known != next;
                    *known = Arc::new(next);
                    changed
                });
            }
        }
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Publisher").finish_non_exhaustive()
    }
}
