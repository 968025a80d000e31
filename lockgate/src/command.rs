//! The command line: what can be asked of the binary, and the help that teaches it.
//!
//! Nothing is done here; every command hands over to the file that does it.

// The doc comments of this file are what `--help` prints, where backticks are noise.
#![allow(clippy::doc_markdown)]

mod ledger;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::ledger::{AuditUsage, Explain, Filter, Format, Interval, Logs, Usage};

/// An AI gateway: one Invoke URL for the vendors' own SDKs, with your keys, your rules and a count of every request.
#[derive(Debug, Parser)]
#[command(
    name = "lockgate",
    version,
    max_term_width = 100,
    after_help = "\
Try it (no vendor account, no database):
  lockgate dev

Run it:
  lockgate control-plane --config control-plane.toml
  lockgate data-plane --config data-plane.toml

Exit codes: 0 done, 1 failed, 2 the command line is wrong."
)]
pub(crate) struct Lockgate {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands, in the order in which `--help` lists them.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Dev(Dev),
    ControlPlane(ControlPlane),
    DataPlane(DataPlane),
    Sample(Sample),
    Config(Config),
    /// Print the OpenAPI 3.1 document of the REST API
    Openapi,
    Usage(Usage),
    Logs(Logs),
    Explain(Explain),
    #[command(subcommand)]
    Audit(Audit),
    Doctor(Doctor),
    Completion(Completion),
    /// Print the version
    Version,
}

/// Start everything in one process, to try it out
///
/// Control plane, console, one data-plane node on the real link, and a sample upstream that speaks five vendors'
/// dialects, with providers, proxies and a key ready to use. Everything is kept in the data directory: a second start
/// finds what the first one left; delete the directory to start over. Configuration files and LOCKGATE_* variables are
/// not read, nor is DATABASE_URL.
#[derive(Debug, Args)]
#[command(after_long_help = format!("\
Examples:
  lockgate dev
  lockgate dev --api-listen 127.0.0.1:0 --gateway-listen 127.0.0.1:0 --ready-file ready.json
  lockgate dev --data-dir /tmp/try --no-sample

Words in a prompt that make the sample upstream misbehave:
{}", crate::sample::trigger_table()))]
pub(crate) struct Dev {
    /// Where everything is kept; made if absent, readable by you alone
    #[arg(long, value_name = "DIR", default_value = ".lockgate")]
    pub(crate) data_dir: PathBuf,

    /// Address of the REST API and the console; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9080")]
    pub(crate) api_listen: SocketAddr,

    /// Address of the gateway, where the Invoke URLs are; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) gateway_listen: SocketAddr,

    /// Write addresses and credentials to this file, as one JSON object, once everything serves
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,

    /// Start empty: no sample upstream, no providers, no proxies, no key
    #[arg(long)]
    pub(crate) no_sample: bool,

    #[command(flatten)]
    pub(crate) pace: Pace,

    #[command(flatten)]
    pub(crate) log: Log,
}

/// Start the control plane: REST API, console, configuration, the usage ledger
///
/// The first start makes the store, the master key and a certificate authority, and prints a token for the first owner.
/// Settings come from, the later ones winning: the defaults, --config, LOCKGATE_SECTION__KEY variables (and
/// DATABASE_URL), the options below.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  lockgate config control-plane > control-plane.toml
  DATABASE_URL=postgres://lockgate@db/lockgate lockgate control-plane --config control-plane.toml
  lockgate control-plane --listen 127.0.0.1:0 --set store.data_dir=/var/lib/lockgate
  LOCKGATE_SERVER__LISTEN=0.0.0.0:9080 lockgate control-plane")]
pub(crate) struct ControlPlane {
    #[command(flatten)]
    pub(crate) settings: Settings,

    /// Address of the REST API and the console (server.listen)
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,

    /// Where browsers and scripts reach it (server.public_url)
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Option<String>,

    /// Address where nodes connect (link.listen)
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) link_listen: Option<SocketAddr>,

    /// Directory of the embedded store, the master key and the first owner's token (store.data_dir)
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

