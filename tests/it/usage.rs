//! The ledger: exactly one row for every authenticated request, in every ending, with the right tokens.

use serde_json::{Value, json};
use tests::{Answer, Endpoint, Key, Stack, Upstream, Vendor, client::Call, eventually};

async fn a_provider(stack: &Stack, name: &str, upstream: &Upstream, more: Value) -> (Endpoint, Key) {
    let provider = stack.provider_with(name, upstream, more).await;
    let key = stack.key(name, &[&provider]).await;
    (provider, key)
}

#[tokio::test]
async fn every_vendors_tokens_are_counted_whole_and_streamed() {
    for stack in Stack::on_both_engines().await {
        let mut sent = 0;
        for vendor in Vendor::ALL {
            let upstream = Upstream::start(vendor).await;
            let (provider, key) = a_provider(&stack, vendor.name(), &upstream, json!({})).await;
            for streamed in [false, true] {
                let body = vendor.chat_body(streamed);
                let call = provider.call("POST", vendor.chat_path(streamed)).header("anthropic-version", "2023-06-01");
                let reply = stack.send(&call.json(&body).key(&key.secret)).await;
                assert_eq!(reply.status(), 200, "{vendor:?}: {}", reply.text());
                sent += 1;
                let rows = stack.usage_rows(sent).await;
                let row = &rows[0];
                let what = format!("{vendor:?}, streamed {streamed}: {row:#}");
                assert_eq!(row["endpoint"], vendor.name(), "{what}");
                assert_eq!((&row["outcome"], &row["status"]), (&json!("answered"), &json!(200)), "{what}");
                assert_eq!(row["requestedModel"], vendor.model(), "{what}");
                assert_eq!(row["servedModel"], vendor.served_model(), "{what}");
                assert_eq!(row["streamed"], streamed, "{what}");
                // At 2024-06-01 Azure refuses to be asked: unknown is null and never 0.
                let known = !(streamed && vendor == Vendor::Azure);
                let tokens = |count: u64| if known { json!(count) } else { Value::Null };
                assert_eq!(row["inputTokens"], tokens(Vendor::INPUT_TOKENS), "{what}");
                assert_eq!(row["outputTokens"], tokens(Vendor::OUTPUT_TOKENS), "{what}");
                assert!(row["durationMs"].is_number() && row["firstByteMs"].is_number(), "{what}");
                assert_eq!(row["firstTokenMs"].is_number(), streamed, "{what}");
                let reason = match vendor {
                    Vendor::Anthropic => "end_turn",
                    Vendor::Gemini => "STOP",
                    Vendor::OpenAi | Vendor::Mistral | Vendor::Azure => "stop",
                };
                assert_eq!((&row["finishReason"], &row["toolCalls"]), (&json!(reason), &json!(0)), "{what}");
                assert_eq!((&row["estimated"], &row["errorType"]), (&json!(false), &Value::Null), "{what}");
                let classes = ["cachedInputTokens", "cacheWriteTokens", "reasoningTokens"].map(|class| &row[class]);
                let expected = match vendor {
                    Vendor::OpenAi | Vendor::Azure if known => [json!(3), Value::Null, json!(2)],
                    Vendor::Anthropic => [json!(4), json!(2), Value::Null],
                    Vendor::Gemini => [json!(3), Value::Null, json!(2)],
                    Vendor::OpenAi | Vendor::Azure | Vendor::Mistral => [Value::Null, Value::Null, Value::Null],
                };
                assert_eq!(classes, expected.each_ref(), "{what}");
            }
        }
        stack.shutdown().await;
    }
}

#[tokio::test]
async fn the_responses_api_is_counted_whole_and_streamed() {
    let stack = Stack::sqlite().await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let (provider, key) = a_provider(&stack, "openai", &upstream, json!({})).await;
    for (number, streamed) in [false, true].into_iter().enumerate() {
        let body = json!({"model": "gpt-4o", "input": "Count.", "stream": streamed});
        let reply = stack.send(&provider.call("POST", "/v1/responses").json(&body).key(&key.secret)).await;
        assert_eq!(reply.status(), 200, "{}", reply.text());
        let rows = stack.usage_rows(number + 1).await;
        assert_eq!(rows[0]["inputTokens"], Vendor::INPUT_TOKENS, "{:#}", rows[0]);
        assert_eq!(rows[0]["outputTokens"], Vendor::OUTPUT_TOKENS, "{:#}", rows[0]);
        assert_eq!(rows[0]["servedModel"], Vendor::OpenAi.served_model(), "{:#}", rows[0]);
    }
    stack.shutdown().await;
}

