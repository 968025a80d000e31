//! Ten thousand connections that do nothing: what each costs in memory, mute from the start or kept after an answer.

use std::{fs, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::{net::TcpStream, task::JoinSet};

use crate::{
    connection::Connection,
    results::{MEBIBYTE, Metric, Results, Target},
    subject::{FEW, Ground, Kind, Subject, chat},
};

const WANTED: usize = 10_000;
/// Files that client and subject need for other things.
const SPARE: usize = 1_000;
const AT_ONCE: usize = 64;
const SETTLE: Duration = Duration::from_millis(1_500);

const MUTE: Metric = Metric::new("crowd", "10,000 mute connections", "MiB", Target::AtMost(32.0));
const KEPT: Metric = Metric::new("crowd", "10,000 kept alive", "MiB", Target::RatioAtMost(1.1));

pub(crate) async fn measure(ground: &Ground, kind: Kind, results: &mut Results) -> anyhow::Result<()> {
    let count = allowed(&fs::read_to_string("/proc/self/limits")?)?;
    if count < WANTED {
        eprintln!("only {count} connections: `ulimit -n` allows no more; the figures are scaled to {WANTED}");
    }
    let scale = WANTED as f64 / count as f64;
    for (metric, asks) in [(&MUTE, false), (&KEPT, true)] {
        // Each in a process of its own: memory that was given back to the allocator hides what is taken again.
        let subject = Subject::start(ground, kind, FEW).await?;
        let Some(process) = &subject.process else { return Ok(()) };
        tokio::time::sleep(SETTLE).await;
        let before = process.rss()?;
        let crowd = gather(&subject, count, asks).await?;
        tokio::time::sleep(SETTLE).await;
        let grown = process.rss()? - before;
        // They must still be there, or nothing was measured.
        still_there(&subject, &crowd).await?;
        results.add(metric, kind, grown * scale / MEBIBYTE);
    }
    Ok(())
}

/// How many connections this process may have.
fn allowed(limits: &str) -> anyhow::Result<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).context("a limit of open files")?;
    let soft = line.split_whitespace().next().context("a soft limit")?;
    // "unlimited" is more than enough.
    let soft: usize = soft.parse().unwrap_or(usize::MAX);
    ensure!(soft > 2 * SPARE, "`ulimit -n` is {soft}: too few open files to measure with");
    Ok(WANTED.min(soft - SPARE))
}

async fn gather(subject: &Subject, count: usize, asks: bool) -> anyhow::Result<Vec<TcpStream>> {
    let mut lanes = JoinSet::new();
    for lane in 0..AT_ONCE {
        let request = subject.request(lane, "/v1/chat/completions", &chat(false));
        let address = subject.address;
        let share = count / AT_ONCE + usize::from(lane < count % AT_ONCE);
        lanes.spawn_local(async move {
            let mut open = Vec::with_capacity(share);
            for _ in 0..share {
                if asks {
                    let mut connection = Connection::open(address).await?;
                    connection.exchange(&request).await?;
                    open.push(connection.into_stream());
                } else {
                    open.push(TcpStream::connect(address).await?);
                }
            }
            anyhow::Ok(open)
        });
    }
    let mut crowd = Vec::with_capacity(count);
    while let Some(open) = lanes.join_next().await {
        crowd.extend(open??);
    }
    Ok(crowd)
}

/// None of them was closed, and the subject answers as ever.
async fn still_there(subject: &Subject, crowd: &[TcpStream]) -> anyhow::Result<()> {
    let closed = crowd.iter().filter(
        |stream| !matches!(stream.try_read(&mut [0]), Err(ref error) if error.kind() == std::io::ErrorKind::WouldBlock),
    );
    let closed = closed.count();
    ensure!(closed == 0, "{closed} of {} connections were closed", crowd.len());
    let request = subject.request(0, "/v1/chat/completions", &chat(false));
    Connection::open(subject.address).await?.exchange(&request).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_connections_as_files_allow() {
        let limits =
            |soft: &str| format!("Limit  Soft  Hard  Units\nMax open files            {soft}   65536   files\n");
        assert_eq!(allowed(&limits("65536")).unwrap(), WANTED);
        assert_eq!(allowed(&limits("unlimited")).unwrap(), WANTED);
        assert_eq!(allowed(&limits("8192")).unwrap(), 7_192);
        assert!(allowed(&limits("1024")).is_err());
    }
}
