//! Requests that the sums have and the request log has not, so that the two can be held against each other.

use std::collections::BTreeMap;

use sqlx::types::Uuid;

use super::{Store, Transaction, engine::run};
use crate::model::error::Error;
use crate::model::usage::{Kept, Record};

/// Of one batch, by hour: requests, tokens of input, of output.
#[derive(Debug, Default)]
pub(super) struct Unlogged(BTreeMap<i64, [i64; 3]>);

impl Unlogged {
    /// One more, which counts at this time.
    pub(super) fn add(&mut self, at_us: i64, record: &Record) {
        let hour = at_us - at_us.rem_euclid(Kept::Hours.length_us());
        let figures = [1, record.input_tokens.unwrap_or(0), record.output_tokens.unwrap_or(0)];
        for (sum, figure) in self.0.entry(hour).or_default().iter_mut().zip(figures) {
            *sum = sum.saturating_add(figure);
        }
    }

    /// In the order of the hours, so that two batches at once cannot wait for each other.
    pub(super) async fn store(self, transaction: &mut Transaction, organization_id: Uuid) -> Result<(), Error> {
        for (start_us, [requests, input, output]) in self.0 {
            run!(transaction, connection => sqlx::query(
                    "INSERT INTO usage_unlogged (organization_id, start_us, requests, input_tokens, output_tokens) \
                     VALUES ($1, $2, $3, $4, $5) ON CONFLICT (organization_id, start_us) DO UPDATE SET \
                     requests = usage_unlogged.requests + excluded.requests, \
                     input_tokens = usage_unlogged.input_tokens + excluded.input_tokens, \
                     output_tokens = usage_unlogged.output_tokens + excluded.output_tokens",
                )
                .bind(organization_id).bind(start_us).bind(requests).bind(input).bind(output)
                .execute(connection).await.map(|_| ()))?;
        }
        Ok(())
    }
}

/// Forgets what is of hours that are over: a row each.
pub async fn drop_before(store: &Store, cut_us: i64) -> Result<(), Error> {
    run!(store.engine(), connection => sqlx::query("DELETE FROM usage_unlogged WHERE start_us < $1")
        .bind(cut_us).execute(connection).await.map(|_| ()))?;
    Ok(())
}
