//! Makes the gateway and the sample resources what `lockgate dev` promises, through the REST API like anyone else.
//!
//! Every step looks first and changes only what differs, so that a second start finds the first one's data, a changed
//! port is followed, and what people edited stays as they left it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::GATEWAY;
use super::data_dir::DataDir;
use crate::client::Client;
use crate::sample::{Sample, Vendor};

/// The name of the sample API key.
const KEY: &str = "sample";
/// How long a deployment may take until the node has it.
const WAIT: &str = "10s";
/// How long the node may take to serve the newest revision.
const APPLY: Duration = Duration::from_secs(30);
/// Networks that the gateway of `lockgate dev` may call: the sample upstream, and models served on this machine.
pub(super) const LOOPBACK: &str = "127.0.0.0/8";

/// An endpoint to call.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) vendor: Vendor,
    pub(super) invoke_url: String,
}

/// What was made for the sample upstream.
pub(super) struct Provisioned {
    pub(super) key: String,
    pub(super) providers: Vec<Endpoint>,
    pub(super) proxies: Vec<Endpoint>,
}

/// Gives the gateway its address, and leave to call this machine.
pub(super) async fn gateway(client: &Client, address: SocketAddr) -> anyhow::Result<()> {
    let path = format!("/api/v1/gateways/{GATEWAY}");
    let found = client.get(&path).await?.found()?.with_context(|| format!("the gateway `{GATEWAY}` is gone"))?;
    let mut wanted = spec(found.body());
    wanted["baseUrls"] = json!([format!("http://{address}")]);
    let networks = wanted["upstreamNetworks"].as_array().cloned().unwrap_or_default();
    if !networks.contains(&json!(LOOPBACK)) {
        wanted["upstreamNetworks"] = networks.into_iter().chain([json!(LOOPBACK)]).collect();
    }
    if wanted != spec(found.body()) {
        client.put(&path, found.etag(), &wanted).await?;
    }
    Ok(())
}

