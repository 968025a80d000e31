//! Spans of time that usage is kept in, so that what is over is dropped whole. On Postgres each is a table of its own, a
//! child of the one that everybody reads; SQLite, which has no such thing, deletes a span by its range.

use std::collections::BTreeSet;

use sqlx::AssertSqlSafe;
use time::{Date, Month, OffsetDateTime};

use super::engine::{Connection, Engine, execute, run};
use super::{Store, microseconds};
use crate::model::error::Error;
use crate::model::usage::Kept;

/// One span of one kind of rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period {
    /// Of its own table, where it has one.
    pub name: String,
    /// What is in it.
    pub kind: Kept,
    /// Unix microseconds.
    pub start_us: i64,
    /// Not in it any more.
    pub end_us: i64,
}

impl Period {
    /// The one that a moment lies in: a day of requests or minutes, a month of hours, a year of days.
    pub fn of(kind: Kept, at_us: i64) -> Self {
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_us) * 1_000);
        let day = at.unwrap_or(OffsetDateTime::UNIX_EPOCH).date();
        let first = |year, month| Date::from_calendar_date(year, month, 1).unwrap_or(day);
        let (start, end, text) = match kind {
            Kept::Requests | Kept::Minutes => {
                let text = format!("{:04}{:02}{:02}", day.year(), u8::from(day.month()), day.day());
                (day, day.next_day().unwrap_or(day), text)
            }
            Kept::Hours => {
                let (year, month) = (day.year(), day.month());
                let next = if month == Month::December { year + 1 } else { year };
                (first(year, month), first(next, month.next()), format!("{year:04}{:02}", u8::from(month)))
            }
            Kept::Days => {
                let year = day.year();
                (first(year, Month::January), first(year + 1, Month::January), format!("{year:04}"))
            }
        };
        let us = |date: Date| microseconds(date.midnight().assume_utc());
        let name = match kind.grain() {
            None => format!("usage_record_{text}"),
            Some(grain) => format!("usage_rollup_{grain}_{text}"),
        };
        Self { name, kind, start_us: us(start), end_us: us(end) }
    }

    fn parent(&self) -> &'static str {
        if self.kind.grain().is_none() { "usage_record" } else { "usage_rollup" }
    }

    /// The table that its rows are written to.
    pub fn table(&self, engine: &Engine) -> &str {
        match engine {
            Engine::Postgres(_) => &self.name,
            Engine::Sqlite { .. } => self.parent(),
        }
    }

    /// What holds for every row in it: lets Postgres leave out the others.
    fn check(&self) -> String {
        let Self { name: _, kind, start_us, end_us } = self;
        match kind.grain() {
            None => format!("started_at_us >= {start_us} AND started_at_us < {end_us}"),
            Some(grain) => format!("grain = '{grain}' AND start_us >= {start_us} AND start_us < {end_us}"),
        }
    }
}

/// Makes those that are not there yet. Two control planes at once make each once.
pub async fn ensure(store: &Store, wanted: BTreeSet<Period>) -> Result<(), Error> {
    for period in wanted {
        if store.knows_period(&period.name) {
            continue;
        }
        let mut transaction = store.engine().begin().await?;
        let made = execute!(
            transaction,
            sqlx::query(
                "INSERT INTO usage_period (name, kind, start_us, end_us) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (name) DO NOTHING",
            )
            .bind(&period.name)
            .bind(period.kind.as_str())
            .bind(period.start_us)
            .bind(period.end_us)
        )?;
        if made == 1
            && let Connection::Postgres(connection) = transaction.connection()
        {
            // All parts are ours: a name of digits, a kind, two numbers.
            let (name, parent, check) = (&period.name, period.parent(), period.check());
            let sql = format!("CREATE TABLE {name} (LIKE {parent} INCLUDING ALL, CHECK ({check})) INHERITS ({parent})");
            sqlx::query(AssertSqlSafe(sql)).execute(connection).await?;
        }
        transaction.commit().await?;
        store.learn_period(&period.name);
    }
    Ok(())
}

