//! Whether large bodies on their way in hold up small streams: the same streams without and with ten uploads beside
//! them.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::{
    bodies,
    connection::Connection,
    figures::quantile,
    pace::{self, Plan},
    results::{Metric, Results, Target},
    subject::{Subject, chat},
    upstream::PIECE,
};

const UPLOADS: usize = 10;
const BODY: usize = 10_000_000;
/// Of each upload: together they are a link of 1.6 Gbit/s, which no core here is saturated by.
const PIECE_EVERY: (usize, Duration) = (64_000, Duration::from_micros(3_200));
const PIECES: usize = 10;
const STREAMS_PER_SECOND: f64 = 200.0;

const WITHOUT: Metric = Metric::new("uploads", "p99 of small streams", "us", Target::None);
const WITH: Metric = Metric::new("uploads", "p99 beside ten uploads of 10 MB", "us", Target::None);
const RATIO: Metric = Metric::new("uploads", "the one against the other", "x", Target::AtMost(1.5));

pub(crate) async fn measure(subject: &Subject, seconds: f64, results: &mut Results) -> anyhow::Result<()> {
    let without = p99(subject, seconds).await?;
    let stop = Rc::new(Cell::new(false));
    let mut uploads = JoinSet::new();
    for lane in 0..UPLOADS {
        let request = subject.request(lane, "/v1/chat/completions", &bodies::json(BODY));
        let (stop, address) = (Rc::clone(&stop), subject.address);
        uploads.spawn_local(async move {
            let mut connection = Connection::open(address).await?;
            while !stop.get() {
                let start = Instant::now();
                for (number, piece) in request.chunks(PIECE_EVERY.0).enumerate() {
                    let due = start + PIECE_EVERY.1 * u32::try_from(number)?;
                    tokio::time::sleep_until(due.into()).await;
                    connection.send(piece, |_| {}).await?;
                }
                connection.receive(|_| {}).await?;
            }
            anyhow::Ok(())
        });
    }
    let with = p99(subject, seconds).await?;
    stop.set(true);
    while let Some(upload) = uploads.join_next().await {
        upload??;
    }
    results.add(&WITHOUT, subject.kind, without);
    results.add(&WITH, subject.kind, with);
    results.add(&RATIO, subject.kind, with / without);
    Ok(())
}

/// Of whole streams, whose pieces come as fast as they are taken.
async fn p99(subject: &Subject, seconds: f64) -> anyhow::Result<f64> {
    let path = format!("/v1/pieces/{PIECES}/0");
    let request = |lane| subject.request(lane, &path, &chat(true));
    let plan = Plan {
        address: subject.address,
        request: &request,
        body: PIECES * PIECE,
        per_second: STREAMS_PER_SECOND,
        seconds,
    };
    let mut times = pace::run(&plan).await?.whole;
    times.sort_unstable_by(f64::total_cmp);
    Ok(quantile(&times, 0.99))
}
