//! What nodes say about themselves on its way to the store: gathered, written in one transaction, then told to those
//! who watch. A stream never waits for the store here, so a slow store delays no revocation.

use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    events::{Events, Topic},
    model::{
        deployment::Rejection,
        error::Error,
        id::DeploymentId,
        node::{NodeStatus, Rejected},
    },
    store::{
        Store,
        change::Kind,
        deployment,
        node::{self, News, Receipt},
        now,
    },
};

/// Receipts in one transaction.
const TOGETHER: usize = 256;
/// A node sends one at a time, and a word every ten seconds; beyond this the store stands still.
const QUEUE: usize = 65_536;

/// Where streams leave their receipts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Receipts(mpsc::Sender<Receipt>);

/// The other end.
#[derive(Debug)]
pub struct Recorder {
    store: Store,
    events: Events,
    queue: mpsc::Receiver<Receipt>,
}

/// A `node` event.
#[derive(Serialize)]
struct NodeEvent<'a> {
    gateway: &'a str,
    node: &'a str,
    status: NodeStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
}

impl Receipts {
    /// Both ends.
    pub fn new(store: Store, events: Events) -> (Self, Recorder) {
        let (sender, queue) = mpsc::channel(QUEUE);
        (Self(sender), Recorder { store, events, queue })
    }

    /// Leaves a receipt. With a full queue it is dropped: the node's next one says what matters again.
    pub fn record(&self, receipt: Receipt) {
        if self.0.try_send(receipt).is_err() {
            tracing::warn!("a node's receipt was dropped: the store is slow or away");
        }
    }
}

impl Recorder {
    /// Writes until stopped and no stream is left to leave anything.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut receipts = Vec::new();
        while self.queue.recv_many(&mut receipts, TOGETHER).await > 0 {
            while let Err(error) = self.write(&receipts).await {
                if !matches!(error, Error::Unavailable(_)) {
                    // Trying again would not mend a defect, only hold up all that comes after it.
                    tracing::error!(?error, "what nodes acknowledged could not be written down");
                    break;
                }
                tracing::warn!(?error, "what nodes acknowledged could not be written down; trying again");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
                }
            }
            receipts.clear();
        }
    }

    async fn write(&self, receipts: &[Receipt]) -> Result<(), Error> {
        let mut transaction = self.store.engine().begin().await?;
        let counted = node::record(&mut transaction, receipts).await?;
        transaction.commit().await?;
        let counted = || receipts.iter().zip(&counted).filter(|(_, counted)| **counted).map(|(receipt, _)| receipt);
        let mut gateways: Vec<_> = counted()
            .filter(|receipt| !matches!(receipt.news, News::Seen))
            .map(|receipt| (receipt.organization_id, receipt.gateway_id))
            .collect();
        gateways.sort_unstable();
        gateways.dedup();
        for (organization_id, gateway_id) in &gateways {
            self.settle(*organization_id, *gateway_id).await?;
        }
        // A node that died without a word stops to count after a while: what waited for it is settled at a sign of life
        // of another.
        let mut alive: Vec<_> = counted().map(|receipt| (receipt.organization_id, receipt.gateway_id)).collect();
        alive.sort_unstable();
        alive.dedup();
        for (organization_id, gateway_id) in alive.into_iter().filter(|gateway| !gateways.contains(gateway)) {
            if self.is_waited_for(gateway_id).await? {
                self.settle(organization_id, gateway_id).await?;
            }
        }
        for receipt in counted() {
            let (status, revision) = match &receipt.news {
                News::Seen => continue,
                News::Status(status) => (*status, None),
                News::Applied { revision, .. } => (NodeStatus::Connected, Some(*revision)),
            };
            let event = NodeEvent { gateway: &receipt.gateway_name, node: &receipt.name, status, revision };
            self.events.publish(receipt.organization_id, Topic::Node, &event);
        }
        Ok(())
    }

    /// Whether a deployment on the gateway is under way.
    async fn is_waited_for(&self, gateway_id: Uuid) -> Result<bool, Error> {
        let mut transaction = self.store.read().await?;
        let deployments = node::deployments(&mut transaction, gateway_id).await?;
        Ok(deployments.values().any(|status| matches!(status.as_str(), "deploying" | "undeploying")))
    }

    /// Tells the deployments of a gateway how far its connected nodes are.
    async fn settle(&self, organization_id: Uuid, gateway_id: Uuid) -> Result<(), Error> {
        let mut transaction = self.store.read().await?;
        let nodes = node::list(&mut transaction, organization_id, gateway_id).await?;
        let before = node::deployments(&mut transaction, gateway_id).await?;
        drop(transaction);
        let at = now();
        let connected: Vec<_> = nodes
            .iter()
            .filter(|node| matches!(node.status(at, i64::MAX), NodeStatus::Connected | NodeStatus::Applying))
            .collect();
        let Some(revision) = connected.iter().map(|node| node.revision).min() else { return Ok(()) };
        let mut refused = Vec::new();
        for node in &connected {
            for rejected in node.rejected.iter().filter(|rejected| rejected.kind == Kind::Endpoint.as_str()) {
                let Rejected { kind: _, id, revision, pointer, code, message, since_us: _ } = rejected.clone();
                refused.push(id);
                let rejection = Rejection { pointer, code, message };
                deployment::rejected(&self.store, gateway_id, id, revision, &rejection).await?;
            }
        }
        deployment::acknowledged(&self.store, gateway_id, revision, &refused).await?;
        let mut transaction = self.store.read().await?;
        let after = node::deployments(&mut transaction, gateway_id).await?;
        drop(transaction);
        for (id, status) in before {
            if after.get(&id) != Some(&status) {
                let id = DeploymentId(id).to_string();
                let deployment = deployment::get(&self.store, organization_id, &id).await?;
                self.events.publish(organization_id, Topic::Deployment, &deployment);
            }
        }
        Ok(())
    }
}
