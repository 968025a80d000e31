//! What a subject adds to the time of an answer at fixed rates, and to the first byte of a stream.

use anyhow::Context as _;

use crate::{
    figures::quantile,
    pace::{self, Plan, Times},
    results::{Metric, Results, Round, Target},
    subject::{Subject, chat},
    upstream::{PIECE, WHOLE},
};

/// The middle, and how bad it gets.
const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];

struct Rate {
    per_second: f64,
    metrics: [Metric; 3],
}

const fn metric(name: &'static str, target: Target) -> Metric {
    Metric::new("latency", name, "us", target)
}

const RATES: [Rate; 2] = [
    Rate {
        per_second: 500.0,
        metrics: [
            metric("added p50 at 500/s", Target::None),
            metric("added p99 at 500/s", Target::None),
            metric("added p99.9 at 500/s", Target::None),
        ],
    },
    Rate {
        per_second: 2_000.0,
        metrics: [
            metric("added p50 at 2,000/s", Target::RatioAtMost(1.25)),
            metric("added p99 at 2,000/s", Target::None),
            metric("added p99.9 at 2,000/s", Target::None),
        ],
    },
];

const PIECES: usize = 5;
const STREAMS_PER_SECOND: f64 = 200.0;
const FIRST: [Metric; 3] = [
    Metric::new("first-byte", "added p50 of streams", "us", Target::RatioAtMost(1.3)),
    Metric::new("first-byte", "added p99 of streams", "us", Target::None),
    Metric::new("first-byte", "added p99.9 of streams", "us", Target::None),
];

pub(crate) async fn measure(
    subject: &Subject,
    seconds: f64,
    round: &mut Round,
    results: &mut Results,
) -> anyhow::Result<()> {
    for Rate { per_second, metrics } in &RATES {
        let request = |lane| subject.request(lane, "/v1/chat/completions", &chat(false));
        let plan = Plan { address: subject.address, request: &request, body: WHOLE, per_second: *per_second, seconds };
        let times = pace::run(&plan).await.with_context(|| format!("{per_second}/s"))?;
        add(metrics, times.whole, subject, round, results);
    }
    Ok(())
}

/// Five pieces, two milliseconds apart: what matters is when the first one comes.
pub(crate) async fn measure_first_byte(
    subject: &Subject,
    seconds: f64,
    round: &mut Round,
    results: &mut Results,
) -> anyhow::Result<()> {
    let path = format!("/v1/pieces/{PIECES}/2000");
    let request = |lane| subject.request(lane, &path, &chat(true));
    let plan = Plan {
        address: subject.address,
        request: &request,
        body: PIECES * PIECE,
        per_second: STREAMS_PER_SECOND,
        seconds,
    };
    let Times { first_byte, whole: _ } = pace::run(&plan).await?;
    add(&FIRST, first_byte, subject, round, results);
    Ok(())
}

fn add(metrics: &[Metric; 3], mut times: Vec<f64>, subject: &Subject, round: &mut Round, results: &mut Results) {
    times.sort_unstable_by(f64::total_cmp);
    for (metric, rank) in metrics.iter().zip(QUANTILES) {
        results.add_to_direct(round, metric, subject.kind, quantile(&times, rank));
    }
}
