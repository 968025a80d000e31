//! What a request has taken from the rules that speak of it, and what of that stays taken.

use std::time::Duration;

use super::{Account, Outcome, Record};
use crate::error::Refusal;
use crate::limit::meter::Now;
use crate::limit::reservation::{Cost, Reservation, Usage};

impl Account {
    /// What it takes from the rules.
    pub(in crate::pipeline) fn reservation(&mut self) -> &mut Reservation {
        self.reservation.get_or_insert_default()
    }

    /// Gives back what it has taken from the rules: it is not admitted after all.
    pub(in crate::pipeline) fn returns(&mut self) {
        (self.reservation, self.attempt) = (None, None);
        self.admitted = false;
    }

    /// What the attempt that comes takes from the rules of its provider.
    pub(in crate::pipeline) fn reserved_for_attempt(&mut self, reservation: Reservation) {
        self.attempt = Some(Box::new(reservation));
    }

    /// An attempt is over and is not the answer.
    pub(in crate::pipeline) fn settle_attempt(&mut self, usage: &Usage) {
        if let Some(reservation) = self.attempt.take() {
            reservation.settle(usage, self.now());
        }
    }

    /// The attempt is not made.
    pub(in crate::pipeline) fn returns_attempt(&mut self) {
        self.attempt = None;
    }

    /// Takes from the rules as much again for another attempt; `false`: there is not so much.
    pub(in crate::pipeline) fn doubles(&mut self) -> bool {
        let now = self.now();
        self.reservation.as_mut().is_none_or(|reservation| reservation.double(now))
    }

    /// This moment, on the meters' clocks.
    pub(in crate::pipeline) fn now(&self) -> Now {
        self.after(self.started.elapsed())
    }

    fn after(&self, elapsed: Duration) -> Now {
        let unix_ms = self.started_at_us / 1000 + u64::try_from(elapsed.as_millis()).unwrap_or_default();
        self.plane.meters.at(self.started + elapsed, unix_ms)
    }

    /// Whether a vendor may have worked on it: it may have gone out, and was not answered with an error.
    pub(super) fn may_have_run(&self) -> bool {
        self.upstream_status.is_none_or(|status| !status.is_client_error() && !status.is_server_error())
            && !self.refusal.is_some_and(Refusal::is_unsent)
    }

    /// Tells the rules what it came to. `tokens`: as the vendor counted them.
    pub(super) fn settle(&mut self, record: &Record, tokens: (Option<u64>, Option<u64>), duration: Duration) {
        if self.reservation.is_none() && self.attempt.is_none() {
            return;
        }
        let complete = record.outcome == Outcome::Answered;
        let may_have_run = self.may_have_run() && record.outcome != Outcome::Refused;
        let usage = Usage {
            sent: self.provider.is_some(),
            complete,
            // A whole document without counts is no model's; a stream may leave them out.
            open: may_have_run && (!complete || self.streamed),
            input: tokens.0,
            output: tokens.1,
            cost: match record.cost_nanos {
                Some(nanos) if record.estimated => Cost::Estimated(nanos),
                Some(nanos) => Cost::Told(nanos),
                None if may_have_run => Cost::Unknown,
                None => Cost::Nothing,
            },
        };
        let now = self.after(duration);
        for reservation in [self.reservation.take(), self.attempt.take()].into_iter().flatten() {
            reservation.settle(&usage, now);
        }
    }
}
