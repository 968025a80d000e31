//! What the data plane costs: CPU, latency and memory, against going direct, against a bare pass-through (the floor) and
//! against nginx, all in one run. `docs/guide/performance.md` says how to read it.
//!
//! What is measured is a process of its own on a core of its own; the client, the upstream and the control plane share
//! another. Subjects take turns, so that whatever else the machine does falls on all of them, and the result is the
//! ratio. Everything is bounded in time and in count. It measures and judges nothing: the exit code is about the harness.
#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::format_push_string
)]

mod answer;
mod connection;
mod feeder;
mod figures;
mod floor;
mod machine;
mod nginx;
mod options;
mod process;
mod report;
mod results;
mod saturation;
mod stream;
mod subject;
mod upstream;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::json;
use tokio::{runtime, task::LocalSet};

use self::{
    feeder::configuration::Size,
    machine::Machine,
    options::{Options, Scenario},
    process::{Core, Cores, Process, Warden},
    results::Results,
    subject::{Ground, Kind, Subject},
};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let one_thread = || runtime::Builder::new_current_thread().enable_all().build();
    // The other processes are this program again.
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["warden"] => {
            process::watch();
            Ok(())
        }
        ["upstream"] => one_thread()?.block_on(upstream::serve()),
        ["floor", upstream, keys] => one_thread()?.block_on(floor::serve(upstream.parse()?, keys.parse()?)),
        ["feeder", upstream, endpoints, keys] => {
            let size = Size { endpoints: endpoints.parse()?, keys: keys.parse()? };
            one_thread()?.block_on(feeder::serve(upstream.parse()?, size))
        }
        _ => {
            let Some(options) = Options::parse(&arguments)? else {
                print!("{}", options::help());
                return Ok(());
            };
            let cores = Cores::find();
            cores.pin_self(Core::Rest)?;
            LocalSet::new().block_on(&one_thread()?, measure(options, cores))
        }
    }
}

async fn measure(mut options: Options, cores: Cores) -> anyhow::Result<()> {
    if options.subjects.contains(&Kind::Nginx) && nginx::find().is_none() {
        eprintln!("nginx is not installed (apt-get install nginx-light): measuring without it");
        options.subjects.retain(|kind| *kind != Kind::Nginx);
    }
    let lockgate = program(&options)?;
    let machine = Machine::look(cores, &lockgate);
    let warden = Warden::start()?;
    let (_upstream, address) = Process::of_ours(&warden, cores, Core::Rest, &["upstream"])?;
    let ground = Ground { warden, cores, upstream: address.parse()?, lockgate, folder: tempfile::tempdir()? };
    let mut results = Results::default();
    let measured = scenarios(&ground, &options, &mut results).await;
    // What there is by now is shown even if the rest failed.
    if !results.rows.is_empty() {
        print!("{}", report::text(&results, &options.subjects, &machine));
        write(&options, &results, &machine)?;
    }
    measured
}

/// The program to measure: what production runs, not a part of it.
fn program(options: &Options) -> anyhow::Result<PathBuf> {
    let beside = || Ok(std::env::current_exe()?.parent().context("a program lies in a folder")?.join("lockgate"));
    let path = options.lockgate.clone().map_or_else(beside, anyhow::Ok)?;
    let wanted = options.subjects.contains(&Kind::Lockgate);
    ensure!(!wanted || path.is_file(), "{} is missing: cargo build --release -p lockgate", path.display());
    Ok(path)
}

async fn scenarios(ground: &Ground, options: &Options, results: &mut Results) -> anyhow::Result<()> {
    let size = Size { endpoints: options.endpoints, keys: options.keys };
    if options.wants(Scenario::Saturation) || options.wants(Scenario::Stream) {
        let mut subjects = Vec::new();
        for kind in &options.subjects {
            eprintln!("starting {}", kind.name());
            subjects.push(Subject::start(ground, *kind, size).await?);
        }
        for scenario in Scenario::ALL.into_iter().filter(|scenario| options.wants(*scenario)) {
            for repetition in 1..=options.repetitions {
                for subject in &subjects {
                    eprintln!("{}, {repetition} of {}: {}", scenario.name(), options.repetitions, subject.kind.name());
                    let measured = match scenario {
                        Scenario::Saturation => saturation::measure(subject, options.seconds, results).await,
                        Scenario::Stream => stream::measure(subject, options.seconds, results).await,
                    };
                    measured.with_context(|| format!("{} of {}", scenario.name(), subject.kind.name()))?;
                    subject.shorten_log()?;
                }
            }
        }
    }
    Ok(())
}

fn write(options: &Options, results: &Results, machine: &Machine) -> anyhow::Result<()> {
    if let Some(path) = &options.json {
        let told = json!({
            "endpoints": options.endpoints, "keys": options.keys,
            "seconds": options.seconds, "repetitions": options.repetitions,
        });
        let text = serde_json::to_string_pretty(&report::json(results, &told, machine))?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &options.markdown {
        let text = report::markdown(results, &options.subjects, machine);
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