/// Waits until the node serves everything that was decided so far.
pub(super) async fn applied(client: &Client) -> anyhow::Result<()> {
    let deadline = Instant::now() + APPLY;
    loop {
        let sync = client.get(&format!("/api/v1/gateways/{GATEWAY}/sync")).await?.ok()?;
        if sync.get("applied") == Some(&json!(true)) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("the node does not serve the newest configuration after {} s: {sync}", APPLY.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Five providers, a proxy over each, and one key for all of them.
pub(super) async fn sample(
    client: &Client,
    data: &DataDir,
    sample: &Sample,
    gateway: SocketAddr,
) -> anyhow::Result<Provisioned> {
    let (mut providers, mut proxies, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for vendor in Vendor::ALL {
        let (provider, proxy) = (format!("sample-{}", vendor.name()), format!("assistant-{}", vendor.name()));
        let changed = provider_of(client, sample, vendor, &provider).await?;
        deploy(client, "llm-providers", &provider, changed).await?;
        proxy_of(client, vendor, &provider, &proxy).await?;
        deploy(client, "llm-proxies", &proxy, false).await?;
        providers.push(invoke(client, "llm-providers", &provider, vendor, gateway).await?);
        proxies.push(invoke(client, "llm-proxies", &proxy, vendor, gateway).await?);
        names.extend([provider, proxy]);
    }
    let key = key(client, data, &names).await?;
    Ok(Provisioned { key, providers, proxies })
}

/// Makes the provider, or follows the sample's port; one that was pointed elsewhere is not the sample's any more.
/// Whether anything was written.
async fn provider_of(client: &Client, sample: &Sample, vendor: Vendor, name: &str) -> anyhow::Result<bool> {
    let upstream = json!({ "url": sample.url(vendor), "credential": { "value": vendor.credential() } });
    let path = format!("/api/v1/llm-providers/{name}");
    let Some(found) = client.get(&path).await?.found()? else {
        let body = json!({
            "name": name,
            "displayName": format!("Sample ({})", vendor.name()),
            "template": vendor.name(),
            "context": format!("/{}", vendor.name()),
            "upstream": upstream,
        });
        client.post("/api/v1/llm-providers", &body).await?;
        return Ok(true);
    };
    let url = found.body().pointer("/upstream/url").and_then(Value::as_str).unwrap_or_default();
    let moved = url.starts_with("http://127.0.0.1:") && url.trim_end_matches('/') != sample.url(vendor);
    if moved {
        let mut wanted = spec(found.body());
        wanted["upstream"] = upstream;
        client.put(&path, found.etag(), &wanted).await?;
    }
    Ok(moved)
}

async fn proxy_of(client: &Client, vendor: Vendor, provider: &str, name: &str) -> anyhow::Result<()> {
    if client.get(&format!("/api/v1/llm-proxies/{name}")).await?.found()?.is_none() {
        let body = json!({
            "name": name,
            "displayName": format!("Sample assistant ({})", vendor.name()),
            "context": format!("/assistant-{}", vendor.name()),
            "provider": provider,
        });
        client.post("/api/v1/llm-proxies", &body).await?;
    }
    Ok(())
}

/// Deploys an endpoint that is deployed nowhere or was just changed from here. Somebody's draft stays a draft.
async fn deploy(client: &Client, kind: &str, name: &str, changed: bool) -> anyhow::Result<()> {
    let found = client.get(&format!("/api/v1/{kind}/{name}")).await?.ok()?;
    let current = found.get("deployments").and_then(Value::as_array).into_iter().flatten().any(|deployment| {
        let text = |name: &str| deployment.get(name).and_then(Value::as_str).unwrap_or_default();
        text("gateway") == GATEWAY && matches!(text("status"), "deployed" | "deploying")
    });
    if current && !changed {
        return Ok(());
    }
    let body = json!({ "endpoint": name, "gateway": GATEWAY });
    let deployment = client.post(&format!("/api/v1/deployments?wait={WAIT}"), &body).await?;
    match deployment.get("status").and_then(Value::as_str) {
        Some("deployed") => Ok(()),
        Some("rejected") => bail!("the node rejected `{name}`: {}", deployment["rejection"]),
        other => bail!("`{name}` is not deployed after {WAIT}, but {}", other.unwrap_or("nothing known")),
    }
}

async fn invoke(
    client: &Client,
    kind: &str,
    name: &str,
    vendor: Vendor,
    gateway: SocketAddr,
) -> anyhow::Result<Endpoint> {
    let found = client.get(&format!("/api/v1/{kind}/{name}")).await?.ok()?;
    let urls = found.get("invokeUrls").and_then(Value::as_array).into_iter().flatten();
    let ours = urls.filter(|url| url.get("gateway").and_then(Value::as_str) == Some(GATEWAY));
    let mut ours = ours.filter_map(|url| url.get("url").and_then(Value::as_str));
    let base = format!("http://{gateway}/");
    let invoke_url = ours.find(|url| url.starts_with(&base)).with_context(|| format!("`{name}` has no Invoke URL"))?;
    Ok(Endpoint { vendor, invoke_url: invoke_url.to_owned() })
}

/// The key that is kept in the data directory, if it still opens everything; a new secret for it otherwise.
async fn key(client: &Client, data: &DataDir, endpoints: &[String]) -> anyhow::Result<String> {
    let path = format!("/api/v1/api-keys/{KEY}");
    if let Some(found) = client.get(&path).await?.found()? {
        let body = found.body();
        if body.get("status").and_then(Value::as_str) == Some("active") {
            let has = body.get("endpoints").and_then(Value::as_array).cloned().unwrap_or_default();
            let missing: Vec<Value> =
                endpoints.iter().map(|name| json!(name)).filter(|name| !has.contains(name)).collect();
            if !missing.is_empty() {
                let mut wanted = spec(body);
                wanted["endpoints"] = has.into_iter().chain(missing).collect();
                client.put(&path, found.etag(), &wanted).await?;
            }
            let display = body.get("display").and_then(Value::as_str).unwrap_or_default();
            if let Some(kept) = data.sample_key().filter(|kept| shows(display, kept)) {
                return Ok(kept);
            }
            return keep(data, &client.post(&format!("{path}/rotate"), &json!({ "grace": "0s" })).await?);
        }
        client.delete(&path, found.etag()).await?;
    }
    keep(data, &client.post("/api/v1/api-keys", &json!({ "name": KEY, "endpoints": endpoints })).await?)
}

/// Whether `lgk_<id>_...<last4>` stands for this key.
fn shows(display: &str, key: &str) -> bool {
    display.split_once("...").is_some_and(|(id, last4)| key.starts_with(id) && key.ends_with(last4))
}

fn keep(data: &DataDir, made: &Value) -> anyhow::Result<String> {
    let key = made.get("key").and_then(Value::as_str).context("the answer has no key")?;
    data.keep_sample_key(key)?;
    Ok(key.to_owned())
}

/// A resource as it was read, without what the control plane alone decides.
fn spec(body: &Value) -> Value {
    const READ_ONLY: [&str; 15] = [
        "id",
        "revision",
        "createdAt",
        "updatedAt",
        "pendingChanges",
        "invokeUrls",
        "deployments",
        "warnings",
        "dialect",
        "display",
        "status",
        "previousExpiresAt",
        "lastUsedAt",
        "last4",
        "nodes",
    ];
    let members = body.as_object().into_iter().flatten().filter(|(name, _)| !READ_ONLY.contains(&name.as_str()));
    members.map(|(name, value)| (name.clone(), value.clone())).collect::<serde_json::Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_id_and_its_end() {
        assert!(shows("lgk_abcdefghijkl_...wxyz", "lgk_abcdefghijkl_0123456789wxyz"));
        assert!(!shows("lgk_abcdefghijkl_...wxyz", "lgk_abcdefghijkl_0123456789wxya"));
        assert!(!shows("lgk_abcdefghijkl_...wxyz", "lgk_bbcdefghijkl_0123456789wxyz"));
        assert!(!shows("", "lgk_abcdefghijkl_0123456789wxyz"));
    }

    #[test]
    fn what_the_control_plane_decides_is_not_sent_back() {
        let read =
            json!({ "id": "gw_1", "name": "default", "revision": 3, "baseUrls": [], "createdAt": "", "updatedAt": "" });
        assert_eq!(spec(&read), json!({ "name": "default", "baseUrls": [] }));
    }
}
