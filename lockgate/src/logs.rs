//! `lockgate logs`: the request log, a line for each request, and what is added to it.
//!
//! Following never loses a request that is recorded: after each interruption the list is read again, and what was
//! printed before is left out.

use std::collections::{HashSet, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, Watching};
use crate::command::{Filter, Logs};
use crate::ledger::{list, query, word};

/// Between two attempts to come back.
const PAUSE: Duration = Duration::from_secs(1);
/// So many ids are remembered, so that nothing is printed twice.
const REMEMBERED: usize = 4_096;
/// So many at most were recorded while nobody listened; what is beyond is said to be missing.
const CAUGHT_UP: u32 = 500;

/// Prints with `print`, which says whether anybody still reads.
pub(crate) async fn show(
    options: &Logs,
    stop: &CancellationToken,
    mut print: impl FnMut(&str) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let client = options.api.client()?;
    let mut printed = Printed::default();
    // Listened before it is read: nothing falls in between.
    let mut watching = if options.follow { Some(client.watch("/api/v1/events").await?) } else { None };
    let rows = if options.limit == 0 { Vec::new() } else { read(&client, &options.filter, options.limit).await? };
    if !rows.iter().filter(|row| printed.is_new(row)).map(|row| print(&line(row, options.json))).try_fold(true, also)? {
        return Ok(());
    }
    while let Some(events) = &mut watching {
        let ended = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            followed = follow(events, options, &mut printed, &mut print) => followed?,
        };
        if matches!(ended, Ended::Reader) {
            return Ok(());
        }
        eprint_line("the control plane has gone; waiting for it to come back");
        let back = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            back = come_back(&client) => back?,
        };
        let missed = read(&client, &options.filter, CAUGHT_UP).await?;
        let missed: Vec<&Value> = missed.iter().filter(|row| printed.is_new(row)).collect();
        eprint_line("it is back");
        if missed.len() == CAUGHT_UP as usize {
            eprint_line("more requests ended meanwhile than are caught up on; lockgate usage counts them all");
        }
        if !missed.into_iter().map(|row| print(&line(row, options.json))).try_fold(true, also)? {
            return Ok(());
        }
        watching = Some(back);
    }
    Ok(())
}

fn also(so_far: bool, next: anyhow::Result<bool>) -> anyhow::Result<bool> {
    Ok(so_far && next?)
}

/// Why following ended.
enum Ended {
    /// The control plane is away.
    Stream,
    /// Nobody reads any more.
    Reader,
}

async fn follow(
    events: &mut Watching,
    options: &Logs,
    printed: &mut Printed,
    print: &mut impl FnMut(&str) -> anyhow::Result<bool>,
) -> anyhow::Result<Ended> {
    while let Some(event) = events.next().await {
        let Some(row) = (event.name == "request").then(|| serde_json::from_str(&event.data).ok()).flatten() else {
            continue;
        };
        if matches(&options.filter, &row) && printed.is_new(&row) && !print(&line(&row, options.json))? {
            return Ok(Ended::Reader);
        }
    }
    Ok(Ended::Stream)
}

/// Until there is a stream again. A token that no longer holds never will.
async fn come_back(client: &Client) -> anyhow::Result<Watching> {
    loop {
        tokio::time::sleep(PAUSE).await;
        match client.watch("/api/v1/events").await {
            Ok(watching) => return Ok(watching),
            Err(error) if error.is::<crate::client::Refused>() => return Err(error),
            Err(_) => {}
        }
    }
}

/// The newest, the oldest of them first.
async fn read(client: &Client, filter: &Filter, limit: u32) -> anyhow::Result<Vec<Value>> {
    let mut parameters = filter.parameters();
    parameters.push(("limit", limit.to_string()));
    let listed = client.get(&format!("/api/v1/requests{}", query(&parameters))).await?.ok()?;
    Ok(list(&listed["data"]).iter().rev().cloned().collect())
}

