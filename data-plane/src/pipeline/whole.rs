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
    /// What would ask for usage; `None`: it asks already, or nobody wants it to.
    asking: Option<Change>,
    /// Where the model's name stands, if anything depends on it.
    name: Option<Range<usize>>,
    /// Of the process's budget.
    _held: Held,
}

impl Whole {
    /// Takes it in, as long as it is no more than `most` bytes. `held` is enough for a body that says its length, and
    /// grows with another.
    pub(super) async fn receive(mut source: Source, most: usize, mut held: Held) -> Result<Self, Refusal> {
        let announced = source.length().is_some();
        let (mut pieces, name) = source.hand_over();
        let mut length: usize = pieces.iter().map(Bytes::len).sum();
        while let Some(piece) = source.next().await {
            let piece = piece?;
            length += piece.len();
            if length > most {
                return Err(Refusal::BodyTooLarge);
            }
            if !announced && !held.grow(piece.len() as u64) {
                return Err(Refusal::Overloaded);
            }
            pieces.push(piece);
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
        Ok(Self { body, asking: None, name, _held: held })
    }

    /// All of it, as the client sent it.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// Finds out how it would ask for usage; not with one of these members at its top.
    pub(super) fn prepare_to_ask(&mut self, unless: &[Box<str>]) {
        self.asking = ask::asking(&self.body, unless);
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
