//! Many long streams at a steady pace, slow enough that every piece is passed on by itself: what a piece costs.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use tokio::task::JoinSet;

use crate::{
    connection::Connection,
    results::{Metric, Results, Target},
    subject::{Kind, Subject, chat},
    upstream::PIECE,
};

const STREAMS: usize = 150;
const PACE: Duration = Duration::from_millis(10);
const WARM_UP: Duration = Duration::from_secs(1);

const CPU: Metric = Metric::new("stream", "CPU per piece", "us", Target::RatioAtMost(1.3));
const RATE: Metric = Metric::new("stream", "pieces per second", "/s", Target::None);

pub(crate) async fn measure(subject: &Subject, seconds: f64, results: &mut Results) -> anyhow::Result<()> {
    let measured = Duration::from_secs_f64(seconds);
    let count = ((WARM_UP + measured).as_secs_f64() / PACE.as_secs_f64()) as usize + 50;
    let path = format!("/v1/pieces/{count}/{}", PACE.as_micros());
    let bytes = Rc::new(Cell::new(0_usize));
    let mut streams = JoinSet::new();
    for lane in 0..STREAMS {
        let request = subject.request(lane, &path, &chat(true));
        let (bytes, address) = (Rc::clone(&bytes), subject.address);
        streams.spawn_local(async move {
            // Spread over one pace, so that they do not all come at once.
            tokio::time::sleep(PACE * u32::try_from(lane)? / u32::try_from(STREAMS)?).await;
            let mut connection = Connection::open(address).await?;
            connection.send(&request, |_| {}).await?;
            let answer = connection.receive(|more| bytes.set(bytes.get() + more)).await?;
            ensure!(answer.body == count * PIECE, "{} bytes of {}", answer.body, count * PIECE);
            anyhow::Ok(())
        });
    }
    tokio::time::sleep(WARM_UP).await;
    let before = (Instant::now(), subject.cpu()?, bytes.get());
    tokio::time::sleep(measured).await;
    let (elapsed, cpu) = (before.0.elapsed().as_secs_f64(), subject.cpu()?.saturating_sub(before.1).as_secs_f64());
    let pieces = (bytes.get() - before.2) as f64 / PIECE as f64;
    while let Some(stream) = streams.join_next().await {
        stream??;
    }
    ensure!(pieces > 0.0, "no piece came");
    results.add(&RATE, subject.kind, pieces / elapsed);
    if !matches!(subject.kind, Kind::Direct | Kind::DirectAgain) {
        results.add(&CPU, subject.kind, cpu * 1e6 / pieces);
    }
    Ok(())
}
