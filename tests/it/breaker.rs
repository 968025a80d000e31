//! Vendors that fail for a while, or ask to be left alone: who is spared, and who is asked again when.

use serde_json::json;
use tests::{Endpoint, Key, Stack, Upstream, Vendor, client::Reply, eventually};

/// Spares a target for longer than any test takes.
const LONG: [(&str, &str); 3] = [("breaker.failures", "3"), ("breaker.open", "1h"), ("breaker.open_max", "1h")];
/// Spares it for hardly any time.
const SHORT: [(&str, &str); 3] = [("breaker.failures", "3"), ("breaker.open", "20ms"), ("breaker.open_max", "40ms")];

async fn stack(settings: &[(&str, &str)]) -> Stack {
    let mut stack = Stack::without_nodes(None, Vec::new()).await;
    stack.add_node("node-1", settings).await;
    stack
}

/// `bb` only after `aa`.
async fn two(stack: &Stack) -> (Upstream, Upstream, Endpoint, Endpoint, Key) {
    let (a, b) = (Upstream::start(Vendor::OpenAi).await, Upstream::start(Vendor::OpenAi).await);
    let direct = stack.provider("aa", &a).await;
    stack.provider("bb", &b).await;
    let targets = json!({"targets": [{"provider": "aa"}, {"provider": "bb", "priority": 1}]});
    let proxy = stack.proxy_with("both", Vendor::OpenAi, targets).await;
    let key = stack.key("both", &[&proxy, &direct]).await;
    (a, b, proxy, direct, key)
}

async fn attempts(stack: &Stack, endpoint: &Endpoint, key: &Key) -> String {
    let reply: Reply = stack.send(&endpoint.chat(false).key(&key.secret)).await;
    reply.header("x-lockgate-attempts").unwrap_or_else(|| panic!("{}", reply.text())).to_owned()
}

#[tokio::test]
async fn a_target_that_keeps_failing_is_spared() {
    let stack = stack(&LONG).await;
    let (a, b, proxy, direct, key) = two(&stack).await;
    a.always(Vendor::OpenAi.error(503, "no"));
    for _ in 0..3 {
        assert_eq!(attempts(&stack, &proxy, &key).await, "aa;503, bb;200");
    }
    for _ in 0..5 {
        assert_eq!(attempts(&stack, &proxy, &key).await, "bb;200");
    }
    // A configuration that leads to the same place changes nothing about it.
    let other = Upstream::start(Vendor::OpenAi).await;
    stack.provider("other", &other).await;
    assert_eq!(attempts(&stack, &proxy, &key).await, "bb;200");
    // When all are spared, one is asked all the same, and its own words are the answer.
    b.always(Vendor::OpenAi.error(500, "so said b"));
    for _ in 0..3 {
        assert_eq!(attempts(&stack, &proxy, &key).await, "bb;500");
    }
    let reply = stack.send(&proxy.chat(false).key(&key.secret)).await;
    assert_eq!((reply.status(), reply.header("x-lockgate-attempts")), (503, Some("aa;503")), "{}", reply.text());
    // Whoever has no other choice is never refused.
    for _ in 0..4 {
        assert_eq!(attempts(&stack, &direct, &key).await, "aa;503");
    }
    // What came back good is taken for good.
    a.as_usual();
    assert_eq!(attempts(&stack, &direct, &key).await, "aa;200");
    assert_eq!(attempts(&stack, &proxy, &key).await, "aa;200");
    stack.shutdown().await;
}

#[tokio::test]
async fn a_target_that_recovers_is_found_by_a_probe() {
    let stack = stack(&SHORT).await;
    let (a, _b, proxy, _, key) = two(&stack).await;
    a.always(Vendor::OpenAi.error(503, "no"));
    let mut spared = 0;
    for _ in 0..20 {
        // Every request is answered, also those that probe.
        let attempts = attempts(&stack, &proxy, &key).await;
        assert!(["aa;503, bb;200", "bb;200"].contains(&&*attempts), "{attempts}");
        spared += u32::from(attempts == "bb;200");
    }
    assert!(spared > 0, "some must have been spared the failing one");
    a.as_usual();
    eventually("a probe to find it well", async || match attempts(&stack, &proxy, &key).await.as_str() {
        "aa;200" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
    for _ in 0..5 {
        assert_eq!(attempts(&stack, &proxy, &key).await, "aa;200");
    }
    stack.shutdown().await;
}

#[tokio::test]
async fn a_vendor_that_asks_for_time_gets_it_and_does_not_count_as_broken() {
    let stack = stack(&LONG).await;
    let (a, b, proxy, direct, key) = two(&stack).await;
    a.next(Vendor::OpenAi.error(429, "slower").header("retry-after", "3600"));
    assert_eq!(attempts(&stack, &proxy, &key).await, "aa;429, bb;200");
    for _ in 0..3 {
        assert_eq!(attempts(&stack, &proxy, &key).await, "bb;200");
    }
    assert_eq!(a.seen().len(), 1);
    // Who calls the provider itself is not held up.
    assert_eq!(attempts(&stack, &direct, &key).await, "aa;200");
    // A short pause is soon over, however often it is asked for.
    for _ in 0..5 {
        b.next(Vendor::OpenAi.error(429, "slower").header("retry-after-ms", "1"));
        attempts(&stack, &proxy, &key).await;
    }
    eventually("the pause to be over", async || match attempts(&stack, &proxy, &key).await.as_str() {
        "bb;200" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
    stack.shutdown().await;
}

#[tokio::test]
async fn a_vendor_whose_answers_break_off_is_spared() {
    let stack = stack(&LONG).await;
    let (a, _b, proxy, _, key) = two(&stack).await;
    a.always(tests::Answer::stream().piece("data: {}\n\n").cut());
    for _ in 0..3 {
        let reply = stack.send(&proxy.chat(true).key(&key.secret)).await;
        assert!(reply.text().contains("upstream_broken"), "{}", reply.text());
    }
    eventually("the other to be asked", async || match attempts(&stack, &proxy, &key).await.as_str() {
        "bb;200" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
    stack.shutdown().await;
}
