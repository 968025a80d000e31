//! Several nodes of one gateway: all serve the same, and the control plane knows which has what.

use serde_json::json;
use tests::{Stack, Upstream, Vendor, eventually};

#[tokio::test]
async fn three_nodes_serve_the_same_and_are_told_apart() {
    let mut stack = Stack::postgres().await;
    stack.add_node("node-2", &[]).await;
    stack.add_node("node-3", &[]).await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let provider = stack.provider("openai", &upstream).await;
    let key = stack.key("ci", &[&provider]).await;
    for index in 0..3 {
        let reply = stack.client_of(index).send(&provider.chat(false).key(&key.secret)).await;
        assert_eq!(reply.status(), 200, "node {index}: {}", reply.text());
    }
    let listed = stack.rest().get("/gateways/default/nodes").await.expect(200);
    let mut names: Vec<&str> =
        listed["data"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["node-1", "node-2", "node-3"]);
    for node in listed["data"].as_array().unwrap() {
        assert_eq!(node["status"], "connected", "{node:#}");
        assert!(node["revision"].is_number() && node["ackedAt"].is_string(), "{node:#}");
        assert_eq!(node["rejected"], json!([]));
    }
    let rows = stack.usage_rows(3).await;
    let mut nodes: Vec<&str> = rows.iter().map(|row| row["node"].as_str().unwrap()).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["node-1", "node-2", "node-3"]);

    stack.stop_node(2).await;
    eventually("the stopped node to be seen as gone", async || {
        let listed = stack.rest().get("/gateways/default/nodes").await.expect(200);
        let status =
            listed["data"].as_array().unwrap().iter().find(|node| node["name"] == "node-3").unwrap()["status"].clone();
        if status == "disconnected" { Ok(()) } else { Err(status) }
    })
    .await;
    // A node that was away when a key was revoked hears of it when it comes back.
    stack.rest().post(&format!("/api-keys/{}/revoke", key.id), &json!({})).await.expect(200);
    stack.start_node(2).await;
    stack.settle().await;
    for index in 0..3 {
        let reply = stack.client_of(index).send(&provider.chat(false).key(&key.secret)).await;
        assert_eq!(reply.status(), 401, "node {index}");
    }
    stack.shutdown().await;
}

#[tokio::test]
async fn a_deployment_freezes_and_a_live_switch_does_not_wait() {
    let stack = Stack::sqlite().await;
    let first = Upstream::start(Vendor::OpenAi).await;
    let second = Upstream::start(Vendor::OpenAi).await;
    let provider = stack.provider("openai", &first).await;
    let key = stack.key("ci", &[&provider]).await;
    let rest = stack.rest();
    let chat = provider.chat(false).key(&key.secret);
    assert_eq!(stack.send(&chat).await.status(), 200);

    // The draft moves to another upstream: nothing is served from it until it is deployed.
    let read = rest.get("/llm-providers/openai").await;
    let mut draft = read.body.clone();
    assert_eq!(draft["pendingChanges"], false);
    draft["upstream"] = json!({"url": second.url(), "credential": {"value": second.credential()}});
    rest.put("/llm-providers/openai", &read.etag(), &draft).await.expect(200);
    let read = rest.get("/llm-providers/openai").await;
    assert_eq!(read.body["pendingChanges"], true);
    stack.settle().await;
    assert_eq!(stack.send(&chat).await.status(), 200);
    assert_eq!((first.seen().len(), second.seen().len()), (2, 0));

    let deployment = stack.deploy("openai").await;
    assert_eq!(deployment["version"], 2);
    assert_eq!(stack.send(&chat).await.status(), 200);
    assert_eq!((first.seen().len(), second.seen().len()), (2, 1));

    // Disabled is read live.
    let read = rest.get("/llm-providers/openai").await;
    let mut body = read.body.clone();
    body["disabled"] = true.into();
    let told = rest.put("/llm-providers/openai", &read.etag(), &body).await;
    let mut body = told.check(200).body.clone();
    stack.settle().await;
    tests::assert_refusal(Vendor::OpenAi, &stack.send(&chat).await, 403, "endpoint_disabled");
    body["disabled"] = false.into();
    rest.put("/llm-providers/openai", &told.etag(), &body).await.expect(200);
    stack.settle().await;
    assert_eq!(stack.send(&chat).await.status(), 200);

    // Back to version 1, as a new version.
    let listed = rest.get("/deployments?endpoint=openai").await.expect(200);
    let deployments = listed["data"].as_array().unwrap();
    let oldest = deployments.iter().find(|deployment| deployment["version"] == 1).unwrap()["id"].as_str().unwrap();
    let restored = rest.post(&format!("/deployments/{oldest}/restore"), &json!({})).await;
    assert!([200, 202].contains(&restored.status), "{:#}", restored.body);
    assert_eq!(restored.body["version"], 3);
    stack.settle().await;
    let before = first.seen().len();
    assert_eq!(stack.send(&chat).await.status(), 200);
    assert_eq!(first.seen().len(), before + 1);
    stack.shutdown().await;
}

#[tokio::test]
async fn a_rotated_credential_is_used_at_once_and_by_every_version() {
    let stack = Stack::sqlite().await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let provider = stack.provider("openai", &upstream).await;
    let key = stack.key("ci", &[&provider]).await;
    let read = stack.rest().get("/llm-providers/openai").await.expect(200);
    let secret = read["upstream"]["credential"]["secret"].as_str().unwrap().to_owned();
    upstream.accept_any_credential();
    let told = stack.rest().get(&format!("/secrets/{secret}")).await;
    let mut body = told.body.clone();
    assert_eq!(body.get("value"), None, "a secret is never read back");
    body["value"] = "vc-planted-rotated".into();
    stack.rest().put(&format!("/secrets/{secret}"), &told.etag(), &body).await.expect(200);
    stack.settle().await;
    assert_eq!(stack.send(&provider.chat(false).key(&key.secret)).await.status(), 200);
    assert_eq!(upstream.the_one().request.header("authorization"), Some("Bearer vc-planted-rotated"));
    stack.shutdown().await;
}

#[tokio::test]
async fn a_node_with_a_revoked_token_hears_nothing_more_and_goes_on_serving() {
    let stack = Stack::sqlite().await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let provider = stack.provider("openai", &upstream).await;
    let key = stack.key("ci", &[&provider]).await;
    let tokens = stack.rest().get("/gateways/default/tokens").await.expect(200);
    let token = tokens["data"][0]["id"].as_str().unwrap();
    let told = stack.rest().delete(&format!("/gateways/default/tokens/{token}"), "*").await;
    told.check(204);
    eventually("the node's stream to end", async || {
        let listed = stack.rest().get("/gateways/default/nodes").await.expect(200);
        let status = listed["data"][0]["status"].clone();
        if status == "disconnected" { Ok(()) } else { Err(status) }
    })
    .await;
    assert_eq!(stack.send(&provider.chat(false).key(&key.secret)).await.status(), 200, "nothing expires on the node");
    stack.shutdown().await;
}
