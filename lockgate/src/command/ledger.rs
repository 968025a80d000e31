//! The commands that read the ledger over the REST API.

// The doc comments of this file are what `--help` prints, where backticks are noise.
#![allow(clippy::doc_markdown)]

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

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
