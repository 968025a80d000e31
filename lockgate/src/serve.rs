//! What the commands do: read their configuration, install the log, start the runtime, serve until told to stop.

use std::fmt::Write as _;
use std::future::Future;
use std::io::{self, Write as _};

use anyhow::Context as _;
use clap::CommandFactory as _;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::command::{
    Audit, AuditVerify, Command, Config, ControlPlane, DataPlane, Dev, Lockgate, Log, LogFormat, Plane, Sample,
};
use crate::{audit, dev, doctor, ledger, logging, logs, sample, signal, usage};

/// What `--check` says.
const USABLE: &str = "the configuration is usable\n";

/// Does what the command line asks for.
pub(crate) fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Dev(options) => run_dev(options),
        Command::ControlPlane(options) => run_control_plane(options),
        Command::DataPlane(options) => run_data_plane(options),
        Command::Sample(options) => run_sample(options),
        Command::Config(Config { plane: Plane::ControlPlane }) => print(control_plane::config::DEFAULTS),
        Command::Config(Config { plane: Plane::DataPlane }) => print(data_plane::config::DEFAULT),
        Command::Openapi => {
            let document = control_plane::api::router::openapi();
            print(&(document.to_pretty_json().context("the document is no JSON")? + "\n"))
        }
        Command::Audit(Audit::Verify(options)) => run_audit_verify(options),
        Command::Audit(Audit::Usage(options)) => block_on(async |_| {
            let balance = ledger::audit(options).await?;
            print(&balance.text)?;
            anyhow::ensure!(balance.balanced, "usage does not balance; the lines marked WRONG say where");
            Ok(())
        }),
        Command::Usage(options) => block_on(async |_| print(&usage::ask(options, OffsetDateTime::now_utc()).await?)),
        Command::Logs(options) => block_on(async |stop| logs::show(options, &stop, put).await),
        Command::Explain(options) => block_on(async |_| print(&ledger::explain(options).await?)),
        Command::Doctor(options) => block_on(async |_| {
            let report = doctor::ask(&options.addresses).await;
            print(&report.text)?;
            anyhow::ensure!(report.well, "not everything is ready");
            Ok(())
        }),
        Command::Completion(options) => {
            let mut script = Vec::new();
            clap_complete::generate(options.shell, &mut Lockgate::command(), "lockgate", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Command::Version => print(concat!("lockgate ", env!("CARGO_PKG_VERSION"), "\n")),
    }
}

fn run_dev(options: &Dev) -> anyhow::Result<()> {
    // Two planes and an upstream of their own would talk over each other, and over what is printed for people.
    let filter = "warn,lockgate=info,data_plane::pipeline=info";
    let format = install(&options.log, filter, logging::format_of_stderr())?;
    block_on(|stop| dev::run(options, format, stop))
}

fn run_control_plane(options: &ControlPlane) -> anyhow::Result<()> {
    let flags = options.flags();
    let config = control_plane::Config::load(options.settings.config.as_deref(), std::env::vars(), flags)?;
    if options.settings.check {
        return print(USABLE);
    }
    let format = match config.log.format {
        control_plane::config::LogFormat::Text => LogFormat::Text,
        control_plane::config::LogFormat::Json => LogFormat::Json,
    };
    install(&options.settings.log, &config.log.filter, format)?;
    block_on(async |stop| Ok(control_plane::run(config, stop).await?))
}

fn run_data_plane(options: &DataPlane) -> anyhow::Result<()> {
    let flags = options.flags();
    let flags: Vec<(&str, String)> = flags.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    let mut config = data_plane::Config::load(options.settings.config.as_deref(), &flags)?;
    if options.settings.check {
        return print(USABLE);
    }
    let format = match config.log.format {
        data_plane::config::LogFormat::Text => LogFormat::Text,
        data_plane::config::LogFormat::Json => LogFormat::Json,
    };
    let format = install(&options.settings.log, &config.log.level, format)?;
    logging::like_the_rest(&mut config.log, format);
    block_on(async |stop| Ok(data_plane::run(config, stop).await?))
}

fn run_audit_verify(options: &AuditVerify) -> anyhow::Result<()> {
    let data_dir = options.data_dir.iter().map(|path| ("store.data_dir".to_owned(), path.display().to_string()));
    let config = control_plane::Config::load(options.config.as_deref(), std::env::vars(), data_dir)?;
    block_on(async |_| print(&audit::verify(&config).await?))
}

fn run_sample(options: &Sample) -> anyhow::Result<()> {
    install(&options.log, "warn,lockgate=debug", logging::format_of_stderr())?;
    block_on(async |stop: CancellationToken| {
        let started = sample::Sample::start(options.listen, options.pace.pause).await;
        let started = started.with_context(|| format!("cannot listen on {}", options.listen))?;
        let mut text = format!("The sample upstream listens on {}.\n\n", started.address());
        for vendor in sample::Vendor::ALL {
            let (url, credential) = (started.url(vendor), vendor.credential());
            let (name, model) = (vendor.name(), vendor.model());
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {name:<13} {url}  credential {credential}  model {model}");
        }
        text.push_str("\nWords in a prompt that make it misbehave:\n\n");
        text.push_str(&sample::trigger_table());
        print(&text)?;
        stop.cancelled().await;
        started.shutdown().await;
        Ok(())
    })
}

/// The format is that of the command line, or else this one.
fn install(options: &Log, filter: &str, format: LogFormat) -> anyhow::Result<LogFormat> {
    let format = options.log_format.unwrap_or(format);
    logging::install(options.log.as_deref().unwrap_or(filter), format)?;
    Ok(format)
}

fn print(text: &str) -> anyhow::Result<()> {
    put(text).map(drop)
}

/// Whether anybody still reads.
fn put(text: &str) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // `| head` has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).context("cannot print"),
    }
}

fn block_on<F: Future<Output = anyhow::Result<()>>>(serve: impl FnOnce(CancellationToken) -> F) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        let stop = signal::stop_on_signal().context("cannot listen for signals")?;
        serve(stop).await
    })
}
