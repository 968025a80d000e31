//! The ledger: cost, what is unpriced, late and early records, sums over any time, what is over.

use std::collections::BTreeMap;

use control_plane::model::usage::{Batch, Kept, Outcome, Record, Retention};
use control_plane::store::engine::Engine;
use control_plane::store::usage::{Ingested, Keep, ingest};
use control_plane::store::{Store, microseconds, now, period};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{On, Plane};
use crate::on_both_engines;
use crate::steps::{default_gateway, provider};

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;

fn record(started_at_us: i64, model: &str, cost_nanos: Option<i64>) -> Record {
    Record {
        id: Uuid::now_v7(),
        started_at_us,
        endpoint_id: Uuid::from_u128(1),
        provider_id: Some(Uuid::from_u128(1)),
        api_key_id: Uuid::from_u128(2),
        admitted: true,
        outcome: Outcome::Answered,
        refusal: None,
        status: Some(200),
        upstream_status: Some(200),
        requested_model: Some(model.to_owned()),
        served_model: None,
        input_tokens: Some(10),
        output_tokens: Some(5),
        cached_input_tokens: Some(4),
        cache_write_tokens: None,
        reasoning_tokens: None,
        input_audio_tokens: None,
        output_audio_tokens: None,
        estimated: false,
        finish_reason: None,
        tool_calls: None,
        error_type: None,
        duration_us: 2_000,
        first_byte_us: Some(1_000),
        first_token_us: None,
        streamed: false,
        request_bytes: 1,
        response_bytes: 1,
        method: "POST".to_owned(),
        path: "/v1/chat/completions".to_owned(),
        revision: 1,
        cost_nanos,
        price_version: cost_nanos.map(|_| "v@1".to_owned()),
        unpriced: false,
        denial: None,
        attempts: Vec::new(),
        unsettled: false,
    }
}

fn keep(retention: Retention, logged: usize) -> Keep {
    Keep { retention, now_us: microseconds(now()), logged }
}

async fn batch(store: &Store, seq: i64, records: Vec<Record>) -> Batch {
    let gateway_id = default_gateway(store).await;
    let (organization_id, node) = (store.first_organization(), "node".to_owned());
    Batch { organization_id, gateway_id, node, boot: Uuid::from_u128(9), seq, records, unreadable: 0, books: None }
}

async fn execute(store: &Store, sql: &'static str) {
    match store.engine() {
        Engine::Postgres(pool) => sqlx::query(sql).execute(pool).await.map(|_| ()).unwrap(),
        Engine::Sqlite { pool, .. } => sqlx::query(sql).execute(pool).await.map(|_| ()).unwrap(),
    }
}

