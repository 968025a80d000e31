//! What the data plane costs: CPU, latency and memory, against going direct, against a bare pass-through (the floor)
//! and against nginx, all in one run. `docs/guide/performance.md` says how to read it.
//!
//! What is measured is a process of its own on a core of its own; the client, the upstream and the control plane share
//! another. Subjects take turns, so that whatever else the machine does falls on all of them, and the result is the
//! ratio. Everything is bounded in time and in count. It measures and judges nothing: the exit code is about the
//! harness.
#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::format_push_string
)]

mod answer;
mod bodies;
mod connection;
mod crowd;
mod feeder;
mod figures;
mod floods;
mod floor;
mod idle;
mod instructions;
mod latency;
mod machine;
mod nginx;
mod options;
mod pace;
mod process;
mod report;
mod results;
mod saturation;
mod stream;
mod subject;
mod uploads;
mod upstream;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, anyhow, bail, ensure};
use serde_json::json;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    task::LocalSet,
};

use self::{
    feeder::configuration::Size,
    machine::Machine,
    options::{Options, Scenario},
    process::{Core, Cores, Process, Warden},
    results::{Results, Round},
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
    let (_upstream, address) = Process::of_ours(&warden, cores, Core::Rest, &[], &["upstream"])?;
    let ground = Ground { warden, cores, upstream: address.parse()?, lockgate, folder: tempfile::tempdir()? };
    let mut results = Results::default();
    let mut terminated = signal(SignalKind::terminate())?;
    let measured = tokio::select! {
        measured = scenarios(&ground, &options, &mut results) => measured,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Into::into).and_then(|()| bail!("interrupted")),
        _ = terminated.recv() => Err(anyhow!("told to stop")),
    };
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

/// Keys of the node, and where only instructions are counted.
const KEYS: (usize, usize) = (100_000, 1_000_000);

/// In turns, so that whatever else the machine does falls on all subjects.
async fn scenarios(ground: &Ground, options: &Options, results: &mut Results) -> anyhow::Result<()> {
    let size = |keys| Size { endpoints: options.endpoints, keys: options.keys.unwrap_or(keys) };
    // Started once, on first use: a hundred thousand keys take a moment.
    let mut subjects = Vec::new();
    for scenario in Scenario::ALL.into_iter().filter(|scenario| options.only.contains(scenario)) {
        if scenario == Scenario::Instructions {
            if instructions::possible() {
                let profile = options.profile.as_deref();
                instructions::measure(ground, &options.subjects, size(KEYS.1), profile, results).await?;
            } else {
                eprintln!("valgrind is not installed: instructions are not counted");
            }
            continue;
        }
        let fresh = matches!(scenario, Scenario::Held | Scenario::Idle | Scenario::Crowd | Scenario::Floods);
        if !fresh && subjects.is_empty() {
            for kind in &options.subjects {
                eprintln!("starting {}", kind.name());
                subjects.push(Subject::start(ground, *kind, size(KEYS.0)).await?);
            }
        }
        for repetition in 1..=options.repetitions {
            let mut round = Round::default();
            for (number, kind) in options.subjects.iter().enumerate() {
                eprintln!("{}, {repetition} of {}: {}", scenario.name(), options.repetitions, kind.name());
                let measured = if fresh {
                    with_fresh(scenario, ground, *kind, results).await
                } else {
                    with_running(scenario, &subjects[number], options.seconds, &mut round, results).await
                };
                measured.with_context(|| format!("{} of {}", scenario.name(), kind.name()))?;
            }
        }
    }
    Ok(())
}

async fn with_running(
    scenario: Scenario,
    subject: &Subject,
    seconds: f64,
    round: &mut Round,
    results: &mut Results,
) -> anyhow::Result<()> {
    match scenario {
        Scenario::Saturation => saturation::measure(subject, seconds, results).await?,
        Scenario::Stream => stream::measure(subject, seconds, results).await?,
        Scenario::Latency => latency::measure(subject, seconds, round, results).await?,
        Scenario::FirstByte => latency::measure_first_byte(subject, seconds, round, results).await?,
        Scenario::Bodies => bodies::measure(subject, seconds, results).await?,
        Scenario::Uploads => uploads::measure(subject, seconds, results).await?,
        Scenario::Held | Scenario::Idle | Scenario::Crowd | Scenario::Floods | Scenario::Instructions => {}
    }
    subject.shorten_log()
}

async fn with_fresh(scenario: Scenario, ground: &Ground, kind: Kind, results: &mut Results) -> anyhow::Result<()> {
    match scenario {
        Scenario::Held => bodies::measure_held(ground, kind, results).await,
        Scenario::Idle => idle::measure(ground, kind, results).await,
        Scenario::Crowd => crowd::measure(ground, kind, results).await,
        Scenario::Floods => floods::measure(ground, kind, results).await,
        _ => Ok(()),
    }
}

fn write(options: &Options, results: &Results, machine: &Machine) -> anyhow::Result<()> {
    if let Some(path) = &options.json {
        let told = json!({
            "endpoints": options.endpoints, "keys": options.keys.unwrap_or(KEYS.0),
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
