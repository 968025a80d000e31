//! A proxy over several providers: what is tried again elsewhere, what is not, and what everyone is told about it.

use serde_json::{Value, json};
use tests::eventually;
use tests::{
    Answer, Client, Endpoint, Gate, Key, Stack, Upstream, Vendor, assert_refusal, client::Call, client::Reply,
};

use super::processes::{Deployment, a_provider, answers};

/// Two vendors, two providers `aa` and `bb`, and a proxy over both.
struct Two {
    a: Upstream,
    b: Upstream,
    providers: [Endpoint; 2],
    proxy: Endpoint,
    key: Key,
}

/// A stack with one node whose breakers stay out of the way.
async fn stack(settings: &[(&str, &str)]) -> Stack {
    let mut stack = Stack::without_nodes(None, Vec::new()).await;
    let quiet = [("breaker.failures", "100000"), ("breaker.percent", "1000")];
    stack.add_node("node-1", &[&quiet, settings].concat()).await;
    stack
}

/// `bb` only after `aa`, unless `more` says otherwise.
async fn two(stack: &Stack, vendor: Vendor, more: Value) -> Two {
    let (a, b) = (Upstream::start(vendor).await, Upstream::start(vendor).await);
    let providers = [stack.provider("aa", &a).await, stack.provider("bb", &b).await];
    let mut input = json!({"targets": [{"provider": "aa"}, {"provider": "bb", "priority": 1}]});
    for (name, value) in more.as_object().unwrap() {
        input[name] = value.clone();
    }
    let proxy = stack.proxy_with("both", vendor, input).await;
    let key = stack.key("both", &[&proxy, &providers[0], &providers[1]]).await;
    Two { a, b, providers, proxy, key }
}

impl Two {
    async fn ask(&self, stack: &Stack) -> Reply {
        stack.send(&self.proxy.chat(false).key(&self.key.secret)).await
    }

    /// How many requests each has seen.
    fn seen(&self) -> (usize, usize) {
        (self.a.seen().len(), self.b.seen().len())
    }
}

#[track_caller]
fn assert_attempts(reply: &Reply, attempts: &str) {
    assert_eq!(reply.header("x-lockgate-attempts"), Some(attempts), "{:?} {}", reply.head, reply.text());
}

#[tokio::test]
async fn what_fails_before_a_good_head_is_tried_elsewhere() {
    let stack = stack(&[]).await;
    let mut two = two(&stack, Vendor::OpenAi, json!({"timeouts": {"firstByte": "300ms"}})).await;
    let error = |status| Vendor::OpenAi.error(status, "not now");
    let troubles = [
        (error(429), "429"),
        (error(500), "500"),
        (error(502), "502"),
        (error(503), "503"),
        (error(504), "504"),
        (error(520), "520"),
        (error(529), "529"),
        (Vendor::OpenAi.bad_credential(), "upstream_auth"),
        (Answer::silence(), "upstream_silent"),
        (Answer::slammed(), "upstream_broken"),
        (Answer::raw(""), "upstream_broken"),
        (Answer::raw("HTTP/1.1 200 O"), "upstream_broken"),
    ];
    for (number, (trouble, told)) in troubles.into_iter().enumerate() {
        two.a.next(trouble);
        let reply = two.ask(&stack).await;
        assert_eq!(reply.status(), 200, "{told}: {}", reply.text());
        assert_attempts(&reply, &format!("aa;{told}, bb;200"));
        assert_eq!(two.seen(), (number + 1, number + 1), "{told}: each is asked once");
        let (first, second) = (two.a.latest().request, two.b.latest().request);
        assert_eq!((&first.body, &first.target), (&second.body, &second.target), "{told}");
        assert_eq!(first.body, Vendor::OpenAi.chat_body(false).to_string(), "{told}");
    }
    two.a.stop().await;
    assert_attempts(&two.ask(&stack).await, "aa;upstream_refused, bb;200");
    let rows = stack.usage_rows(13).await;
    assert!(rows.iter().all(|row| row["outcome"] == "answered" && row["provider"] == "bb"), "{rows:#?}");
    stack.shutdown().await;
}

