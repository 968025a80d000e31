//! The ledger against what really happened: nodes that are killed, requests whose end nobody knows, and the audit that
//! says whether all of it balances.

use serde_json::{Value, json};
use tests::{Answer, Gate, Rest, Stack, Upstream, Vendor, client::Call, eventually, postgres};

use crate::processes::{self, Deployment};

async fn rows(rest: &Rest, count: usize) -> Vec<Value> {
    eventually("one row per request", async || {
        let listed = rest.get("/requests?limit=200").await.expect(200);
        let rows = listed["data"].as_array().cloned().unwrap_or_default();
        assert!(rows.len() <= count, "{} rows for {count} requests: {rows:#?}", rows.len());
        if rows.len() == count { Ok(rows) } else { Err(format!("{} of {count}", rows.len())) }
    })
    .await
}

#[tokio::test]
async fn a_killed_node_reports_every_request_that_it_left_open() {
    for database_url in [None, Some(postgres::database())] {
        let deployment = Deployment::new(database_url);
        let upstream = Upstream::start(Vendor::OpenAi).await;
        let _control_plane = deployment.control_plane().await;
        let rest = deployment.first_owner().await;
        let mut node = deployment.node();
        node.ready(deployment.admin, "/readyz").await;
        let key = processes::a_provider(&rest, &upstream).await;
        let client = tests::Client::new(&deployment.gateway.to_string());
        let chat = |streamed| Call::post("/openai/v1/chat/completions", &Vendor::OpenAi.chat_body(streamed)).key(&key);
        processes::answers(deployment.gateway, &key).await;
        let settled = rows(&rest, 1).await[0]["id"].clone();

        // Three are in the middle of their answers, one has not got any, and none is let go before the kill.
        let gate = Gate::new();
        let mut open = Vec::new();
        for _ in 0..3 {
            upstream.next(Answer::stream().piece("data: 1\n\n").wait(&gate).piece("data: 2\n\n"));
            let mut exchange = client.begin(&chat(true)).await.unwrap();
            exchange.until("data: 1\n\n").await;
            open.push(exchange);
        }
        upstream.next(Answer::silence());
        let before = upstream.seen().len();
        let silent = client.begin(&chat(false)).await.unwrap();
        eventually("the vendor to have the request", async || {
            let seen = upstream.seen().len();
            if seen > before { Ok(()) } else { Err(seen) }
        })
        .await;
        node.kill();
        drop((open, silent));

        let mut node = deployment.node();
        node.ready(deployment.admin, "/readyz").await;
        let rows = rows(&rest, 5).await;
        let (unsettled, others): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row["unsettled"] == json!(true));
        assert_eq!((unsettled.len(), others.len()), (4, 1), "{rows:#?}");
        assert_eq!(others[0]["id"], settled);
        for row in unsettled {
            let known = [("endpoint", "openai"), ("provider", "openai"), ("key", "ci"), ("outcome", "drained")];
            for (member, value) in known {
                assert_eq!(row[member], value, "{row:#}");
            }
            assert_eq!((&row["path"], &row["method"]), (&json!("/v1/chat/completions"), &json!("POST")), "{row:#}");
            assert!(row["inputTokens"].is_null() && row["status"].is_null(), "nothing is invented: {row:#}");
            let id = row["id"].as_str().unwrap();
            let trace = rest.get(&format!("/requests/{id}")).await.expect(200);
            assert!(trace["explanation"].as_str().unwrap().contains("nobody knows"), "{trace:#}");
        }

        // What the node says of itself and what the ledger has are the same.
        processes::answers(deployment.gateway, &key).await;
        let metrics = tests::Client::new(&deployment.admin.to_string());
        eventually("the node's books to be settled", async || {
            let page = metrics.send(&Call::get("/metrics")).await.text();
            let wanted = [
                "lockgate_usage_started_total 5",
                "lockgate_usage_settled_total 1",
                "lockgate_usage_unsettled_total 4",
                "lockgate_usage_in_flight 0",
                "lockgate_usage_drift 0",
            ];
            if wanted.iter().all(|line| page.lines().any(|found| found == *line)) { Ok(()) } else { Err(page) }
        })
        .await;
        self::rows(&rest, 6).await;
        let page = metrics.send(&Call::get("/metrics")).await.text();
        let tokens = |class: &str, count: u64| {
            let mut lines = page.lines().filter(|line| line.starts_with("lockgate_tokens_total{endpoint=\"openai\""));
            let line = lines.find(|line| line.contains(&format!("class=\"{class}\"")));
            assert!(line.is_some_and(|line| line.ends_with(&format!(" {count}"))), "{class}: {page}");
        };
        tokens("input", Vendor::INPUT_TOKENS);
        tokens("output", Vendor::OUTPUT_TOKENS);
        let dashboard = include_str!("../../docs/grafana/data-plane.json");
        let named = dashboard.split(|letter: char| !letter.is_ascii_lowercase() && letter != '_');
        for name in named.filter(|name| name.starts_with("lockgate_")) {
            let family = name.strip_suffix("_bucket").unwrap_or(name);
            assert!(page.contains(&format!("# TYPE {family} ")), "the dashboard names {name}, which is on no page");
        }
        let audit = rest.get("/usage/audit").await.expect(200);
        assert_eq!(audit["balanced"], json!(true), "{audit:#}");
        assert_eq!(audit["unsettled"], 4, "{audit:#}");
        let boots = audit["boots"].as_array().unwrap();
        assert_eq!(boots.iter().map(|boot| boot["records"].as_i64().unwrap()).sum::<i64>(), 6, "{audit:#}");
    }
}

