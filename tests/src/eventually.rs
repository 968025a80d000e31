//! Waiting for what must become true, with a deadline; never for a time to pass.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

/// How long anything in a test may take before it counts as never.
const PATIENCE: Duration = Duration::from_secs(15);

/// Asks again until `question` answers `Ok`; fails the test with the last `Err` after fifteen seconds.
pub async fn eventually<T, E: Debug>(what: &str, question: impl AsyncFnMut() -> Result<T, E>) -> T {
    within(PATIENCE, what, question).await
}

/// As [`eventually`], with a deadline of one's own.
pub async fn within<T, E: Debug>(deadline: Duration, what: &str, mut question: impl AsyncFnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        match question().await {
            Ok(answer) => return answer,
            Err(error) if start.elapsed() > deadline => panic!("{what}: not within {deadline:?}: {error:?}"),
            Err(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