#[tokio::test]
async fn what_is_the_callers_own_is_final() {
    let stack = stack(&[]).await;
    let two = two(&stack, Vendor::Anthropic, json!({})).await;
    for status in [400, 403, 404, 408, 409, 413, 422, 501, 505] {
        two.a.next(Vendor::Anthropic.error(status, "no"));
        let reply = two.ask(&stack).await;
        assert_eq!(reply.status(), status);
        assert_attempts(&reply, &format!("aa;{status}"));
    }
    // An answer that has begun well is never begun again.
    let event = Vendor::Anthropic.chat_events(true)[0].clone();
    two.a.next(Answer::stream().piece(event.clone()).cut());
    let reply = stack.send(&two.proxy.chat(true).key(&two.key.secret)).await;
    assert!(reply.text().starts_with(&format!("{event}event: error\n")), "{}", reply.text());
    assert_eq!(two.seen().1, 0, "nobody else was asked");
    stack.shutdown().await;
}

#[tokio::test]
async fn when_all_fail_the_last_ones_own_words_are_the_answer() {
    for vendor in [Vendor::OpenAi, Vendor::Gemini] {
        let stack = stack(&[]).await;
        let mut two = two(&stack, vendor, json!({})).await;
        two.a.next(vendor.error(503, "so said a"));
        two.b.next(vendor.error(429, "so said b").header("x-request-id", "req_b"));
        let reply = two.ask(&stack).await;
        assert_eq!((reply.status(), reply.json()), (429, vendor.error(429, "so said b").body_json()));
        assert_eq!(reply.header("x-request-id"), Some("req_b"));
        assert_attempts(&reply, "aa;503, bb;429");
        two.a.next(vendor.error(503, "so said a"));
        two.b.stop().await;
        let reply = two.ask(&stack).await;
        assert_refusal(vendor, &reply, 502, "upstream_refused");
        assert_attempts(&reply, "aa;503, bb;upstream_refused");
        stack.shutdown().await;
    }
}

#[tokio::test]
async fn a_body_is_sent_again_byte_for_byte_unless_it_is_too_large_to_be_kept() {
    let stack = stack(&[("limits.retained_bytes", "100000")]).await;
    let mut two = two(&stack, Vendor::OpenAi, json!({})).await;
    let bytes = |length: usize| (0..=250_u8).cycle().take(length).collect::<Vec<u8>>();
    let post = |two: &Two, body: Vec<u8>| two.proxy.call("POST", "/v1/files").key(&two.key.secret).body(body);
    let chunked = |two: &Two, body: &[u8]| {
        let mut framed = Vec::new();
        for piece in body.chunks(977) {
            framed.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            framed.extend_from_slice(piece);
            framed.extend_from_slice(b"\r\n");
        }
        framed.extend_from_slice(b"0\r\n\r\n");
        two.proxy.call("POST", "/v1/files").key(&two.key.secret).header("Transfer-Encoding", "chunked").body(framed)
    };
    for length in [0, 1, 100_000] {
        for call in [post(&two, bytes(length)), chunked(&two, &bytes(length))] {
            two.a.next(Vendor::OpenAi.error(503, "no"));
            assert_attempts(&stack.send(&call).await, "aa;503, bb;200");
            assert_eq!(two.b.latest().request.body, bytes(length), "{length}");
        }
    }
    let before = two.b.seen().len();
    for call in [post(&two, bytes(100_001)), chunked(&two, &bytes(100_001))] {
        two.a.next(Vendor::OpenAi.error(503, "no"));
        assert_attempts(&stack.send(&call).await, "aa;503");
    }
    assert_eq!(two.b.seen().len(), before, "one attempt");
    // Of which nothing has left: it is all there still.
    two.a.stop().await;
    assert_attempts(&stack.send(&post(&two, bytes(300_000))).await, "aa;upstream_refused, bb;200");
    assert_eq!(two.b.latest().request.body, bytes(300_000));
    stack.shutdown().await;
}

