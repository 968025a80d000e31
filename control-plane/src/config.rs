//! Configuration: what can be set, and how the layers lie on each other.
//!
//! Defaults (`config.default.toml`, built in) < file < environment < flags. A key that does not exist is an error that
//! names the layer and the nearest key. Reads the files behind `_file` keys; nothing else here touches the world: the
//! environment comes as an argument.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider, error::Kind};
use ipnet::IpNet;
use serde::Deserialize;
use url::Url;

use crate::intake::Keeping;
use crate::model::error::nearest;
use crate::model::usage::Retention;
use crate::sensitive::Sensitive;

/// The commented reference; its values are the defaults.
pub const DEFAULTS: &str = include_str!("../config.default.toml");

const PREFIX: &str = "LOCKGATE_";

/// Everything that can be set, checked for form. `config.default.toml` says what each key means.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// REST API and console.
    pub server: Server,
    /// Where everything is kept.
    pub store: Store,
    /// Where nodes connect.
    pub link: Link,
    /// Keys that seal.
    pub security: Security,
    /// What the first start makes.
    pub bootstrap: Bootstrap,
    /// What is kept of usage.
    pub usage: Usage,
    /// Logging; read by whoever installs the subscriber.
    pub log: Log,
}

/// `[server]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    /// `None`: `http://<listen>`.
    pub public_url: Option<Url>,
    /// Whether plain http beyond this machine is accepted.
    pub allow_insecure: bool,
    /// At one time.
    pub max_connections: usize,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// `[store]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// `postgres://`, may hold a password. `None`: SQLite in `data_dir`.
    pub url: Option<Sensitive>,
    /// A file with the URL; read into `url` by [`Config::load`].
    pub url_file: Option<PathBuf>,
    /// Made if absent.
    pub data_dir: PathBuf,
}

/// `[link]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    /// `host:port` as nodes see it. `None`: `listen`.
    pub public_address: Option<String>,
}

/// `[security]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Security {
    /// `None`: `master.key` in the data directory.
    pub master_key_file: Option<PathBuf>,
    /// The ring's text itself, instead of a file.
    pub master_key: Option<Sensitive>,
}

/// `[bootstrap]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bootstrap {
    /// Where a token for the gateway `default` is written if the file is absent.
    pub gateway_token_file: Option<PathBuf>,
    /// Base URL of the gateway `default`.
    pub gateway_base_url: Option<Url>,
    /// Networks that its upstreams may lie in.
    #[serde(default)]
    pub gateway_upstream_networks: Vec<IpNet>,
}

/// `[usage]`: days, 0 for good.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// The request log.
    pub keep_requests_days: u32,
    /// Sums by minute.
    pub keep_minutes_days: u32,
    /// Sums by hour.
    pub keep_hours_days: u32,
    /// Sums by day.
    pub keep_days_days: u32,
    /// Requests in the log per second, at most; 0: all.
    pub log_per_second: u32,
}

impl Usage {
    /// What the intake needs of it.
    pub fn keeping(self) -> Keeping {
        let Self { keep_requests_days, keep_minutes_days, keep_hours_days, keep_days_days, log_per_second } = self;
        let retention = Retention {
            requests: keep_requests_days,
            minutes: keep_minutes_days,
            hours: keep_hours_days,
            days: keep_days_days,
        };
        Keeping { retention, log_per_second }
    }
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// In `tracing-subscriber`'s syntax for directives.
    pub filter: String,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Why there is no configuration. The texts say where to look and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration file or a file behind a `_file` key.
    #[error("cannot read {path} ({key}): {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Which key or flag named it.
        key: String,
        /// Why.
        source: std::io::Error,
    },
    /// The configuration file is no TOML.
    #[error("{path} is not valid TOML: {message}")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Line and reason.
        message: String,
    },
    /// A key that does not exist.
    #[error("unknown key `{key}` in {layer}; {advice}")]
    UnknownKey {
        /// With its section.
        key: String,
        /// Defaults, a file, a variable, a flag.
        layer: String,
        /// The nearest key, or all keys there are.
        advice: String,
    },
    /// A value of the wrong form.
    #[error("`{key}` in {layer} is not usable: {message}")]
    Invalid {
        /// With its section.
        key: String,
        /// Defaults, a file, a variable, a flag.
        layer: String,
        /// What is expected.
        message: String,
    },
    /// A secret and its `_file` twin.
    #[error("`{key}` (in {layer}) and `{key}_file` (in {file_layer}) are both set; remove one of them")]
    Both {
        /// The key without `_file`.
        key: String,
        /// Where it is set.
        layer: String,
        /// Where its twin is set.
        file_layer: String,
    },
}

impl Default for Config {
    fn default() -> Self {
        Self::load(None, [], []).expect("the built-in defaults are a configuration, see the test")
    }
}

