//! What the command line says of usage: sums, the request log as it grows, and what refused a request.

use serde_json::json;
use tests::{
    Client, Upstream, Vendor,
    client::Call,
    eventually,
    process::{Process, program},
};

use super::processes::{Deployment, a_provider, answers};

/// What a command prints.
fn printed(token: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program()).args(arguments).env("LOCKGATE_TOKEN", token).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", text(output.stderr));
    text(output.stdout)
}

#[tokio::test]
async fn the_command_line_sums_lists_follows_and_explains() {
    let deployment = Deployment::new(None);
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let control_plane = deployment.control_plane().await;
    let rest = deployment.first_owner().await;
    let mut node = deployment.node();
    node.ready(deployment.admin, "/readyz").await;
    let key = a_provider(&rest, &upstream).await;
    answers(deployment.gateway, &key).await;
    let (token, api) = (rest.token(), deployment.api_url());
    let api = api.as_str();
    eventually("the first record", async || {
        let lines = printed(token, &["logs", "--api", api]);
        if lines.contains(" 200 answered POST openai key=ci ") { Ok(()) } else { Err(lines) }
    })
    .await;

    let folder = tempfile::tempdir().unwrap();
    let variables = [("LOCKGATE_TOKEN", token.to_owned())];
    let follow = ["logs", "-f", "--api", api, "--key", "ci"];
    let following = Process::start(&follow, &variables, &folder.path().join("logs"));
    let lines = |outcome: &str| following.output().lines().filter(|line| line.contains(outcome)).count();
    let told = async |outcome: &str, count| {
        eventually("the line", async || {
            let found = lines(outcome);
            if found == count { Ok(()) } else { Err(following.output()) }
        })
        .await;
    };
    told("answered", 1).await;

    // One that is refused, with its reason; and one that ends while nobody can be told.
    let ci = rest.get("/api-keys/ci").await;
    let mut body = ci.body.clone();
    body["limits"] = json!([{"name": "none", "metric": "requests", "limit": 1, "window": "24h"}]);
    rest.put("/api-keys/ci", &ci.etag(), &body).await.expect(200);
    let client = Client::new(&deployment.gateway.to_string());
    let call = Call::post("/openai/v1/chat/completions", &Vendor::OpenAi.chat_body(false)).key(&key);
    let refused = eventually("the limit", async || {
        let reply = client.send(&call).await;
        if reply.status() == 429 { Ok(reply) } else { Err(reply.status()) }
    })
    .await;
    told("429 refused (limit_exceeded)", 1).await;
    let id = refused.header("x-lockgate-request-id").unwrap();
    assert!(following.output().contains(id));
    let explained = printed(token, &["explain", id, "--api", api]);
    assert!(explained.contains("Refused by") && explained.contains("1 against 1 allowed"), "{explained}");
    control_plane.kill();
    assert_eq!(client.send(&call).await.status(), 429);
    let _control_plane = deployment.control_plane().await;
    told("429 refused (limit_exceeded)", 2).await;
    let output = following.output();
    assert!(output.contains("it is back"), "{output}");
    let mut distinct: Vec<&str> = output.lines().collect();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), output.lines().count(), "nothing is printed twice: {output}");
    following.signal("INT");

    let answered = lines("answered");
    let table = printed(token, &["usage", "--api", api, "--group-by", "outcome,label:team", "--last", "2h"]);
    let row = |name: &str| table.lines().find(|line| line.starts_with(name)).map(str::to_owned).unwrap_or_default();
    assert!(row("outcome").contains("team") && row("outcome").contains("cost"), "{table}");
    let requests = |name: &str| {
        let cells: Vec<String> = row(name).split_whitespace().map(str::to_owned).collect();
        cells.iter().find_map(|cell| cell.parse::<usize>().ok())
    };
    assert_eq!((requests("answered"), requests("refused")), (Some(answered), Some(2)), "{table}");
    assert_eq!(requests("total"), Some(answered + 2), "{table}");
    let csv = printed(token, &["usage", "--api", api, "--group-by", "outcome", "--format", "csv"]);
    assert!(csv.starts_with("outcome,requests,"), "{csv}");
    let mut stranger = std::process::Command::new(program());
    let wrong = stranger.args(["logs", "-f", "--api", api]).env("LOCKGATE_TOKEN", "lgt_no").output().unwrap();
    assert_eq!(wrong.status.code(), Some(1), "it does not try for ever");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("401"), "{wrong:?}");
}
