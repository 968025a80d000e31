//! Chat completions: the shape that OpenAI, Azure OpenAI and Mistral share, with the points where they part.

use serde_json::{Value, json};

use super::answer::{self, Ask, Finish, Reply, Shape, Tool, ToolChoice};
use super::stream::{self, Frame};
use super::trigger::{Refusal, Trigger};
use super::{Answer, Content, Vendor, now, random_id};

/// The ending of every stream of this family.
const DONE: &str = "data: [DONE]\n\n";

/// Answers a chat request whose body has been read. `model` is the name that the answer carries.
pub(super) fn complete(vendor: Vendor, body: &Value, model: &str) -> Result<Answer, Refusal> {
    let ask = read(vendor, body, model)?;
    let trigger = Trigger::find(&ask.prompt);
    if let Some(Trigger::Refuse(refused)) = trigger {
        return Err(Refusal::Provoked(refused, ask.model));
    }
    let reply = answer::answer(&ask);
    let writer = Writer::new(vendor, ask.model);
    let streamed = body.get("stream").and_then(Value::as_bool).unwrap_or_default();
    let content = if streamed {
        let asked = body.pointer("/stream_options/include_usage").and_then(Value::as_bool).unwrap_or_default();
        Content::Events(writer.events(&reply, asked))
    } else {
        Content::Json(writer.whole(&reply))
    };
    Ok(Answer { content, trigger })
}

/// A vector for each input, in the shape the three share.
pub(super) fn embed(vendor: Vendor, body: &Value, model: &str) -> Result<Answer, Refusal> {
    let input = body.get("input").or_else(|| body.get("inputs")).ok_or(Refusal::Missing("input"))?;
    let texts: Vec<String> = match input {
        Value::String(text) => vec![text.clone()],
        // Strings, or token numbers that stand for one.
        Value::Array(items) if items.iter().any(|item| !item.is_number()) => {
            items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect()
        }
        other => vec![other.to_string()],
    };
    if let Some(Trigger::Refuse(refused)) = texts.iter().find_map(|text| Trigger::find(text)) {
        return Err(Refusal::Provoked(refused, model.to_owned()));
    }
    let usual = if vendor == Vendor::Mistral { 1024 } else { 1536 };
    let wanted = body.get("dimensions").or_else(|| body.get("output_dimension")).and_then(Value::as_u64);
    let dimensions = wanted.and_then(|wanted| usize::try_from(wanted).ok()).unwrap_or(usual).clamp(1, 4096);
    let base64 = body.get("encoding_format").and_then(Value::as_str) == Some("base64");
    let data: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let vector = answer::embedding(text, dimensions);
            let embedding = if base64 { json!(in_base64(&vector)) } else { json!(vector) };
            json!({ "object": "embedding", "index": index, "embedding": embedding })
        })
        .collect();
    let tokens: u64 = texts.iter().map(|text| answer::count(text)).sum();
    let mut usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
    let mut value = json!({ "object": "list", "data": data, "model": model });
    if vendor == Vendor::Mistral {
        usage["completion_tokens"] = json!(0);
        value["id"] = json!(random_id(32));
    }
    value["usage"] = usage;
    Ok(Answer::json(value))
}

