//! As many requests as one core answers: many connections, each sending its next request when its last is answered.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use tokio::task::JoinSet;

use crate::{
    connection::Connection,
    results::{MEBIBYTE, Metric, Results, Target},
    subject::{Kind, Subject, chat},
    upstream::WHOLE,
};

const CONNECTIONS: usize = 64;
const WARM_UP: Duration = Duration::from_millis(700);

const CPU: Metric = Metric::new("saturation", "CPU per request", "us", Target::RatioAtMost(1.3));
const RATE: Metric = Metric::new("saturation", "requests per second", "/s", Target::RatioAtLeast(0.8));
const MEMORY: Metric = Metric::new("saturation", "resident memory afterwards", "MiB", Target::None);
const BUSY: Metric = Metric::new("saturation", "share of its core", "%", Target::None);

pub(crate) async fn measure(subject: &Subject, seconds: f64, results: &mut Results) -> anyhow::Result<()> {
    let (stop, requests) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0_u64)));
    let mut lanes = JoinSet::new();
    for lane in 0..CONNECTIONS {
        let request = subject.request(lane, "/v1/chat/completions", &chat(false));
        let (stop, requests, address) = (Rc::clone(&stop), Rc::clone(&requests), subject.address);
        lanes.spawn_local(async move {
            let mut connection = Connection::open(address).await?;
            while !stop.get() {
                let answer = connection.exchange(&request).await?;
                ensure!(answer.body == WHOLE, "{} bytes of {WHOLE}", answer.body);
                requests.set(requests.get() + 1);
            }
            anyhow::Ok(())
        });
    }
    tokio::time::sleep(WARM_UP).await;
    let before = (Instant::now(), subject.cpu()?, requests.get());
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let (elapsed, cpu) = (before.0.elapsed().as_secs_f64(), subject.cpu()?.saturating_sub(before.1).as_secs_f64());
    let answered = (requests.get() - before.2) as f64;
    stop.set(true);
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    ensure!(answered > 0.0, "nothing was answered");
    results.add(&RATE, subject.kind, answered / elapsed);
    if !matches!(subject.kind, Kind::Direct | Kind::DirectAgain) {
        results.add(&CPU, subject.kind, cpu * 1e6 / answered);
        results.add(&BUSY, subject.kind, cpu * 100.0 / elapsed);
    }
    if let Some(process) = &subject.process {
        results.add(&MEMORY, subject.kind, process.rss()? / MEBIBYTE);
    }
    Ok(())
}
