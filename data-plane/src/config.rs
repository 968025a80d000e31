//! What a node is told at start: defaults < file < environment < flags. The commented default file is the reference.
//! An unknown key is an error that names the nearest known one.

pub mod telemetry;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format as _, Serialized, Toml};
use figment::value::Value;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use self::telemetry::Telemetry;
use crate::request_log::{Format, Output};

/// The reference: every key with its default and its meaning.
pub const DEFAULT: &str = include_str!("../config.default.toml");

/// Fields that a request's head may ever have.
pub const MAX_HEADERS: usize = 100;

/// Configuration of one node.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where requests come in.
    pub gateway: Gateway,
    /// Where the configuration comes from.
    pub link: Link,
    /// What is kept on disk.
    pub store: Store,
    /// TLS towards clients.
    pub tls: Tls,
    /// Health and metrics.
    pub admin: Admin,
    /// Sizes and counts.
    pub limits: Limits,
    /// Times.
    pub deadlines: Deadlines,
    /// When a target that keeps failing is spared.
    pub breaker: Breaker,
    /// How often this node sends requests again.
    pub retries: Retries,
    /// What is written down of requests.
    pub usage: Usage,
    /// Who else is told of requests.
    pub telemetry: Telemetry,
    /// The log.
    pub log: Log,
}

/// `[gateway]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Address that requests come in on.
    pub listen: SocketAddr,
    /// Name of this node, unique in its gateway; empty: the machine's name.
    #[serde(deserialize_with = "text")]
    pub name: String,
    /// Addresses that are never dialled, whatever the upstream networks allow; our own listeners are added to them.
    pub protected: Vec<SocketAddr>,
    /// Threads that serve requests; 0: one for each core this process may use.
    pub workers: usize,
}

impl Gateway {
    /// Threads that serve requests.
    pub fn workers(&self) -> NonZeroUsize {
        let cores = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        NonZeroUsize::new(self.workers).unwrap_or_else(cores)
    }
}

/// `[tls]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// None: plain HTTP. The first one is for clients that name none of them.
    pub certificates: Vec<Certificate>,
    /// How often the files are looked at.
    #[serde(deserialize_with = "duration")]
    pub reload: Duration,
}

/// One of `tls.certificates`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// PEM: the certificate and those that lead from it to a root.
    pub certificate_file: PathBuf,
    /// PEM: its private key.
    pub key_file: PathBuf,
}

/// `[link]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// `host:port` of the control plane's link; required.
    pub address: String,
    /// Gateway token; empty: see `token_file`.
    pub token: Token,
    /// File with the gateway token; empty: none.
    #[serde(deserialize_with = "path")]
    pub token_file: Option<PathBuf>,
}

/// `[store]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// Directory for the last-known-good configuration and the usage spool.
    pub data_dir: PathBuf,
}

/// `[admin]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Address of `/healthz`, `/readyz` and `/metrics`; empty: none.
    #[serde(deserialize_with = "address")]
    pub listen: Option<SocketAddr>,
}

/// `[limits]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a request's body, where its endpoint does not say otherwise.
    pub body_bytes: u64,
    /// ... and whatever it says.
    pub most_body_bytes: u64,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Bytes of a request's URI.
    pub uri_bytes: usize,
    /// Fields of a request's head, at most [`MAX_HEADERS`].
    #[serde(deserialize_with = "headers")]
    pub headers: usize,
    /// Bytes that all requests in flight may hold; 0: half of the memory there is.
    pub memory_bytes: u64,
    /// Bytes of a request's body that are kept for another attempt; a larger body gets one.
    pub retained_bytes: usize,
    /// Bytes of a request's body that are held until it has named its model, where models are ruled.
    pub model_bytes: usize,
    /// Requests of one API key in flight; 0: any number.
    pub key_requests: u32,
    /// Connections open at once.
    pub connections: usize,
    /// Requests at once on one HTTP/2 connection.
    pub streams: u32,
    /// Bytes that an HTTP/2 client may send ahead on one stream.
    #[serde(deserialize_with = "window")]
    pub stream_window: u32,
    /// The same for a whole connection.
    #[serde(deserialize_with = "window")]
    pub connection_window: u32,
    /// HTTP/2 frames a second that carry nothing, on one connection; ten times as many may come at once.
    pub control_frames: u32,
    /// Idle connections kept per upstream.
    pub idle_upstream_connections: usize,
}