/// Little-endian floats, as the OpenAI SDKs ask for by themselves.
fn in_base64(vector: &[f32]) -> String {
    use base64::Engine as _;
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The text of a message's content, a string or a list of parts.
pub(super) fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// `stop`, a string or a list of them.
pub(super) fn stops(stop: Option<&Value>) -> Vec<String> {
    match stop {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn read(vendor: Vendor, body: &Value, model: &str) -> Result<Ask, Refusal> {
    let messages = body.get("messages").and_then(Value::as_array).ok_or(Refusal::Missing("messages"))?;
    if messages.is_empty() {
        return Err(Refusal::Missing("messages"));
    }
    let role = |message: &Value| message.get("role").and_then(Value::as_str).unwrap_or_default().to_owned();
    let content = |message: &Value| message.get("content").map(text_of).unwrap_or_default();
    let results = messages.iter().rev().take_while(|message| role(message) == "tool").map(&content).collect::<Vec<_>>();
    let tools: Vec<Tool> = body
        .get("tools")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|tool| {
            let function = tool.get("function")?;
            let name = function.get("name")?.as_str()?.to_owned();
            Some(Tool { name, parameters: function.get("parameters").cloned().unwrap_or_default() })
        })
        .collect();
    let choice = match body.get("tool_choice") {
        Some(Value::String(word)) if word == "none" => ToolChoice::Never,
        Some(Value::Object(chosen)) => {
            let name = chosen.get("function").and_then(|function| function.get("name")).and_then(Value::as_str);
            name.map_or(ToolChoice::Auto, |name| ToolChoice::Named(name.to_owned()))
        }
        _ => ToolChoice::Auto,
    };
    let format = body.get("response_format");
    let shape = match format.and_then(|format| format.get("type")).and_then(Value::as_str) {
        Some("json_object") => Shape::Json(None),
        Some("json_schema") => {
            let schema = format.and_then(|format| {
                format.pointer("/json_schema/schema").or(format.pointer("/json_schema/schema_definition"))
            });
            Shape::Json(schema.cloned())
        }
        _ => Shape::Prose,
    };
    let limit = body.get("max_completion_tokens").or_else(|| body.get("max_tokens")).and_then(Value::as_u64);
    let input = messages.iter().map(|message| answer::count(&content(message)) + 3).sum::<u64>()
        + body.get("tools").map_or(0, |tools| answer::count(&tools.to_string()));
    Ok(Ask {
        dialect: match vendor {
            Vendor::Azure => "the Azure OpenAI dialect",
            Vendor::Mistral => "the Mistral dialect",
            _ => "the OpenAI dialect",
        },
        model: model.to_owned(),
        prompt: messages.iter().rev().find(|message| role(message) == "user").map(content).unwrap_or_default(),
        results: results.into_iter().rev().collect(),
        tools,
        choice,
        shape,
        limit: limit.and_then(|limit| usize::try_from(limit).ok()),
        stop: stops(body.get("stop")),
        input,
    })
}

/// Writes one completion; every chunk of it carries the same id.
struct Writer {
    vendor: Vendor,
    id: String,
    model: String,
    created: u64,
}

impl Writer {
    fn new(vendor: Vendor, model: String) -> Self {
        let id = match vendor {
            Vendor::Mistral => random_id(32),
            _ => format!("chatcmpl-{}", random_id(29)),
        };
        Self { vendor, id, model, created: now() }
    }

    fn whole(&self, reply: &Reply) -> Value {
        let mut message = json!({ "role": "assistant", "content": reply.text() });
        if !reply.calls.is_empty() {
            message["content"] = if self.vendor == Vendor::Mistral { json!("") } else { Value::Null };
            message["tool_calls"] = self.calls(reply);
        }
        if self.vendor == Vendor::OpenAi {
            message["refusal"] = Value::Null;
            message["annotations"] = json!([]);
        }
        let mut choice = json!({ "index": 0, "message": message, "finish_reason": finish(reply) });
        let mut value = json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
        });
        if self.vendor == Vendor::Azure {
            choice["content_filter_results"] = filter_results();
            value["prompt_filter_results"] = prompt_filter_results();
        }
        if self.vendor != Vendor::Mistral {
            choice["logprobs"] = Value::Null;
            value["system_fingerprint"] = json!("fp_lockgate_sample");
        }
        value["choices"] = json!([choice]);
        value["usage"] = self.usage(reply);
        value
    }

    fn events(&self, reply: &Reply, usage_asked: bool) -> Vec<Frame> {
        let mut frames = Vec::new();
        if self.vendor == Vendor::Azure {
            // Azure opens with the filter's verdict on the prompt, without a choice.
            let mut chunk = self.chunk(&json!([]), usage_asked);
            chunk["prompt_filter_results"] = prompt_filter_results();
            (chunk["id"], chunk["model"], chunk["created"]) = (json!(""), json!(""), json!(0));
            frames.push(Frame::at_once(stream::unnamed(&chunk)));
        }
        let delta = |delta: Value, finish: Value| {
            let mut choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
            if self.vendor == Vendor::Azure {
                choice["content_filter_results"] = json!({});
            }
            if self.vendor != Vendor::Mistral {
                choice["logprobs"] = Value::Null;
            }
            self.chunk(&json!([choice]), usage_asked)
        };
        frames
            .push(Frame::at_once(stream::unnamed(&delta(json!({ "role": "assistant", "content": "" }), Value::Null))));
        for piece in &reply.pieces {
            frames.push(Frame::paced(stream::unnamed(&delta(json!({ "content": piece }), Value::Null))));
        }
        frames.extend(
            self.call_chunks(reply)
                .into_iter()
                .map(|calls| Frame::paced(stream::unnamed(&delta(json!({ "tool_calls": calls }), Value::Null)))),
        );
        let mut last = delta(
            if self.vendor == Vendor::Mistral { json!({ "content": "" }) } else { json!({}) },
            finish(reply).into(),
        );
        if self.vendor == Vendor::Mistral {
            last["usage"] = self.usage(reply);
        }
        frames.push(Frame::at_once(stream::unnamed(&last)));
        if usage_asked && self.vendor != Vendor::Mistral {
            let mut chunk = self.chunk(&json!([]), true);
            chunk["usage"] = self.usage(reply);
            frames.push(Frame::at_once(stream::unnamed(&chunk)));
        }
        frames.push(Frame::at_once(DONE.to_owned()));
        frames
    }

    fn chunk(&self, choices: &Value, usage_asked: bool) -> Value {
        let mut chunk = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": choices,
        });
        if self.vendor != Vendor::Mistral {
            chunk["system_fingerprint"] = json!("fp_lockgate_sample");
            if usage_asked {
                chunk["usage"] = Value::Null;
            }
        }
        chunk
    }

    fn calls(&self, reply: &Reply) -> Value {
        let calls = reply.calls.iter().enumerate().map(|(index, call)| {
            let mut value = json!({
                "id": self.call_id(), "type": "function",
                "function": { "name": call.name, "arguments": call.arguments.to_string() },
            });
            if self.vendor == Vendor::Mistral {
                value["index"] = json!(index);
            }
            value
        });
        calls.collect()
    }

    /// Mistral sends a call in one chunk; the others send its name, then its arguments in pieces.
    fn call_chunks(&self, reply: &Reply) -> Vec<Value> {
        if self.vendor == Vendor::Mistral {
            return if reply.calls.is_empty() { Vec::new() } else { vec![self.calls(reply)] };
        }
        let mut chunks = Vec::new();
        for (index, call) in reply.calls.iter().enumerate() {
            chunks.push(json!([{
                "index": index, "id": self.call_id(), "type": "function",
                "function": { "name": call.name, "arguments": "" },
            }]));
            for piece in answer::pieces(&call.arguments.to_string()) {
                chunks.push(json!([{ "index": index, "function": { "arguments": piece } }]));
            }
        }
        chunks
    }

    fn call_id(&self) -> String {
        match self.vendor {
            Vendor::Mistral => random_id(9),
            _ => format!("call_{}", random_id(24)),
        }
    }

    fn usage(&self, reply: &Reply) -> Value {
        let mut usage = json!({
            "prompt_tokens": reply.input,
            "completion_tokens": reply.output,
            "total_tokens": reply.input + reply.output,
        });
        if self.vendor != Vendor::Mistral {
            usage["prompt_tokens_details"] = json!({ "cached_tokens": 0, "audio_tokens": 0 });
            usage["completion_tokens_details"] = json!({
                "reasoning_tokens": 0, "audio_tokens": 0,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
            });
        }
        usage
    }
}

fn finish(reply: &Reply) -> &'static str {
    match reply.finish {
        Finish::Stop | Finish::Sequence(_) => "stop",
        Finish::Length => "length",
        Finish::Calls => "tool_calls",
    }
}

fn filter_results() -> Value {
    let safe = json!({ "filtered": false, "severity": "safe" });
    json!({ "hate": safe, "self_harm": safe, "sexual": safe, "violence": safe })
}

fn prompt_filter_results() -> Value {
    json!([{ "prompt_index": 0, "content_filter_results": filter_results() }])
}
