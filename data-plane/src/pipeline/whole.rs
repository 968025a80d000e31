//! A request whose body was taken in before anything was sent, because something in it is to be changed for some of
//! the vendors it may go to.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use super::upload::Source;
use crate::dialect::ask::{self, Change};
use crate::error::Refusal;
use crate::limit::Held;
use crate::upstream::line::BodyFailed;

/// The body, and how it asks for usage.
pub(super) struct Whole {
    body: Bytes,
    asking: Option<Change>,
    /// Of the process's budget.
    _held: Held,
}

impl Whole {
    /// Takes it in.
    pub(super) async fn receive(
        mut source: Source,
        length: usize,
        unless: &[Box<str>],
        held: Held,
    ) -> Result<Self, Refusal> {
        let body = match source.next().await {
            None => Bytes::new(),
            Some(first) => {
                let first = first?;
                // Most come in one piece.
                if first.len() == length {
                    first
                } else {
                    let mut body = BytesMut::with_capacity(length);
                    body.extend_from_slice(&first);
                    while let Some(piece) = source.next().await {
                        body.extend_from_slice(&piece?);
                    }
                    body.freeze()
                }
            }
        };
        // Says that it has ended.
        if let Some(more) = source.next().await {
            more?;
        }
        let asking = ask::asking(&body, unless);
        Ok(Self { body, asking, _held: held })
    }

    /// Whether it would ask where it did not.
    pub(super) fn may_ask(&self) -> bool {
        self.asking.is_some()
    }

    /// As it is sent.
    pub(super) fn pack(&self, asks: bool) -> Pieces {
        let pieces = match &self.asking {
            Some(change) if asks => change.apply(&self.body),
            Some(_) | None => [self.body.clone(), Bytes::new(), Bytes::new()],
        };
        Pieces(pieces)
    }
}

/// On its way to one vendor.
pub(super) struct Pieces([Bytes; 3]);

impl Pieces {
    /// All of them.
    pub(super) fn len(&self) -> u64 {
        self.0.iter().map(|piece| piece.len() as u64).sum()
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = BodyFailed;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFailed>>> {
        let next = self.get_mut().0.iter_mut().find(|piece| !piece.is_empty());
        Poll::Ready(next.map(|piece| Ok(Frame::data(std::mem::take(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.len() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len())
    }
}
