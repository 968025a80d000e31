//! Instructions per request and per piece, with a small configuration and with a large one, counted by valgrind's
//! callgrind: figures that a busy machine does not move. The kernel's part is not in them.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, ensure};

use crate::{
    connection::Connection,
    feeder::configuration::Size,
    process::Process,
    results::{Metric, Results, Target},
    subject::{FEW, Ground, Kind, Subject, chat},
    upstream,
};

/// Until what is made once has been made: connections, buffers, the first batch of usage.
const WARM_UP: usize = 300;
const REQUESTS: usize = 2_000;
const PIECES: usize = 1_000;
/// Records and lines of the last requests are part of their price.
const SETTLE: Duration = Duration::from_millis(500);

const REQUEST: Metric = Metric::new("instructions", "per request", "", Target::None);
const LARGE: Metric = Metric::new("instructions", "per request, all endpoints and keys", "", Target::None);
const RATIO: Metric = Metric::new("instructions", "the one against the other", "x", Target::AtMost(1.05));
const PIECE: Metric = Metric::new("instructions", "per streamed piece", "", Target::None);

/// In user space.
struct Counted {
    per_request: f64,
    per_piece: f64,
}

pub(crate) fn possible() -> bool {
    let answers = |tool| Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success());
    answers("valgrind") && answers("callgrind_control")
}

/// `keep`: where the profile of the large configuration's requests goes.
pub(crate) async fn measure(
    ground: &Ground,
    subjects: &[Kind],
    size: Size,
    keep: Option<&Path>,
    results: &mut Results,
) -> anyhow::Result<()> {
    for kind in subjects.iter().copied().filter(|kind| matches!(kind, Kind::Floor | Kind::FloorAgain | Kind::Lockgate))
    {
        let few = count(ground, kind, FEW, None).await?;
        results.add(&REQUEST, kind, few.per_request);
        results.add(&PIECE, kind, few.per_piece);
        if kind == Kind::Lockgate {
            let many = count(ground, kind, size, keep).await?;
            results.add(&LARGE, kind, many.per_request);
            results.add(&RATIO, kind, many.per_request / few.per_request);
        }
    }
    Ok(())
}

async fn count(ground: &Ground, kind: Kind, size: Size, keep: Option<&Path>) -> anyhow::Result<Counted> {
    eprintln!("instructions: {} with {} endpoints and {} keys", kind.name(), size.endpoints, size.keys);
    let folder = tempfile::tempdir_in(ground.folder.path())?;
    let profile = folder.path().join("profile");
    let out = format!("--callgrind-out-file={}", profile.display());
    // Not instrumented until asked: loading a million keys is not what is counted, and would take an hour.
    let tool = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--quiet", out.as_str()];
    let subject = Subject::start_under(ground, kind, size, &tool).await?;
    let process = subject.process.as_ref().context("a process")?;
    // It answers before it has written down what it was given.
    process.settled().await?;
    control(process, "-i", Some("on"))?;
    ask(&subject, WARM_UP).await?;
    control(process, "-z", None)?;
    ask(&subject, REQUESTS).await?;
    let requests = dump(process, &folder.path().join("profile.1")).await?;
    if let Some(keep) = keep {
        fs::copy(folder.path().join("profile.1"), keep).with_context(|| format!("cannot write {}", keep.display()))?;
    }
    // A dump begins anew. The request that opens the stream is among a thousand pieces.
    let path = format!("/v1/pieces/{PIECES}/2000");
    let answer = Connection::open(subject.address).await?.exchange(&subject.request(0, &path, &chat(true))).await?;
    ensure!(answer.body == PIECES * upstream::PIECE, "{} bytes of a stream", answer.body);
    let pieces = dump(process, &folder.path().join("profile.2")).await?;
    Ok(Counted { per_request: requests / REQUESTS as f64, per_piece: pieces / PIECES as f64 })
}

/// What was counted since the last one.
async fn dump(process: &Process, path: &Path) -> anyhow::Result<f64> {
    tokio::time::sleep(SETTLE).await;
    control(process, "-d", None)?;
    total(&fs::read_to_string(path).context("callgrind wrote its dump")?)
}

/// By several connections, each with a key and an endpoint of its own, one request at a time: always the same order.
async fn ask(subject: &Subject, requests: usize) -> anyhow::Result<()> {
    let mut lanes = Vec::new();
    for lane in 0..10 {
        let request = subject.request(lane, "/v1/chat/completions", &chat(false));
        lanes.push((Connection::open(subject.address).await?, request));
    }
    for number in 0..requests {
        let lane = number % lanes.len();
        let (connection, request) = &mut lanes[lane];
        connection.exchange(request).await?;
    }
    Ok(())
}

fn control(process: &Process, command: &str, value: Option<&str>) -> anyhow::Result<()> {
    let mut arguments = vec![command];
    arguments.extend(value);
    let id = process.id().to_string();
    arguments.push(&id);
    let output = Command::new("callgrind_control").args(&arguments).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && said.contains("OK"), "callgrind_control {arguments:?}: {said}");
    Ok(())
}

fn total(profile: &str) -> anyhow::Result<f64> {
    let line = profile.lines().find_map(|line| line.strip_prefix("totals:")).context("a profile ends in its total")?;
    Ok(line.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_of_a_profile_is_found() {
        assert!((total("events: Ir\nsummary: 7\n\ntotals: 250\n").unwrap() - 250.0).abs() < f64::EPSILON);
        assert!(total("events: Ir\n").is_err());
    }
}
