//! OpenAI's Responses API: items instead of choices, a numbered event for every step of a stream.

use serde_json::{Value, json};

use super::answer::{self, Ask, Finish, Reply, Shape, Tool, ToolChoice};
use super::stream::{self, Frame};
use super::trigger::{Refusal, Trigger};
use super::{Answer, Content, Vendor, now, random_id};

/// Answers `POST /responses`.
pub(super) fn respond(vendor: Vendor, body: &Value, model: &str) -> Result<Answer, Refusal> {
    let ask = read(vendor, body, model)?;
    let trigger = Trigger::find(&ask.prompt);
    if let Some(Trigger::Refuse(refused)) = trigger {
        return Err(Refusal::Provoked(refused, ask.model));
    }
    let reply = answer::answer(&ask);
    let writer = Writer { id: format!("resp_{}", random_id(32)), created: now(), body, model };
    let streamed = body.get("stream").and_then(Value::as_bool).unwrap_or_default();
    let content = if streamed { Content::Events(writer.events(&reply)) } else { Content::Json(writer.whole(&reply)) };
    Ok(Answer { content, trigger })
}

fn text_of(item: &Value) -> String {
    item.get("content").or_else(|| item.get("output")).map(super::chat::text_of).unwrap_or_default()
}

fn read(vendor: Vendor, body: &Value, model: &str) -> Result<Ask, Refusal> {
    let items: Vec<Value> = match body.get("input") {
        Some(Value::String(text)) => vec![json!({ "role": "user", "content": text })],
        Some(Value::Array(items)) if !items.is_empty() => items.clone(),
        _ => return Err(Refusal::Missing("input")),
    };
    let is_result = |item: &&Value| item.get("type").and_then(Value::as_str) == Some("function_call_output");
    let results: Vec<String> = items.iter().rev().take_while(is_result).map(text_of).collect();
    let tools = body.get("tools").and_then(Value::as_array).into_iter().flatten();
    let tools = tools.filter(|tool| tool.get("type").and_then(Value::as_str) == Some("function")).filter_map(|tool| {
        let name = tool.get("name")?.as_str()?.to_owned();
        Some(Tool { name, parameters: tool.get("parameters").cloned().unwrap_or_default() })
    });
    let choice = match body.get("tool_choice") {
        Some(Value::String(word)) if word == "none" => ToolChoice::Never,
        Some(Value::Object(chosen)) => {
            let name = chosen.get("name").and_then(Value::as_str);
            name.map_or(ToolChoice::Auto, |name| ToolChoice::Named(name.to_owned()))
        }
        _ => ToolChoice::Auto,
    };
    let shape = match body.pointer("/text/format/type").and_then(Value::as_str) {
        Some("json_object") => Shape::Json(None),
        Some("json_schema") => Shape::Json(body.pointer("/text/format/schema").cloned()),
        _ => Shape::Prose,
    };
    let input = items.iter().map(|item| answer::count(&text_of(item)) + 3).sum::<u64>()
        + body.get("instructions").and_then(Value::as_str).map_or(0, answer::count)
        + body.get("tools").map_or(0, |tools| answer::count(&tools.to_string()));
    let user = items.iter().rev().find(|item| item.get("role").and_then(Value::as_str) == Some("user"));
    Ok(Ask {
        dialect: if vendor == Vendor::Azure { "the Azure OpenAI dialect" } else { "the OpenAI dialect" },
        model: model.to_owned(),
        prompt: user.map(text_of).unwrap_or_default(),
        results: results.into_iter().rev().collect(),
        tools: tools.collect(),
        choice,
        shape,
        limit: body.get("max_output_tokens").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()),
        stop: Vec::new(),
        input,
    })
}

struct Writer<'a> {
    id: String,
    created: u64,
    body: &'a Value,
    model: &'a str,
}

