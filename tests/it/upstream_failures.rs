//! A vendor that fails: what the developer is told, and what not.

use serde_json::{Value, json};
use tests::{Answer, Endpoint, Key, Stack, Upstream, Vendor, assert_refusal, client::Reply, upstream::Authority};

async fn a_provider(stack: &Stack, upstream: &Upstream, more: Value) -> (Endpoint, Key) {
    let name = format!("p-{}", upstream.address().port());
    let provider = stack.provider_with(&name, upstream, more).await;
    let key = stack.key(&name, &[&provider]).await;
    (provider, key)
}

/// A provider whose upstream is at this URL.
async fn at(stack: &Stack, name: &str, url: &str) -> (Endpoint, Key) {
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let provider = stack.provider_with(name, &upstream, json!({"upstream": {"url": url}})).await;
    let key = stack.key(name, &[&provider]).await;
    (provider, key)
}

async fn ask(stack: &Stack, provider: &Endpoint, key: &Key) -> Reply {
    stack.send(&provider.chat(false).key(&key.secret)).await
}

#[tokio::test]
async fn a_refused_connection_is_a_502_in_every_dialect() {
    let stack = Stack::sqlite().await;
    for vendor in Vendor::ALL {
        let mut upstream = Upstream::start(vendor).await;
        let (provider, key) = a_provider(&stack, &upstream, json!({})).await;
        upstream.stop().await;
        let reply = ask(&stack, &provider, &key).await;
        assert_refusal(vendor, &reply, 502, "upstream_refused");
    }
    stack.shutdown().await;
}

#[tokio::test]
async fn a_name_without_an_address_is_a_502() {
    let stack = Stack::sqlite().await;
    // RFC 6761 reserves the name: no resolver knows it.
    let (provider, key) = at(&stack, "nowhere", "https://nowhere.invalid").await;
    let message = assert_refusal(Vendor::OpenAi, &ask(&stack, &provider, &key).await, 502, "upstream_unresolvable");
    assert!(!message.contains("nowhere.invalid"), "{message}");
    stack.shutdown().await;
}

#[tokio::test]
async fn a_silent_vendor_is_a_504_in_every_dialect() {
    let stack = Stack::sqlite().await;
    for vendor in Vendor::ALL {
        let upstream = Upstream::start(vendor).await;
        let (provider, key) = a_provider(&stack, &upstream, json!({"timeouts": {"firstByte": "300ms"}})).await;
        upstream.always(Answer::silence());
        let reply = ask(&stack, &provider, &key).await;
        assert_refusal(vendor, &reply, 504, "upstream_silent");
        assert_eq!(upstream.seen().len(), 1, "{vendor:?}: a sent POST is never sent again");
    }
    stack.shutdown().await;
}

#[tokio::test]
async fn a_vendor_that_hangs_up_before_it_answers_is_a_502() {
    let stack = Stack::sqlite().await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let (provider, key) = a_provider(&stack, &upstream, json!({})).await;
    for broken in
        [Answer::slammed(), Answer::raw(""), Answer::raw("HTTP/1.1 200 O"), Answer::raw("I am no HTTP server\r\n\r\n")]
    {
        upstream.next(broken);
        assert_refusal(Vendor::OpenAi, &ask(&stack, &provider, &key).await, 502, "upstream_broken");
    }
    assert_eq!(upstream.seen().len(), 4, "a sent POST is never sent again");
    stack.shutdown().await;
}

#[tokio::test]
async fn a_vendors_own_errors_pass_byte_for_byte() {
    let stack = Stack::sqlite().await;
    for vendor in Vendor::ALL {
        let upstream = Upstream::start(vendor).await;
        let (provider, key) = a_provider(&stack, &upstream, json!({})).await;
        for status in [400, 403, 404, 422, 429, 500, 503, 529] {
            upstream.next(
                vendor
                    .error(status, "so said the vendor")
                    .header("retry-after", "7")
                    .header("x-request-id", "req_vendor"),
            );
            let direct = vendor.error(status, "so said the vendor");
            let reply = ask(&stack, &provider, &key).await;
            assert_eq!(reply.status(), status, "{vendor:?}");
            assert_eq!(reply.json(), direct.body_json(), "{vendor:?}");
            assert_eq!(reply.header("retry-after"), Some("7"), "{vendor:?}");
            assert_eq!(
                reply.header("x-request-id"),
                Some("req_vendor"),
                "{vendor:?}: the vendor's own id helps its support"
            );
        }
    }
    stack.shutdown().await;
}

