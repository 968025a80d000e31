//! From nothing to an answer: the five calls, and every vendor through a provider and a proxy.

use serde_json::json;
use tests::{
    Client, Stack, Upstream, Vendor,
    client::{Call, Ending},
};

#[tokio::test]
async fn five_calls_lead_from_nothing_to_an_invoke_url() {
    for stack in Stack::on_both_engines().await {
        let upstream = Upstream::start(Vendor::OpenAi).await;
        let rest = stack.rest();

        let provider = json!({
            "name": "openai-prod", "template": "openai", "context": "/openai-prod",
            "upstream": {"url": upstream.url(), "credential": {"value": upstream.credential()}},
        });
        let made = rest.post("/llm-providers", &provider).await;
        made.check(201);
        assert!(made.header("etag").is_some());
        let location = made.header("location").unwrap().strip_prefix("/api/v1").unwrap();
        assert_eq!(rest.get(location).await.expect(200)["name"], "openai-prod");
        let credential = &made.body["upstream"]["credential"];
        assert!(credential["secret"].as_str().unwrap().starts_with("sec_"), "{credential}");
        assert_eq!(credential["last4"], &upstream.credential()[upstream.credential().len() - 4..]);
        assert_eq!(credential.get("value"), None);

        let proxy = json!({"name": "assistant", "context": "/assistant", "provider": "openai-prod"});
        rest.post("/llm-proxies", &proxy).await.expect(201);

        for endpoint in ["openai-prod", "assistant"] {
            let deployment = json!({"endpoint": endpoint, "gateway": "default"});
            let deployed = rest.post("/deployments?wait=5s", &deployment).await.expect(200);
            assert_eq!((&deployed["status"], &deployed["version"]), (&json!("deployed"), &json!(1)));
        }

        let key = json!({"name": "ci", "endpoints": ["openai-prod", "assistant"]});
        let key = rest.post("/api-keys", &key).await.expect(201);
        assert!(key["id"].as_str().unwrap().starts_with("key_"));
        let secret = key["key"].as_str().unwrap();
        assert!(secret.starts_with("lgk_"));
        stack.settle().await;

        for (path, endpoint) in [("/llm-providers/openai-prod", "openai-prod"), ("/llm-proxies/assistant", "assistant")]
        {
            let read = rest.get(path).await.expect(200);
            let invoke = &read["invokeUrls"][0];
            let expected = format!("http://{}/{endpoint}", stack.client().address());
            assert_eq!(invoke, &json!({"gateway": "default", "url": expected}));
            let url = invoke["url"].as_str().unwrap();
            let call = Call::post(&format!("/{endpoint}/v1/chat/completions"), &Vendor::OpenAi.chat_body(false));
            let reply = Client::new(url).send(&call.key(secret)).await;
            assert_eq!(reply.status(), 200, "{}", reply.text());
            assert_eq!(reply.json(), Vendor::OpenAi.chat_answer());
        }
        assert_eq!(upstream.seen().len(), 2);
        stack.shutdown().await;
    }
}

#[tokio::test]
async fn every_vendor_answers_through_a_provider_and_a_proxy_byte_for_byte() {
    let stack = Stack::sqlite().await;
    for vendor in Vendor::ALL {
        let upstream = Upstream::start(vendor).await;
        let provider = stack.provider(vendor.name(), &upstream).await;
        let proxy = stack.proxy(&format!("{}-app", vendor.name()), &provider).await;
        let key = stack.key(vendor.name(), &[&provider, &proxy]).await;
        for endpoint in [&provider, &proxy] {
            let whole = stack.send(&endpoint.chat(false).key(&key.secret)).await;
            assert_eq!(whole.status(), 200, "{vendor:?}: {}", whole.text());
            assert_eq!(whole.json(), vendor.chat_answer(), "{vendor:?}");

            let streamed = stack.send(&endpoint.chat(true).key(&key.secret)).await;
            assert_eq!(streamed.status(), 200, "{vendor:?}: {}", streamed.text());
            assert_eq!(streamed.header("content-type"), Some("text/event-stream; charset=utf-8"), "{vendor:?}");
            let events = match vendor {
                Vendor::OpenAi => vendor.veiled_events(),
                Vendor::Anthropic | Vendor::Gemini | Vendor::Mistral | Vendor::Azure => vendor.chat_events(false),
            };
            assert_eq!(streamed.text(), events.concat(), "{vendor:?}");
            assert_eq!(streamed.ending, Ending::Clean, "{vendor:?}");
        }
        let seen = upstream.seen();
        assert_eq!(seen.len(), 4, "{vendor:?}");
        for (number, seen) in seen.iter().enumerate() {
            let streamed = number % 2 == 1;
            assert_eq!(seen.request.target, vendor.chat_path(streamed), "{vendor:?}");
            let mut body = vendor.chat_body(streamed);
            if streamed && vendor == Vendor::OpenAi {
                // The gateway asks for usage where the client did not; what comes of it stays with the gateway.
                body["stream_options"] = json!({"include_usage": true});
            }
            assert_eq!(seen.request.json(), body, "{vendor:?}");
        }
    }
    stack.shutdown().await;
}

#[tokio::test]
async fn a_key_where_the_vendors_own_sdk_puts_it_opens_the_endpoint_too() {
    let stack = Stack::sqlite().await;
    for vendor in Vendor::ALL {
        let upstream = Upstream::start(vendor).await;
        let provider = stack.provider(vendor.name(), &upstream).await;
        let key = stack.key(vendor.name(), &[&provider]).await;
        let (header, value) = match vendor {
            // From its second major on, Anthropic's SDK sends nothing else.
            Vendor::OpenAi | Vendor::Mistral | Vendor::Anthropic => ("Authorization", format!("Bearer {}", key.secret)),
            Vendor::Gemini => ("x-goog-api-key", key.secret.clone()),
            Vendor::Azure => ("api-key", key.secret.clone()),
        };
        let reply = stack.send(&provider.chat(false).header(header, &value)).await;
        assert_eq!(reply.status(), 200, "{vendor:?}: {}", reply.text());
    }
    stack.shutdown().await;
}
