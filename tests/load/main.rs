//! What the data plane adds to a request: latency and CPU, against going direct to the same upstream in the same run.
//!
//! ```text
//! cargo run --release -p tests --bin load -- [--seconds N] [--requests N] [--json]
//! ```
//!
//! Three processes, so that the CPU of each is its own: a fast, deterministic upstream; one data-plane node; and this one,
//! with the client and a control plane that has nothing to do. Direct and gatewayed rounds alternate, so that whatever
//! else the machine does falls on both. Bounded in time and in count. It measures and judges nothing: a figure from a
//! busy machine is a figure from a busy machine.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss, clippy::cast_possible_truncation)]

mod round;
mod upstream;

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tests::{Client, Stack, client::Call, eventually};
use tokio_util::sync::CancellationToken;

use self::round::{Round, Sample, Target};

struct Options {
    seconds: u64,
    requests: usize,
    json: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        // The two other processes are this program again.
        ["upstream"] => runtime.block_on(upstream::serve()),
        ["data-plane", config] => runtime.block_on(serve_data_plane(Path::new(config))),
        rest => runtime.block_on(measure(&options(rest)?)),
    }
}

fn options(arguments: &[&str]) -> anyhow::Result<Options> {
    let mut options = Options { seconds: 4, requests: 50_000, json: false };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut number = || {
            arguments.next().with_context(|| format!("{argument} wants a number"))?.parse::<u64>().context("a number")
        };
        match *argument {
            "--seconds" => options.seconds = number()?.clamp(1, 60),
            "--requests" => options.requests = usize::try_from(number()?)?.clamp(1, 1_000_000),
            "--json" => options.json = true,
            _ => bail!(
                "no option {argument}; there are --seconds N (per round), --requests N (per round at most), --json"
            ),
        }
    }
    Ok(options)
}

async fn serve_data_plane(config: &Path) -> anyhow::Result<()> {
    let handle = data_plane::start(data_plane::Config::load(Some(config), &[])?).await?;
    println!("{}", handle.gateway);
    let stop = CancellationToken::new();
    tokio::task::spawn_blocking({
        let stop = stop.clone();
        move || {
            // Ends with the process that started it.
            let _ = std::io::stdin().lines().next();
            stop.cancel();
        }
    });
    stop.cancelled().await;
    handle.shutdown().await;
    Ok(())
}

/// A process of this program that ends when its input is closed.
struct Helper {
    child: Child,
    address: SocketAddr,
}

impl Helper {
    fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("a piped output")?).read_line(&mut line)?;
        let address = line.trim().parse().with_context(|| format!("{arguments:?} did not start"))?;
        Ok(Self { child, address })
    }

    /// CPU that the process has used so far, its kernel's work included.
    fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Behind the name, which may hold anything but ends with the last parenthesis: fields 14 and 15 of proc(5).
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        // USER_HZ is 100 on every Linux there is.
        Ok(Duration::from_millis(ticks * 10))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

struct Scenario {
    name: &'static str,
    connections: usize,
    streamed: bool,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario { name: "one at a time", connections: 1, streamed: false },
    Scenario { name: "one at a time, streamed", connections: 1, streamed: true },
    Scenario { name: "16 at a time", connections: 16, streamed: false },
    Scenario { name: "16 at a time, streamed", connections: 16, streamed: true },
];

async fn measure(options: &Options) -> anyhow::Result<()> {
    let upstream = Helper::start(&["upstream"])?;
    let mut stack = Stack::without_nodes(None, Vec::new()).await;
    let (node, key) = gateway(&mut stack, upstream.address).await?;
    let mut results = Vec::new();
    for scenario in &SCENARIOS {
        results.push(compare(scenario, options, &upstream, &node, &key).await?);
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&results)?);
    } else {
        table(&results);
    }
    drop(node);
    stack.shutdown().await;
    Ok(())
}

