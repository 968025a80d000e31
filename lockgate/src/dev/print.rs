//! What `lockgate dev` says when everything serves: to people on stdout, to programs in the ready file.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::provision::{Endpoint, LOOPBACK};
use super::{GATEWAY, Ready, data_dir};
use crate::sample::{self, Vendor};

/// Writes the ready file, whole or not at all, for its owner alone.
pub(super) fn ready_file(ready: &Ready<'_>, path: &Path) -> io::Result<()> {
    data_dir::write(path, format!("{}\n", object(ready)).as_bytes())
}

fn object(ready: &Ready<'_>) -> Value {
    let mut object = json!({
        "api": format!("http://{}", ready.api),
        "console": console(ready),
        "token": ready.admin.token,
        "gateway": { "name": GATEWAY, "url": format!("http://{}", ready.gateway) },
    });
    if let Some(sample) = &ready.sample {
        let endpoints = |endpoints: &[Endpoint]| {
            let members = endpoints.iter().map(|endpoint| {
                let value = json!({ "invokeUrl": endpoint.invoke_url, "model": endpoint.vendor.model() });
                (endpoint.vendor.name().to_owned(), value)
            });
            members.collect::<Map<_, _>>()
        };
        object["sample"] = json!({
            "key": sample.key,
            "providers": endpoints(&sample.providers),
            "proxies": endpoints(&sample.proxies),
        });
    }
    object
}

fn console(ready: &Ready<'_>) -> String {
    format!("http://{}/sign-in#token={}", ready.api, ready.admin.sign_in)
}

/// Prints what to do now.
pub(super) fn banner(ready: &Ready<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text(ready).as_bytes())?;
    out.flush()
}

fn text(ready: &Ready<'_>) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{arguments}");
    };
    line(format_args!("\nLockgate is running.\n"));
    line(format_args!("  Console   {}", console(ready)));
    line(format_args!("            (signs in once, within ten minutes)"));
    line(format_args!("  REST API  http://{}/api/v1", ready.api));
    line(format_args!("  Token     {}", ready.admin.token));
    line(format_args!("  Gateway   http://{} (may call upstreams in {LOOPBACK}, plain http included)", ready.gateway));
    line(format_args!("  Data      {} (delete it to start over)", ready.options.data_dir.display()));
    if let Some(sample) = &ready.sample {
        line(format_args!(
            "\nInvoke URLs of the sample providers, and of a proxy over each; no vendor account is needed:\n"
        ));
        for (provider, proxy) in sample.providers.iter().zip(&sample.proxies) {
            line(format_args!("  {:<13} {}", provider.vendor.name(), provider.invoke_url));
            line(format_args!("  {:<13} {}", "", proxy.invoke_url));
        }
        line(format_args!("\n  API key       {}", sample.key));
        if let Some(openai) = sample.providers.iter().find(|endpoint| endpoint.vendor == Vendor::OpenAi) {
            let (url, key, model) = (&openai.invoke_url, &sample.key, openai.vendor.model());
            line(format_args!("\nA first request:\n"));
            line(format_args!("  curl -N {url}/v1/chat/completions \\"));
            line(format_args!("    -H 'X-API-Key: {key}' -H 'Content-Type: application/json' \\"));
            let message = r#""messages": [{"role": "user", "content": "Count from 1 to 5."}], "stream": true"#;
            line(format_args!("    -d '{{\"model\": \"{model}\", {message}}}'"));
            line(format_args!("\nOr in Python (pip install openai):\n"));
            line(format_args!("  from openai import OpenAI"));
            line(format_args!("  client = OpenAI(base_url=\"{url}/v1\", api_key=\"{key}\")"));
            line(format_args!("  message = {{\"role\": \"user\", \"content\": \"What is Lockgate?\"}}"));
            line(format_args!("  answer = client.chat.completions.create(model=\"{model}\", messages=[message])"));
            line(format_args!("  print(answer.choices[0].message.content)"));
        }
        line(format_args!(
            "\nWords in a prompt that make the sample upstream misbehave:\n\n{}",
            sample::trigger_table()
        ));
    }
    line(format_args!("Ctrl-C stops it.\n"));
    text
}
