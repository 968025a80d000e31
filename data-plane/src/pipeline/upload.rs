//! The body of a request on its way to the vendor: counted, limited, timed, and read for its model as it passes; never
//! held. Trailers end here.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::clock::Clock;
use crate::dialect::pointer::Slot;
use crate::dialect::scan::{Scalar, Scanner, Sink};
use crate::error::Refusal;
use crate::runtime::endpoint::Endpoint;
use crate::upstream::line::BodyFailed;

/// What is known of an upload, for those who do not carry it.
#[derive(Debug, Default)]
pub(super) struct Upload {
    bytes: AtomicU64,
    fault: AtomicU8,
    model: OnceLock<Box<str>>,
}

const TOO_LARGE: u8 = 1;
const STALLED: u8 = 2;
const BROKEN: u8 = 3;

impl Upload {
    /// Received so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// So many more have gone on by another way than [`Inbound`].
    pub(super) fn passed(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// As the body names it.
    pub(super) fn model(&self) -> Option<&str> {
        self.model.get().map(|model| &**model)
    }

    /// Why it ended early.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self.fault.load(Ordering::Relaxed) {
            TOO_LARGE => Some(Refusal::BodyTooLarge),
            STALLED => Some(Refusal::BodyStalled),
            BROKEN => Some(Refusal::BodyBroken),
            _ => None,
        }
    }
}

/// The carrier.
pub(super) struct Inbound {
    body: Incoming,
    upload: Arc<Upload>,
    limit: u64,
    patience: Duration,
    clock: Option<Clock>,
    scan: Option<(Arc<Endpoint>, Scanner)>,
}

impl Inbound {
    /// `reads_model`: the endpoint whose template says where the model stands in a JSON body.
    pub(super) fn new(
        body: Incoming,
        upload: Arc<Upload>,
        limit: u64,
        patience: Duration,
        reads_model: Option<Arc<Endpoint>>,
    ) -> Self {
        let scan = reads_model.map(|endpoint| {
            let scanner = Scanner::new(&endpoint.template.model.body);
            (endpoint, scanner)
        });
        Self { body, upload, limit, patience, clock: None, scan }
    }

    fn take(&mut self, data: &Bytes) -> Result<(), BodyFailed> {
        let length = data.len() as u64;
        let total = self.upload.bytes.fetch_add(length, Ordering::Relaxed) + length;
        if total > self.limit {
            return Err(self.fail(TOO_LARGE));
        }
        if let Some((endpoint, scanner)) = &mut self.scan {
            let mut model = Model { upload: &self.upload };
            scanner.feed(&endpoint.template.model.body, data, &mut model);
            if scanner.is_over() || self.upload.model.get().is_some() {
                self.scan = None;
            }
        }
        Ok(())
    }

    fn fail(&self, fault: u8) -> BodyFailed {
        self.upload.fault.store(fault, Ordering::Relaxed);
        BodyFailed
    }
}

struct Model<'a> {
    upload: &'a Upload,
}

impl Sink for Model<'_> {
    fn value(&mut self, _slot: Slot, scalar: Scalar<'_>) {
        if let Scalar::Text(text) = scalar {
            // The first one stays; a second is the client's own contradiction.
            let _ = self.upload.model.set(text.into());
        }
    }

    fn end(&mut self) {}
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = BodyFailed;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFailed>>> {
        let this = self.get_mut();
        loop {
            match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(clock) = &mut this.clock {
                        clock.arrived();
                    }
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(this.take(&data).map(|()| Frame::data(data))));
                    }
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(this.fail(BROKEN)))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    let clock = this.clock.get_or_insert_with(|| Clock::start(this.patience));
                    return clock.poll_late(context).map(|()| Some(Err(this.fail(STALLED))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