/// A node as a process, with a provider that leads to the upstream.
async fn gateway(stack: &mut Stack, upstream: SocketAddr) -> anyhow::Result<(Helper, String)> {
    let rest = stack.rest();
    let mut default = rest.get("/gateways/default").await;
    default.body["upstreamNetworks"] = json!(["127.0.0.0/8"]);
    rest.put("/gateways/default", &default.etag(), &default.body).await.expect(200);
    let provider = json!({
        "name": "load", "template": "openai", "context": "/load",
        "upstream": {"url": format!("http://{upstream}"), "credential": {"value": "vc-planted-load"}},
    });
    rest.post("/llm-providers", &provider).await.expect(201);
    rest.post("/deployments", &json!({"endpoint": "load", "gateway": "default"})).await.check(202);
    let key = rest.post("/api-keys", &json!({"name": "load", "endpoints": ["load"]})).await.expect(201);
    let key = key["key"].as_str().context("a key")?.to_owned();

    let config = stack.folder().join("data-plane.toml");
    let text = format!(
        "[gateway]\nlisten = \"127.0.0.1:0\"\nname = \"load\"\n[link]\naddress = \"{}\"\ntoken_file = \"{}\"\n\
         [store]\ndata_dir = \"{}\"\n[admin]\nlisten = \"\"\n",
        stack.link(),
        stack.token_file().display(),
        stack.folder().join("load").display()
    );
    std::fs::write(&config, text)?;
    let node = Helper::start(&["data-plane", config.to_str().context("a plain path")?])?;
    let client = Client::new(&node.address.to_string());
    eventually("the node to serve", async || {
        let reply = client.send(&Call::get("/load/v1/models").key(&key)).await;
        if reply.status() == 200 { Ok(()) } else { Err(reply.status()) }
    })
    .await;
    Ok((node, key))
}

/// Four rounds each way, in turn; the first of each only warms up.
async fn compare(
    scenario: &Scenario,
    options: &Options,
    upstream: &Helper,
    node: &Helper,
    key: &str,
) -> anyhow::Result<Value> {
    let limits = (Duration::from_secs(options.seconds), options.requests);
    let direct = Target { address: upstream.address, context: "", key: None, streamed: scenario.streamed };
    let gatewayed = Target { address: node.address, context: "/load", key: Some(key), streamed: scenario.streamed };
    let (mut without, mut with) = (Sample::default(), Sample::default());
    for number in 0..4 {
        let round = Round {
            connections: scenario.connections,
            seconds: limits.0 / if number == 0 { 4 } else { 1 },
            requests: limits.1,
        };
        let first = round.run(&direct, || Ok(Duration::ZERO)).await?;
        let second = round.run(&gatewayed, || node.cpu()).await?;
        if number > 0 {
            without.add(first);
            with.add(second);
        }
    }
    let (without, with) = (without.figures(), with.figures());
    let added =
        |name: &str| (with[name].as_f64().unwrap_or_default() - without[name].as_f64().unwrap_or_default()).round();
    Ok(json!({
        "scenario": scenario.name, "connections": scenario.connections, "streamed": scenario.streamed,
        "direct": without, "gateway": with,
        "added": {"p50Us": added("p50Us"), "p99Us": added("p99Us"), "firstByteP50Us": added("firstByteP50Us")},
        "cpuPerRequestUs": with["cpuPerRequestUs"],
    }))
}

fn table(results: &[Value]) {
    println!(
        "{:<26}{:>10}{:>12}{:>12}{:>12}{:>12}{:>12}{:>14}",
        "", "requests", "direct p50", "added p50", "direct p99", "added p99", "CPU/request", "requests/s"
    );
    for result in results {
        let micro = |value: &Value| format!("{} us", value.as_f64().unwrap_or_default().round());
        println!(
            "{:<26}{:>10}{:>12}{:>12}{:>12}{:>12}{:>12}{:>14}",
            result["scenario"].as_str().unwrap_or_default(),
            result["gateway"]["requests"],
            micro(&result["direct"]["p50Us"]),
            micro(&result["added"]["p50Us"]),
            micro(&result["direct"]["p99Us"]),
            micro(&result["added"]["p99Us"]),
            micro(&result["cpuPerRequestUs"]),
            result["gateway"]["perSecond"].as_f64().unwrap_or_default().round(),
        );
    }
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("\n{cores} cores, shared by client, upstream and data plane; CPU is the data plane's alone.");
}
