//! What the ledger takes and how fast it is read: fills a Postgres of its own through the real ingest (the TLS link, a
//! stream per node, numbered batches, a commit for each acknowledgement) and asks the real REST API for usage.
//! `docs/guide/performance.md` says how to read it. It measures and judges nothing: the exit code is about the harness.
#![allow(clippy::print_stdout, clippy::cast_precision_loss)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use data_plane::link::{GatewayToken, Link};
use proto::usage::usage_ingest_client::UsageIngestClient;
use proto::usage::{Outcome, UsageBatch, UsageRecord};
use serde_json::{Value, json};
use tests::{Stack, postgres};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

const HELP: &str = "\
Fills a ledger on Postgres and measures it.

  --records N   of history, spread over the last 30 days (1000000)
  --live N      more, all of this moment, as busy nodes report them (100000)
  --nodes N     that report at once (4)
  --asked N     times that each question is asked (20)
  --json FILE   writes everything there as well
";

/// As a busy node sends them.
const BATCH: u64 = 500;
const WINDOW: usize = 8;
const HISTORY: Duration = Duration::from_hours(30 * 24);
const KEYS: u64 = 200;
const ENDPOINTS: u64 = 20;
const MODELS: [&str; 4] = ["gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "gemini-2.5-pro"];

struct Options {
    records: u64,
    live: u64,
    nodes: u64,
    asked: usize,
    json: Option<String>,
}

impl Options {
    fn parse() -> anyhow::Result<Option<Self>> {
        let mut options = Self { records: 1_000_000, live: 100_000, nodes: 4, asked: 20, json: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            if name == "--help" {
                return Ok(None);
            }
            let value = arguments.next().with_context(|| format!("{name} wants a value"))?;
            match name.as_str() {
                "--records" => options.records = value.parse()?,
                "--live" => options.live = value.parse()?,
                "--nodes" => options.nodes = value.parse()?,
                "--asked" => options.asked = value.parse()?,
                "--json" => options.json = Some(value),
                _ => bail!("there is no {name}; see --help"),
            }
        }
        ensure!(options.nodes > 0 && options.asked > 0, "at least one");
        Ok(Some(options))
    }
}

/// When its records began.
#[derive(Clone, Copy)]
struct Span {
    from_us: u64,
    to_us: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Some(options) = Options::parse()? else {
        print!("{HELP}");
        return Ok(());
    };
    let cluster = postgres::Cluster::start();
    let stack = Stack::without_nodes(Some(cluster.database()), Vec::new()).await;
    let token = GatewayToken::parse(&std::fs::read_to_string(stack.token_file())?)?;
    let link = Link::new(&stack.link().to_string(), &token)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let history = Span { from_us: us(now.saturating_sub(HISTORY)) + 3_600_000_000, to_us: us(now) };
    let filled = fill(&link, options.nodes, options.records, history).await?;
    println!(
        "history: {} records in {:.1} s, {:.0} a second",
        options.records,
        filled.as_secs_f64(),
        rate(&options, filled)
    );
    let now = us(SystemTime::now().duration_since(UNIX_EPOCH)?);
    let moment = Span { from_us: now, to_us: now + 1_000_000 };
    let live = fill(&link, options.nodes, options.live, moment).await?;
    let live_rate = options.live as f64 / live.as_secs_f64();
    println!("live:    {} records in {:.1} s, {live_rate:.0} a second\n", options.live, live.as_secs_f64());

    let asked = ask(&stack, &options).await?;
    let figures = json!({
        "nodes": options.nodes, "batch": BATCH, "keys": KEYS, "endpoints": ENDPOINTS, "models": MODELS.len(),
        "history": {"records": options.records, "seconds": filled.as_secs_f64(), "perSecond": rate(&options, filled)},
        "live": {"records": options.live, "seconds": live.as_secs_f64(), "perSecond": live_rate},
        "questions": asked,
    });
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&figures)?)?;
    }
    stack.shutdown().await;
    Ok(())
}

fn rate(options: &Options, took: Duration) -> f64 {
    options.records as f64 / took.as_secs_f64()
}

/// Reports so many records from so many nodes at once; how long until the last one is committed.
async fn fill(link: &Link, nodes: u64, records: u64, span: Span) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let mut reporting = JoinSet::new();
    for node in 0..nodes {
        let share = records / nodes + u64::from(node < records % nodes);
        reporting.spawn(report(link.clone(), node, share, span));
    }
    while let Some(reported) = reporting.join_next().await {
        reported??;
    }
    Ok(started.elapsed())
}