#[derive(Default)]
struct Printed {
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Printed {
    /// Whether it has not been asked about before.
    fn is_new(&mut self, row: &Value) -> bool {
        let id = word(&row["id"]);
        if !self.ids.insert(id.clone()) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

/// As the API would choose them.
fn matches(filter: &Filter, row: &Value) -> bool {
    let Filter { endpoint, provider, key, model, outcome } = filter;
    let is = |wanted: &Option<String>, member: &str| {
        wanted.as_deref().is_none_or(|wanted| row[member].as_str() == Some(wanted))
    };
    let served = if row["servedModel"].is_null() { "requestedModel" } else { "servedModel" };
    is(endpoint, "endpoint")
        && is(provider, "provider")
        && is(key, "key")
        && is(model, served)
        && is(outcome, "outcome")
}

fn line(row: &Value, json: bool) -> String {
    if json {
        return format!("{row}\n");
    }
    let or = |member: &str, other: &str| match &row[member] {
        Value::Null => other.to_owned(),
        told => word(told),
    };
    let model = if row["servedModel"].is_null() { or("requestedModel", "-") } else { or("servedModel", "-") };
    let mut text = format!("{} {} {}", or("at", "-"), or("status", "---"), or("outcome", "-"));
    if !row["refusal"].is_null() {
        // Writing to a string cannot fail, here and below.
        let _ = write!(text, " ({})", word(&row["refusal"]));
    }
    let _ = write!(text, " {} {} key={} {}", or("method", "-"), or("endpoint", "-"), or("key", "-"), model);
    let _ = write!(text, " tokens={}/{}", or("inputTokens", "?"), or("outputTokens", "?"));
    let cost = if row["unpriced"] == Value::Bool(true) { "unpriced".to_owned() } else { or("cost", "?") };
    let _ = writeln!(text, " cost={cost} {} ms {}", or("durationMs", "?"), or("id", "-"));
    text
}

fn eprint_line(text: &str) {
    use std::io::Write as _;
    // Nothing is left to do if stderr is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_says_what_is_unknown_and_what_is_not_priced() {
        let row = json!({"id": "req_1", "at": "2026-01-01T00:00:00Z", "status": 429, "outcome": "refused",
            "refusal": "limit_exceeded", "method": "POST", "endpoint": "openai", "key": "ci", "requestedModel": "gpt-4o",
            "servedModel": null, "inputTokens": null, "outputTokens": 0, "unpriced": true, "durationMs": 3});
        assert_eq!(
            line(&row, false),
            "2026-01-01T00:00:00Z 429 refused (limit_exceeded) POST openai key=ci gpt-4o tokens=?/0 cost=unpriced 3 ms \
             req_1\n"
        );
    }

    #[test]
    fn what_was_printed_is_not_printed_again() {
        let mut printed = Printed::default();
        let row = |number: usize| json!({ "id": format!("req_{number}") });
        assert!((0..REMEMBERED).all(|number| printed.is_new(&row(number))));
        assert!((0..REMEMBERED).all(|number| !printed.is_new(&row(number))));
        assert!(printed.is_new(&row(REMEMBERED)), "and the oldest is forgotten");
        assert_eq!((printed.ids.len(), printed.order.len()), (REMEMBERED, REMEMBERED));
    }

    #[test]
    fn followed_requests_are_chosen_as_listed_ones_are() {
        let none = Filter { endpoint: None, provider: None, key: None, model: None, outcome: None };
        let row =
            json!({"endpoint": "a", "key": "k", "outcome": "answered", "requestedModel": "x", "servedModel": "y"});
        assert!(matches(&none, &row));
        assert!(matches(&Filter { model: Some("y".to_owned()), endpoint: Some("a".to_owned()), ..none.clone() }, &row));
        assert!(!matches(&Filter { model: Some("x".to_owned()), ..none.clone() }, &row), "served by another");
        assert!(!matches(&Filter { provider: Some("p".to_owned()), ..none }, &row), "nobody was asked");
    }
}
