//! `[telemetry]`: a collector that is told of requests. Each key has a variable of OpenTelemetry's own, which counts
//! more than the file and less than `LOCKGATE_TELEMETRY__...`.

use std::path::PathBuf;
use std::time::Duration;

use figment::Provider;
use figment::providers::Env;
use http::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::{Token, duration, path};

/// `[telemetry]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// URL of a collector; empty: nobody is told anything.
    pub endpoint: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// Sent with everything, `name=value,name=value`. Secret.
    pub headers: Token,
    /// File with the headers, one `name=value` a line; empty: none.
    #[serde(deserialize_with = "path")]
    pub headers_file: Option<PathBuf>,
    /// Between two times that metrics are sent.
    #[serde(deserialize_with = "duration")]
    pub interval: Duration,
    /// A collector that takes longer has not taken it.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
}

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Protocol {
    /// OTLP over gRPC.
    #[serde(rename = "grpc")]
    Grpc,
}

/// Why nobody can be told.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Not a URL of a collector.
    #[error("`telemetry.endpoint` is not an http or https URL with a host")]
    Endpoint,
    /// Not headers. Their text is not shown.
    #[error("`telemetry.headers` are not of the form name=value,name=value")]
    Headers,
    /// Their file cannot be read.
    #[error("cannot read {path}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The exporter cannot be made: a defect of the build.
    #[error("the exporter cannot be made")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
}

impl Telemetry {
    /// The headers, each marked as a secret.
    pub fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, TelemetryError> {
        let mut text = self.headers.clone();
        if let (true, Some(path)) = (text.is_empty(), &self.headers_file) {
            let read = std::fs::read_to_string(path);
            text = read.map_err(|source| TelemetryError::Unreadable { path: path.clone(), source })?.into();
        }
        let mut headers = Vec::new();
        for field in text.expose().split([',', '\n']).map(str::trim).filter(|field| !field.is_empty()) {
            let (name, value) = field.split_once('=').ok_or(TelemetryError::Headers)?;
            // As OpenTelemetry writes them: percent-encoded where a comma or a space would mislead.
            let value: Vec<u8> = percent_encoding::percent_decode_str(value.trim()).collect();
            let name = HeaderName::try_from(name.trim()).map_err(|_| TelemetryError::Headers)?;
            let mut value = HeaderValue::try_from(value).map_err(|_| TelemetryError::Headers)?;
            value.set_sensitive(true);
            headers.push((name, value));
        }
        Ok(headers)
    }
}

/// OpenTelemetry's own variables.
pub(super) fn standard() -> impl Provider {
    const KEYS: [(&str, &str); 3] = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.endpoint"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "telemetry.headers"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "telemetry.protocol"),
    ];
    let named = KEYS.map(|(name, _)| name);
    Env::raw().only(&named).map(|name| {
        let key = KEYS.iter().find(|(known, _)| name == *known).map_or("", |(_, key)| key);
        key.into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn headers_are_read_and_never_printed() {
        let mut telemetry = Config::default().telemetry;
        assert!(telemetry.endpoint.is_empty() && telemetry.headers().unwrap().is_empty());
        telemetry.headers = "authorization=Bearer%20hush, x-tenant = a=b ,".to_owned().into();
        let headers = telemetry.headers().unwrap();
        let read: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(read, [("authorization", "Bearer hush"), ("x-tenant", "a=b")]);
        let printed = format!("{telemetry:?} {headers:?}");
        assert!(!printed.contains("hush"), "{printed}");
        for bad in ["hush", "a b=hush", "a=hu\u{7}sh"] {
            telemetry.headers = bad.to_owned().into();
            let error = telemetry.headers().unwrap_err();
            assert!(!format!("{error:?} {error}").contains("hush"), "{error:?}");
        }
    }

    #[test]
    fn headers_are_read_from_a_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, b"authorization=Bearer hush\nx-tenant=7\n").unwrap();
        let telemetry = Telemetry { headers_file: Some(file.path().to_owned()), ..Config::default().telemetry };
        assert_eq!(telemetry.headers().unwrap().len(), 2);
    }
}
