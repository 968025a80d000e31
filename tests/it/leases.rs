//! Limits that hold over all nodes: real nodes, a real link, and one or the other of them away.

mod simulation;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::client::Call;
use tests::postgres::Cluster;
use tests::{Answer, Endpoint, Gate, Stack, Upstream, Vendor, assert_refusal, eventually, within};
use tokio::task::JoinSet;

const NODES: usize = 3;

struct Stand {
    stack: Stack,
    upstream: Upstream,
    provider: Endpoint,
    secret: String,
}

impl Stand {
    /// Three nodes, and a key with this one limit.
    async fn new(limit: Value) -> Self {
        Self::on(None, limit).await
    }

    /// On this database, or an embedded one.
    async fn on(database_url: Option<String>, limit: Value) -> Self {
        let mut stack = Stack::without_nodes(database_url, Vec::new()).await;
        for name in ["first", "second", "third"] {
            stack.add_node(name, &[("admin.listen", "127.0.0.1:0")]).await;
        }
        let upstream = Upstream::start(Vendor::OpenAi).await;
        let provider = stack.provider("openai", &upstream).await;
        let limited = json!({ "name": "team", "endpoints": ["openai"], "limits": [limit] });
        let made = stack.rest().post("/api-keys", &limited).await.expect(201);
        let secret = made["key"].as_str().unwrap().to_owned();
        stack.settle().await;
        let stand = Self { stack, upstream, provider, secret };
        for node in 0..NODES {
            stand.reaches(node, 1).await;
        }
        stand
    }

    /// Whether the node can ask for more than it holds.
    async fn reaches(&self, node: usize, value: u64) {
        self.stack.metric_becomes(node, "lockgate_limits_reachable", value).await;
    }

    /// Requests that waited in vain for more than their node held.
    async fn unanswered(&self) -> u64 {
        let mut sum = 0;
        for node in 0..NODES {
            sum += self.stack.metric(node, "lockgate_limits_unanswered_total").await;
        }
        sum
    }

    fn call(&self) -> Call {
        self.provider.chat(false).key(&self.secret)
    }

    /// So many callers at once at each of these nodes; how many were let through.
    async fn burst(&self, nodes: &[usize], callers: usize, call: &Call) -> usize {
        let mut calls = JoinSet::new();
        for node in nodes.iter().cycle().take(callers * nodes.len()) {
            let (client, call) = (self.stack.client_of(*node), call.clone());
            calls.spawn(async move { client.send(&call).await.status() });
        }
        let answers = calls.join_all().await;
        assert!(answers.iter().all(|status| [200, 429].contains(status)), "{answers:?}");
        answers.iter().filter(|status| **status == 200).count()
    }

    async fn bursts(&self, callers: usize, call: &Call) -> usize {
        self.burst(&[0, 1, 2], callers, call).await
    }
}

#[tokio::test]
async fn three_nodes_let_through_what_one_would_and_all_of_it() {
    for (window, metric) in [("1h", "requests"), ("day", "requests")] {
        let limit = json!({ "name": "pace", "metric": metric, "limit": 60, "window": window });
        let stand = Stand::new(limit).await;
        let begun = Instant::now();
        // All of it can be had at one node, though the others know the rule.
        let mut passed = stand.bursts(2, &stand.call()).await;
        assert_eq!(passed, 6, "{window}");
        passed += stand.burst(&[0], 30, &stand.call()).await;
        // What is left in one place is found by the others.
        eventually("nearly all of it to be had", async || {
            passed += stand.bursts(4, &stand.call()).await;
            if passed >= 57 { Ok(()) } else { Err(passed) }
        })
        .await;
        for _ in 0..5 {
            passed += stand.bursts(4, &stand.call()).await;
        }
        // An hour's flow is one request a minute.
        let flowed = usize::try_from(begun.elapsed().as_secs() / 60).unwrap() + 1;
        let most = if window == "day" { 60 } else { 60 + flowed };
        let unanswered = stand.unanswered().await;
        assert!(passed <= most, "{passed} within {window}, {unanswered} unanswered");
        assert_eq!(stand.upstream.seen().len(), passed);
        let reply = stand.stack.client_of(1).send(&stand.call()).await;
        let message = assert_refusal(Vendor::OpenAi, &reply, 429, "limit_exceeded");
        assert!(message.contains("`pace` of this API key"), "{message}");
        stand.stack.shutdown().await;
    }
}

#[tokio::test]
async fn as_many_are_in_flight_on_all_nodes_together_as_may_be() {
    let stand = Stand::new(json!({ "name": "at-once", "metric": "concurrentRequests", "limit": 7 })).await;
    let gate = Gate::new();
    let answer = Vendor::OpenAi.chat_answer();
    stand.upstream.always(Answer::json(200, &answer).after(&gate));
    let mut calls = JoinSet::new();
    for node in (0..NODES).cycle().take(30) {
        let (client, call) = (stand.stack.client_of(node), stand.call());
        calls.spawn(async move { client.send(&call).await.status() });
    }
    // Whoever is refused is so while others wait for the vendor, and may come again: a place may be on its way between
    // two nodes just then.
    let mut node = 0;
    while stand.upstream.seen().len() < 7 {
        assert_eq!(calls.join_next().await.unwrap().unwrap(), 429);
        let (client, call) = (stand.stack.client_of(node % NODES), stand.call());
        calls.spawn(async move { client.send(&call).await.status() });
        node += 1;
    }
    while calls.len() > 7 {
        assert_eq!(calls.join_next().await.unwrap().unwrap(), 429);
    }
    assert_eq!(stand.bursts(3, &stand.call()).await, 0);
    gate.open();
    assert_eq!(calls.join_all().await, [200; 7]);
    assert_eq!(stand.upstream.seen().len(), 7);
    stand.stack.shutdown().await;
}

