//! The commands that read the ledger over the REST API.

// The doc comments of this file are what `--help` prints, where backticks are noise.
#![allow(clippy::doc_markdown)]

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use crate::client::Client;

/// Which control plane, and as whom.
#[derive(Args)]
pub(crate) struct Api {
    /// Address of the control plane's API
    #[arg(long = "api", value_name = "URL", default_value = "http://127.0.0.1:9080", value_parser = super::authority)]
    url: String,

    /// File with an access token; without it the variable LOCKGATE_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    // Not an option: it would show in lists of processes.
    #[arg(skip = std::env::var("LOCKGATE_TOKEN").ok())]
    token: Option<String>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Api").field("api", &self.url).finish_non_exhaustive()
    }
}

impl Api {
    /// A client with its token.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let token = match (&self.token_file, &self.token) {
            (Some(path), _) => {
                let read = std::fs::read_to_string(path);
                read.with_context(|| format!("cannot read the token file {}", path.display()))?.trim().to_owned()
            }
            (None, Some(token)) => token.clone(),
            (None, None) => anyhow::bail!(
                "no access token: make one in the console and give it with --token-file or in LOCKGATE_TOKEN"
            ),
        };
        Ok(Client::new(self.url.clone(), Some(token)))
    }
}

/// Check that usage balances
///
/// Asks the control plane what every node said it started, settled and left open, what came of it, and whether the sums
/// are those of the records. Exit code 1 means that something was lost or counted wrong, and the lines say what and
/// where. Requests whose node died are listed as unsettled; they are known, and no error.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  LOCKGATE_TOKEN=lgt_... lockgate audit usage
  lockgate audit usage --api http://control:9080 --token-file token --from 2026-01-01T00:00:00Z")]
pub(crate) struct AuditUsage {
    #[command(flatten)]
    pub(crate) api: Api,

    /// Beginning of the time to look at, such as 2026-01-31T00:00:00Z; a day ago if absent
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,

    /// End of the time to look at; now if absent
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<String>,
}

/// Explain one request: what became of it, and which rule refused it
///
/// Takes the id that the client saw in x-lockgate-request-id, or in x-request-id on an error of Lockgate's own. A record
/// is there a moment after the request has ended.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  LOCKGATE_TOKEN=lgt_... lockgate explain req_01kb2c3d4e5f6g7h8j9k0mnpqr")]
pub(crate) struct Explain {
    /// Of the request
    #[arg(value_name = "REQUEST_ID")]
    pub(crate) id: String,

    #[command(flatten)]
    pub(crate) api: Api,
}

/// Sum usage: requests, tokens, cost
///
/// One line for all, or one for each group and span of time. What a model costs is summed where its price is known;
/// requests without a price are told beside it, never counted as free. Cost is in US dollars, times are UTC.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  LOCKGATE_TOKEN=lgt_... lockgate usage
  lockgate usage --last 30d --group-by key,model
  lockgate usage --last 7d --interval day --group-by label:team --format csv > usage.csv
  lockgate usage --from 2026-01-01T00:00:00Z --to 2026-02-01T00:00:00Z --key ci --format json")]
pub(crate) struct Usage {
    #[command(flatten)]
    pub(crate) api: Api,

    #[command(flatten)]
    pub(crate) span: Span,

    /// Any of key, endpoint, proxy, provider, model, outcome, and one label:NAME
    #[arg(long, value_name = "GROUPS")]
    pub(crate) group_by: Option<String>,

    /// One line for each; by minute for two days at most
    #[arg(long, value_enum)]
    pub(crate) interval: Option<Interval>,

    #[command(flatten)]
    pub(crate) filter: Filter,

    /// How it is printed
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) format: Format,
}

/// A time, from its end or from its ends.
#[derive(Debug, Args)]
pub(crate) struct Span {
    /// The time until now, such as 90m, 24h or 30d; 24h if nothing says otherwise
    #[arg(long, value_name = "DURATION", value_parser = back, conflicts_with_all = ["from", "to"])]
    pub(crate) last: Option<time::Duration>,

    /// Beginning, such as 2026-01-31T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,

    /// End, not included; now if absent
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<String>,
}

/// Which requests.
#[derive(Clone, Debug, Args)]
pub(crate) struct Filter {
    /// Only what was sent to this provider or proxy, by name
    #[arg(long, value_name = "NAME")]
    pub(crate) endpoint: Option<String>,

    /// Only what this provider answered, by name
    #[arg(long, value_name = "NAME")]
    pub(crate) provider: Option<String>,

    /// Only of this API key, by name
    #[arg(long, value_name = "NAME")]
    pub(crate) key: Option<String>,

    /// Only of this model
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,

    /// Only what ended like this, such as answered, refused or vendor_error
    #[arg(long, value_name = "OUTCOME")]
    pub(crate) outcome: Option<String>,
}

impl Filter {
    /// As parameters of a query.
    pub(crate) fn parameters(&self) -> Vec<(&'static str, String)> {
        let Self { endpoint, provider, key, model, outcome } = self;
        let all =
            [("endpoint", endpoint), ("provider", provider), ("key", key), ("model", model), ("outcome", outcome)];
        all.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect()
    }
}

/// The length of a line's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Interval {
    Minute,
    Hour,
    Day,
}

/// How sums are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For spreadsheets
    Csv,
    /// As the API answers
    Json,
}

/// Show recorded requests, and follow them as they end
///
/// The newest ones, the oldest of them first, a line each: when, how it ended, whom it was sent to, tokens in and out,
/// cost, how long it took, and its id for `lockgate explain`. Bodies are never recorded. With -f it goes on until it is
/// interrupted, and comes back when the control plane was away.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  LOCKGATE_TOKEN=lgt_... lockgate logs -f
  lockgate logs -n 200 --key ci --outcome refused
  lockgate logs -f --json | jq -r .cost")]
pub(crate) struct Logs {
    #[command(flatten)]
    pub(crate) api: Api,

    /// Go on with what comes
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// So many at most of those that are there, up to 500
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=500))]
    pub(crate) limit: u32,

    #[command(flatten)]
    pub(crate) filter: Filter,

    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Some minutes, hours or days.
fn back(text: &str) -> Result<time::Duration, String> {
    let wrong = || "expected minutes, hours or days, such as 90m, 24h or 30d".to_owned();
    let (number, unit) = text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit {
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: i64 = number.parse().map_err(|_| wrong())?;
    // Ten thousand years are long enough, and keep every moment of theirs one that can be told.
    (1..=3_650_000 * 86_400 / seconds)
        .contains(&number)
        .then(|| time::Duration::seconds(number * seconds))
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_back_has_a_unit() {
        assert_eq!(back("90m"), Ok(time::Duration::minutes(90)));
        assert_eq!(back("30d"), Ok(time::Duration::days(30)));
        for wrong in ["", "30", "d", "-1d", "0h", "1w", "99999999999999999999d", "9999999999d"] {
            assert!(back(wrong).is_err(), "{wrong}");
        }
    }
}
