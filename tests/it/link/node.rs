//! A node written by hand: speaks the link's messages over the real TLS, and does only what a test tells it to.
// A failed `unwrap` is a failed test, and says where.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use data_plane::link::{GatewayToken, Link};
use proto::{
    config::{
        Ack, Cursor, Hello, NodeMessage, Rejection, Reset, Update, config_sync_client::ConfigSyncClient, node_message,
    },
    state::StateHash,
    usage::{UsageAck, UsageBatch, usage_ingest_client::UsageIngestClient},
};
use tests::Stack;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(10);

/// The link to a stack's control plane, opened by this token.
pub(super) fn link(stack: &Stack, token: &str) -> Link {
    Link::new(&stack.link().to_string(), &GatewayToken::parse(token).unwrap()).unwrap()
}

/// The token that the control plane wrote for the gateway `default`.
pub(super) fn token(stack: &Stack) -> String {
    std::fs::read_to_string(stack.token_file()).unwrap().trim().to_owned()
}

/// What a node holds; survives its stream.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) entries: BTreeMap<(i32, Bytes), Bytes>,
    pub(super) hash: StateHash,
    pub(super) cursor: Option<Cursor>,
}

impl State {
    pub(super) fn revision(&self) -> u64 {
        self.cursor.as_ref().map_or(0, |cursor| cursor.revision)
    }

    pub(super) fn of_kind(&self, kind: proto::config::Kind) -> usize {
        self.entries.keys().filter(|(number, _)| *number == i32::from(kind)).count()
    }
}

/// A stream and what came over it.
pub(super) struct Node {
    messages: mpsc::Sender<NodeMessage>,
    updates: Streaming<Update>,
    pub(super) state: State,
}

/// What one whole update was.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) reset: bool,
    pub(super) urgent: bool,
    pub(super) from: Option<u64>,
    pub(super) put: usize,
    pub(super) removed: usize,
    pub(super) parts: usize,
}

impl Node {
    /// Opens a stream and says hello with what it holds.
    pub(super) async fn connect(stack: &Stack, name: &str, state: State) -> Result<Self, Status> {
        Self::connect_with(&link(stack, &token(stack)), name, state).await
    }

    pub(super) async fn connect_with(link: &Link, name: &str, state: State) -> Result<Self, Status> {
        let channel = link.connect().await.map_err(|error| Status::unknown(format!("{error:?}")))?;
        let (messages, outgoing) = mpsc::channel(8);
        let hello = Hello {
            node: name.to_owned(),
            boot: Uuid::now_v7().into_bytes().to_vec().into(),
            version: "0.0.0".to_owned(),
            cursor: state.cursor.clone(),
            state_hash: state.cursor.as_ref().map(|_| state.hash.to_bytes().to_vec().into()).unwrap_or_default(),
            pinned: Vec::new(),
            protocol: 1,
        };
        messages.send(NodeMessage { kind: Some(node_message::Kind::Hello(hello)) }).await.unwrap();
        let request = link.request(ReceiverStream::new(outgoing));
        let updates = ConfigSyncClient::new(channel).stream(request).await?.into_inner();
        Ok(Self { messages, updates, state })
    }

    /// The next message, or how the stream ended.
    pub(super) async fn message(&mut self) -> Result<Update, Status> {
        let message = timeout(PATIENCE, self.updates.message()).await.expect("an update, or an end");
        message?.ok_or_else(|| Status::new(Code::Ok, "end of stream"))
    }

    /// Takes one whole update, checks that it leads where it says, and does not acknowledge it.
    pub(super) async fn take(&mut self) -> Taken {
        let mut taken = Taken { reset: false, urgent: false, from: None, put: 0, removed: 0, parts: 0 };
        loop {
            let update = self.message().await.unwrap();
            assert_eq!(update.part as usize, taken.parts, "parts come in order");
            if update.part == 0 && update.reset {
                self.state = State::default();
            }
            if !update.reset {
                assert_eq!(update.from, self.state.cursor, "an update starts where the node stands");
            }
            taken.reset = update.reset;
            taken.urgent |= update.urgent;
            taken.from = update.from.as_ref().map(|cursor| cursor.revision);
            taken.parts += 1;
            taken.put += update.put.len();
            taken.removed += update.remove.len();
            for key in &update.remove {
                self.remove(key.kind, &key.id);
            }
            for entry in &update.put {
                self.remove(entry.kind, &entry.id);
                self.state.hash.add(entry.kind, &entry.id, &entry.body);
                self.state.entries.insert((entry.kind, entry.id.clone()), entry.body.clone());
            }
            if update.last {
                assert_eq!(self.state.hash.to_bytes()[..], update.state_hash[..], "the state hash that was promised");
                self.state.cursor = update.to;
                return taken;
            }
        }
    }

    fn remove(&mut self, kind: i32, id: &Bytes) {
        if let Some(old) = self.state.entries.remove(&(kind, id.clone())) {
            self.state.hash.remove(kind, id, &old);
        }
    }

    /// Says that it serves what it holds, but for these.
    pub(super) async fn acknowledge(&self, rejected: Vec<Rejection>) {
        let ack = Ack {
            cursor: self.state.cursor.clone(),
            state_hash: self.state.hash.to_bytes().to_vec().into(),
            rejected,
            apply_us: 1,
            persisted: true,
        };
        self.messages.send(NodeMessage { kind: Some(node_message::Kind::Ack(ack)) }).await.unwrap();
    }

    pub(super) async fn ask_for_reset(&self) {
        let reset = Reset { reason: "a test wants it".to_owned() };
        self.messages.send(NodeMessage { kind: Some(node_message::Kind::Reset(reset)) }).await.unwrap();
    }

    /// Takes and acknowledges until it holds this revision; all updates on the way.
    pub(super) async fn catch_up(&mut self, revision: u64) -> Vec<Taken> {
        let mut all = Vec::new();
        while self.state.revision() < revision || all.is_empty() {
            all.push(self.take().await);
            self.acknowledge(Vec::new()).await;
        }
        all
    }
}

/// A stream of usage.
pub(super) struct Reporter {
    pub(super) batches: mpsc::Sender<UsageBatch>,
    acks: Streaming<UsageAck>,
}

impl Reporter {
    pub(super) async fn connect(stack: &Stack) -> Self {
        let link = link(stack, &token(stack));
        let channel = link.connect().await.unwrap();
        let (batches, outgoing) = mpsc::channel(8);
        let request = link.request(ReceiverStream::new(outgoing));
        let acks = UsageIngestClient::new(channel).report(request).await.unwrap().into_inner();
        Self { batches, acks }
    }

    /// Sends and awaits the acknowledgement, which must be for it.
    pub(super) async fn report(&mut self, batch: &UsageBatch) {
        self.batches.send(batch.clone()).await.unwrap();
        let ack = timeout(PATIENCE, self.acks.message()).await.unwrap().unwrap().unwrap();
        assert_eq!((ack.boot, ack.seq), (batch.boot.clone(), batch.seq));
    }
}