impl ControlPlane {
    /// The options as settings.
    pub(crate) fn flags(&self) -> Vec<(String, String)> {
        let mut flags = self.settings.set.clone();
        push(&mut flags, "server.listen", self.listen.as_ref());
        push(&mut flags, "server.public_url", self.public_url.as_ref());
        push(&mut flags, "link.listen", self.link_listen.as_ref());
        push(&mut flags, "store.data_dir", self.data_dir.as_ref().map(|path| path.display()).as_ref());
        flags
    }
}

/// Start a data-plane node, which serves the Invoke URLs of its gateway
///
/// A node needs a gateway token (POST /api/v1/gateways/default/tokens, shown once, good for any number of nodes) and
/// the address of the control plane's link. It goes on serving its last good configuration while the control plane is
/// away, through restarts too. Settings come from, the later ones winning: the defaults, --config,
/// LOCKGATE_SECTION__KEY variables, the options below.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  lockgate config data-plane > data-plane.toml
  lockgate data-plane --config data-plane.toml
  lockgate data-plane --control-plane control.example.com:9443 --token-file /run/secrets/gateway-token
  LOCKGATE_GATEWAY__LISTEN=0.0.0.0:8080 lockgate data-plane --config data-plane.toml")]
pub(crate) struct DataPlane {
    #[command(flatten)]
    pub(crate) settings: Settings,

    /// Address of the gateway, where the Invoke URLs are (gateway.listen)
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,

    /// Name of this node, unique in its gateway (gateway.name)
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Address of the control plane's link (link.address)
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) control_plane: Option<String>,

    /// File with the gateway token (link.token_file)
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// Directory of the last good configuration and of usage not yet delivered (store.data_dir)
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Address of /healthz, /readyz and /metrics (admin.listen)
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin_listen: Option<SocketAddr>,

    /// PEM file with a certificate and what leads from it to a root: the gateway speaks TLS (tls.certificates)
    #[arg(long, value_name = "FILE", requires = "key_file")]
    pub(crate) certificate_file: Option<PathBuf>,

    /// PEM file with the certificate's private key; more pairs, by name, are set in the configuration
    #[arg(long, value_name = "FILE", requires = "certificate_file")]
    pub(crate) key_file: Option<PathBuf>,
}

impl DataPlane {
    /// The options as settings.
    pub(crate) fn flags(&self) -> Vec<(String, String)> {
        let mut flags = self.settings.set.clone();
        push(&mut flags, "gateway.listen", self.listen.as_ref());
        push(&mut flags, "gateway.name", self.name.as_ref());
        push(&mut flags, "link.address", self.control_plane.as_ref());
        push(&mut flags, "link.token_file", self.token_file.as_ref().map(|path| path.display()).as_ref());
        push(&mut flags, "store.data_dir", self.data_dir.as_ref().map(|path| path.display()).as_ref());
        push(&mut flags, "admin.listen", self.admin_listen.as_ref());
        if let (Some(certificate), Some(key)) = (&self.certificate_file, &self.key_file) {
            let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
            let pair = format!("[{{certificate_file={certificate:?},key_file={key:?}}}]");
            flags.push(("tls.certificates".to_owned(), pair));
        }
        flags
    }
}

fn push(flags: &mut Vec<(String, String)>, key: &str, value: Option<&impl ToString>) {
    flags.extend(value.map(|value| (key.to_owned(), value.to_string())));
}

/// What both planes take.
#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// Configuration file in TOML
    #[arg(long, value_name = "FILE", env = "LOCKGATE_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Set any key of the configuration; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = assignment)]
    pub(crate) set: Vec<(String, String)>,

    /// Read the configuration, say whether it is usable, and end
    #[arg(long)]
    pub(crate) check: bool,

    #[command(flatten)]
    pub(crate) log: Log,
}

