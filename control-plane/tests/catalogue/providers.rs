//! Providers: what is accepted, what is refused and how it is told, and where the credential goes.

use serde_json::{Value, json};

use crate::harness::{On, Plane};
use crate::on_both_engines;
use crate::steps::{CANARY, head, provider};

on_both_engines! {
    async fn a_provider_is_made_read_by_name_and_id_and_listed(plane: Plane) {
        let admin = plane.admin().await;
        let made = admin.post("/llm-providers", &provider("openai-prod")).await.expect(201);
        let revision = made.body["revision"].as_i64().unwrap();
        assert_eq!(made.tag(), format!("\"{revision}\""));
        assert_eq!(made.headers["x-lockgate-revision"], revision.to_string());
        assert_eq!(made.headers["location"], format!("/api/v1/llm-providers/{}", made.id()));
        let credential = &made.body["upstream"]["credential"];
        assert!(credential["secret"].as_str().unwrap().starts_with("sec_"));
        assert_eq!(credential["last4"], CANARY[CANARY.len() - 4..]);
        assert_eq!(made.body["security"]["apiKey"]["locations"][0]["name"], "X-API-Key");
        assert_eq!(made.body["timeouts"], json!({ "connect": "5s", "firstByte": "600s", "idle": "300s" }));
        assert_eq!((&made.body["pendingChanges"], &made.body["invokeUrls"]), (&json!(false), &json!([])));

        let by_name = admin.get("/llm-providers/openai-prod").await.expect(200);
        let by_id = admin.get(&format!("/llm-providers/{}", made.id())).await.expect(200);
        assert_eq!(by_name.body, made.body);
        assert_eq!(by_id.body, made.body);
        for name in ["a-first", "z-last"] {
            admin.post("/llm-providers", &provider(name)).await.expect(201);
        }
        let first = admin.get("/llm-providers?limit=2").await.expect(200);
        let cursor = first.body["nextCursor"].as_str().unwrap();
        let second = admin.get(&format!("/llm-providers?limit=2&cursor={cursor}")).await.expect(200);
        let names = |page: &Value| -> Vec<String> {
            page["data"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(&first.body), ["a-first", "openai-prod"]);
        assert_eq!(names(&second.body), ["z-last"]);
        assert_eq!(names(&admin.get("/llm-providers?q=LAST").await.body), ["z-last"]);
        assert_eq!(names(&admin.get("/llm-providers?q=%25").await.body), [""; 0]);
        admin.get("/llm-providers/nobody").await.expect(404);
        admin.get("/llm-providers/%00").await.expect(404);
    }

    async fn an_unknown_field_is_refused_with_its_place_and_the_nearest_name(plane: Plane) {
        let admin = plane.admin().await;
        let mut wrong = provider("openai-prod");
        wrong["upstream"]["credentail"] = json!({});
        let answer = admin.post("/llm-providers", &wrong).await.expect(422);
        assert_eq!(answer.errors(), [("/upstream/credentail", "unknown_field")]);
        assert_eq!(answer.body["errors"][0]["suggestion"], "credential");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(answer.body["requestId"], answer.headers["x-request-id"].to_str().unwrap());

        let mut wrong = provider("openai-prod");
        wrong["template"] = json!("opnai");
        let answer = admin.post("/llm-providers", &wrong).await.expect(422);
        assert_eq!(answer.errors(), [("/template", "not_found")]);
        assert_eq!(answer.body["errors"][0]["suggestion"], "openai");

        let answer = admin.post("/llm-providers", &json!({ "name": "No", "template": "openai" })).await.expect(422);
        assert_eq!(answer.errors(), [("/name", "invalid"), ("/context", "required")]);
    }

    async fn what_nothing_enforces_is_not_supported(plane: Plane) {
        let admin = plane.admin().await;
        let mut wanted = provider("openai-prod");
        wanted["policies"] = json!([{ "policy": "x" }]);
        let answer = admin.post("/llm-providers", &wanted).await.expect(422);
        assert_eq!(answer.code(), "not_supported");
        assert_eq!(answer.errors(), [("/policies", "not_supported")]);
    }

    async fn names_are_one_namespace_and_contexts_never_overlap(plane: Plane) {
        let admin = plane.admin().await;
        let before = head(&plane.store().await).await;
        admin.post("/llm-providers", &provider("openai-prod")).await.expect(201);
        let proxy = |name: &str, context: &str| json!({ "name": name, "context": context, "provider": "openai-prod" });
        let taken = admin.post("/llm-proxies", &proxy("openai-prod", "/other")).await.expect(409);
        assert_eq!(taken.code(), "name_taken");
        assert!(taken.detail().contains("llm provider `openai-prod`"), "{}", taken.detail());
        for context in ["/openai-prod", "/openai-prod/deeper"] {
            let taken = admin.post("/llm-proxies", &proxy("assistant", context)).await.expect(409);
            assert_eq!(taken.code(), "context_taken");
            assert!(taken.detail().contains("`openai-prod`"), "{}", taken.detail());
        }
        admin.post("/llm-proxies", &proxy("assistant", "/openai-prod2")).await.expect(201);
        assert_eq!(head(&plane.store().await).await, before + 2, "what failed changed nothing");
    }

    async fn a_change_must_be_based_on_what_is_there(plane: Plane) {
        let admin = plane.admin().await;
        let made = admin.post("/llm-providers", &provider("openai-prod")).await.expect(201);
        let path = "/llm-providers/openai-prod";
        let mut draft = made.body.clone();
        draft["description"] = json!("changed");
        assert_eq!(admin.put(path, &draft).await.expect(428).code(), "revision_required");
        assert_eq!(admin.with("if-match", "\"1\"").put(path, &draft).await.expect(412).code(), "revision_mismatch");
        // What was read may be sent back, read-only members and all.
        let changed = admin.with("if-match", &made.tag()).put(path, &draft).await.expect(200);
        assert_eq!(changed.body["description"], "changed");
        assert_eq!(changed.body["upstream"], made.body["upstream"]);
        admin.with("if-match", &made.tag()).put(path, &draft).await.expect(412);
        draft["revision"] = json!(1);
        draft["createdAt"] = json!("2020-01-01T00:00:00Z");
        draft["updatedAt"] = changed.body["updatedAt"].clone();
        // What changes by itself is not held against anyone.
        draft["pendingChanges"] = json!(true);
        let refused = admin.with("if-match", &changed.tag()).put(path, &draft).await.expect(422);
        let mut errors = refused.errors();
        errors.sort_unstable();
        assert_eq!(errors, [("/createdAt", "read_only"), ("/revision", "read_only")]);
        assert_eq!(admin.get(path).await.body, changed.body);
        admin.delete(path).await.expect(428);
        admin.with("if-match", &made.tag()).delete(path).await.expect(412);
        admin.with("if-match", "*").delete(path).await.expect(204);
        admin.get(path).await.expect(404);
    }

    async fn another_host_needs_the_credential_again(plane: Plane) {
        let admin = plane.admin().await.with("if-match", "*");
        let made = admin.post("/llm-providers", &provider("openai-prod")).await.expect(201);
        let path = "/llm-providers/openai-prod";
        let mut draft = made.body.clone();
        draft["upstream"]["url"] = json!("https://evil.example.com");
        draft["revision"] = made.body["revision"].clone();
        let refused = admin.put(path, &draft).await.expect(422);
        assert_eq!(refused.errors(), [("/upstream/credential/value", "required")]);
        // The same host under another path is the same host.
        draft["upstream"]["url"] = json!("https://api.openai.com/eu/v1");
        let moved = admin.put(path, &draft).await.expect(200);
        assert_eq!(moved.body["upstream"]["url"], "https://api.openai.com/eu");
        assert_eq!(moved.body["warnings"][0]["code"], "url_normalised");
        // A new value for the same host is the next version of the same secret; for another host it is another secret.
        let secret = made.body["upstream"]["credential"]["secret"].as_str().unwrap().to_owned();
        let mut draft = provider("openai-prod");
        draft["upstream"]["credential"] = json!({ "value": "sk-canary-second-0123" });
        let renewed = admin.put(path, &draft).await.expect(200);
        assert_eq!(renewed.body["upstream"]["credential"], json!({ "secret": secret, "last4": "0123" }));
        let versions = admin.get(&format!("/secrets/{secret}")).await.expect(200);
        assert_eq!((&versions.body["version"], &versions.body["usedBy"]), (&json!(2), &json!(["openai-prod"])));
        draft["upstream"]["url"] = json!("https://llm.example.com");
        let elsewhere = admin.put(path, &draft).await.expect(200);
        assert_ne!(elsewhere.body["upstream"]["credential"]["secret"], secret.as_str());
    }

    async fn a_credential_stays_with_the_provider_it_was_entered_for(plane: Plane) {
        let admin = plane.admin().await.with("if-match", "*");
        let made = admin.post("/llm-providers", &provider("openai-prod")).await.expect(201);
        let secret = made.body["upstream"]["credential"]["secret"].clone();
        let refused = [("/upstream/credential/secret", "invalid")];
        let mut other = provider("other");
        other["upstream"] = json!({ "url": "https://evil.example.com", "credential": { "secret": secret } });
        assert_eq!(admin.post("/llm-providers", &other).await.expect(422).errors(), refused);
        // Nor by way of a draft that lets go of it first.
        let path = "/llm-providers/openai-prod";
        let mut draft = provider("openai-prod");
        draft["upstream"] = json!({ "url": "https://evil.example.com" });
        admin.put(path, &draft).await.expect(200);
        draft["upstream"]["credential"] = json!({ "secret": secret });
        assert_eq!(admin.put(path, &draft).await.expect(422).errors(), refused);
    }

    async fn no_answer_and_no_row_holds_a_credential(plane: Plane) {
        let admin = plane.admin().await;
        let made = admin.post("/llm-providers", &provider("openai-prod")).await.expect(201);
        let own = admin.post("/secrets", &json!({ "name": "shared", "value": CANARY })).await.expect(201);
        let mut texts = vec![made.text, own.text];
        for path in ["/llm-providers", "/llm-providers/openai-prod", "/secrets", "/secrets/shared", "/audit"] {
            texts.push(admin.get(path).await.expect(200).text);
        }
        for text in texts {
            assert!(!text.contains(CANARY), "{text}");
        }
        let catalog = {
            crate::steps::deploy(&admin, "openai-prod").await.expect(202);
            crate::steps::catalog(&plane).await
        };
        let sealed = &catalog.secrets[0].sealed;
        assert!(!sealed.windows(8).any(|window| CANARY.as_bytes().windows(8).any(|part| part == window)));
    }

    async fn a_secret_in_use_stays_and_an_unused_one_goes(plane: Plane) {
        let admin = plane.admin().await.with("if-match", "*");
        admin.post("/secrets", &json!({ "name": "shared", "value": CANARY })).await.expect(201);
        let again = admin.post("/secrets", &json!({ "name": "shared", "value": CANARY })).await.expect(409);
        assert_eq!(again.code(), "name_taken");
        let mut input = provider("openai-prod");
        input["upstream"]["credential"] = json!({ "secret": "shared" });
        admin.post("/llm-providers", &input).await.expect(201);
        input["upstream"]["credential"] = json!({ "secret": "nobody" });
        let missing = admin.put("/llm-providers/openai-prod", &input).await.expect(422);
        assert_eq!(missing.errors(), [("/upstream/credential/secret", "not_found")]);
        let used = admin.delete("/secrets/shared").await.expect(409);
        assert_eq!(used.code(), "in_use");
        assert!(used.detail().contains("`openai-prod`"));
        admin.delete("/llm-providers/openai-prod").await.expect(204);
        admin.delete("/secrets/shared").await.expect(204);
        // A secret that was made from a typed-in credential goes with its provider.
        admin.post("/llm-providers", &provider("openai-prod")).await.expect(201);
        assert_eq!(admin.get("/secrets").await.body["data"].as_array().unwrap().len(), 1);
        admin.delete("/llm-providers/openai-prod").await.expect(204);
        assert_eq!(admin.get("/secrets").await.body["data"], json!([]));
    }

    async fn the_eight_templates_are_there(plane: Plane) {
        let admin = plane.admin().await;
        let list = admin.get("/templates").await.expect(200);
        let names: Vec<_> = list.body["data"].as_array().unwrap().iter().map(|row| row["name"].clone()).collect();
        assert_eq!(
            names,
            [
                "openai", "anthropic", "gemini", "mistral", "azure-openai", "azure-ai-foundry", "aws-bedrock",
                "openai-compatible"
            ]
        );
        let gemini = admin.get("/templates/gemini").await.expect(200);
        assert_eq!(gemini.body["credential"], json!({ "header": "x-goog-api-key", "prefix": "" }));
        // Their rows reached the store, so that nodes learn of other data by a revision.
        assert_eq!(crate::steps::catalog(&plane).await.templates.len(), 8);
    }

    async fn what_is_no_json_object_is_told_apart(plane: Plane) {
        let admin = plane.admin().await;
        let post = |body: &str| admin.call("POST", "/api/v1/llm-providers", Some(body.to_owned()));
        assert_eq!(post("{").await.expect(400).code(), "malformed");
        assert_eq!(post("[]").await.expect(422).code(), "invalid");
        let form = admin.with("content-type", "text/plain");
        let answer = form.call("POST", "/api/v1/llm-providers", Some("{}".to_owned())).await.expect(415);
        assert_eq!(answer.code(), "unsupported_media_type");
        assert_eq!(post(&format!("\"{}\"", "x".repeat(1024 * 1024))).await.expect(413).code(), "too_large");
    }
}
