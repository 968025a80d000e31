//! `lockgate usage`: sums of usage, as a table for people, as CSV or as the API tells them.

use std::fmt::Write as _;

use anyhow::Context as _;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::command::{Format, Interval, Usage};
use crate::ledger::{list, query, word};

/// Asks for sums; what to print.
pub(crate) async fn ask(options: &Usage, now: OffsetDateTime) -> anyhow::Result<String> {
    let path = format!("/api/v1/usage{}", query(&parameters(options, now)?));
    let usage = options.api.client()?.get(&path).await?.ok()?;
    Ok(match options.format {
        Format::Table => table(&usage, &columns(options)),
        Format::Csv => word(&usage),
        Format::Json => format!("{usage:#}\n"),
    })
}

fn parameters(options: &Usage, now: OffsetDateTime) -> anyhow::Result<Vec<(&'static str, String)>> {
    let span = &options.span;
    let mut parameters = options.filter.parameters();
    let from = match span.last {
        Some(last) => {
            let from = now.checked_sub(last).context("--last goes back further than there is time")?;
            Some(from.format(&Rfc3339).context("--last goes back further than there is time")?)
        }
        None => span.from.clone(),
    };
    let interval = options.interval.map(|interval| match interval {
        Interval::Minute => "minute".to_owned(),
        Interval::Hour => "hour".to_owned(),
        Interval::Day => "day".to_owned(),
    });
    let format = (options.format == Format::Csv).then(|| "csv".to_owned());
    let more = [
        ("from", from),
        ("to", span.to.clone()),
        ("groupBy", options.group_by.clone()),
        ("interval", interval),
        ("format", format),
    ];
    parameters.extend(more.into_iter().filter_map(|(name, value)| Some((name, value?))));
    Ok(parameters)
}

/// Titles, and the members that stand below them.
fn columns(options: &Usage) -> Vec<(String, &'static str)> {
    let mut columns = Vec::new();
    if options.interval.is_some() {
        columns.push(("start".to_owned(), "start"));
    }
    for group in options.group_by.iter().flat_map(|groups| groups.split(',')).map(str::trim) {
        let known = ["key", "endpoint", "proxy", "provider", "model", "outcome"];
        match (known.into_iter().find(|known| *known == group), group.strip_prefix("label:")) {
            (Some(known), _) => columns.push((known.to_owned(), known)),
            (None, Some(label)) => columns.push((label.to_owned(), "label")),
            // Nothing else was answered.
            (None, None) => {}
        }
    }
    columns
}

/// The figures of a line, and how they are told.
const FIGURES: [(&str, &str); 7] = [
    ("requests", "requests"),
    ("refused", "refused"),
    ("errors", "errors"),
    ("input", "inputTokens"),
    ("output", "outputTokens"),
    ("unpriced", "unpricedRequests"),
    ("cost", "cost"),
];

fn table(usage: &Value, groups: &[(String, &'static str)]) -> String {
    let head = groups.iter().map(|(title, _)| title.clone()).chain(FIGURES.map(|(title, _)| title.to_owned()));
    let mut rows: Vec<Vec<String>> = vec![head.collect()];
    let figures = |row: &Value| FIGURES.map(|(_, member)| word(&row[member]));
    for row in list(&usage["data"]) {
        let cells = groups.iter().map(|(_, member)| match &row[*member] {
            Value::Null => "-".to_owned(),
            told => word(told),
        });
        rows.push(cells.chain(figures(row)).collect());
    }
    if !groups.is_empty() {
        let first = groups.iter().enumerate().map(|(at, _)| if at == 0 { "total".to_owned() } else { String::new() });
        rows.push(first.chain(figures(&usage["totals"])).collect());
    } else if rows.len() == 1 {
        rows.push(figures(&usage["totals"]).into());
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..groups.len() + FIGURES.len()).map(width).collect();
    let mut text = format!("{} to {}\n", word(&usage["from"]), word(&usage["to"]));
    for row in &rows {
        let mut line = String::new();
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = if at == 0 { "" } else { "  " };
            // Names to the left, numbers to the right. Writing to a string cannot fail.
            let _ = if at < groups.len() {
                write!(line, "{gap}{cell:<width$}")
            } else {
                write!(line, "{gap}{cell:>width$}")
            };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn figures(requests: u64, cost: &str) -> Value {
        json!({"requests": requests, "refused": 0, "errors": 1, "inputTokens": 1200, "outputTokens": 7,
               "unpricedRequests": 2, "cost": cost})
    }

    #[test]
    fn a_table_has_its_groups_on_the_left_and_its_sum_below() {
        let row = |model: Value, requests, cost: &str| {
            let mut row = figures(requests, cost);
            row["model"] = model;
            row
        };
        let data = json!([row(json!("gpt-4o"), 12, "0.10"), row(Value::Null, 3, "0.00")]);
        let usage = json!({"data": data, "totals": figures(15, "0.10"), "from": "a", "to": "b"});
        let expected = "\
a to b
model   requests  refused  errors  input  output  unpriced  cost
gpt-4o        12        0       1   1200       7         2  0.10
-              3        0       1   1200       7         2  0.00
total         15        0       1   1200       7         2  0.10
";
        assert_eq!(table(&usage, &[("model".to_owned(), "model")]), expected);
        let nothing = json!({"data": [], "totals": figures(0, "0.00"), "from": "a", "to": "b"});
        assert_eq!(table(&nothing, &[]).lines().count(), 3, "zero is told");
    }
}