/// Drops every span of a kind that ended before `cut_us`; how many.
pub async fn drop_before(store: &Store, kind: Kept, cut_us: i64) -> Result<usize, Error> {
    let over: Vec<(String, i64)> = run!(store.engine(), connection => sqlx::query_as(
            "SELECT name, start_us FROM usage_period WHERE kind = $1 AND end_us <= $2 ORDER BY end_us",
        )
        .bind(kind.as_str()).bind(cut_us).fetch_all(connection).await)?;
    for (name, start_us) in &over {
        let period = Period::of(kind, *start_us);
        let mut transaction = store.engine().begin().await?;
        let ours = execute!(transaction, sqlx::query("DELETE FROM usage_period WHERE name = $1").bind(name))?;
        if ours == 1 {
            let sql = match store.engine() {
                Engine::Postgres(_) => format!("DROP TABLE {name}"),
                Engine::Sqlite { .. } => format!("DELETE FROM {} WHERE {}", period.parent(), period.check()),
            };
            execute!(transaction, sqlx::query(AssertSqlSafe(sql)))?;
            execute!(
                transaction,
                sqlx::query("DELETE FROM usage_total WHERE grain = $1 AND start_us >= $2 AND start_us < $3")
                    .bind(kind.grain())
                    .bind(period.start_us)
                    .bind(period.end_us)
            )?;
        }
        transaction.commit().await?;
        store.forget_period(name);
    }
    Ok(over.len())
}

/// Since when there are rows of a kind; none: there are none.
pub async fn since(transaction: &mut super::Transaction, kind: Kept) -> Result<Option<i64>, Error> {
    Ok(run!(transaction, connection =>
        sqlx::query_scalar("SELECT MIN(start_us) FROM usage_period WHERE kind = $1")
            .bind(kind.as_str()).fetch_one(connection).await)?)
}

/// `($1, $2), ($3, $4), ..`
pub(super) fn placeholders(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let binds: Vec<String> = (1..=columns).map(|column| format!("${}", row * columns + column)).collect();
        format!("({})", binds.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// So many rows at once that few texts of statements serve all lengths: 64 while there are, then powers of two.
pub(super) fn pieces<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let most = if rows.len() >= 64 { 64 } else { (rows.len() + 1).next_power_of_two() / 2 };
        let (piece, rest) = rows.split_at(most);
        rows = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(year: i32, month: Month, day: u8) -> i64 {
        microseconds(Date::from_calendar_date(year, month, day).unwrap().midnight().assume_utc())
    }

    #[test]
    fn a_period_ends_where_the_next_begins_at_a_months_and_a_years_end() {
        let last = at(2024, Month::February, 29);
        let day = Period::of(Kept::Requests, last + 1);
        assert_eq!((day.name.as_str(), day.start_us), ("usage_record_20240229", last));
        assert_eq!(day.end_us, at(2024, Month::March, 1));
        let month = Period::of(Kept::Hours, at(2024, Month::December, 31));
        assert_eq!((month.name.as_str(), month.end_us), ("usage_rollup_hour_202412", at(2025, Month::January, 1)));
        assert_eq!(Period::of(Kept::Hours, month.end_us).name, "usage_rollup_hour_202501");
        let year = Period::of(Kept::Days, month.end_us - 1);
        assert_eq!((year.start_us, year.end_us), (at(2024, Month::January, 1), month.end_us));
        assert_eq!(Period::of(Kept::Minutes, month.end_us).start_us, month.end_us);
    }

    #[test]
    fn pieces_hold_everything_in_order_and_are_of_few_lengths() {
        let rows: Vec<u32> = (0..203).collect();
        let pieces: Vec<&[u32]> = pieces(&rows).collect();
        assert_eq!(pieces.concat(), rows);
        assert_eq!(pieces.iter().map(|piece| piece.len()).collect::<Vec<_>>(), [64, 64, 64, 8, 2, 1]);
        assert_eq!(placeholders(2, 3), "($1, $2, $3), ($4, $5, $6)");
    }
}