#[tokio::test]
async fn a_sent_post_is_never_sent_to_the_same_vendor_again() {
    let stack = stack(&[]).await;
    let mut a = Upstream::start(Vendor::OpenAi).await;
    let provider = stack.provider_with("aa", &a, json!({"retries": {"attempts": 5}})).await;
    let key = stack.key("aa", &[&provider]).await;
    let get = provider.call("GET", "/v1/models").key(&key.secret);
    let post = provider.chat(false).key(&key.secret);
    for trouble in [Vendor::OpenAi.error(503, "no"), Answer::slammed()] {
        a.next(trouble.clone());
        stack.send(&post).await;
        let seen = a.seen().len();
        a.next(trouble);
        let reply = stack.send(&get).await;
        assert_eq!((reply.status(), a.seen().len()), (200, seen + 2), "a GET may be asked once more");
    }
    assert_eq!(a.seen().len(), 6);
    a.next(Vendor::OpenAi.error(503, "no")).next(Vendor::OpenAi.error(500, "no"));
    assert_attempts(&stack.send(&get).await, "aa;503, aa;500");
    a.next(Vendor::OpenAi.error(429, "no"));
    assert_attempts(&stack.send(&get).await, "aa;429");
    a.stop().await;
    assert_attempts(&stack.send(&post).await, "aa;upstream_refused, aa;upstream_refused");
    stack.shutdown().await;
}

#[tokio::test]
async fn the_endpoint_and_the_node_say_how_often() {
    let stack = stack(&[("retries.percent", "0"), ("retries.burst", "2")]).await;
    let two = two(&stack, Vendor::Mistral, json!({})).await;
    two.a.always(Vendor::Mistral.error(503, "no"));
    for attempts in ["aa;503, bb;200", "aa;503, bb;200", "aa;503", "aa;503"] {
        assert_attempts(&two.ask(&stack).await, attempts);
    }
    // A provider that is asked directly has no other.
    let direct = two.providers[0].chat(false).key(&two.key.secret);
    assert_attempts(&stack.send(&direct).await, "aa;503");
    stack.shutdown().await;

    let stack = self::stack(&[]).await;
    let never = self::two(&stack, Vendor::Mistral, json!({"retries": {"attempts": 0}})).await;
    never.a.next(Vendor::Mistral.error(503, "no"));
    assert_attempts(&never.ask(&stack).await, "aa;503");
    stack.shutdown().await;
}

#[tokio::test]
async fn requests_are_shared_by_weight() {
    let stack = stack(&[]).await;
    let targets = json!([{"provider": "aa", "weight": 1}, {"provider": "bb", "weight": 3}]);
    let two = two(&stack, Vendor::OpenAi, json!({"targets": targets})).await;
    for _ in 0..160 {
        assert_eq!(two.ask(&stack).await.status(), 200);
    }
    // A quarter is 40, its deviation 5.5.
    let (a, b) = two.seen();
    assert!((15..=70).contains(&a) && a + b == 160, "{a} and {b}");
    // Whichever comes first: what fails goes to the other.
    two.b.always(Vendor::OpenAi.error(503, "no"));
    for _ in 0..10 {
        assert_eq!(two.ask(&stack).await.status(), 200);
    }
    stack.shutdown().await;
}

