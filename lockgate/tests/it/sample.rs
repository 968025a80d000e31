//! The sample upstream on its own: each dialect whole and streamed, credentials, tools, and every trigger word.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::dev::question;
use super::run::{Process, Reply, call, eventually};

/// Model, and where the answer's text and output tokens are.
const VENDORS: [(&str, &str, &str, &str); 5] = [
    ("openai", "gpt-4o", "/choices/0/message/content", "/usage/completion_tokens"),
    ("anthropic", "claude-sonnet-4-5", "/content/0/text", "/usage/output_tokens"),
    ("gemini", "gemini-2.5-flash", "/candidates/0/content/parts/0/text", "/usageMetadata/candidatesTokenCount"),
    ("mistral", "mistral-small-latest", "/choices/0/message/content", "/usage/completion_tokens"),
    ("azure-openai", "deployment", "/choices/0/message/content", "/usage/completion_tokens"),
];

struct Sample {
    _directory: tempfile::TempDir,
    _process: Process,
    url: String,
    /// By vendor, as the command prints them.
    credentials: BTreeMap<String, String>,
}

impl Sample {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let arguments = ["sample", "--listen", "127.0.0.1:0", "--pace", "0ms"];
        let process = Process::start(&directory.path().join("log"), &arguments);
        let printed = eventually("its address", || {
            std::future::ready(Some(process.printed()).filter(|printed| printed.contains("sample:empty")))
        })
        .await;
        let address = printed.split("listens on ").nth(1).unwrap().lines().next().unwrap().trim_end_matches('.');
        let credentials = printed.lines().filter(|line| line.contains("  credential ")).map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words[0].to_owned(), words[3].to_owned())
        });
        let (url, credentials) = (format!("http://{address}"), credentials.collect());
        Self { _directory: directory, _process: process, url, credentials }
    }

    async fn post(&self, vendor: &str, path: &str, credential: Option<&str>, body: Value) -> Reply {
        let value = match vendor {
            "openai" | "mistral" => credential.map(|credential| format!("Bearer {credential}")),
            _ => credential.map(str::to_owned),
        };
        let name = match vendor {
            "anthropic" => "x-api-key",
            "gemini" => "x-goog-api-key",
            "azure-openai" => "api-key",
            _ => "authorization",
        };
        let mut headers = vec![("anthropic-version", "2023-06-01")];
        headers.extend(value.as_deref().map(|value| (name, value)));
        call(Method::POST, &format!("{}/{vendor}{path}", self.url), &headers, Some(body)).await.unwrap()
    }

    async fn ask(&self, vendor: &str, model: &str, prompt: &str) -> Reply {
        let (path, body) = question(vendor, model, prompt);
        self.post(vendor, &path, Some(&self.credentials[vendor]), body).await
    }

    async fn stream(&self, vendor: &str, model: &str, prompt: &str) -> Reply {
        let (path, mut body) = question(vendor, model, prompt);
        let path = path.replace(":generateContent", ":streamGenerateContent?alt=sse");
        if vendor != "gemini" {
            body["stream"] = json!(true);
        }
        self.post(vendor, &path, Some(&self.credentials[vendor]), body).await
    }
}