impl Config {
    /// Lays the layers on each other.
    ///
    /// `environment` is all of it (others' variables are ignored); `flags` are keys with their sections and values, such
    /// as `("server.listen", "127.0.0.1:0")`.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let defaults: Dict = toml::from_str(DEFAULTS).expect("the built-in defaults are TOML, see the test");
        let mut figment = Figment::from(Layer { name: "the built-in defaults".to_owned(), values: defaults });
        if let Some(path) = file {
            figment = figment.merge(read_file(path)?);
        }
        for layer in environment_layers(environment) {
            figment = figment.merge(layer);
        }
        for (key, value) in flags {
            figment = figment.merge(Layer::one("the command line".to_owned(), &key, value));
        }
        // Lossy: texts from the environment and from flags become the numbers and booleans that are wanted.
        let mut config: Self = figment.extract_lossy().map_err(|error| explain(&error))?;
        config.read_secrets(&figment)?;
        Ok(config)
    }

    /// Replaces `_file` keys of secrets by what the files hold. The master key's file is left alone: it may not exist
    /// yet, and then the first start makes it.
    fn read_secrets(&mut self, figment: &Figment) -> Result<(), Error> {
        if let Some(path) = self.store.url_file.take() {
            if self.store.url.is_some() {
                return Err(both(figment, "store.url"));
            }
            self.store.url = Some(read_secret(&path, "store.url_file")?);
        }
        if self.security.master_key.is_some() && self.security.master_key_file.is_some() {
            return Err(both(figment, "security.master_key"));
        }
        Ok(())
    }
}

/// One source of values, with the name that error messages give it.
struct Layer {
    name: String,
    values: Dict,
}

impl Layer {
    fn one(name: String, key: &str, value: String) -> Self {
        let mut parts = key.rsplit('.');
        let last = parts.next().unwrap_or_default().to_owned();
        // `[..]` is a list, as in the file; everything else is text, and becomes what is wanted when it is read.
        let list = value.starts_with('[') && value.ends_with(']');
        let value = if list { value.parse().unwrap_or_else(|_| Value::from(value)) } else { Value::from(value) };
        let mut values = Dict::from([(last, value)]);
        for part in parts {
            values = Dict::from([(part.to_owned(), Value::from(values))]);
        }
        Self { name, values }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

fn read_file(path: &Path) -> Result<Layer, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::File {
        path: path.to_owned(),
        key: "--config".to_owned(),
        source,
    })?;
    let values = toml::from_str(&text)
        // The message alone: the full text quotes the line, which may hold a password.
        .map_err(|error: toml::de::Error| Error::Syntax {
            path: path.to_owned(),
            message: match error.span() {
                Some(span) => format!("line {}: {}", line_of(&text, span.start), error.message()),
                None => error.message().to_owned(),
            },
        })?;
    Ok(Layer { name: format!("the file {}", path.display()), values })
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// `DATABASE_URL` lies below our own variables, whatever their order.
fn environment_layers(environment: impl IntoIterator<Item = (String, String)>) -> Vec<Layer> {
    let (mut common, mut own) = (Vec::new(), Vec::new());
    for (name, value) in environment {
        if value.is_empty() {
            continue;
        }
        let layer = |key: &str, value| Layer::one(format!("the environment variable {name}"), key, value);
        if name == "DATABASE_URL" {
            common.push(layer("store.url", value));
        } else if name == "DATABASE_URL_FILE" {
            common.push(layer("store.url_file", value));
        } else if let Some(key) = name.strip_prefix(PREFIX).filter(|key| key.contains("__")) {
            own.push(layer(&key.to_lowercase().replace("__", "."), value));
        }
    }
    common.append(&mut own);
    common
}

fn read_secret(path: &Path, key: &str) -> Result<Sensitive, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::File {
        path: path.to_owned(),
        key: key.to_owned(),
        source,
    })?;
    // Editors and `echo` leave a newline that nobody means.
    Ok(Sensitive::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn both(figment: &Figment, key: &str) -> Error {
    let layer_of = |key: &str| {
        figment.find_metadata(key).map_or_else(|| "an unknown layer".to_owned(), |metadata| metadata.name.to_string())
    };
    Error::Both { key: key.to_owned(), layer: layer_of(key), file_layer: layer_of(&format!("{key}_file")) }
}

/// One sentence of ours for whatever figment found.
fn explain(error: &figment::Error) -> Error {
    let key = error.path.join(".");
    let layer =
        error.metadata.as_ref().map_or_else(|| "the configuration".to_owned(), |metadata| metadata.name.to_string());
    let section = error.path.split_last().map(|(_, section)| section.join(".")).filter(|section| !section.is_empty());
    let full = |name: &str| section.as_ref().map_or_else(|| name.to_owned(), |section| format!("{section}.{name}"));
    match &error.kind {
        Kind::UnknownField(name, known) => {
            let advice = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{}`?", full(near)),
                None => format!("there are: {}", known.iter().map(|name| full(name)).collect::<Vec<_>>().join(", ")),
            };
            Error::UnknownKey { key, layer, advice }
        }
        // A value of another type is not repeated: it may be a secret in the wrong place.
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => {
            Error::Invalid { key, layer, message: format!("expected {expected}") }
        }
        other => Error::Invalid { key, layer, message: other.to_string() },
    }
}

#[cfg(test)]
mod tests;
