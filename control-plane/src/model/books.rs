//! Whether usage balances: what nodes say they started and settled against what the ledger has, and the sums against
//! the records they were made of.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

/// What a process of a node says of its requests: `started = settled + inFlight + unsettled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Books {
    /// Requests about to be sent, those that an earlier process left open included.
    pub started: i64,
    /// Of these, those whose records are in a batch.
    pub settled: i64,
    /// Of these, those that were open, or whose records were not yet in a batch.
    pub in_flight: i64,
    /// Of these, those that an earlier process left open, or whose records were lost.
    pub unsettled: i64,
    /// Records that are in no batch and never will be, refusals included.
    pub lost: i64,
    /// Records in all batches up to the one that says so.
    pub records: i64,
}

impl Books {
    /// 0, or the node has miscounted.
    pub const fn drift(&self) -> i64 {
        self.started - self.settled - self.in_flight - self.unsettled
    }
}

/// One process of a node, as the ledger knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BootAudit {
    /// Name of the gateway; its id once it is gone.
    pub gateway: String,
    /// Name of the node.
    pub node: String,
    /// The process.
    pub boot: Uuid,
    /// When its newest batch was counted.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Batches counted.
    pub batches: i64,
    /// Batches between them that never came.
    pub missing: i64,
    /// Records in the batches.
    pub records: i64,
    /// Of these, those that could not be read.
    pub unreadable: i64,
    /// Of these, those that were in the ledger before.
    pub known: i64,
    /// As its newest batch says; absent: it keeps no books.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub books: Option<Books>,
    /// What does not balance, in words; empty: all does.
    pub wrong: Vec<String>,
}

impl BootAudit {
    /// Says what does not balance.
    pub fn judge(&mut self) {
        let mut say = |wrong: bool, text: String| {
            if wrong {
                self.wrong.push(text);
            }
        };
        say(self.missing > 0, format!("{} batches never arrived; their records are lost", self.missing));
        say(self.unreadable > 0, format!("{} records could not be read", self.unreadable));
        let Some(books) = &self.books else { return };
        let drift = books.drift();
        say(drift != 0, format!("started differs from settled + in flight + unsettled by {drift}"));
        say(books.lost > 0, format!("{} records found no room on the node and are lost", books.lost));
        let apart = books.records - self.records;
        say(
            apart != 0 && self.missing == 0,
            format!("the node numbered {} records, {} came", books.records, self.records),
        );
    }
}

/// One kind of sum against what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SumAudit {
    /// What was compared.
    pub name: String,
    /// As it is counted.
    pub counted: i64,
    /// As it should be.
    pub expected: i64,
}

/// Everything that was compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageAudit {
    /// The beginning of the time whose sums were compared, a whole hour.
    #[serde(with = "time::serde::rfc3339")]
    pub from: OffsetDateTime,
    /// Its end, a whole hour, not included.
    #[serde(with = "time::serde::rfc3339")]
    pub to: OffsetDateTime,
    /// Every process that was heard within that time, the newest first.
    pub boots: Vec<BootAudit>,
    /// The sums.
    pub sums: Vec<SumAudit>,
    /// Requests within that time of which nobody knows how they ended: their node died.
    pub unsettled: i64,
    /// Requests within that time that are in the sums and not in the log: beyond `log_per_second`, or too late for it.
    pub unlogged: i64,
    /// Nothing drifts and nothing is missing.
    pub balanced: bool,
}
