//! What happens, as it happens, for those who watch: revisions, deployments, nodes, requests.
//!
//! A bounded memory of the newest events lets a watcher that was cut off for a moment resume. It is a convenience and
//! not a record: every event is about something that can be read in full elsewhere, and a process keeps its own.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;
use tokio::sync::broadcast;
use uuid::Uuid;

/// Events remembered for those who resume, and the most a watcher may lag.
const REMEMBERED: usize = 2_048;

/// One thing that happened.
#[derive(Debug)]
pub struct Event {
    /// `<process>-<number>`; resuming with one of another process starts anew.
    pub id: String,
    /// Whose it is.
    pub organization_id: Uuid,
    /// What it is about.
    pub topic: Topic,
    /// JSON.
    pub data: String,
    number: u64,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// A configuration transaction was committed.
    Revision,
    /// A deployment changed its status or made progress.
    Deployment,
    /// A node came, went, or acknowledged.
    Node,
    /// A request was recorded.
    Request,
}

impl Topic {
    /// The event's name on the stream.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revision => "revision",
            Self::Deployment => "deployment",
            Self::Node => "node",
            Self::Request => "request",
        }
    }
}

/// Takes events from those who know and gives them to those who watch. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    process: String,
    remembered: Mutex<Remembered>,
    sender: broadcast::Sender<Arc<Event>>,
}

#[derive(Debug, Default)]
struct Remembered {
    next: u64,
    events: VecDeque<Arc<Event>>,
}

/// A watcher's place: what it missed, then what comes.
#[derive(Debug)]
pub struct Watch {
    organization_id: Uuid,
    missed: VecDeque<Arc<Event>>,
    receiver: broadcast::Receiver<Arc<Event>>,
}

impl Default for Events {
    fn default() -> Self {
        let process = Uuid::new_v4().as_simple().to_string();
        Self(Arc::new(Inner {
            process: process[..12].to_owned(),
            remembered: Mutex::default(),
            sender: broadcast::Sender::new(REMEMBERED),
        }))
    }
}

impl Events {
    /// Tells everyone who watches this organization.
    pub fn publish(&self, organization_id: Uuid, topic: Topic, data: &impl Serialize) {
        let Ok(data) = serde_json::to_string(data) else { return };
        let mut remembered = self.0.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let number = remembered.next;
        remembered.next += 1;
        let id = format!("{}-{number}", self.0.process);
        let event = Arc::new(Event { id, organization_id, topic, data, number });
        remembered.events.push_back(event.clone());
        if remembered.events.len() > REMEMBERED {
            remembered.events.pop_front();
        }
        // Sent under the lock, so that a watcher neither misses an event nor sees it twice. Nobody may be watching.
        let _ = self.0.sender.send(event);
    }

    /// A configuration transaction was committed.
    pub fn revision(&self, organization_id: Uuid, revision: i64) {
        self.publish(organization_id, Topic::Revision, &serde_json::json!({ "revision": revision }));
    }

    /// Watches an organization from after the event with this id, or from now.
    pub fn watch(&self, organization_id: Uuid, after: Option<&str>) -> Watch {
        let remembered = self.0.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = self.0.sender.subscribe();
        let after =
            after.and_then(|id| id.strip_prefix(self.0.process.as_str())?.strip_prefix('-')?.parse::<u64>().ok());
        let missed = after.map(|number| {
            let missed = remembered.events.iter().filter(|event| event.number > number);
            missed.filter(|event| event.organization_id == organization_id).cloned().collect()
        });
        Watch { organization_id, missed: missed.unwrap_or_default(), receiver }
    }
}

impl Watch {
    /// The next event; `None` when this watcher fell too far behind or the process stops.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        if let Some(event) = self.missed.pop_front() {
            return Some(event);
        }
        loop {
            let event = self.receiver.recv().await.ok()?;
            if event.organization_id == self.organization_id {
                return Some(event);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watcher_resumes_without_a_gap_and_sees_only_its_own() {
        let (ours, theirs) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let events = Events::default();
        let mut watch = events.watch(ours, None);
        events.revision(ours, 1);
        events.revision(theirs, 2);
        events.revision(ours, 3);
        let first = watch.next().await.unwrap();
        assert_eq!((first.topic.as_str(), first.data.as_str()), ("revision", r#"{"revision":1}"#));
        drop(watch);
        let mut resumed = events.watch(ours, Some(&first.id));
        events.revision(ours, 4);
        assert_eq!(resumed.next().await.unwrap().data, r#"{"revision":3}"#);
        assert_eq!(resumed.next().await.unwrap().data, r#"{"revision":4}"#);
    }

    #[tokio::test]
    async fn a_watcher_that_lags_too_far_is_let_go() {
        let events = Events::default();
        let organization_id = Uuid::from_u128(1);
        let mut watch = events.watch(organization_id, None);
        for revision in 0..=REMEMBERED {
            events.revision(organization_id, i64::try_from(revision).unwrap());
        }
        assert!(watch.next().await.is_none());
    }
}