/// How much is logged, and how it looks.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Log {
    /// What is logged: error, warn, info, debug, trace, also per module (info,data_plane=debug)
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,

    /// How a line looks; text is for people, json for machines
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub(crate) log_format: Option<LogFormat>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Start the sample upstream alone
///
/// It speaks the dialects of OpenAI, Anthropic, Gemini, Mistral and Azure OpenAI, each under its own path, and insists
/// on the credential that it prints at start.
#[derive(Debug, Args)]
#[command(after_long_help = format!("\
Examples:
  lockgate sample
  lockgate sample --listen 127.0.0.1:0 --pace 0ms

Words in a prompt that make it misbehave:
{}", crate::sample::trigger_table()))]
pub(crate) struct Sample {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4010")]
    pub(crate) listen: SocketAddr,

    #[command(flatten)]
    pub(crate) pace: Pace,

    #[command(flatten)]
    pub(crate) log: Log,
}

/// The speed of the sample upstream.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Pace {
    /// Pause of the sample upstream before each token, such as 0ms or 50ms
    #[arg(long = "pace", value_name = "TIME", default_value = "25ms", value_parser = milliseconds)]
    pub(crate) pause: Duration,
}

/// Print the commented default configuration of a plane, which is its reference
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lockgate config control-plane > control-plane.toml
  lockgate config data-plane | less")]
pub(crate) struct Config {
    #[arg(value_enum)]
    pub(crate) plane: Plane,
}

/// The two kinds of process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Plane {
    ControlPlane,
    DataPlane,
}

/// Look after the audit log and the usage ledger
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    Verify(AuditVerify),
    Usage(AuditUsage),
}

/// Check the hash chain of the audit log
///
/// Reads the store directly, so it takes the control plane's configuration; the control plane may run meanwhile. Exit
/// code 1 means that the chain is broken, and the error says at which entry.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  lockgate audit verify --config control-plane.toml
  lockgate audit verify --data-dir .lockgate/control-plane")]
pub(crate) struct AuditVerify {
    /// Configuration file of the control plane
    #[arg(long, value_name = "FILE", env = "LOCKGATE_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Directory of the embedded store (store.data_dir)
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// Ask running planes whether they are ready
///
/// Exit code 1 means that at least one is not. Takes the address of a control plane's API or of a node's admin
/// listener.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  lockgate doctor
  lockgate doctor http://127.0.0.1:9080 http://127.0.0.1:9091")]
pub(crate) struct Doctor {
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:9080", value_parser = authority)]
    pub(crate) addresses: Vec<String>,
}

/// Print the completion script of a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lockgate completion bash > /etc/bash_completion.d/lockgate
  lockgate completion zsh > ~/.zfunc/_lockgate")]
pub(crate) struct Completion {
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if key.contains('.') => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("expected SECTION.KEY=VALUE, such as server.listen=127.0.0.1:0".to_owned()),
    }
}

/// `http://host:port`, of which host and port are kept.
fn authority(text: &str) -> Result<String, String> {
    let uri: http::Uri = text.parse().map_err(|_| "expected a URL such as http://127.0.0.1:9080".to_owned())?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http"), Some(host)) => Ok(format!("{host}:{}", uri.port_u16().unwrap_or(80))),
        _ => Err("expected a URL that starts with http://".to_owned()),
    }
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    let wrong = || "expected milliseconds or seconds, such as 25ms or 1s".to_owned();
    let (number, unit) = text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Lockgate::command().debug_assert();
    }

    #[test]
    fn options_become_settings() {
        let line = ["lockgate", "control-plane", "--listen", "127.0.0.1:0", "--set", "log.format=json"];
        let Command::ControlPlane(plane) = Lockgate::parse_from(line).command else { panic!("another command") };
        let text = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(plane.flags(), [text("log.format", "json"), text("server.listen", "127.0.0.1:0")]);
    }

    #[test]
    fn a_pace_has_a_unit() {
        assert_eq!(milliseconds("40ms"), Ok(Duration::from_millis(40)));
        assert_eq!(milliseconds("2s"), Ok(Duration::from_secs(2)));
        assert!(milliseconds("40").is_err());
        assert!(milliseconds("ms").is_err());
    }
}