async fn report(link: Link, node: u64, records: u64, span: Span) -> anyhow::Result<()> {
    let mut client = UsageIngestClient::new(link.connect().await?);
    let (batches, outgoing) = mpsc::channel(WINDOW);
    let mut acks = client.report(link.request(ReceiverStream::new(outgoing))).await?.into_inner();
    let (boot, count) = (Uuid::now_v7(), records.div_ceil(BATCH));
    let sending = tokio::spawn(async move {
        for seq in 1..=count {
            let first = (seq - 1) * BATCH;
            let records = (first..records.min(first + BATCH)).map(|index| record(node, index, records, span)).collect();
            let boot = boot.as_bytes().to_vec().into();
            let batch = UsageBatch { node: format!("node-{node}"), boot, seq, records, books: None };
            if batches.send(batch).await.is_err() {
                return;
            }
        }
    });
    let mut committed = 0;
    while committed < count {
        committed = acks.message().await?.context("the control plane ended the stream")?.seq;
    }
    sending.await?;
    Ok(())
}

/// In the order of time, as they come; whose they are is spread evenly and the same every time.
fn record(node: u64, index: u64, of: u64, span: Span) -> UsageRecord {
    let dice = (index * 4 + node).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
    let id = |kind: u128, number: u64| Uuid::from_u128(kind << 64 | u128::from(number)).as_bytes().to_vec().into();
    let key = dice % KEYS;
    let endpoint = key % ENDPOINTS;
    let model = MODELS[usize::try_from(dice / KEYS % MODELS.len() as u64).unwrap_or_default()];
    let started_at_us = span.from_us + (span.to_us - span.from_us) / of.max(1) * index;
    let failed = dice.is_multiple_of(50);
    UsageRecord {
        id: Uuid::now_v7().as_bytes().to_vec().into(),
        started_at_us,
        endpoint_id: id(1, endpoint),
        provider_id: id(1, endpoint),
        api_key_id: id(2, key),
        admitted: true,
        outcome: if failed { Outcome::VendorError } else { Outcome::Answered }.into(),
        status: if failed { 500 } else { 200 },
        upstream_status: if failed { 500 } else { 200 },
        requested_model: model.to_owned(),
        served_model: model.to_owned(),
        input_tokens: Some(dice % 4_000),
        output_tokens: Some(dice % 900),
        cached_input_tokens: Some(dice % 100),
        duration_us: 200_000 + dice % 4_000_000,
        first_byte_us: Some(150_000),
        first_token_us: Some(180_000),
        streamed: true,
        request_bytes: 2_000,
        response_bytes: 9_000,
        method: "POST".to_owned(),
        path: "/v1/chat/completions".to_owned(),
        revision: 1,
        finish_reason: "stop".to_owned(),
        cost_nanos: Some(dice % 40_000_000),
        price_version: "2026-01-01".to_owned(),
        ..UsageRecord::default()
    }
}

/// Asks what a console asks, and proves that nothing was lost on the way.
async fn ask(stack: &Stack, options: &Options) -> anyhow::Result<Value> {
    let now = time_text(SystemTime::now() + Duration::from_mins(1));
    let ago = |days: u64| time_text(SystemTime::now() - Duration::from_hours(24 * days));
    let (month, week, day) = (ago(30), ago(7), ago(1));
    let questions = [
        ("30 days, all of it", format!("from={month}&to={now}")),
        ("30 days by model and provider", format!("from={month}&to={now}&groupBy=model,provider")),
        ("30 days by key", format!("from={month}&to={now}&groupBy=key")),
        ("30 days, each day by model", format!("from={month}&to={now}&groupBy=model&interval=day")),
        ("7 days, each hour by outcome", format!("from={week}&to={now}&groupBy=outcome&interval=hour")),
        ("24 hours, each minute", format!("from={day}&to={now}&interval=minute")),
        ("24 hours by key and model", format!("from={day}&to={now}&groupBy=key,model")),
    ];
    let whole = stack.rest().get(&format!("/usage?{}", questions[0].1)).await.expect(200);
    let counted = whole["totals"]["requests"].as_u64().unwrap_or_default();
    ensure!(counted == options.records + options.live, "{counted} of {} are counted", options.records + options.live);
    println!("| question | p50 | worst of {} |\n|---|---:|---:|", options.asked);
    let mut all = Vec::new();
    for (name, query) in &questions {
        let mut times = Vec::new();
        for _ in 0..options.asked {
            let started = Instant::now();
            stack.rest().get(&format!("/usage?{query}")).await.expect(200);
            times.push(started.elapsed().as_secs_f64() * 1_000.0);
        }
        times.sort_by(f64::total_cmp);
        let (p50, worst) = (times[times.len() / 2], times[times.len() - 1]);
        println!("| {name} | {p50:.1} ms | {worst:.1} ms |");
        all.push(json!({"question": name, "query": query, "p50Ms": p50, "worstMs": worst}));
    }
    Ok(Value::Array(all))
}

/// RFC 3339, to the second.
fn time_text(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days to a civil date, after Howard Hinnant.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, past) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + past;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}
