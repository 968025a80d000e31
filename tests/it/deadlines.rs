//! One deadline for the whole request, whatever it meets on its way.

use serde_json::json;
use tests::{Answer, Stack, Upstream, Vendor, assert_refusal, client::Ending};

#[tokio::test]
async fn a_request_that_takes_too_long_is_a_504_in_every_dialect() {
    let stack = Stack::sqlite().await;
    for vendor in Vendor::ALL {
        let upstream = Upstream::start(vendor).await;
        let provider = stack.provider_with(vendor.name(), &upstream, json!({"timeouts": {"total": "300ms"}})).await;
        let key = stack.key(vendor.name(), &[&provider]).await;
        upstream.next(Answer::silence());
        let reply = stack.send(&provider.chat(false).key(&key.secret)).await;
        assert_refusal(vendor, &reply, 504, "deadline_exceeded");
        let attempts = format!("{};deadline_exceeded", vendor.name());
        assert_eq!(reply.header("x-lockgate-attempts"), Some(&*attempts));
        // In mid-answer it is an error event and a cut.
        let first = &vendor.chat_events(true)[0];
        upstream.next(Answer::stream().piece(first.clone()).hang());
        let mut exchange = stack.client().begin(&provider.chat(true).key(&key.secret)).await.unwrap();
        let reply = exchange.whole().await;
        let label = if vendor == Vendor::Gemini { "DEADLINE_EXCEEDED" } else { "deadline_exceeded" };
        assert!(reply.text().starts_with(first) && reply.text().contains(label), "{vendor:?}: {}", reply.text());
        assert_eq!(reply.ending, Ending::Broken, "{vendor:?}");
    }
    let rows = stack.usage_rows(10).await;
    let of = |outcome: &str| rows.iter().filter(|row| row["outcome"] == outcome).count();
    assert_eq!((of("upstream_failed"), of("upstream_broken")), (5, 5), "{rows:#?}");
    stack.shutdown().await;
}

#[tokio::test]
async fn all_attempts_share_one_deadline() {
    let mut stack = Stack::without_nodes(None, Vec::new()).await;
    stack.add_node("node-1", &[("deadlines.total", "900ms")]).await;
    let (a, b) = (Upstream::start(Vendor::OpenAi).await, Upstream::start(Vendor::OpenAi).await);
    stack.provider("aa", &a).await;
    stack.provider("bb", &b).await;
    let input = json!({
        "targets": [{"provider": "aa"}, {"provider": "bb", "priority": 1}], "timeouts": {"firstByte": "600ms"},
    });
    let proxy = stack.proxy_with("both", Vendor::OpenAi, input).await;
    let key = stack.key("both", &[&proxy]).await;
    for upstream in [&a, &b] {
        upstream.always(Answer::silence());
    }
    let reply = stack.send(&proxy.chat(false).key(&key.secret)).await;
    assert_refusal(Vendor::OpenAi, &reply, 504, "deadline_exceeded");
    assert_eq!(reply.header("x-lockgate-attempts"), Some("aa;upstream_silent, bb;deadline_exceeded"));
    stack.shutdown().await;
}
