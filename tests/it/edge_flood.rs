//! Many clients that mean no good at once: all of them end by their deadlines, each kind is counted, and whoever comes
//! afresh is served meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tests::{
    Key, Stack, Upstream, Vendor, eventually,
    raw::{Raw, block, frame, frames::*, preface},
};
use tokio::task::JoinSet;

/// How many of each.
#[derive(Clone, Copy)]
struct Scale {
    sockets: u32,
    unknown_keys: u32,
    /// For one fresh request, with everything else on the same two cores.
    patience: Duration,
}

/// Bodies that never come, at most.
const UPLOADS: u32 = 60;

fn get(key: &str) -> String {
    format!("GET /openai/v1/models HTTP/1.1\r\nHost: gw\r\nX-API-Key: {key}\r\n\r\n")
}

async fn flood(scale: Scale) {
    let mut stack = Stack::without_nodes(None, Vec::new()).await;
    let settings = [
        ("admin.listen", "127.0.0.1:0"),
        ("deadlines.first_byte", "1s"),
        ("deadlines.head", "2s"),
        ("deadlines.keep_alive", "2s"),
        ("deadlines.body_idle", "2s"),
    ];
    stack.add_node("node-1", &settings).await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let provider = stack.provider("openai", &upstream).await;
    let key: Key = stack.key("openai", &[&provider]).await;
    let address = stack.client().address();

    let mut bad = JoinSet::new();
    for number in 0..scale.sockets {
        // Silent; one byte; a part of a preface; a head that drips; a body that never comes.
        for said in ["", "G", "PRI * HTTP/2.0", "GET /openai HTTP/1.1\r\nHost: gw\r\nX: "] {
            bad.spawn(async move {
                let mut client = Raw::connect(address).await;
                client.try_send(said).await;
                assert_eq!(client.rest().await, b"", "{said:?}");
            });
        }
        // Each holds a connection to the vendor; what bounds those has its own story.
        if number >= UPLOADS {
            continue;
        }
        let never = get(&key.secret).replace("GET", "POST").replace("\r\n\r\n", "\r\nContent-Length: 9\r\n\r\n");
        bad.spawn(async move {
            let mut client = Raw::connect(address).await;
            client.try_send(never).await;
            let rest = String::from_utf8_lossy(&client.rest().await).into_owned();
            // On a busy machine its head may have come too late.
            assert!(rest.is_empty() || rest.contains("body_stalled"), "{rest}");
        });
    }
    for _ in 0..scale.sockets / 10 {
        bad.spawn(async move {
            let mut client = Raw::connect(address).await;
            let fields = "X-Flood: yes\r\n".repeat(10_000);
            client.try_send(format!("GET /openai HTTP/1.1\r\nHost: gw\r\n{fields}")).await;
            assert_eq!(client.answer().await.0.status, 431);
        });
        for kind in [PING, SETTINGS, CONTINUATION, RST_STREAM] {
            let secret = key.secret.clone();
            bad.spawn(async move {
                let mut client = Raw::connect(address).await;
                client.try_send(preface(&[])).await;
                let head = block(&[
                    (":method", "GET"),
                    (":scheme", "http"),
                    (":authority", "gw"),
                    (":path", "/openai/v1/models"),
                    ("x-api-key", &secret),
                ]);
                let one = |stream: u32| match kind {
                    PING => frame(PING, 0, 0, &[1; 8]),
                    CONTINUATION if stream == 1 => frame(HEADERS, 0, 1, b""),
                    CONTINUATION => frame(CONTINUATION, 0, 1, b""),
                    RST_STREAM => {
                        let request = frame(HEADERS, END_HEADERS | END_STREAM, stream, &head);
                        [request, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
                    }
                    _ => frame(SETTINGS, 0, 0, &[]),
                };
                let mut number = 0;
                while number < 2_000_000
                    && client.try_send((number..number + 50).flat_map(|n| one(2 * n + 1)).collect::<Vec<_>>()).await
                {
                    number += 50;
                }
                assert!(number < 2_000_000, "nobody minds frames of type {kind}");
            });
        }
    }
    let per_connection = scale.unknown_keys / 4;
    for connection in 0..4 {
        bad.spawn(async move {
            let mut client = Raw::connect(address).await;
            for number in 0..per_connection {
                client.send(get(&format!("unknown-{connection}-{number}"))).await;
                assert_eq!(client.answer().await.0.status, 401);
            }
        });
    }

    // Whoever comes afresh, until the last of them is gone.
    let over = Arc::new(AtomicBool::new(false));
    let (fresh, done) = (get(&key.secret), Arc::clone(&over));
    let patience = scale.patience;
    let served = tokio::spawn(async move {
        let mut times = Vec::new();
        while !done.load(Ordering::Relaxed) {
            let start = Instant::now();
            let answered = tokio::time::timeout(patience, async {
                let mut client = Raw::connect(address).await;
                client.send(&fresh).await;
                client.answer().await.0.status
            });
            assert_eq!(answered.await, Ok(200), "a fresh request within {patience:?}, after {}", times.len());
            times.push(start.elapsed());
        }
        times
    });
    let start = Instant::now();
    while let Some(ended) = bad.join_next().await {
        ended.unwrap();
    }
    over.store(true, Ordering::Relaxed);
    let mut times = served.await.unwrap();
    times.sort_unstable();
    eprintln!(
        "{} sockets that mean no good and {} unknown keys were gone after {:?}; {} fresh requests meanwhile: p50 {:?}, \
         p99 {:?}, slowest {:?}",
        4 * scale.sockets + scale.sockets.min(UPLOADS) + scale.sockets / 2,
        scale.unknown_keys,
        start.elapsed(),
        times.len(),
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        times[times.len() - 1],
    );
    assert!(times.len() > 10, "{}", times.len());

    let sockets = u64::from(scale.sockets);
    let counted = async |name: String, least: u64| {
        eventually(&name, async || match stack.metric(0, &name).await {
            count if count >= least => Ok(()),
            count => Err(format!("{count} of {least}")),
        })
        .await;
    };
    let closed = |reason: &str| format!("lockgate_connections_closed_total{{reason=\"{reason}\"}}");
    counted(closed("flood"), 4 * (sockets / 10)).await;
    // On a busy machine a slow client's first byte may come too late already.
    eventually("every silence to be counted", async || {
        let silent = stack.metric(0, &closed("first_byte_timeout")).await;
        let slow = stack.metric(0, &closed("head_timeout")).await;
        if silent + slow >= 4 * sockets { Ok(()) } else { Err((silent, slow)) }
    })
    .await;
    for (refusal, least) in [
        ("body_stalled", sockets.min(UPLOADS.into()) / 2),
        ("head_too_large", sockets / 10),
        ("invalid_api_key", u64::from(4 * per_connection)),
    ] {
        counted(format!("lockgate_refusals_total{{refusal=\"{refusal}\"}}"), least).await;
    }
    eventually("every connection to be gone", async || match stack.metric(0, "lockgate_connections").await {
        0 => Ok(()),
        open => Err(open),
    })
    .await;
    stack.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_afresh_is_served_while_others_flood() {
    flood(Scale { sockets: 60, unknown_keys: 1_000, patience: Duration::from_secs(10) }).await;
}

/// `cargo nextest run --release -p tests --run-ignored only a_great_flood`: it prints how long fresh requests took.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a quiet machine to itself"]
async fn a_great_flood_ends_by_its_deadlines() {
    flood(Scale { sockets: 700, unknown_keys: 100_000, patience: Duration::from_secs(15) }).await;
}