/// Sends what ends in this way, and gives the row.
struct Ending {
    outcome: &'static str,
    status: Value,
    refusal: &'static str,
}

#[tokio::test]
async fn every_ending_leaves_exactly_one_row() {
    for stack in Stack::on_both_engines().await {
        let upstream = Upstream::start(Vendor::OpenAi).await;
        let short = json!({"timeouts": {"firstByte": "300ms"}});
        let (provider, key) = a_provider(&stack, "openai", &upstream, short).await;
        let (other, _) = a_provider(&stack, "other", &upstream, json!({})).await;
        let chat = provider.chat(true).key(&key.secret);
        let first = Vendor::OpenAi.chat_events(false)[0].clone();

        let mut endings = Vec::new();
        let mut expect = |outcome, status: Value, refusal| endings.push(Ending { outcome, status, refusal });

        stack.send(&chat).await;
        expect("answered", json!(200), "");
        for status in [400, 429, 500] {
            upstream.next(Vendor::OpenAi.error(status, "no"));
            stack.send(&chat).await;
            expect("vendor_error", json!(status), "");
        }
        upstream.next(Answer::silence());
        stack.send(&chat).await;
        expect("upstream_failed", json!(504), "upstream_silent");
        upstream.next(Answer::slammed());
        stack.send(&chat).await;
        expect("upstream_failed", json!(502), "upstream_broken");
        upstream.next(Vendor::OpenAi.bad_credential());
        stack.send(&chat).await;
        expect("refused", json!(502), "upstream_auth");
        upstream.next(Answer::stream().piece(first.clone()).reset());
        stack.send(&chat).await;
        expect("upstream_broken", json!(200), "");
        upstream.next(Answer::stream().piece(first.clone()).hang());
        let mut leaving = stack.client().begin(&chat).await.unwrap();
        leaving.until(&first).await;
        drop(leaving);
        expect("client_gone", json!(200), "");
        // The key is good, the endpoint is not its own.
        stack.send(&other.chat(false).key(&key.secret)).await;
        expect("refused", json!(403), "key_out_of_scope");

        // None of these is authenticated: no row.
        stack.send(&provider.chat(false)).await;
        stack.send(&provider.chat(false).key("wrong")).await;
        stack.send(&Call::get("/nowhere").key(&key.secret)).await;

        // Records are delivered in order, so once this one is there, everything before it is.
        let last = provider.call("GET", "/v1/last").key(&key.secret);
        stack.send(&last).await;
        expect("answered", json!(200), "");

        let mut rows = stack.usage_rows(endings.len()).await;
        // A client that left is noticed when it is noticed: compare without order.
        let describe = |row: &Value| {
            let refusal = row["refusal"].as_str().unwrap_or_default();
            format!("{} {} {refusal}", row["outcome"].as_str().unwrap_or("none"), row["status"])
        };
        rows.sort_by_key(describe);
        let mut expected: Vec<String> =
            endings.iter().map(|ending| format!("{} {} {}", ending.outcome, ending.status, ending.refusal)).collect();
        expected.sort();
        assert_eq!(rows.iter().map(describe).collect::<Vec<_>>(), expected, "{rows:#?}");
        stack.shutdown().await;
    }
}

#[tokio::test]
async fn usage_is_summed_by_key_endpoint_and_model() {
    for stack in Stack::on_both_engines().await {
        let openai = Upstream::start(Vendor::OpenAi).await;
        let mistral = Upstream::start(Vendor::Mistral).await;
        let (first, first_key) = a_provider(&stack, "first", &openai, json!({})).await;
        let (second, second_key) = a_provider(&stack, "second", &mistral, json!({})).await;
        for (endpoint, key, times) in [(&first, &first_key, 3), (&second, &second_key, 2)] {
            for _ in 0..times {
                assert_eq!(stack.send(&endpoint.chat(false).key(&key.secret)).await.status(), 200);
            }
        }
        stack.usage_rows(5).await;
        let sums = async |group: &str, member: &str, which: &str| {
            let answer = stack.rest().get(&format!("/usage?groupBy={group}&interval=none")).await.expect(200);
            let rows = answer["data"].as_array().cloned().unwrap_or_default();
            let row = rows.iter().find(|row| row[member] == which);
            let row = row.unwrap_or_else(|| panic!("no {member} {which}: {answer:#}"));
            ["requests", "inputTokens", "outputTokens"].map(|sum| row[sum].as_u64().unwrap())
        };
        let expected = |times: u64| [times, times * Vendor::INPUT_TOKENS, times * Vendor::OUTPUT_TOKENS];
        assert_eq!(sums("endpoint", "endpoint", "first").await, expected(3));
        assert_eq!(sums("endpoint", "endpoint", "second").await, expected(2));
        assert_eq!(sums("key", "key", "second").await, expected(2));
        assert_eq!(sums("model", "model", Vendor::OpenAi.served_model()).await, expected(3));
        stack.shutdown().await;
    }
}