#[tokio::test]
async fn the_one_with_less_to_do_gets_the_next_request() {
    let stack = stack(&[]).await;
    let more = json!({
        "targets": [{"provider": "aa"}, {"provider": "bb"}], "routing": {"strategy": "leastPending"},
    });
    let two = two(&stack, Vendor::OpenAi, more).await;
    let gate = Gate::new();
    two.a.always(Answer::json(200, &json!({})).after(&gate));
    let mut waiting = Vec::new();
    for _ in 0..40 {
        let (a, b) = two.seen();
        waiting.push(stack.client().begin(&two.proxy.chat(false).key(&two.key.secret)).await.unwrap());
        tests::eventually("the request to arrive somewhere", async || {
            let now = two.seen();
            if now == (a, b) { Err(now) } else { Ok(()) }
        })
        .await;
    }
    let (a, b) = two.seen();
    // Those at `aa` wait; each that arrives there makes the next less likely.
    assert!(a <= 12 && b >= 28, "{a} and {b}");
    gate.open();
    for mut exchange in waiting {
        assert_eq!(exchange.whole().await.status(), 200);
    }
    stack.shutdown().await;
}

#[tokio::test]
async fn a_provider_that_is_switched_off_is_passed_over() {
    let stack = stack(&[]).await;
    let two = two(&stack, Vendor::OpenAi, json!({})).await;
    for (name, attempts) in [("aa", Some("bb;200")), ("bb", None)] {
        let mut read = stack.rest().get(&format!("/llm-providers/{name}")).await;
        let etag = read.check(200).etag();
        read.body["disabled"] = json!(true);
        stack.rest().put(&format!("/llm-providers/{name}"), &etag, &read.body).await.expect(200);
        stack.settle().await;
        let reply = two.ask(&stack).await;
        match attempts {
            Some(attempts) => assert_attempts(&reply, attempts),
            None => drop(assert_refusal(Vendor::OpenAi, &reply, 403, "endpoint_disabled")),
        }
    }
    let elsewhere = stack.send(&Call::get("/both/v1/models")).await;
    assert_eq!(elsewhere.header("x-lockgate-attempts"), None, "nothing was attempted");
    stack.shutdown().await;
}

#[tokio::test]
async fn the_log_line_tells_every_attempt_and_why_it_ended() {
    let deployment = Deployment::new(None);
    let (a, b) = (Upstream::start(Vendor::OpenAi).await, Upstream::start(Vendor::OpenAi).await);
    let _control_plane = deployment.control_plane().await;
    let rest = deployment.first_owner().await;
    let mut node = deployment.node();
    node.ready(deployment.admin, "/readyz").await;
    let key = a_provider(&rest, &a).await;
    answers(deployment.gateway, &key).await;
    let second = json!({
        "name": "second", "template": "openai", "context": "/second",
        "upstream": {"url": b.url(), "credential": {"value": b.credential()}},
    });
    rest.post("/llm-providers", &second).await.expect(201);
    let both = json!({
        "name": "both", "context": "/both",
        "targets": [{"provider": "openai"}, {"provider": "second", "priority": 1}],
    });
    rest.post("/llm-proxies", &both).await.expect(201);
    for endpoint in ["second", "both"] {
        let deployment = json!({"endpoint": endpoint, "gateway": "default"});
        rest.post("/deployments?wait=10s", &deployment).await.expect(200);
    }
    let key = rest.post("/api-keys", &json!({"name": "both", "endpoints": ["both"]})).await.expect(201);
    let key = key["key"].as_str().unwrap();

    let client = Client::new(&deployment.gateway.to_string());
    let call = Call::post("/both/v1/chat/completions", &Vendor::OpenAi.chat_body(false)).key(key);
    let reply = eventually("the new key to be served", async || {
        a.next(Vendor::OpenAi.error(503, "not now"));
        let reply = client.send(&call).await;
        if reply.status() == 200 { Ok(reply) } else { Err(reply.text()) }
    })
    .await;
    assert_attempts(&reply, "openai;503, second;200");
    let id = reply.header("x-lockgate-request-id").unwrap();
    let line = eventually("the line of the request", async || {
        let output = node.output();
        output.lines().find(|line| line.contains(id)).map(str::to_owned).ok_or(output)
    })
    .await;
    assert!(line.contains(r#"attempts="openai;503, second;200""#), "{line}");
    assert!(line.contains("status=200") && line.contains(r#"provider.name="second""#), "{line}");
}
