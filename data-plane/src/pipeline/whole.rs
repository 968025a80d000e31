//! A request whose body was taken in before anything was sent, because something in it is to be changed for some of
//! the vendors it may go to.

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use super::upload::Source;
use crate::dialect::ask::{self, Change};
use crate::error::Refusal;
use crate::limit::Held;
use crate::upstream::line::BodyFailed;

/// The body, and what may change in it.
pub(super) struct Whole {
    body: Bytes,
    asking: Option<Change>,
    /// Where the model's name stands, if anything depends on it.
    name: Option<Range<usize>>,
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
        let (mut pieces, name) = source.hand_over();
        while let Some(piece) = source.next().await {
            pieces.push(piece?);
        }
        let body = match <[Bytes; 1]>::try_from(pieces) {
            // Most come in one piece.
            Ok([body]) => body,
            Err(pieces) => {
                let mut body = BytesMut::with_capacity(length);
                body.extend(pieces);
                body.freeze()
            }
        };
        let asking = ask::asking(&body, unless);
        Ok(Self { body, asking, name, _held: held })
    }

    /// Whether it would ask where it did not.
    pub(super) fn may_ask(&self) -> bool {
        self.asking.is_some()
    }

    /// As it is sent; `name`: in place of the model's.
    pub(super) fn pack(&self, asks: bool, name: Option<Bytes>) -> Pieces {
        let asking = self.asking.as_ref().filter(|_| asks);
        let asking = asking.map(|change| (change.goes.clone(), Bytes::from_static(change.comes)));
        let mut changes = [asking, self.name.clone().zip(name)];
        changes.sort_by_key(|change| change.as_ref().map(|(goes, _)| goes.start));
        let (mut pieces, mut passed) = (<[Bytes; 5]>::default(), 0);
        let mut put = {
            let mut places = pieces.iter_mut();
            move |piece: Bytes| {
                if let Some(place) = places.next() {
                    *place = piece;
                }
            }
        };
        for (goes, comes) in changes.into_iter().flatten() {
            put(self.body.slice(passed..goes.start));
            put(comes);
            passed = goes.end;
        }
        put(self.body.slice(passed..));
        Pieces(pieces)
    }
}

/// On its way to one vendor.
pub(super) struct Pieces([Bytes; 5]);

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
