//! Sums of usage over all endpoints, providers and keys: few rows, for the questions that ask for no more than the model
//! and the outcome.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, types::Uuid};

use super::usage::{FIGURES, Sum, plus, raising};
use super::{Transaction, engine::run, period};
use crate::model::error::Error;
use crate::model::usage::{Kept, Record};

/// The columns that tell one row from another.
const GROUPS: [&str; 5] = ["organization_id", "grain", "start_us", "model", "outcome"];

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    grain: &'static str,
    start_us: i64,
    model: String,
    outcome: &'static str,
}

/// Of one batch.
#[derive(Debug, Default)]
pub(super) struct Totals(BTreeMap<Key, Sum>);

impl Totals {
    /// One more, which counts in the span that begins then.
    pub(super) fn add(&mut self, kind: Kept, start_us: i64, record: &Record, figures: &Sum) {
        let Some(grain) = kind.grain() else { return };
        let key = Key { grain, start_us, model: record.model().to_owned(), outcome: record.outcome.as_str() };
        plus(self.0.entry(key).or_default(), figures);
    }

    /// In the order of their keys, so that two batches at once cannot wait for each other.
    pub(super) async fn store(self, transaction: &mut Transaction, organization_id: Uuid) -> Result<(), Error> {
        let rows: Vec<(Key, Sum)> = self.0.into_iter().collect();
        for piece in period::pieces(&rows) {
            let sql = raising("usage_total", &GROUPS, piece.len());
            run!(transaction, connection => {
                let mut query = sqlx::query(AssertSqlSafe(sql));
                for (Key { grain, start_us, model, outcome }, sum) in piece {
                    query = query.bind(organization_id).bind(*grain).bind(start_us).bind(model).bind(*outcome);
                    for figure in sum {
                        query = query.bind(figure);
                    }
                }
                query.execute(connection).await.map(|_| ())
            })?;
        }
        Ok(())
    }
}

/// What a question reads of one span; `$5` and `$6` are the model and the outcome it asks for, if any.
pub(super) fn part(kept: Kept, from_us: i64, to_us: i64) -> String {
    format!(
        "SELECT start_us, CAST(NULL AS UUID) AS endpoint_id, CAST(NULL AS UUID) AS provider_id, \
         CAST(NULL AS UUID) AS api_key_id, model, outcome, {} FROM usage_total \
         WHERE organization_id = $1 AND grain = '{}' AND start_us >= {from_us} AND start_us < {to_us} \
         AND $2 IS NULL AND $3 IS NULL AND $4 IS NULL \
         AND ($5 IS NULL OR model = $5) AND ($6 IS NULL OR outcome = $6)",
        FIGURES.join(", "),
        kept.as_str(),
    )
}