#[tokio::test]
async fn rows_wait_on_the_nodes_disk_while_the_control_plane_is_away() {
    let mut stack = Stack::sqlite().await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let (provider, key) = a_provider(&stack, "openai", &upstream, json!({})).await;
    stack.stop_control_plane().await;
    for _ in 0..3 {
        assert_eq!(stack.send(&provider.chat(false).key(&key.secret)).await.status(), 200);
    }
    // The node goes too, and comes back, before anyone has heard of these three.
    stack.stop_node(0).await;
    stack.start_node(0).await;
    assert_eq!(stack.send(&provider.chat(false).key(&key.secret)).await.status(), 200);
    stack.start_control_plane().await;
    let rows = stack.usage_rows(4).await;
    let ids: std::collections::BTreeSet<String> = rows.iter().map(|row| row["id"].to_string()).collect();
    assert_eq!(ids.len(), 4, "{rows:#?}");
    stack.shutdown().await;
}

#[tokio::test]
async fn a_disk_that_takes_nothing_loses_no_record_or_stops_the_request() {
    let mut stack = Stack::without_nodes(None, Vec::new()).await;
    for (index, unwritten) in ["serve", "refuse"].into_iter().enumerate() {
        let name = format!("node-{index}");
        // Where the spool would be there is something else: every write to it fails, as on a full disk.
        std::fs::create_dir(stack.folder().join(&name)).unwrap();
        std::fs::write(stack.folder().join(&name).join("usage"), "").unwrap();
        stack.add_node(&name, &[("usage.unwritten", unwritten), ("admin.listen", "127.0.0.1:0")]).await;
    }
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let (provider, key) = a_provider(&stack, "openai", &upstream, json!({})).await;
    stack.stop_control_plane().await;
    let chat = provider.chat(false).key(&key.secret);
    for _ in 0..3 {
        assert_eq!(stack.client_of(0).send(&chat).await.status(), 200, "it is served and counted");
        let refused = stack.client_of(1).send(&chat).await;
        assert_eq!(refused.status(), 503, "{}", refused.text());
        assert!(refused.text().contains("not_recordable"), "{}", refused.text());
    }
    assert_eq!(upstream.seen().len(), 3, "nothing is sent that could be forgotten");
    assert_eq!(stack.metric(0, "lockgate_usage_unwritten_total").await, 3);
    stack.start_control_plane().await;
    let rows = stack.usage_rows(6).await;
    assert_eq!(rows.iter().filter(|row| row["outcome"] == "answered").count(), 3, "{rows:#?}");
    assert_eq!(rows.iter().filter(|row| row["refusal"] == "not_recordable").count(), 3, "{rows:#?}");
    for index in 0..2 {
        assert_eq!(stack.metric(index, "lockgate_usage_records_lost_total").await, 0);
        assert_eq!(stack.metric(index, "lockgate_usage_drift").await, 0);
    }
    let audit = stack.rest().get("/usage/audit").await.expect(200);
    assert_eq!(audit["balanced"], json!(true), "{audit:#}");
    stack.shutdown().await;
}

#[tokio::test]
async fn a_keys_last_use_is_told() {
    let stack = Stack::sqlite().await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let (provider, key) = a_provider(&stack, "openai", &upstream, json!({})).await;
    let before = stack.rest().get(&format!("/api-keys/{}", key.id)).await.expect(200);
    assert_eq!(before["lastUsedAt"], Value::Null);
    stack.send(&provider.chat(false).key(&key.secret)).await;
    eventually("the use to be told", async || {
        let read = stack.rest().get(&format!("/api-keys/{}", key.id)).await.expect(200);
        if read["lastUsedAt"].is_string() { Ok(()) } else { Err(read) }
    })
    .await;
    stack.shutdown().await;
}