#[tokio::test]
async fn a_refused_credential_is_a_502_that_no_sdk_retries() {
    let stack = Stack::sqlite().await;
    for vendor in Vendor::ALL {
        let upstream = Upstream::start(vendor).await;
        let (provider, key) = a_provider(&stack, &upstream, json!({})).await;
        upstream.next(vendor.bad_credential());
        let reply = ask(&stack, &provider, &key).await;
        let message = assert_refusal(vendor, &reply, 502, "upstream_auth");
        assert!(!message.contains("vendor who said so") && !reply.text().contains("API key not valid"), "{message}");
        assert_eq!(reply.header("x-should-retry"), Some("false"), "{vendor:?}");
    }
    // Another 400 of Google's is the caller's fault.
    let upstream = Upstream::start(Vendor::Gemini).await;
    let (provider, key) = a_provider(&stack, &upstream, json!({})).await;
    upstream.next(Vendor::Gemini.error(400, "contents is missing"));
    assert_eq!(ask(&stack, &provider, &key).await.status(), 400);
    stack.shutdown().await;
}

#[tokio::test]
async fn https_is_verified_against_public_roots_and_the_providers_own_authority() {
    let stack = Stack::sqlite().await;
    let authority = Authority::new();
    let upstream = Upstream::start_tls(Vendor::OpenAi, &authority).await;
    let (provider, key) = a_provider(&stack, &upstream, json!({"upstream": {"caPem": authority.pem()}})).await;
    let reply = ask(&stack, &provider, &key).await;
    assert_eq!(reply.status(), 200, "{}", reply.text());
    assert_eq!(
        upstream.the_one().request.header("host"),
        Some(format!("localhost:{}", upstream.address().port()).as_str())
    );

    let stranger = Upstream::start_tls(Vendor::OpenAi, &Authority::new()).await;
    let (provider, key) = a_provider(&stack, &stranger, json!({"upstream": {"caPem": authority.pem()}})).await;
    assert_refusal(Vendor::OpenAi, &ask(&stack, &provider, &key).await, 502, "upstream_tls");
    let unknown = Upstream::start_tls(Vendor::OpenAi, &Authority::new()).await;
    let (provider, key) = a_provider(&stack, &unknown, json!({})).await;
    assert_refusal(Vendor::OpenAi, &ask(&stack, &provider, &key).await, 502, "upstream_tls");
    assert_eq!(stranger.seen().len() + unknown.seen().len(), 0, "nothing is said to a stranger");
    stack.shutdown().await;
}

#[tokio::test]
async fn a_redirect_is_the_clients_to_follow() {
    let stack = Stack::sqlite().await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let elsewhere = Upstream::start(Vendor::OpenAi).await;
    let (provider, key) = a_provider(&stack, &upstream, json!({})).await;
    upstream.next(Answer::json(302, &json!({})).header("location", &format!("{}/v1/x", elsewhere.url())));
    assert_eq!(ask(&stack, &provider, &key).await.status(), 302);
    assert_eq!(elsewhere.seen().len(), 0, "a credential never follows a redirect");
    stack.shutdown().await;
}

#[tokio::test]
async fn addresses_outside_the_gateways_networks_are_never_dialled() {
    let stack = Stack::sqlite().await;
    // Private, link-local with the metadata service, unspecified, and forms that hide them.
    let urls = [
        "https://10.1.2.3",
        "https://169.254.169.254",
        "https://192.168.0.1",
        "https://[fe80::1]",
        "https://[::ffff:10.0.0.1]",
        "https://[64:ff9b::a00:1]",
        "https://0.0.0.0",
    ];
    for (number, url) in urls.into_iter().enumerate() {
        let name = format!("private-{number}");
        let input = json!({
            "name": name, "template": "openai", "context": format!("/{name}"),
            "upstream": {"url": url, "credential": {"value": "vc-planted-private"}},
        });
        let told = stack.rest().post("/llm-providers", &input).await;
        // Either the author is told at once, or the node refuses to dial.
        if told.status == 422 {
            told.at("/upstream/url");
            continue;
        }
        told.expect(201);
        stack.deploy(&name).await;
        let key = stack.rest().post("/api-keys", &json!({"name": name, "endpoints": [name]})).await.expect(201);
        stack.settle().await;
        let call = tests::client::Call::get(&format!("/{name}/v1/models")).key(key["key"].as_str().unwrap());
        let reply = stack.send(&call).await;
        assert_eq!(reply.status(), 502, "{url}: {}", reply.text());
        assert!(reply.text().contains("upstream_forbidden"), "{url}: {}", reply.text());
    }
    stack.shutdown().await;
}