#[tokio::test]
async fn without_a_control_plane_rates_fall_to_a_part_and_hard_budgets_to_what_is_held() {
    const LIMIT: usize = 40;
    let mut stand = Stand::new(json!({ "name": "pace", "metric": "requests", "limit": LIMIT, "window": "24h" })).await;
    let passed = stand.bursts(2, &stand.call()).await;
    assert_eq!(passed, 6);
    stand.stack.stop_control_plane().await;
    for node in 0..NODES {
        stand.reaches(node, 0).await;
    }
    // What each was told last holds: together never more than the limit.
    let passed = passed + stand.bursts(LIMIT, &stand.call()).await;
    assert!(passed > 6 && passed <= LIMIT, "{passed}");
    stand.stack.start_control_plane().await;
    for node in 0..NODES {
        stand.reaches(node, 1).await;
    }
    let more = within(Duration::from_secs(30), "the rest to be had again", async || {
        let more = stand.bursts(2, &stand.call()).await;
        let all = stand.upstream.seen().len();
        assert!(all <= LIMIT, "{all}");
        if all + 2 >= LIMIT { Ok(all) } else { Err((more, all)) }
    })
    .await;
    assert!(more <= LIMIT);
    stand.stack.shutdown().await;
}

#[tokio::test]
async fn a_hard_budget_is_never_exceeded_by_three_nodes_and_a_control_plane_that_goes_away() {
    const DOLLAR: u64 = 1_000_000_000;
    const TOKENS: u64 = 2_000;
    let limit = json!({
        "name": "dollar", "metric": "cost", "limit": "1", "window": "month", "requireOutputBound": true,
    });
    let mut stand = Stand::new(limit).await;
    let mut body = Vendor::OpenAi.chat_body(false);
    body["max_completion_tokens"] = json!(TOKENS);
    body["model"] = json!("gpt-4o");
    let mut answer = Vendor::OpenAi.chat_answer();
    answer["usage"] = json!({ "prompt_tokens": 100, "completion_tokens": TOKENS });
    let each = 100 * 2_500 + TOKENS * 10_000;
    stand.upstream.always(Answer::json(200, &answer));
    let call = stand.provider.call("POST", "/v1/chat/completions").json(&body).key(&stand.secret);
    assert!(stand.bursts(4, &call).await > 0);
    stand.stack.stop_control_plane().await;
    for node in 0..NODES {
        stand.reaches(node, 0).await;
    }
    // They spend what was set aside for them, and then nothing.
    while stand.bursts(10, &call).await > 0 {}
    let alone = stand.upstream.seen().len() as u64 * each;
    assert!(alone <= DOLLAR, "{alone}");
    stand.stack.start_control_plane().await;
    let spent = eventually("nearly all of it to be spent", async || {
        stand.bursts(17, &call).await;
        let spent = stand.upstream.seen().len() as u64 * each;
        assert!(spent <= DOLLAR, "{spent}");
        if spent + 2 * each > DOLLAR * 95 / 100 { Ok(spent) } else { Err((alone, spent)) }
    })
    .await;
    assert!(spent <= DOLLAR);
    // A node that comes later finds nothing left.
    stand.stack.add_node("late", &[]).await;
    stand.stack.settle().await;
    let late = stand.stack.client_of(NODES);
    let mut last = Vec::new();
    for _ in 0..10 {
        last.push(late.send(&call).await.status());
    }
    assert!(last.iter().filter(|status| **status == 200).count() <= 2, "{last:?}");
    assert!(stand.upstream.seen().len() as u64 * each <= DOLLAR);
    stand.stack.shutdown().await;
}

#[tokio::test]
async fn what_was_spent_while_the_database_stood_still_is_counted_afterwards() {
    const LIMIT: usize = 30;
    let cluster = Cluster::start();
    let limit = json!({ "name": "daily", "metric": "requests", "limit": LIMIT, "window": "day" });
    let stand = Stand::on(Some(cluster.database()), limit).await;
    assert_eq!(stand.bursts(1, &stand.call()).await, 3);
    cluster.pause();
    // Nobody can set anything aside, and each node goes by what is left as far as it knows.
    assert_eq!(stand.bursts(3, &stand.call()).await, 9);
    assert_eq!(stand.bursts(3, &stand.call()).await, 9);
    cluster.resume();
    // Whatever was spent meanwhile is told as soon as somebody hears it; then there is nothing left anywhere.
    let mut refused = 0;
    within(Duration::from_secs(45), "all of it to be counted", async || {
        refused = if stand.bursts(1, &stand.call()).await == 0 { refused + 1 } else { 0 };
        if refused == 5 { Ok(()) } else { Err(stand.upstream.seen().len()) }
    })
    .await;
    let seen = stand.upstream.seen().len();
    // Each of the three may have gone up to the limit by itself, and no further.
    assert!((LIMIT..=3 * LIMIT).contains(&seen), "{seen}");
    stand.stack.shutdown().await;
}

#[tokio::test]
async fn a_node_that_stops_leaves_its_share_to_the_others() {
    let mut stand = Stand::new(json!({ "name": "pace", "metric": "requests", "limit": 60, "window": "1m" })).await;
    assert_eq!(stand.bursts(2, &stand.call()).await, 6);
    // A node that stops says so: what it held is the others' at once.
    stand.stack.stop_node(2).await;
    let mut passed = 0;
    eventually("the others to have it all", async || {
        passed += stand.burst(&[0, 1], 10, &stand.call()).await;
        if passed >= 50 { Ok(()) } else { Err(passed) }
    })
    .await;
    let seen = stand.upstream.seen().len();
    assert!((56..=62).contains(&seen), "{seen}");
    stand.stack.shutdown().await;
}
