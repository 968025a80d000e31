//! Limits, from the REST API to the vendor's own words.

use serde_json::json;
use tests::{Stack, Upstream, Vendor, assert_refusal, eventually};

#[tokio::test]
async fn a_limit_set_over_rest_holds_at_once_and_is_told_in_every_vendors_words() {
    let stack = Stack::sqlite().await;
    for vendor in Vendor::ALL {
        let upstream = Upstream::start(vendor).await;
        let provider = stack.provider(vendor.name(), &upstream).await;
        let key = stack.key(vendor.name(), &[&provider]).await;
        assert_eq!(stack.send(&provider.chat(false).key(&key.secret)).await.status(), 200);
        let limited = json!({
            "name": vendor.name(), "endpoints": [vendor.name()],
            "limits": [{ "name": "hourly", "metric": "requests", "limit": 1, "window": "1h" }],
        });
        stack.rest().put(&format!("/api-keys/{}", vendor.name()), "*", &limited).await.check(200);
        // What was sent before the rule was made is not counted; the next request is, and the one after is too much.
        eventually("the limit to hold", async || {
            let status = stack.send(&provider.chat(false).key(&key.secret)).await.status();
            if status == 429 { Ok(()) } else { Err(status) }
        })
        .await;
        let before = upstream.seen().len();
        let reply = stack.send(&provider.chat(true).key(&key.secret)).await;
        let message = assert_refusal(vendor, &reply, 429, "limit_exceeded");
        assert!(message.contains("`hourly` of this API key"), "{message}");
        let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((3000..=3600).contains(&wait), "{wait}");
        assert_eq!(upstream.seen().len(), before, "nothing is sent");
    }
    stack.shutdown().await;
}
