//! Anthropic's Messages API: named events, content blocks, usage at both ends of a stream.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::answer::{self, Ask, Finish, Reply, Shape, Tool, ToolChoice};
use super::chat::text_of;
use super::stream::{self, Frame};
use super::trigger::{Refusal, Refused, Trigger};
use super::{Answer, Content, Query, random_id};

const MODELS: [(&str, &str); 2] =
    [("claude-sonnet-4-5", "Claude Sonnet 4.5"), ("claude-haiku-4-5", "Claude Haiku 4.5")];
/// The status Anthropic made up for "overloaded".
const OVERLOADED: u16 = 529;

/// Answers a request to Anthropic.
pub(super) fn handle(query: &Query<'_>) -> Result<Answer, Refusal> {
    if !query.headers.contains_key("anthropic-version") {
        return Err(Refusal::Missing("anthropic-version"));
    }
    match (query.method, query.path) {
        (&Method::GET, "/v1/models") => {
            let data = MODELS.map(|(id, name)| model(id, name));
            Ok(Answer::json(json!({
                "data": data, "has_more": false, "first_id": MODELS[0].0, "last_id": MODELS[MODELS.len() - 1].0,
            })))
        }
        (&Method::GET, path) if path.starts_with("/v1/models/") => {
            let id = &path["/v1/models/".len()..];
            let found = MODELS.iter().find(|(known, _)| *known == id).map(|(id, name)| Answer::json(model(id, name)));
            found.ok_or_else(|| Refusal::Provoked(Refused::Model, id.to_owned()))
        }
        (&Method::POST, "/v1/messages") => message(&query.object()?),
        (&Method::POST, "/v1/messages/count_tokens") => {
            let ask = read(&query.object()?)?;
            Ok(Answer::json(json!({ "input_tokens": ask.input })))
        }
        _ => Err(query.unknown_route()),
    }
}

fn model(id: &str, name: &str) -> Value {
    json!({ "type": "model", "id": id, "display_name": name, "created_at": "2025-09-29T00:00:00Z" })
}

fn message(body: &Value) -> Result<Answer, Refusal> {
    let ask = read(body)?;
    if ask.limit.is_none() {
        return Err(Refusal::Missing("max_tokens"));
    }
    let trigger = Trigger::find(&ask.prompt);
    if let Some(Trigger::Refuse(refused)) = trigger {
        return Err(Refusal::Provoked(refused, ask.model));
    }
    let reply = answer::answer(&ask);
    let streamed = body.get("stream").and_then(Value::as_bool).unwrap_or_default();
    let content =
        if streamed {
            Content::Events(events(&ask.model, &reply))
        } else {
            let mut blocks: Vec<Value> = Vec::new();
            if !reply.pieces.is_empty() {
                blocks.push(json!({ "type": "text", "text": reply.text() }));
            }
            blocks.extend(reply.calls.iter().map(
                |call| json!({ "type": "tool_use", "id": tool_id(), "name": call.name, "input": call.arguments }),
            ));
            let mut value = head(&ask.model, &reply, reply.output);
            value["content"] = Value::Array(blocks);
            (value["stop_reason"], value["stop_sequence"]) = finish(&reply);
            Content::Json(value)
        };
    Ok(Answer { content, trigger })
}

fn read(body: &Value) -> Result<Ask, Refusal> {
    let model = body.get("model").and_then(Value::as_str).ok_or(Refusal::Missing("model"))?;
    let messages = body.get("messages").and_then(Value::as_array).ok_or(Refusal::Missing("messages"))?;
    let content = |message: &Value| message.get("content").map(text_of).unwrap_or_default();
    let last = messages.last().ok_or(Refusal::Missing("messages"))?;
    let results = last.get("content").and_then(Value::as_array).into_iter().flatten();
    let results = results.filter(|block| block.get("type").and_then(Value::as_str) == Some("tool_result"));
    let results = results.map(|block| block.get("content").map(text_of).unwrap_or_default()).collect();
    let tools = body.get("tools").and_then(Value::as_array).into_iter().flatten();
    let tools = tools.filter_map(|tool| {
        let name = tool.get("name")?.as_str()?.to_owned();
        Some(Tool { name, parameters: tool.get("input_schema").cloned().unwrap_or_default() })
    });
    let choice = body.get("tool_choice");
    let choice = match choice.and_then(|choice| choice.get("type")).and_then(Value::as_str) {
        Some("none") => ToolChoice::Never,
        Some("tool") => {
            let name = choice.and_then(|choice| choice.get("name")).and_then(Value::as_str);
            ToolChoice::Named(name.unwrap_or_default().to_owned())
        }
        _ => ToolChoice::Auto,
    };
    let format = body.get("output_format").or_else(|| body.pointer("/output_config/format"));
    let schema = format.and_then(|format| format.get("schema")).cloned();
    let input = messages.iter().map(|message| answer::count(&content(message)) + 3).sum::<u64>()
        + body.get("system").map_or(0, |system| answer::count(&text_of(system)))
        + body.get("tools").map_or(0, |tools| answer::count(&tools.to_string()));
    let user = messages.iter().rev().find(|message| message.get("role").and_then(Value::as_str) == Some("user"));
    Ok(Ask {
        dialect: "the Anthropic dialect",
        model: model.to_owned(),
        prompt: user.map(content).unwrap_or_default(),
        results,
        tools: tools.collect(),
        choice,
        shape: if format.is_some() { Shape::Json(schema) } else { Shape::Prose },
        limit: body.get("max_tokens").and_then(Value::as_u64).and_then(|limit| usize::try_from(limit).ok()),
        stop: super::chat::stops(body.get("stop_sequences")),
        input,
    })
}