impl Writer<'_> {
    fn response(&self, status: &str, output: &[Value], usage: &Value) -> Value {
        let given = |name: &str, otherwise: Value| self.body.get(name).cloned().unwrap_or(otherwise);
        let incomplete = if status == "incomplete" { json!({ "reason": "max_output_tokens" }) } else { Value::Null };
        json!({
            "id": self.id, "object": "response", "created_at": self.created, "status": status, "error": null,
            "incomplete_details": incomplete,
            "instructions": given("instructions", Value::Null),
            "max_output_tokens": given("max_output_tokens", Value::Null),
            "metadata": given("metadata", json!({})),
            "model": self.model, "output": output, "parallel_tool_calls": given("parallel_tool_calls", json!(true)),
            "previous_response_id": given("previous_response_id", Value::Null),
            "reasoning": { "effort": null, "summary": null }, "store": given("store", json!(true)),
            "temperature": given("temperature", json!(1.0)),
            "text": given("text", json!({ "format": { "type": "text" } })),
            "tool_choice": given("tool_choice", json!("auto")), "tools": given("tools", json!([])),
            "top_p": given("top_p", json!(1.0)), "truncation": "disabled", "usage": usage, "user": null,
        })
    }

    fn whole(&self, reply: &Reply) -> Value {
        let items: Vec<Value> = items(reply).into_iter().map(|item| item.done).collect();
        self.response(ended(reply), &items, &usage(reply))
    }

    fn events(&self, reply: &Reply) -> Vec<Frame> {
        let mut steps = Steps::default();
        let opened = self.response("in_progress", &[], &Value::Null);
        steps.at_once(json!({ "type": "response.created", "response": opened }));
        steps.at_once(json!({ "type": "response.in_progress", "response": opened }));
        let items = items(reply);
        for (index, item) in items.iter().enumerate() {
            steps.at_once(json!({ "type": "response.output_item.added", "output_index": index, "item": item.opened }));
            match &item.body {
                Body::Text(pieces) => {
                    let text = pieces.concat();
                    let at = json!({ "item_id": item.id, "output_index": index, "content_index": 0 });
                    let part =
                        |text: &str| json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] });
                    steps.at_once(with(&at, "response.content_part.added", json!({ "part": part("") })));
                    for piece in pieces {
                        steps.paced(with(&at, "response.output_text.delta", json!({ "delta": piece, "logprobs": [] })));
                    }
                    steps.at_once(with(&at, "response.output_text.done", json!({ "text": text, "logprobs": [] })));
                    steps.at_once(with(&at, "response.content_part.done", json!({ "part": part(&text) })));
                }
                Body::Arguments(name, arguments) => {
                    let at = json!({ "item_id": item.id, "output_index": index });
                    for piece in answer::pieces(arguments) {
                        steps.paced(with(&at, "response.function_call_arguments.delta", json!({ "delta": piece })));
                    }
                    let done = json!({ "arguments": arguments, "name": name });
                    steps.at_once(with(&at, "response.function_call_arguments.done", done));
                }
            }
            steps.at_once(json!({ "type": "response.output_item.done", "output_index": index, "item": item.done }));
        }
        let items: Vec<Value> = items.into_iter().map(|item| item.done).collect();
        let ended = ended(reply);
        let response = self.response(ended, &items, &usage(reply));
        steps.at_once(json!({ "type": format!("response.{ended}"), "response": response }));
        steps.frames
    }
}

fn ended(reply: &Reply) -> &'static str {
    if reply.finish == Finish::Length { "incomplete" } else { "completed" }
}

fn with(at: &Value, kind: &str, rest: Value) -> Value {
    let mut event = at.clone();
    event["type"] = json!(kind);
    if let (Value::Object(event), Value::Object(rest)) = (&mut event, rest) {
        event.extend(rest);
    }
    event
}

/// The events so far; each gets the next sequence number.
#[derive(Default)]
struct Steps {
    frames: Vec<Frame>,
}

impl Steps {
    fn at_once(&mut self, event: Value) {
        let text = self.numbered(event);
        self.frames.push(Frame::at_once(text));
    }

    fn paced(&mut self, event: Value) {
        let text = self.numbered(event);
        self.frames.push(Frame::paced(text));
    }

    fn numbered(&self, mut event: Value) -> String {
        event["sequence_number"] = json!(self.frames.len());
        stream::named(&event)
    }
}

struct Item {
    id: String,
    opened: Value,
    done: Value,
    body: Body,
}

enum Body {
    Text(Vec<String>),
    Arguments(String, String),
}

fn items(reply: &Reply) -> Vec<Item> {
    if reply.calls.is_empty() {
        let id = format!("msg_{}", random_id(32));
        let message = |status: &str, content: Value| {
            let mut message = json!({ "id": id, "type": "message", "role": "assistant", "status": status });
            message["content"] = content;
            message
        };
        let part = json!([{ "type": "output_text", "text": reply.text(), "annotations": [], "logprobs": [] }]);
        let (opened, done) = (message("in_progress", json!([])), message(ended(reply), part));
        return vec![Item { opened, done, id, body: Body::Text(reply.pieces.clone()) }];
    }
    let calls = reply.calls.iter().map(|call| {
        let (id, call_id) = (format!("fc_{}", random_id(32)), format!("call_{}", random_id(24)));
        let arguments = call.arguments.to_string();
        let item = |status: &str, arguments: &str| {
            json!({
                "id": id, "type": "function_call", "call_id": call_id, "name": call.name, "arguments": arguments,
                "status": status,
            })
        };
        let (opened, done) = (item("in_progress", ""), item("completed", &arguments));
        Item { opened, done, id, body: Body::Arguments(call.name.clone(), arguments) }
    });
    calls.collect()
}

fn usage(reply: &Reply) -> Value {
    json!({
        "input_tokens": reply.input, "input_tokens_details": { "cached_tokens": 0 },
        "output_tokens": reply.output, "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": reply.input + reply.output,
    })
}