impl Limits {
    /// Bytes of a request's body for an endpoint that asks for so many.
    pub fn body(&self, wanted: Option<u64>) -> u64 {
        wanted.map_or(self.body_bytes, |wanted| wanted.min(self.most_body_bytes.max(self.body_bytes)))
    }
}

/// `[deadlines]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deadlines {
    /// From the first byte of a TLS handshake to its end.
    #[serde(deserialize_with = "duration")]
    pub tls: Duration,
    /// From accepting a connection to its first byte; after a TLS handshake, once more.
    #[serde(deserialize_with = "duration")]
    pub first_byte: Duration,
    /// From a request's first byte to the end of its head.
    #[serde(deserialize_with = "duration")]
    pub head: Duration,
    /// Between two pieces of a request's body.
    #[serde(deserialize_with = "duration")]
    pub body_idle: Duration,
    /// Between two requests on one connection.
    #[serde(deserialize_with = "duration")]
    pub keep_alive: Duration,
    /// A client that takes nothing of its answer is dropped after this.
    #[serde(deserialize_with = "duration")]
    pub client_idle: Duration,
    /// Between two PINGs to an HTTP/2 client.
    #[serde(deserialize_with = "duration")]
    pub ping_interval: Duration,
    /// From a PING to its answer.
    #[serde(deserialize_with = "duration")]
    pub ping: Duration,
    /// Until the upstream's connection stands, TLS included; an endpoint may set another.
    #[serde(deserialize_with = "duration")]
    pub connect: Duration,
    /// From the request to the head of the upstream's answer; an endpoint may set another.
    #[serde(deserialize_with = "duration")]
    pub upstream_first_byte: Duration,
    /// Between two pieces of the upstream's answer; an endpoint may set another.
    #[serde(deserialize_with = "duration")]
    pub upstream_idle: Duration,
    /// An unused connection to an upstream is closed after this.
    #[serde(deserialize_with = "duration")]
    pub upstream_keep_alive: Duration,
    /// Of a whole request, over all attempts, to the end of its answer; none: any time. An endpoint may set another.
    #[serde(deserialize_with = "duration_or_none")]
    pub total: Option<Duration>,
    /// What is open when the node is told to stop may go on for this long.
    #[serde(deserialize_with = "duration")]
    pub drain: Duration,
}

/// `[breaker]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Breaker {
    /// So many failures in a row open it.
    pub failures: u32,
    /// As does this percentage of the attempts of a stretch of time ...
    pub percent: u32,
    /// ... in which there were at least so many.
    pub requests: u32,
    /// That stretch.
    #[serde(deserialize_with = "duration")]
    pub window: Duration,
    /// The target is spared for this long, and twice as long each time its probe fails.
    #[serde(deserialize_with = "duration")]
    pub open: Duration,
    /// And at most this long.
    #[serde(deserialize_with = "duration")]
    pub open_max: Duration,
    /// Requests that try it out at a time.
    #[serde(deserialize_with = "at_least_one")]
    pub probes: u32,
}

/// `[retries]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retries {
    /// Further attempts for each hundred requests that may have one.
    pub percent: u32,
    /// And so many more in a bad moment.
    pub burst: u32,
}

/// `[usage]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// What becomes of requests whose start cannot be written to disk.
    pub unwritten: Unwritten,
}

/// What becomes of a request that cannot be written down before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unwritten {
    /// It is served, and counted as not written.
    Serve,
    /// It is refused.
    Refuse,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// A filter like `info` or `info,data_plane=debug`.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
    /// One line per request.
    pub requests: bool,
    /// Text is for a terminal. Whoever starts the node knows.
    #[serde(skip)]
    pub colour: bool,
    /// Where the lines of requests go.
    #[serde(skip)]
    pub output: Output,
}