on_both_engines! {
    async fn free_unpriced_and_unknown_are_counted_apart(plane: Plane) {
        let (admin, store) = (plane.admin().await, plane.store().await);
        let at = microseconds(now());
        let unpriced = Record { unpriced: true, ..record(at, "m", None) };
        let unknown = Record { input_tokens: None, ..record(at, "m", None) };
        let records = vec![record(at, "m", Some(42_000)), record(at, "m", Some(0)), unpriced, unknown];
        ingest(&store, &batch(&store, 1, records).await, &keep(Retention::default(), 4)).await.unwrap();
        let usage = admin.get("/usage?groupBy=model,outcome").await.expect(200).body;
        let row = &usage["data"][0];
        assert_eq!((&row["requests"], &row["costNanos"], &row["cost"]), (&json!(4), &json!(42_000), &json!("0.000042")));
        assert_eq!((&row["unpricedRequests"], &row["unknownCostRequests"]), (&json!(1), &json!(1)), "{row:#}");
        assert_eq!((&row["cachedInputTokens"], &row["averageDurationMs"]), (&json!(16), &json!(2)));
        assert_eq!(usage["totals"]["costNanos"], 42_000);
        let csv = admin.get("/usage?groupBy=model&format=csv").await.expect(200);
        assert_eq!(csv.headers["content-type"], "text/csv; charset=utf-8");
        let lines: Vec<&str> = csv.text.lines().collect();
        assert!(lines[0].starts_with("model,requests,") && lines[1].ends_with(",42000,0.000042"), "{}", csv.text);
        let dear = admin.get("/requests?minCostNanos=1&status=200&model=m").await.expect(200).body;
        assert_eq!(dear["data"].as_array().unwrap().len(), 1, "{dear:#}");
        assert_eq!((&dear["data"][0]["cost"], &dear["data"][0]["priceVersion"]), (&json!("0.000042"), &json!("v@1")));
    }

    async fn what_is_late_is_counted_while_any_sum_is_kept_and_what_is_early_when_it_came(plane: Plane) {
        let (admin, store) = (plane.admin().await, plane.store().await);
        let at = microseconds(now());
        let retention = Retention { requests: 2, minutes: 2, hours: 40, days: 4_000 };
        let hour_ahead = record(at + 3_600_000_000, "ahead", Some(1));
        let far_ahead = record(at + 900 * DAY_US, "far", Some(1));
        let late = record(at - 10 * DAY_US, "late", Some(1));
        let records = vec![hour_ahead, far_ahead, late];
        ingest(&store, &batch(&store, 1, records).await, &keep(retention, 3)).await.unwrap();
        let from = (now() - time::Duration::days(20)).format(&time::format_description::well_known::Rfc3339).unwrap();
        let to = (now() + time::Duration::days(2)).format(&time::format_description::well_known::Rfc3339).unwrap();
        for interval in ["none", "day", "hour"] {
            let path = format!("/usage?from={from}&to={to}&interval={interval}&groupBy=model");
            let usage = admin.get(&path).await.expect(200).body;
            assert_eq!(usage["totals"]["requests"], 3, "{interval}: {usage:#}");
        }
        let log = admin.get("/requests").await.expect(200).body;
        let mut models: Vec<&str> =
            log["data"].as_array().unwrap().iter().map(|row| row["requestedModel"].as_str().unwrap()).collect();
        models.sort_unstable();
        assert_eq!(models, ["ahead", "far"], "the late one's day is over");
    }

    async fn what_is_over_is_dropped_by_whole_periods(plane: Plane) {
        let (admin, store) = (plane.admin().await, plane.store().await);
        let at = microseconds(now());
        let records = vec![record(at, "new", None), record(at - 5 * DAY_US, "old", None)];
        ingest(&store, &batch(&store, 1, records).await, &keep(Retention::default(), 2)).await.unwrap();
        assert_eq!(admin.get("/requests").await.expect(200).body["data"].as_array().unwrap().len(), 2);
        for kept in [Kept::Requests, Kept::Minutes] {
            assert_eq!(period::drop_before(&store, kept, at - 3 * DAY_US).await.unwrap(), 1, "{kept:?}");
            assert_eq!(period::drop_before(&store, kept, at - 3 * DAY_US).await.unwrap(), 0, "{kept:?}");
        }
        let log = admin.get("/requests").await.expect(200).body;
        assert_eq!((log["data"].as_array().unwrap().len(), &log["data"][0]["requestedModel"]), (1, &json!("new")));
        // The day that was dropped can begin again.
        let again = batch(&store, 2, vec![record(at - 5 * DAY_US, "again", None)]).await;
        ingest(&store, &again, &keep(Retention::default(), 1)).await.unwrap();
        assert_eq!(admin.get("/requests").await.expect(200).body["data"].as_array().unwrap().len(), 2);
    }

    async fn what_is_asked_of_all_together_is_what_the_parts_add_up_to(plane: Plane) {
        let (admin, store) = (plane.admin().await, plane.store().await);
        let at = microseconds(now());
        let refused = Record { outcome: Outcome::Refused, ..record(at, "", None) };
        let long_ago = record(at - 6 * DAY_US, "b", Some(3));
        let mut records: Vec<Record> = (0..5).map(|hours| record(at - hours * HOUR_US, "a", Some(hours))).collect();
        records.extend([record(at, "b", Some(7)), refused, long_ago]);
        ingest(&store, &batch(&store, 1, records).await, &keep(Retention::default(), 8)).await.unwrap();
        let from = (now() - time::Duration::days(9)).format(&time::format_description::well_known::Rfc3339).unwrap();
        let figures = |usage: &Value| {
            let mut rows: Vec<Value> = usage["data"].as_array().unwrap().clone();
            for row in &mut rows {
                row.as_object_mut().unwrap().remove("key");
            }
            (rows, usage["totals"].clone())
        };
        for more in ["", "&model=b", "&outcome=refused", "&interval=hour", "&interval=day&groupBy=model"] {
            // All of it is one key's, so that grouping by it changes where the rows come from and nothing else.
            let joined = if more.contains("groupBy") { format!("{more},key") } else { format!("{more}&groupBy=key") };
            let [whole, parts] = [more, joined.as_str()].map(|query| format!("/usage?from={from}{query}"));
            let whole = admin.get(&whole).await.expect(200).body;
            assert_eq!(figures(&whole), figures(&admin.get(&parts).await.expect(200).body), "{more}");
            assert_ne!(whole["totals"]["requests"], 0, "{more}");
        }
        assert_eq!(period::drop_before(&store, Kept::Minutes, at - 3 * DAY_US).await.unwrap(), 1);
        let usage = admin.get(&format!("/usage?from={from}")).await.expect(200).body;
        assert_eq!(usage["totals"]["requests"], 8, "the hours and days of it are still there");
    }

    async fn usage_is_summed_by_what_is_said_of_keys(plane: Plane) {
        let (admin, store) = (plane.admin().await, plane.store().await);
        admin.post("/llm-providers", &provider("openai")).await.expect(201);
        let key = |labels: Value| json!({"name": "ci", "endpoints": ["openai"], "labels": labels});
        let made = admin.post("/api-keys", &key(json!({"team": "search", "env": "test"}))).await.expect(201).body;
        assert_eq!(made["labels"], json!({"env": "test", "team": "search"}));
        let id: control_plane::model::id::ApiKeyId = made["id"].as_str().unwrap().parse().unwrap();
        let own = Record { api_key_id: id.0, ..record(microseconds(now()), "m", Some(5)) };
        let other = record(microseconds(now()), "m", Some(1));
        ingest(&store, &batch(&store, 1, vec![own, other]).await, &keep(Retention::default(), 2)).await.unwrap();
        let sums = async |label: &str| {
            let usage = admin.get(&format!("/usage?groupBy=label:{label}")).await.expect(200).body;
            let row = |row: &Value| (row["label"].as_str().map(str::to_owned), row["costNanos"].as_i64().unwrap());
            usage["data"].as_array().unwrap().iter().map(row).collect::<BTreeMap<_, _>>()
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(sums("team").await, BTreeMap::from([(text("search"), 5), (None, 1)]));
        // What is said later is said of what was used before, too.
        let changed = admin.with("if-match", "*").put("/api-keys/ci", &key(json!({"team": "ads"}))).await.expect(200);
        assert_eq!(changed.body["labels"], json!({"team": "ads"}));
        assert_eq!(sums("team").await, BTreeMap::from([(text("ads"), 5), (None, 1)]));
        assert_eq!(sums("env").await, BTreeMap::from([(None, 6)]));
        let wrong = admin.with("if-match", "*").put("/api-keys/ci", &key(json!({"Team": "a", "x": ""}))).await;
        assert_eq!(wrong.expect(422).errors(), [("/labels/Team", "invalid"), ("/labels/x", "invalid")]);
        assert_eq!(admin.get("/api-keys/ci").await.expect(200).body["labels"], json!({"team": "ads"}));
        // Its usage outlives it, and so does what was said of it.
        admin.with("if-match", "*").delete("/api-keys/ci").await.expect(204);
        assert_eq!(sums("team").await, BTreeMap::from([(text("ads"), 5), (None, 1)]));
    }

    async fn a_sampled_log_leaves_the_sums_whole(plane: Plane) {
        let (admin, store) = (plane.admin().await, plane.store().await);
        let at = microseconds(now());
        let records: Vec<Record> = (0..200).map(|_| record(at, "m", Some(1))).collect();
        let batch = batch(&store, 1, records).await;
        let first = ingest(&store, &batch, &keep(Retention::default(), 10)).await.unwrap();
        assert_eq!(first, Ingested::New { missing: 0 });
        assert_eq!(ingest(&store, &batch, &keep(Retention::default(), 10)).await.unwrap(), Ingested::Before);
        assert_eq!(admin.get("/usage").await.expect(200).body["totals"]["costNanos"], 200);
        assert_eq!(admin.get("/requests?limit=500").await.expect(200).body["data"].as_array().unwrap().len(), 10);
        let audit = admin.get("/usage/audit").await.expect(200).body;
        assert_eq!((&audit["balanced"], &audit["unlogged"]), (&json!(true), &json!(190)), "{audit:#}");
    }

    async fn an_audit_balances_over_what_was_dropped_and_what_came_late(plane: Plane) {
        let (admin, store) = (plane.admin().await, plane.store().await);
        let at = microseconds(now());
        let records = vec![record(at, "new", None), record(at - 5 * DAY_US, "old", None)];
        ingest(&store, &batch(&store, 1, records).await, &keep(Retention::default(), 2)).await.unwrap();
        let late = Retention { requests: 3, ..Retention::default() };
        ingest(&store, &batch(&store, 2, vec![record(at - 5 * DAY_US, "late", None)]).await, &keep(late, 1)).await.unwrap();
        let from = (now() - time::Duration::days(8)).format(&time::format_description::well_known::Rfc3339).unwrap();
        let audit = async || admin.get(&format!("/usage/audit?from={from}")).await.expect(200).body;
        let before = audit().await;
        assert_eq!((&before["balanced"], &before["unlogged"]), (&json!(true), &json!(1)), "{before:#}");
        assert_eq!(before["sums"][6]["counted"], 3, "{before:#}");
        for (kept, counted) in [(Kept::Requests, 3), (Kept::Minutes, 1)] {
            assert_eq!(period::drop_before(&store, kept, at - 3 * DAY_US).await.unwrap(), 1, "{kept:?}");
            let after = audit().await;
            assert_eq!((&after["balanced"], &after["sums"][0]["counted"]), (&json!(true), &json!(counted)), "{after:#}");
            assert_eq!(after["sums"][6]["counted"], 1, "{after:#}");
        }
    }

    async fn a_sum_that_was_tampered_with_is_found(plane: Plane) {
        let (admin, store) = (plane.admin().await, plane.store().await);
        let records = (0..3).map(|_| record(microseconds(now()), "m", Some(7))).collect();
        ingest(&store, &batch(&store, 1, records).await, &keep(Retention::default(), 3)).await.unwrap();
        let audit = async || admin.get("/usage/audit").await.expect(200).body;
        assert_eq!(audit().await["balanced"], json!(true));
        let faults = [
            ("UPDATE usage_rollup SET requests = requests + 1 WHERE grain = 'hour'", [0, 6]),
            ("UPDATE usage_rollup SET requests = requests - 1 WHERE grain = 'hour'", [99, 99]),
            ("UPDATE usage_rollup SET input_tokens = input_tokens - 1 WHERE grain = 'minute'", [1, 1]),
            ("UPDATE usage_rollup SET input_tokens = input_tokens + 1 WHERE grain = 'minute'", [99, 99]),
            ("UPDATE usage_total SET output_tokens = output_tokens + 1 WHERE grain = 'hour'", [5, 5]),
            ("UPDATE usage_total SET output_tokens = output_tokens - 1 WHERE grain = 'hour'", [99, 99]),
            ("UPDATE usage_record SET output_tokens = 4", [8, 8]),
        ];
        for (fault, found) in faults {
            execute(&store, fault).await;
            let audit = audit().await;
            let sums = audit["sums"].as_array().unwrap().iter().enumerate();
            let wrong: Vec<usize> =
                sums.filter(|(_, sum)| sum["counted"] != sum["expected"]).map(|(index, _)| index).collect();
            let expected: Vec<usize> = found.into_iter().filter(|index| *index < 9).collect();
            assert!(expected.iter().all(|index| wrong.contains(index)), "{fault}: {audit:#}");
            assert_eq!(audit["balanced"], json!(expected.is_empty()), "{fault}: {audit:#}");
        }
    }
}
