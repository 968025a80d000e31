//! The one place that installs a tracing subscriber: lines on stderr, for people or for machines.

use std::io::{self, IsTerminal as _};

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::command::LogFormat;

/// Installs the subscriber for the whole process.
pub(crate) fn install(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| format!("the log filter `{filter}` is not usable"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(BoxMakeWriter::new(io::stderr));
    let installed = match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    };
    installed.map_err(|error| anyhow::anyhow!("cannot install the log: {error}"))
}

/// The lines of requests, which the data plane writes by itself, are to look like the others.
pub(crate) fn like_the_rest(log: &mut data_plane::config::Log, format: LogFormat) {
    log.format = match format {
        LogFormat::Text => data_plane::config::LogFormat::Text,
        LogFormat::Json => data_plane::config::LogFormat::Json,
    };
    log.colour = io::stderr().is_terminal();
}

/// Text where a person watches, JSON where a program reads.
pub(crate) fn format_of_stderr() -> LogFormat {
    if io::stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json }
}