impl Log {
    /// How the lines of requests look.
    pub(crate) fn line(&self) -> Format {
        match (self.format, self.colour) {
            (LogFormat::Text, false) => Format::Text,
            (LogFormat::Text, true) => Format::Coloured,
            (LogFormat::Json, _) => Format::Json,
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A secret text, like a gateway token, that cannot be printed.
#[derive(Clone, Default, Deserialize)]
#[serde(from = "String")]
pub struct Token(Zeroizing<String>);

impl Token {
    /// Its text.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Token {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that was named is not there or not readable.
    #[error("cannot read {path}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A layer does not fit; says which key of which layer, and what would.
    #[error("{0}")]
    Invalid(String),
}

impl Default for Config {
    fn default() -> Self {
        Self::from_figment(&Figment::from(Toml::string(DEFAULT))).expect("the default configuration is valid")
    }
}

impl Config {
    /// Reads all layers. `flags` are dotted keys with their values, e.g. `("gateway.listen", "0.0.0.0:8080")`.
    pub fn load(file: Option<&Path>, flags: &[(&str, String)]) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Toml::string(DEFAULT));
        if let Some(path) = file {
            // figment takes a file that is not there for an empty one.
            let text = std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
            figment = figment.merge(Toml::string(&text));
        }
        figment = figment.merge(telemetry::standard());
        let env = Env::prefixed("LOCKGATE_").filter(|key| key.as_str().contains("__")).split("__");
        figment = figment.merge(env);
        for (key, value) in flags {
            // As in the environment: what reads as a number is one.
            let value: Value = value.parse().unwrap_or_else(|never: std::convert::Infallible| match never {});
            figment = figment.merge(Serialized::default(key, value));
        }
        Self::from_figment(&figment)
    }

    /// The gateway token, from its file if one is named. `None`: neither is set.
    pub fn token(&self) -> Result<Option<Token>, ConfigError> {
        if let (true, Some(path)) = (self.link.token.is_empty(), &self.link.token_file) {
            let text = std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Unreadable { path: path.clone(), source })?;
            let text = Zeroizing::new(text);
            return Ok(Some(Token::from(text.trim().to_owned())));
        }
        Ok((!self.link.token.is_empty()).then(|| self.link.token.clone()))
    }

    fn from_figment(figment: &Figment) -> Result<Self, ConfigError> {
        figment.extract().map_err(|error| ConfigError::Invalid(explain(error)))
    }
}

/// figment's own words, with the nearest known name where a key is unknown.
fn explain(error: figment::Error) -> String {
    let lines = error.into_iter().map(|error| {
        let place = error.path.join(".");
        let source = error.metadata.as_ref().map(|metadata| metadata.name.to_string()).unwrap_or_default();
        match &error.kind {
            figment::error::Kind::UnknownField(field, known) => {
                let near = known.iter().min_by_key(|name| strsim::damerau_levenshtein(field, name));
                let hint = near.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
                let section = place.rsplit_once('.').map(|(section, _)| format!(" in `{section}`")).unwrap_or_default();
                format!("unknown key `{field}`{section}{hint} ({source})")
            }
            kind => format!("`{place}`: {kind} ({source})"),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).ok_or_else(|| serde::de::Error::custom("not a duration like `500ms`, `30s`, `5m` or `1h`"))
}

/// `500ms`, `30s`, `5m`, `1h`; never zero.
fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    let number: u64 = number.parse().ok()?;
    let duration = match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        "h" => Duration::from_secs(number.checked_mul(3600)?),
        _ => return None,
    };
    (!duration.is_zero()).then_some(duration)
}

fn headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let number = usize::deserialize(deserializer)?;
    let fits = (1..=MAX_HEADERS).contains(&number);
    fits.then_some(number).ok_or_else(|| serde::de::Error::custom("a head has 1 to 100 fields"))
}

/// RFC 9113 section 6.9.1.
fn window<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let number = u32::deserialize(deserializer)?;
    let fits = (1..=i32::MAX.unsigned_abs()).contains(&number);
    fits.then_some(number).ok_or_else(|| serde::de::Error::custom("a window has 1 to 2147483647 bytes"))
}

/// As [`duration`]; empty: none.
fn duration_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || serde::de::Error::custom("not a duration like `500ms`, `30s`, `5m` or `1h`");
    parse_duration(&text).map(Some).ok_or_else(wrong)
}

fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let number = u32::deserialize(deserializer)?;
    if number > 0 { Ok(number) } else { Err(serde::de::Error::custom("must be at least 1")) }
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parse = |text: &str| text.parse().map_err(|_| serde::de::Error::custom("not an address like `127.0.0.1:9091`"));
    if text.is_empty() { Ok(None) } else { parse(&text).map(Some) }
}

/// A text, also where it happens to read as a number.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Text {
        Text(String),
        Number(u64),
    }
    Ok(match Text::deserialize(deserializer)? {
        Text::Text(text) => text,
        Text::Number(number) => number.to_string(),
    })
}

fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Config, ConfigError> {
        Config::from_figment(&Figment::from(Toml::string(DEFAULT)).merge(Toml::string(text)))
    }

    #[test]
    fn the_reference_is_a_valid_configuration() {
        let config = Config::default();
        assert_eq!(config.limits.body_bytes, 512 << 20);
        assert_eq!(config.deadlines.upstream_first_byte, Duration::from_mins(10));
        assert_eq!(config.link.token_file, None);
    }

    #[test]
    fn a_file_overrides_and_flags_override_it() {
        let mut path = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut path, b"[gateway]\nlisten = \"127.0.0.1:1\"\nname = \"n\"").unwrap();
        let flags = [("gateway.listen", "127.0.0.1:2"), ("limits.body_bytes", "1000"), ("admin.listen", "")];
        let flags = flags.map(|(key, value)| (key, value.to_owned()));
        let config = Config::load(Some(path.path()), &flags).unwrap();
        assert_eq!((config.gateway.listen.port(), config.gateway.name.as_str()), (2, "n"));
        assert_eq!((config.limits.body_bytes, config.admin.listen), (1000, None));
        let config = Config::load(None, &[("gateway.name", "17".to_owned())]).unwrap();
        assert_eq!(config.gateway.name, "17");
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_the_nearest() {
        let error = file("[gateway]\nlitsen = \"x\"").unwrap_err().to_string();
        assert!(error.contains("unknown key `litsen` in `gateway`; did you mean `listen`?"), "{error}");
        let error = file("[gatway]\nlisten = \"x\"").unwrap_err().to_string();
        assert!(error.contains("did you mean `gateway`?"), "{error}");
    }

    #[test]
    fn a_value_of_the_wrong_form_is_an_error() {
        for text in ["0s", "5", "s", "5 s", "-1s", "5d", "99999999999999999999s", "9999999999999999999h"] {
            let error = file(&format!("[deadlines]\nhead = \"{text}\"")).unwrap_err().to_string();
            assert!(error.contains("deadlines.head") && error.contains("duration"), "{error}");
        }
        assert!(file("[admin]\nlisten = \"\"").unwrap().admin.listen.is_none());
        assert!(file("[admin]\nlisten = \"here\"").is_err());
    }

    #[test]
    fn certificates_fit_into_a_flag_or_a_variable() {
        let text = r#"[{certificate_file="/tls/a.pem",key_file="/tls/a.key"},{certificate_file="b",key_file="c"}]"#;
        let config = Config::load(None, &[("tls.certificates", text.to_owned())]).unwrap();
        let files: Vec<_> = config.tls.certificates.iter().map(|pair| pair.key_file.to_str().unwrap()).collect();
        assert_eq!(files, ["/tls/a.key", "c"]);
        let error = file("[[tls.certificates]]\ncertificate_file = \"a\"").unwrap_err().to_string();
        assert!(error.contains("key_file"), "{error}");
    }

    #[test]
    fn limits_that_hyper_could_not_keep_are_errors() {
        for text in ["headers = 0", "headers = 101", "stream_window = 0", "connection_window = 2147483648"] {
            assert!(file(&format!("[limits]\n{text}")).is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_is_read_from_its_file_and_never_printed() {
        let mut path = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut path, b"lge_from_file\n").unwrap();
        let config = file(&format!("[link]\ntoken_file = {:?}", path.path())).unwrap();
        assert_eq!(config.token().unwrap().unwrap().expose(), "lge_from_file");
        let config = file("[link]\ntoken = \"lge_plain\"").unwrap();
        assert_eq!(config.token().unwrap().unwrap().expose(), "lge_plain");
        assert!(!format!("{config:?}").contains("lge_plain"));
        assert!(Config::default().token().unwrap().is_none());
    }
}
