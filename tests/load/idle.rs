//! A process that has nothing to do yet: how soon it answers, and what it holds.

use std::time::{Duration, Instant};

use crate::{
    results::{MEBIBYTE, Metric, Results, Target},
    subject::{FEW, Ground, Kind, Node, Subject},
};

/// Until whatever start-up left behind has settled.
const SETTLE: Duration = Duration::from_millis(1_500);

const MEMORY: Metric = Metric::new("idle", "memory with 10 endpoints", "MiB", Target::AtMost(16.0));
const FIRST: Metric = Metric::new("idle", "start to first answer", "ms", Target::AtMost(50.0));
const AGAIN: Metric = Metric::new("idle", "restart to first answer", "ms", Target::AtMost(50.0));

pub(crate) async fn measure(ground: &Ground, kind: Kind, results: &mut Results) -> anyhow::Result<()> {
    match kind {
        Kind::Direct | Kind::DirectAgain => {}
        Kind::Floor | Kind::FloorAgain | Kind::Nginx => {
            let start = Instant::now();
            let subject = Subject::start(ground, kind, FEW).await?;
            results.add(&FIRST, kind, start.elapsed().as_secs_f64() * 1e3);
            tokio::time::sleep(SETTLE).await;
            if let Some(process) = &subject.process {
                results.add(&MEMORY, kind, process.rss()? / MEBIBYTE);
            }
        }
        Kind::Lockgate => {
            let mut node = Node::prepare(ground, FEW)?;
            let start = Instant::now();
            let mut subject = node.subject(ground, FEW, &[])?;
            subject.answers().await?;
            results.add(&FIRST, kind, start.elapsed().as_secs_f64() * 1e3);
            tokio::time::sleep(SETTLE).await;
            if let Some(process) = &subject.process {
                results.add(&MEMORY, kind, process.rss()? / MEBIBYTE);
            }
            // Killed: what it needs is on the disk by now.
            node.feeder = subject.end();
            let start = Instant::now();
            let mut subject = node.subject(ground, FEW, &[])?;
            subject.answers().await?;
            results.add(&AGAIN, kind, start.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(())
}