/// The JSON of each `data:` line.
fn events(reply: &Reply) -> Vec<Value> {
    let text = reply.text();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// The text that a stream brings, in whichever dialect.
fn streamed_text(events: &[Value]) -> String {
    let places = ["/choices/0/delta/content", "/delta/text", "/candidates/0/content/parts/0/text"];
    let texts = events.iter().filter_map(|event| places.iter().find_map(|place| event.pointer(place)?.as_str()));
    texts.collect()
}

#[tokio::test]
async fn every_dialect_answers_whole_and_streamed_alike() {
    let sample = Sample::start().await;
    for (vendor, model, text, tokens) in VENDORS {
        let whole = sample.ask(vendor, model, "Count from 1 to 5.").await.json();
        assert_eq!(whole.pointer(text), Some(&json!("1, 2, 3, 4, 5.")), "{vendor}: {whole}");
        assert_eq!(whole.pointer(tokens), Some(&json!(5)), "{vendor}: {whole}");
        let stream = sample.stream(vendor, model, "Count from 1 to 5.").await;
        assert_eq!(stream.headers["content-type"], "text/event-stream; charset=utf-8");
        let events = events(&stream);
        assert_eq!(streamed_text(&events), "1, 2, 3, 4, 5.", "{vendor}: {}", stream.text());
        let usage = events.iter().rev().find_map(|event| event.pointer(tokens).filter(|tokens| !tokens.is_null()));
        // OpenAI and Azure count only when they are asked to.
        let expected = (!vendor.ends_with("openai")).then(|| json!(5));
        assert_eq!(usage, expected.as_ref(), "{vendor}: {}", stream.text());
        let done = stream.text().ends_with("data: [DONE]\n\n");
        assert_eq!(done, !matches!(vendor, "anthropic" | "gemini"), "{vendor}: {}", stream.text());
        // Gemini's SDK fails on comments.
        assert!(!stream.text().lines().any(|line| line.starts_with(':')), "{vendor}");
    }
}

#[tokio::test]
async fn only_the_right_credential_is_served() {
    let sample = Sample::start().await;
    let refused = [
        ("openai", 401, 401, "/error/message"),
        ("anthropic", 401, 401, "/error/message"),
        ("gemini", 400, 403, "/error/message"),
        ("mistral", 401, 401, "/detail"),
        ("azure-openai", 401, 401, "/error/message"),
    ];
    for (vendor, wrong, missing, message) in refused {
        let (path, body) = question(vendor, "m", "Count from 1 to 5.");
        for (credential, status) in [(Some("somebody else's"), wrong), (None, missing)] {
            let reply = sample.post(vendor, &path, credential, body.clone()).await;
            assert_eq!(reply.status.as_u16(), status, "{vendor}: {}", reply.text());
            let problem: Value = serde_json::from_slice(&reply.body).unwrap();
            assert!(problem.pointer(message).is_some_and(Value::is_string), "{vendor}: {problem}");
        }
    }
}

#[tokio::test]
async fn every_trigger_word_does_what_it_says() {
    let sample = Sample::start().await;
    for (vendor, model, text, _) in VENDORS {
        for (word, status) in [("400", 400), ("403", 403), ("404", 404), ("429", 429), ("500", 500), ("503", 503)] {
            let reply = sample.ask(vendor, model, &format!("please sample:{word}")).await;
            let status = if (vendor, word) == ("anthropic", "503") { 529 } else { status };
            assert_eq!(reply.status.as_u16(), status, "{vendor} {word}: {}", reply.text());
            assert_eq!(reply.headers.contains_key("retry-after"), word == "429", "{vendor} {word}");
        }
        let credential = sample.ask(vendor, model, "sample:401").await;
        assert_eq!(credential.status.as_u16(), if vendor == "gemini" { 400 } else { 401 });
        let long = sample.ask(vendor, model, "sample:long").await.json();
        assert!(
            long.pointer(text).unwrap().as_str().unwrap().len() > 3000 || vendor == "anthropic",
            "{vendor}: {long}"
        );
        let broken = sample.stream(vendor, model, "sample:break, and count from 1 to 9").await;
        assert!(events(&broken).last().unwrap().get("error").is_some(), "{vendor}: {}", broken.text());
        let (path, mut body) = question(vendor, model, "sample:cut, and count from 1 to 9");
        for streamed in [false, true] {
            let path = if streamed { path.replace(":generate", ":streamGenerate") } else { path.clone() };
            if vendor != "gemini" {
                body["stream"] = json!(streamed);
            }
            let credential = &sample.credentials[vendor];
            let url = format!("{}/{vendor}{path}", sample.url);
            let headers = [
                ("anthropic-version", "2023-06-01"),
                ("x-api-key", credential.as_str()),
                ("x-goog-api-key", credential),
                ("api-key", credential),
                ("authorization", &format!("Bearer {credential}")),
            ];
            let cut = call(Method::POST, &url, &headers, Some(body.clone())).await;
            assert!(cut.is_err(), "{vendor}: a cut answer has no end");
        }
    }
}

#[tokio::test]
async fn azure_knows_stream_options_from_a_date_on() {
    let sample = Sample::start().await;
    let options = json!({
        "stream": true, "stream_options": { "include_usage": true }, "messages": [{ "role": "user", "content": "hi" }],
    });
    let credential = Some(sample.credentials["azure-openai"].as_str());
    for (version, status) in [("2024-06-01", 400), ("2024-10-21", 200), ("2025-01-01-preview", 200)] {
        let path = format!("/openai/deployments/d/chat/completions?api-version={version}");
        let reply = sample.post("azure-openai", &path, credential, options.clone()).await;
        assert_eq!(reply.status.as_u16(), status, "{version}: {}", reply.text());
        if status == 200 {
            assert!(events(&reply).last().unwrap()["usage"]["completion_tokens"].is_number(), "{}", reply.text());
        }
    }
    let unversioned = sample.post("azure-openai", "/openai/deployments/d/chat/completions", credential, options).await;
    assert_eq!(unversioned.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_tool_that_is_sent_is_called() {
    let sample = Sample::start().await;
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] });
    let function = json!({ "name": "weather", "description": "?", "parameters": schema });
    for (vendor, model, _, _) in VENDORS {
        let (path, mut body) = question(vendor, model, "What is the weather in Colombo?");
        let (tools, place) = match vendor {
            "anthropic" => (json!([{ "name": "weather", "input_schema": schema }]), "/content/0/input"),
            "gemini" => {
                (json!([{ "functionDeclarations": [function] }]), "/candidates/0/content/parts/0/functionCall/args")
            }
            _ => (
                json!([{ "type": "function", "function": function }]),
                "/choices/0/message/tool_calls/0/function/arguments",
            ),
        };
        body["tools"] = tools;
        let answer = sample.post(vendor, &path, Some(&sample.credentials[vendor]), body).await.json();
        let arguments = answer.pointer(place).unwrap_or_else(|| panic!("{vendor}: {answer}"));
        let arguments: Value = match arguments {
            Value::String(text) => serde_json::from_str(text).unwrap(),
            object => object.clone(),
        };
        assert_eq!(arguments, json!({ "city": "Colombo" }), "{vendor}: {answer}");
    }
}