#[tokio::test]
async fn a_request_is_explained_by_the_id_that_its_client_saw() {
    for stack in Stack::on_both_engines().await {
        let upstream = Upstream::start(Vendor::OpenAi).await;
        let provider = stack.provider("openai", &upstream).await;
        let other = stack.provider("other", &upstream).await;
        let key = stack.key("ci", &[&provider]).await;
        let answered = stack.send(&provider.chat(false).key(&key.secret)).await;
        let refused = stack.send(&other.chat(false).key(&key.secret)).await;
        assert_eq!((answered.status(), refused.status()), (200, 403));
        let rows = stack.usage_rows(2).await;
        let explain = async |id: &str| stack.rest().get(&format!("/requests/{id}")).await.expect(200);

        let id = answered.header("x-lockgate-request-id").unwrap().to_owned();
        let trace = explain(&id).await;
        let row = rows.iter().find(|row| row["id"] == id.as_str()).unwrap();
        for (member, value) in row.as_object().unwrap() {
            assert_eq!(&trace[member], value, "what the list has is in the trace: {member}");
        }
        assert_eq!((&trace["admitted"], &trace["upstreamStatus"]), (&json!(true), &json!(200)));
        let attempts = trace["attempts"].as_array().unwrap();
        assert_eq!(
            (attempts.len(), &attempts[0]["provider"], &attempts[0]["status"]),
            (1, &json!("openai"), &json!(200))
        );
        assert!(trace["revision"].as_i64().unwrap() > 0 && trace["responseBytes"].as_i64().unwrap() > 0, "{trace:#}");

        // On what Lockgate answers by itself, vendors' SDKs show this header.
        let id = refused.header("x-request-id").unwrap().to_owned();
        let trace = explain(&id).await;
        assert_eq!((&trace["admitted"], &trace["refusal"]), (&json!(false), &json!("key_out_of_scope")), "{trace:#}");
        assert!(trace["explanation"].as_str().unwrap().contains("key_out_of_scope"), "{trace:#}");
        assert_eq!(trace["attempts"], json!([]));

        for unknown in ["req_00000000000000000000000000", "prv_00000000000000000000000000", "nothing"] {
            let told = stack.rest().get(&format!("/requests/{unknown}")).await;
            assert_eq!(told.check(404).code(), "not_found", "{unknown}");
        }
        stack.shutdown().await;
    }
}

#[tokio::test]
async fn the_trace_tells_every_attempt_and_the_rule_that_refused() {
    for stack in Stack::on_both_engines().await {
        let (a, b) = (Upstream::start(Vendor::OpenAi).await, Upstream::start(Vendor::OpenAi).await);
        stack.provider("aa", &a).await;
        let forbids = json!({"accessControl": {"exceptions": [{"path": "/v1/files/*", "methods": ["GET"]}]}});
        let guarded = stack.provider_with("bb", &b, forbids).await;
        let targets = json!({"targets": [{"provider": "aa"}, {"provider": "bb", "priority": 1}]});
        let proxy = stack.proxy_with("both", Vendor::OpenAi, targets).await;
        let limited = json!({
            "name": "ci", "endpoints": ["both", "bb"],
            "limits": [{"name": "hourly", "metric": "requests", "limit": 2, "window": "1h"}],
        });
        let made = stack.rest().post("/api-keys", &limited).await.expect(201);
        stack.settle().await;
        let key = made["key"].as_str().unwrap();
        a.next(Vendor::OpenAi.error(503, "not now"));
        let answered = stack.send(&proxy.chat(false).key(key)).await;
        let forbidden = stack.send(&guarded.call("GET", "/v1/files/abc").key(key)).await;
        let last = stack.send(&proxy.chat(false).key(key)).await;
        let exceeded = stack.send(&proxy.chat(false).key(key)).await;
        assert_eq!([&answered, &forbidden, &last, &exceeded].map(tests::client::Reply::status), [200, 403, 200, 429]);
        stack.usage_rows(4).await;
        let explain = async |reply: &tests::client::Reply| {
            let id = reply.header("x-lockgate-request-id").unwrap();
            stack.rest().get(&format!("/requests/{id}")).await.expect(200)
        };

        let trace = explain(&answered).await;
        let attempts = trace["attempts"].as_array().unwrap();
        let told: Vec<_> = attempts.iter().map(|attempt| (&attempt["provider"], &attempt["status"])).collect();
        assert_eq!(told, [(&json!("aa"), &json!(503)), (&json!("bb"), &json!(200))], "{trace:#}");
        assert!(trace["explanation"].as_str().unwrap().contains("2 attempts"), "{trace:#}");

        let trace = explain(&forbidden).await;
        let rule = "accessControl of llm-provider bb (GET /v1/files/*)";
        assert_eq!(trace["denial"], json!({"rule": rule}), "{trace:#}");

        let trace = explain(&exceeded).await;
        let denial = &trace["denial"];
        assert_eq!(denial["rule"], "limit hourly of api-key", "{trace:#}");
        assert_eq!((&denial["measured"], &denial["allowed"]), (&json!(2), &json!(2)), "{trace:#}");
        assert!(denial["freesAt"].is_string() && denial["window"].is_string(), "{trace:#}");
        stack.shutdown().await;
    }
}