fn head(model: &str, reply: &Reply, output: u64) -> Value {
    json!({
        "id": format!("msg_{}", random_id(24)), "type": "message", "role": "assistant", "model": model,
        "content": [], "stop_reason": null, "stop_sequence": null,
        "usage": {
            "input_tokens": reply.input, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
            "output_tokens": output, "service_tier": "standard",
        },
    })
}

fn events(model: &str, reply: &Reply) -> Vec<Frame> {
    let mut frames = Vec::new();
    let at_once = |value: &Value| Frame::at_once(stream::named(value));
    frames.push(at_once(&json!({ "type": "message_start", "message": head(model, reply, 1) })));
    let mut index = 0;
    let mut block = |opening: Value, deltas: Vec<Value>| {
        frames.push(at_once(&json!({ "type": "content_block_start", "index": index, "content_block": opening })));
        if index == 0 {
            frames.push(at_once(&json!({ "type": "ping" })));
        }
        let deltas =
            deltas.into_iter().map(|delta| json!({ "type": "content_block_delta", "index": index, "delta": delta }));
        frames.extend(deltas.map(|delta| Frame::paced(stream::named(&delta))));
        frames.push(at_once(&json!({ "type": "content_block_stop", "index": index })));
        index += 1;
    };
    if !reply.pieces.is_empty() {
        let deltas = reply.pieces.iter().map(|piece| json!({ "type": "text_delta", "text": piece }));
        block(json!({ "type": "text", "text": "" }), deltas.collect());
    }
    for call in &reply.calls {
        let pieces = answer::pieces(&call.arguments.to_string());
        let deltas = pieces.into_iter().map(|piece| json!({ "type": "input_json_delta", "partial_json": piece }));
        block(json!({ "type": "tool_use", "id": tool_id(), "name": call.name, "input": {} }), deltas.collect());
    }
    let (reason, sequence) = finish(reply);
    frames.push(at_once(&json!({
        "type": "message_delta",
        "delta": { "stop_reason": reason, "stop_sequence": sequence },
        "usage": { "output_tokens": reply.output },
    })));
    frames.push(at_once(&json!({ "type": "message_stop" })));
    frames
}

fn tool_id() -> String {
    format!("toolu_{}", random_id(24))
}

fn finish(reply: &Reply) -> (Value, Value) {
    match &reply.finish {
        Finish::Stop => (json!("end_turn"), Value::Null),
        Finish::Sequence(sequence) => (json!("stop_sequence"), json!(sequence)),
        Finish::Length => (json!("max_tokens"), Value::Null),
        Finish::Calls => (json!("tool_use"), Value::Null),
    }
}

/// Anthropic's error object.
pub(super) fn refuse(refusal: &Refusal) -> (StatusCode, Value) {
    let (status, kind, message) = match refusal {
        Refusal::Provoked(Refused::Credential, _) | Refusal::Credential => {
            (StatusCode::UNAUTHORIZED, "authentication_error", "invalid x-api-key".to_owned())
        }
        Refusal::NoCredential => {
            (StatusCode::UNAUTHORIZED, "authentication_error", "x-api-key header is required".to_owned())
        }
        Refusal::Provoked(Refused::Invalid, _) => (
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            "The prompt asked the sample upstream for a 400.".to_owned(),
        ),
        Refusal::Provoked(Refused::Forbidden, _) => (
            StatusCode::FORBIDDEN,
            "permission_error",
            "Your API key does not have permission to use the specified resource.".to_owned(),
        ),
        Refusal::Provoked(Refused::Model, model) => {
            (StatusCode::NOT_FOUND, "not_found_error", format!("model: {model}"))
        }
        Refusal::Provoked(Refused::RateLimit, _) => (
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limit_error",
            "This request would exceed your account's rate limit. Please try again later.".to_owned(),
        ),
        Refusal::Provoked(Refused::Broken, _) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "api_error", "Internal server error".to_owned())
        }
        Refusal::Provoked(Refused::Overloaded, _) => (
            StatusCode::from_u16(OVERLOADED).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
            "overloaded_error",
            "Overloaded".to_owned(),
        ),
        Refusal::Malformed => {
            (StatusCode::BAD_REQUEST, "invalid_request_error", "The request body is not valid JSON.".to_owned())
        }
        Refusal::Missing("anthropic-version") => {
            (StatusCode::BAD_REQUEST, "invalid_request_error", "anthropic-version: header is required".to_owned())
        }
        Refusal::Missing(field) => {
            (StatusCode::BAD_REQUEST, "invalid_request_error", format!("{field}: Field required"))
        }
        Refusal::Unknown(field) => {
            (StatusCode::BAD_REQUEST, "invalid_request_error", format!("{field}: Extra inputs are not permitted"))
        }
        Refusal::Route(..) => (StatusCode::NOT_FOUND, "not_found_error", "Not Found".to_owned()),
        Refusal::Body => {
            (StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", "Request exceeds the maximum size".to_owned())
        }
    };
    let request = format!("req_{}", random_id(24));
    (status, json!({ "type": "error", "error": { "type": kind, "message": message }, "request_id": request }))
}
