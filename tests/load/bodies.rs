//! Large bodies, up and down: what a megabyte costs, how fast they pass, and what is held of them while nobody takes
//! them.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use tokio::{sync::Notify, task::JoinSet};

use crate::{
    connection::Connection,
    results::{MEBIBYTE, Metric, Results, Target},
    subject::{FEW, Ground, Kind, Subject},
    upstream::WHOLE,
};

const BODY: usize = 5_000_000;
const CONNECTIONS: usize = 4;
const WARM_UP: Duration = Duration::from_millis(500);
/// In flight, and held up.
const HELD: usize = 16;
/// The upstream lets them wait for so long; by then the subject holds what it will hold.
const HOLD: Duration = Duration::from_millis(900);
const LOOK_AFTER: Duration = Duration::from_millis(700);

#[derive(Clone, Copy)]
enum Way {
    Up,
    Down,
}

const fn metric(name: &'static str, unit: &'static str, target: Target) -> Metric {
    Metric::new("bodies", name, unit, target)
}

impl Way {
    const fn cpu(self) -> Metric {
        match self {
            Self::Up => metric("request of 5 MB: CPU per MB", "us", Target::RatioAtMost(1.3)),
            Self::Down => metric("answer of 5 MB: CPU per MB", "us", Target::RatioAtMost(1.3)),
        }
    }

    const fn rate(self) -> Metric {
        match self {
            Self::Up => metric("request of 5 MB: throughput", "MB/s", Target::None),
            Self::Down => metric("answer of 5 MB: throughput", "MB/s", Target::None),
        }
    }

    const fn held(self) -> Metric {
        match self {
            Self::Up => Metric::new("held", "request of 5 MB that waits", "MiB each", Target::AtMost(2.0)),
            Self::Down => Metric::new("held", "answer of 5 MB that waits", "MiB each", Target::AtMost(2.0)),
        }
    }

    fn request(self, subject: &Subject, lane: usize) -> Vec<u8> {
        match self {
            Self::Up => subject.request(lane, "/v1/chat/completions", &large()),
            Self::Down => subject.request(lane, &format!("/v1/answer/{BODY}"), &crate::subject::chat(false)),
        }
    }

    const fn answer(self) -> usize {
        match self {
            Self::Up => WHOLE,
            Self::Down => BODY,
        }
    }
}

/// A request with an image in it, say.
pub(crate) fn large() -> Vec<u8> {
    json(BODY)
}

/// A JSON body of this size whose text tells nothing.
pub(crate) fn json(size: usize) -> Vec<u8> {
    let body = |text: &str| format!(r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    body(&"x".repeat(size - body("").len())).into_bytes()
}

pub(crate) async fn measure(subject: &Subject, seconds: f64, results: &mut Results) -> anyhow::Result<()> {
    for way in [Way::Up, Way::Down] {
        throughput(subject, way, seconds, results).await?;
    }
    Ok(())
}

async fn throughput(subject: &Subject, way: Way, seconds: f64, results: &mut Results) -> anyhow::Result<()> {
    let (stop, passed) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0_usize)));
    let mut lanes = JoinSet::new();
    for lane in 0..CONNECTIONS {
        let request = way.request(subject, lane);
        let (stop, passed, address) = (Rc::clone(&stop), Rc::clone(&passed), subject.address);
        lanes.spawn_local(async move {
            let mut connection = Connection::open(address).await?;
            while !stop.get() {
                let sent = |bytes: usize| passed.set(passed.get() + bytes);
                let answer = match way {
                    Way::Up => {
                        connection.send(&request, sent).await?;
                        connection.receive(|_| {}).await?
                    }
                    Way::Down => {
                        connection.send(&request, |_| {}).await?;
                        connection.receive(sent).await?
                    }
                };
                ensure!(answer.body == way.answer(), "{} bytes of {}", answer.body, way.answer());
            }
            anyhow::Ok(())
        });
    }
    tokio::time::sleep(WARM_UP).await;
    let before = (Instant::now(), subject.cpu()?, passed.get());
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let (elapsed, cpu) = (before.0.elapsed().as_secs_f64(), subject.cpu()?.saturating_sub(before.1).as_secs_f64());
    let megabytes = (passed.get() - before.2) as f64 / 1e6;
    stop.set(true);
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    ensure!(megabytes > 0.0, "nothing passed");
    results.add(&way.rate(), subject.kind, megabytes / elapsed);
    if !matches!(subject.kind, Kind::Direct | Kind::DirectAgain) {
        results.add(&way.cpu(), subject.kind, cpu * 1e6 / megabytes);
    }
    Ok(())
}

pub(crate) async fn measure_held(ground: &Ground, kind: Kind, results: &mut Results) -> anyhow::Result<()> {
    for way in [Way::Up, Way::Down] {
        held(ground, kind, way, results).await?;
    }
    Ok(())
}

/// Many at once that nobody takes: what the subject holds of each.
async fn held(ground: &Ground, kind: Kind, way: Way, results: &mut Results) -> anyhow::Result<()> {
    // A process of its own: memory that was given back to the allocator hides what is taken again.
    let subject = Subject::start(ground, kind, FEW).await?;
    let Some(process) = &subject.process else { return Ok(()) };
    process.settled().await?;
    let before = process.rss()?;
    process.forget_peak()?;
    let release = Rc::new(Notify::new());
    let mut lanes = JoinSet::new();
    for lane in 0..HELD {
        let request = match way {
            Way::Up => subject.request(lane, &format!("/v1/wait/{}", HOLD.as_millis()), &large()),
            Way::Down => way.request(&subject, lane),
        };
        let (release, address) = (Rc::clone(&release), subject.address);
        lanes.spawn_local(async move {
            let mut connection = Connection::open(address).await?;
            connection.send(&request, |_| {}).await?;
            if matches!(way, Way::Down) {
                release.notified().await;
            }
            let answer = connection.receive(|_| {}).await?;
            ensure!(answer.body == way.answer(), "{} bytes of {}", answer.body, way.answer());
            anyhow::Ok(())
        });
    }
    tokio::time::sleep(LOOK_AFTER).await;
    let peak = process.peak()?;
    release.notify_waiters();
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    results.add(&way.held(), subject.kind, (peak - before).max(0.0) / MEBIBYTE / HELD as f64);
    Ok(())
}
