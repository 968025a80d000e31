//! The five scripted vendors as a process, for tests that are not written in Rust.
//!
//! Prints one JSON object with each vendor's URL, credential and model, then takes one command a line on its input and
//! answers each with one line. Ends with its input.
//!
//! ```text
//! {"do": "always", "vendor": "openai", "error": 429, "message": "slow down", "headers": {"retry-after": "7"}}
//! {"do": "always", "vendor": "openai", "hold_after": 2}        the first events of a stream, then nothing more
//! {"do": "always", "vendor": "openai", "bad_credential": true}     as this vendor says it
//! {"do": "usual",  "vendor": "openai"}                         like the vendor again
//! {"do": "seen",   "vendor": "openai"}                         every request since the last time this was asked
//! {"do": "breaches"}                                           what no gateway may do and this one did
//! ```
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{collections::HashMap, time::UNIX_EPOCH};

use serde_json::{Value, json};
use tests::{
    Answer, Upstream, Vendor,
    upstream::{End, Seen},
};
use tokio::io::{AsyncBufReadExt as _, BufReader};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut vendors = HashMap::new();
    for vendor in Vendor::ALL {
        vendors.insert(vendor.name(), (Upstream::start(vendor).await, 0_usize));
    }
    let table: HashMap<&str, Value> = vendors
        .iter()
        .map(|(name, (upstream, _))| {
            let facts = json!({
                "url": upstream.url(), "credential": upstream.credential(), "model": upstream.vendor().model(),
                "text": Vendor::TEXT,
            });
            (*name, facts)
        })
        .collect();
    println!("{}", serde_json::to_string(&table)?);
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let command: Value = serde_json::from_str(&line)?;
        println!("{}", obey(&command, &mut vendors)?);
    }
    Ok(())
}

fn obey(command: &Value, vendors: &mut HashMap<&str, (Upstream, usize)>) -> anyhow::Result<Value> {
    if command["do"] == "breaches" {
        return Ok(vendors.values().flat_map(|(upstream, _)| upstream.take_breaches()).collect());
    }
    let name = command["vendor"].as_str().unwrap_or_default();
    let (upstream, known) = vendors.get_mut(name).ok_or_else(|| anyhow::anyhow!("no vendor {name:?}"))?;
    match command["do"].as_str() {
        Some("always") => {
            upstream.always(answer(command, upstream.vendor())?);
            Ok(json!({}))
        }
        Some("usual") => {
            upstream.as_usual();
            Ok(json!({}))
        }
        Some("seen") => {
            let seen = upstream.seen();
            // An exchange that is still open is told again the next time, then with its end.
            let new: Vec<Value> = seen[*known..].iter().map(describe).collect();
            *known += seen[*known..].iter().take_while(|seen| seen.end() != End::Open).count();
            Ok(Value::Array(new))
        }
        other => anyhow::bail!("no command {other:?}"),
    }
}

fn answer(command: &Value, vendor: Vendor) -> anyhow::Result<Answer> {
    if let Some(count) = command["hold_after"].as_u64() {
        let events = vendor.chat_events(true).into_iter().take(usize::try_from(count)?);
        return Ok(events.fold(Answer::stream(), Answer::piece).hang());
    }
    if command["bad_credential"] == true {
        return Ok(vendor.bad_credential());
    }
    let status = u16::try_from(command["error"].as_u64().ok_or_else(|| anyhow::anyhow!("what should it answer?"))?)?;
    let mut answer = vendor.error(status, command["message"].as_str().unwrap_or("no"));
    for (name, value) in command["headers"].as_object().into_iter().flatten() {
        answer = answer.header(name, value.as_str().unwrap_or_default());
    }
    Ok(answer)
}

fn describe(seen: &Seen) -> Value {
    let (end, gone_at) = match seen.end() {
        End::Open => ("open", None),
        End::Answered => ("answered", None),
        End::Broken => ("broken", None),
        End::Gone { at_time, .. } => ("gone", at_time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs_f64())),
    };
    json!({
        "method": seen.request.method, "target": seen.request.target, "headers": seen.request.headers,
        "body": seen.request.json(), "end": end, "gone_at": gone_at,
    })
}
