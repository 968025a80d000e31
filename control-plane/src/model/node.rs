//! Nodes: the processes of a gateway, what they serve, and what they refused.

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::id::NodeId;

/// Without a word for this long, a node counts as gone whatever was last written about it: the control plane that held
/// its stream may have died with it. Streams write every ten seconds.
const SILENCE: Duration = Duration::seconds(35);

/// How a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeStatus {
    /// Its stream is open and it serves the newest configuration.
    Connected,
    /// Its stream is open and it has not yet acknowledged the newest configuration.
    Applying,
    /// It did not acknowledge an update in time; its stream was closed.
    Stale,
    /// It is stopping.
    Draining,
    /// It has no stream.
    Disconnected,
}

impl NodeStatus {
    /// As it is stored and sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Applying => "applying",
            Self::Stale => "stale",
            Self::Draining => "draining",
            Self::Disconnected => "disconnected",
        }
    }

    /// Reads [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Connected, Self::Applying, Self::Stale, Self::Draining, Self::Disconnected]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// A node as it is kept.
#[derive(Clone, Debug)]
pub struct Node {
    /// Of the row; a node of the same name keeps it.
    pub id: NodeId,
    /// Unique within the gateway.
    pub name: String,
    /// Of its binary.
    pub version: String,
    /// As last written by the control plane that held its stream.
    pub written_status: NodeStatus,
    /// What it serves; 0: nothing.
    pub revision: i64,
    /// What it serves in an older form, or not at all.
    pub rejected: Vec<Rejected>,
    /// False: a restart without the control plane would bring it back at an older revision.
    pub persisted: bool,
    /// Start of its newest stream.
    pub connected_at: OffsetDateTime,
    /// Its last sign of life.
    pub last_seen_at: OffsetDateTime,
    /// Its last acknowledgement.
    pub acked_at: Option<OffsetDateTime>,
}

impl Node {
    /// The status that holds now, given the organization's newest revision.
    pub fn status(&self, now: OffsetDateTime, head: i64) -> NodeStatus {
        let silent = now - self.last_seen_at > SILENCE;
        match self.written_status {
            NodeStatus::Connected | NodeStatus::Applying | NodeStatus::Draining if silent => NodeStatus::Disconnected,
            NodeStatus::Connected | NodeStatus::Applying if self.revision < head => NodeStatus::Applying,
            NodeStatus::Applying => NodeStatus::Connected,
            status @ (NodeStatus::Connected | NodeStatus::Stale | NodeStatus::Draining | NodeStatus::Disconnected) => {
                status
            }
        }
    }
}

/// A resource that a node could not take in its newest form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// `settings`, `template`, `endpoint`, `api_key`, `secret`, or `unknown`.
    pub kind: String,
    /// Of the resource.
    pub id: Uuid,
    /// Of the form that was rejected.
    pub revision: i64,
    /// JSON pointer into it; empty: the whole.
    pub pointer: String,
    /// From the closed set of the data plane.
    pub code: String,
    /// For the author.
    pub message: String,
    /// Unix microseconds of the first acknowledgement that said so.
    pub since_us: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(written_status: NodeStatus, revision: i64) -> Node {
        let at = OffsetDateTime::UNIX_EPOCH;
        Node {
            id: NodeId::new(),
            name: String::new(),
            version: String::new(),
            written_status,
            revision,
            rejected: Vec::new(),
            persisted: true,
            connected_at: at,
            last_seen_at: at,
            acked_at: None,
        }
    }

    #[test]
    fn a_connected_node_behind_the_head_is_applying_and_a_silent_one_is_gone() {
        let soon = OffsetDateTime::UNIX_EPOCH + Duration::seconds(5);
        let late = OffsetDateTime::UNIX_EPOCH + Duration::minutes(1);
        assert_eq!(node(NodeStatus::Connected, 7).status(soon, 7), NodeStatus::Connected);
        assert_eq!(node(NodeStatus::Applying, 7).status(soon, 7), NodeStatus::Connected);
        assert_eq!(node(NodeStatus::Connected, 7).status(soon, 8), NodeStatus::Applying);
        assert_eq!(node(NodeStatus::Connected, 7).status(late, 7), NodeStatus::Disconnected);
        assert_eq!(node(NodeStatus::Stale, 7).status(late, 8), NodeStatus::Stale);
    }
}
