//! How much at once: beyond it requests are refused before anything is sent, those in flight go on, and whatever was
//! taken is given back.

use data_plane::pipeline::account::Outcome;
use proto::config::{self, Kind};

use super::fixture::*;

/// What one request counts as.
const REQUEST: u64 = 128 * 1024;

async fn gauge(stand: &Stand, name: &str) -> u64 {
    let mut probe = Client::connect(stand.admin).await;
    probe.send("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let text = String::from_utf8(probe.rest().await).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}: {text}")).parse().unwrap()
}

/// A stream that has begun and goes on when the test says so.
async fn begin(stand: &Stand, vendor: &Vendor) -> (Client<tokio::net::TcpStream>, Client<tokio::net::TcpStream>) {
    let mut client = stand.client().await;
    client.send(post("/v1/x", "{}")).await;
    let mut upstream = vendor.accept().await;
    upstream.message().await;
    upstream.send(STREAM).await;
    client.head().await;
    (client, upstream)
}

#[tokio::test]
async fn beyond_the_byte_budget_requests_are_refused_and_those_in_flight_go_on() {
    let vendor = Vendor::start().await;
    let draft = Draft::new(&vendor.url());
    let mut stand = Stand::with(Some(&draft), |config| config.limits.memory_bytes = 3 * REQUEST).await;
    assert_eq!(gauge(&stand, "lockgate_held_bytes_limit").await, 3 * REQUEST);
    let mut open = Vec::new();
    for count in 1..=3 {
        open.push(begin(&stand, &vendor).await);
        assert_eq!(gauge(&stand, "lockgate_held_bytes").await, count * REQUEST);
    }
    let mut patient = stand.client().await;
    for _ in 0..3 {
        patient.send(post("/v1/x", "{}")).await;
        let answer = patient.answer().await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{}", answer.text());
        assert_eq!(answer.json()["error"]["code"], "overloaded", "in the caller's dialect");
    }
    assert!(vendor.is_alone().await, "nothing was sent");
    // Those who were first get their answers to the end.
    let (mut client, mut upstream) = open.pop().unwrap();
    upstream.send(format!("{}0\r\n\r\n", chunk("data: [DONE]\n\n"))).await;
    client.until("data: [DONE]\n\n\r\n0\r\n\r\n").await;
    // There is room again, on the connection that was refused.
    drop(upstream);
    patient.send(post("/v1/x", "{}")).await;
    let mut upstream = vendor.accept().await;
    upstream.message().await;
    upstream.send(ok("{}")).await;
    assert_eq!(patient.answer().await.status, 200);
    drop(open);
    within("everything to be given back", async {
        while gauge(&stand, "lockgate_held_bytes").await != 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut outcomes = Vec::new();
    for _ in 0..7 {
        let record = stand.record().await;
        assert_eq!(record.admitted, record.outcome != Outcome::Refused);
        outcomes.push((record.outcome.label(), record.refusal));
    }
    outcomes.sort_unstable();
    let [answered, gone, refused] = [("answered", None), ("client_gone", None), ("refused", Some("overloaded"))];
    assert_eq!(outcomes, [answered, answered, gone, gone, refused, refused, refused]);
    stand.no_more_records();
}

#[tokio::test]
async fn a_key_has_so_many_requests_in_flight_and_another_key_its_own() {
    let vendor = Vendor::start().await;
    let draft = || Draft::new(&vendor.url()).put(Kind::ApiKey, 44, &config::ApiKey { ..api_key(&key(2), &[PROVIDER]) });
    let mut stand = Stand::with(Some(&draft()), |config| config.limits.key_requests = 2).await;
    let first = begin(&stand, &vendor).await;
    // A configuration that is swapped in does not forget who is in flight.
    stand.runtime.store(Some(draft().compile()));
    let second = begin(&stand, &vendor).await;
    stand.runtime.store(Some(draft().compile()));
    let refused = stand.ask(post("/v1/x", "{}")).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")), "{}", refused.text());
    assert_eq!(refused.json()["error"]["code"], "too_many_requests");
    assert!(vendor.is_alone().await, "nothing was sent");

    let mut other = stand.client().await;
    other.send(post("/v1/x", "{}").replace(&key(1), &key(2))).await;
    let mut upstream = vendor.accept().await;
    upstream.message().await;
    upstream.send(answer("200 OK", "Connection: close\r\n", "{}")).await;
    assert_eq!(other.answer().await.status, 200);

    // Whoever leaves, gives back; and so does who is refused for another reason.
    drop(first);
    for _ in 0..2 {
        let wrong = get("/v1/x").replace("Host", "X-API-Key: twice\r\nHost");
        assert_eq!(stand.ask(wrong).await.status, 400);
    }
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(stand.record().await.outcome);
    }
    assert!(told.contains(&Outcome::ClientGone), "{told:?}");
    let third = begin(&stand, &vendor).await;
    assert_eq!(stand.ask(post("/v1/x", "{}")).await.status, 429);
    drop((second, third));
}

#[tokio::test]
async fn no_limit_is_no_limit() {
    let vendor = Vendor::start().await;
    let draft = Draft::new(&vendor.url());
    let stand = Stand::with(Some(&draft), |config| config.limits.key_requests = 0).await;
    let mut open = Vec::new();
    for _ in 0..5 {
        open.push(begin(&stand, &vendor).await);
    }
    assert!(gauge(&stand, "lockgate_held_bytes_limit").await > 64 << 20, "by default it follows from the memory");
}

#[tokio::test]
async fn an_endpoint_has_its_own_limit_of_a_body_within_the_nodes_most() {
    let vendor = Vendor::start().await;
    let limited = |endpoint: config::Endpoint, max_body_bytes| config::Endpoint { max_body_bytes, ..endpoint };
    // The limits of the provider and of the proxy over it, and what then holds for each; the node's are 10 and 20.
    for (of_provider, of_proxy, holds) in
        [(0, 0, [10, 10]), (4, 0, [4, 4]), (15, 0, [15, 15]), (4, 15, [4, 15]), (15, 4, [15, 4]), (1000, 0, [20, 20])]
    {
        let draft = Draft::new(&vendor.url())
            .put(Kind::Endpoint, PROVIDER, &limited(provider("/openai", &vendor.url()), of_provider))
            .put(Kind::Endpoint, PROXY, &limited(proxy("/proxy"), of_proxy));
        let stand = Stand::with(Some(&draft), |config| {
            (config.limits.body_bytes, config.limits.most_body_bytes) = (10, 20);
        })
        .await;
        for (context, most) in [("openai", holds[0]), ("proxy", holds[1])] {
            let head = format!("POST /{context}/v1/x HTTP/1.1\r\nHost: gw\r\nX-API-Key: {}\r\n", key(1));
            let sized = |length: usize| format!("{head}Content-Length: {length}\r\n\r\n{}", "x".repeat(length));
            let chunked = |length: usize| {
                format!("{head}Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", "1\r\nx\r\n".repeat(length))
            };
            let once = answer("200 OK", "Connection: close\r\n", "{}");
            for (framing, body) in [("sized", sized(most)), ("chunked", chunked(most))] {
                let (answer, _) = tokio::join!(stand.ask(body), vendor.once(&once));
                assert_eq!(answer.status, 200, "{framing} {context} {of_provider} {of_proxy}");
            }
            let answer = stand.ask(sized(most + 1)).await;
            assert_eq!((answer.status, &answer.json()["error"]["code"]), (413, &"body_too_large".into()));
            let too_long = chunked(most + 1);
            let refused = async { vendor.accept().await.rest().await };
            let (answer, seen) = tokio::join!(stand.ask(too_long), refused);
            assert!(!seen.ends_with(b"0\r\n\r\n"), "an end of it: {:?}", String::from_utf8_lossy(&seen));
            assert_eq!((answer.status, &answer.json()["error"]["code"]), (413, &"body_too_large".into()));
        }
    }
}
