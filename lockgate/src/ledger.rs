//! `lockgate audit usage` and `lockgate explain`: what the ledger says, for people, and an exit code for machines.

use std::fmt::Write as _;

use anyhow::Context as _;
use serde_json::Value;

use crate::command::{AuditUsage, Explain};

/// What was found, and whether it balances.
pub(crate) struct Balance {
    pub(crate) text: String,
    pub(crate) balanced: bool,
}

/// Asks for the audit.
pub(crate) async fn audit(options: &AuditUsage) -> anyhow::Result<Balance> {
    let times = [("from", &options.from), ("to", &options.to)];
    let times: Vec<_> = times.into_iter().filter_map(|(name, time)| Some((name, time.clone()?))).collect();
    let audit = options.api.client()?.get(&format!("/api/v1/usage/audit{}", query(&times))).await?.ok()?;
    Ok(Balance { text: told(&audit), balanced: audit["balanced"] == Value::Bool(true) })
}

/// Asks for one request.
pub(crate) async fn explain(options: &Explain) -> anyhow::Result<String> {
    let answer = options.api.client()?.get(&format!("/api/v1/requests/{}", escaped(&options.id))).await?;
    let trace = answer.found()?.with_context(|| {
        format!("no request {} in the ledger; if it has just ended, ask again in a second", options.id)
    })?;
    Ok(traced(&trace.ok()?))
}

fn told(audit: &Value) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(text, "usage from {} to {}", word(&audit["from"]), word(&audit["to"]));
    for boot in list(&audit["boots"]) {
        let _ = writeln!(
            text,
            "node {} of {}, process {}: {} records in {} batches, last at {}",
            word(&boot["node"]),
            word(&boot["gateway"]),
            word(&boot["boot"]),
            boot["records"],
            boot["batches"],
            word(&boot["at"]),
        );
        if let Some(books) = boot["books"].as_object() {
            let _ = writeln!(
                text,
                "  started {} = settled {} + in flight {} + unsettled {}",
                books["started"], books["settled"], books["inFlight"], books["unsettled"],
            );
        }
        for wrong in list(&boot["wrong"]) {
            let _ = writeln!(text, "  WRONG: {}", word(wrong));
        }
    }
    for sum in list(&audit["sums"]) {
        let verdict = if sum["counted"] == sum["expected"] { "" } else { "WRONG: " };
        let _ = writeln!(text, "{verdict}{}: {} of {}", word(&sum["name"]), sum["counted"], sum["expected"]);
    }
    let _ = writeln!(text, "unsettled requests, whose node died: {}", audit["unsettled"]);
    if let Some(unlogged) = audit["unlogged"].as_i64().filter(|unlogged| *unlogged > 0) {
        let _ = writeln!(text, "requests that are counted and not in the log: {unlogged}");
    }
    let verdict = if audit["balanced"] == Value::Bool(true) { "usage balances" } else { "usage does NOT balance" };
    let _ = writeln!(text, "{verdict}");
    text
}

fn traced(trace: &Value) -> String {
    let mut text = format!("{}\n{}\n", word(&trace["id"]), word(&trace["explanation"]));
    let facts = [
        ("at", "at"),
        ("request", "method"),
        ("path", "path"),
        ("endpoint", "endpoint"),
        ("key", "key"),
        ("node", "node"),
        ("revision", "revision"),
        ("outcome", "outcome"),
        ("status", "status"),
        ("refusal", "refusal"),
        ("model asked for", "requestedModel"),
        ("model served", "servedModel"),
        ("input tokens", "inputTokens"),
        ("output tokens", "outputTokens"),
        ("duration, ms", "durationMs"),
        ("first byte, ms", "firstByteMs"),
    ];
    for (name, member) in facts {
        if !trace[member].is_null() {
            let _ = writeln!(text, "  {name:<16} {}", word(&trace[member]));
        }
    }
    for (number, attempt) in list(&trace["attempts"]).iter().enumerate() {
        let came = if attempt["status"].is_null() { &attempt["failure"] } else { &attempt["status"] };
        let (number, provider) = (number + 1, word(&attempt["provider"]));
        let _ = writeln!(text, "  attempt {number:<8} {provider}: {}", word(came));
    }
    text
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text without its quotes, anything else as it is.
pub(crate) fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// With its question mark, unless there is nothing to ask.
pub(crate) fn query(parameters: &[(&str, String)]) -> String {
    parameters.iter().enumerate().fold(String::new(), |mut query, (at, (name, value))| {
        let _ = write!(query, "{}{name}={}", if at == 0 { '?' } else { '&' }, escaped(value));
        query
    })
}

/// For a path or a query.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if plain(byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_does_not_balance_is_said_where_it_is() {
        let boot = json!({
            "node": "node-1", "gateway": "default", "boot": "0190", "records": 2, "batches": 1, "at": "now",
            "books": {"started": 3, "settled": 1, "inFlight": 0, "unsettled": 1},
            "wrong": ["started differs from settled + in flight + unsettled by 1"],
        });
        let sums = json!([{"name": "requests by hour, against the records", "counted": 2, "expected": 3}]);
        let audit = json!({"from": "a", "to": "b", "boots": [boot], "sums": sums, "unsettled": 1, "balanced": false});
        let text = told(&audit);
        assert!(text.contains("  WRONG: started differs"), "{text}");
        assert!(text.contains("WRONG: requests by hour, against the records: 2 of 3"), "{text}");
        assert!(text.ends_with("usage does NOT balance\n"), "{text}");
    }

    #[test]
    fn what_people_type_stays_one_segment() {
        assert_eq!(escaped("req_1/../x?y"), "req_1%2F..%2Fx%3Fy");
        assert_eq!(query(&[("key", "a&b".to_owned()), ("limit", "1".to_owned())]), "?key=a%26b&limit=1");
        assert_eq!(query(&[]), "");
    }
}
