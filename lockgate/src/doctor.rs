//! `lockgate doctor`: asks planes whether they are ready. Also what a container's health check runs.

use std::fmt::Write as _;

use serde_json::Value;

use crate::client::Client;

/// What was found.
pub(crate) struct Report {
    /// A line per plane.
    pub(crate) text: String,
    /// Whether all of them are ready.
    pub(crate) well: bool,
}

/// Asks one after the other.
pub(crate) async fn ask(addresses: &[String]) -> Report {
    let mut report = Report { text: String::new(), well: true };
    for address in addresses {
        let verdict = match Client::new(address.clone(), None).get("/readyz").await {
            Ok(answer) if answer.status().is_success() => "ready".to_owned(),
            Ok(answer) => {
                report.well = false;
                let why = match answer.body() {
                    Value::String(text) => text.trim().to_owned(),
                    Value::Null => String::new(),
                    other => other.to_string(),
                };
                format!("not ready: {} {why}", answer.status().as_u16()).trim_end().to_owned()
            }
            Err(error) => {
                report.well = false;
                format!("no answer: {error:#}")
            }
        };
        // Writing to a string cannot fail.
        let _ = writeln!(report.text, "http://{address} {verdict}");
    }
    report
}
