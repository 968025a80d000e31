//! Gemini's API: the method behind a colon in the path, usage in every chunk, Google's error object.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::answer::{self, Ask, Finish, Reply, Shape, Tool, ToolChoice};
use super::stream::Frame;
use super::trigger::{Refusal, Refused, Trigger};
use super::{Answer, Content, Query, random_id};

const MODELS: [(&str, &str); 3] = [
    ("gemini-2.5-flash", "Gemini 2.5 Flash"),
    ("gemini-2.5-pro", "Gemini 2.5 Pro"),
    ("gemini-embedding-001", "Gemini Embedding 001"),
];

/// Answers a request to the Gemini API; `v1` and `v1beta` are one here.
pub(super) fn handle(query: &Query<'_>) -> Result<Answer, Refusal> {
    let path = query.path.strip_prefix("/v1beta").or_else(|| query.path.strip_prefix("/v1"));
    let Some(path) = path.and_then(|path| path.strip_prefix("/models")) else { return Err(query.unknown_route()) };
    if query.method == Method::GET {
        if path.is_empty() {
            return Ok(Answer::json(json!({ "models": MODELS.map(|(id, name)| model(id, name)) })));
        }
        let id = path.trim_start_matches('/');
        let found = MODELS.iter().find(|(known, _)| *known == id).map(|(id, name)| Answer::json(model(id, name)));
        return found.ok_or_else(|| Refusal::Provoked(Refused::Model, id.to_owned()));
    }
    let named = path.strip_prefix('/').and_then(|path| path.split_once(':'));
    let Some((model, operation)) = named.filter(|_| query.method == Method::POST) else {
        return Err(query.unknown_route());
    };
    match operation {
        "generateContent" => generate(model, &query.object()?, Delivery::Whole),
        "streamGenerateContent" if query.parameter("alt") == Some("sse") => {
            generate(model, &query.object()?, Delivery::Events)
        }
        "streamGenerateContent" => generate(model, &query.object()?, Delivery::Array),
        "countTokens" => {
            let body = query.object()?;
            let ask = read(model, member(&body, "generateContentRequest").unwrap_or(&body))?;
            Ok(Answer::json(json!({ "totalTokens": ask.input })))
        }
        "embedContent" => {
            let body = query.object()?;
            Ok(Answer::json(json!({ "embedding": embedding(&body)? })))
        }
        "batchEmbedContents" => {
            let body = query.object()?;
            let requests = body.get("requests").and_then(Value::as_array).ok_or(Refusal::Missing("requests"))?;
            let embeddings = requests.iter().map(embedding).collect::<Result<Vec<_>, _>>()?;
            Ok(Answer::json(json!({ "embeddings": embeddings })))
        }
        _ => Err(query.unknown_route()),
    }
}

#[derive(Clone, Copy)]
enum Delivery {
    Whole,
    Events,
    Array,
}

fn model(id: &str, name: &str) -> Value {
    let methods = if id.contains("embedding") {
        json!(["embedContent", "batchEmbedContents", "countTokens"])
    } else {
        json!(["generateContent", "streamGenerateContent", "countTokens"])
    };
    json!({
        "name": format!("models/{id}"), "version": "001", "displayName": name,
        "description": "A model of the sample upstream", "inputTokenLimit": 1_048_576, "outputTokenLimit": 65536,
        "supportedGenerationMethods": methods,
    })
}

fn embedding(body: &Value) -> Result<Value, Refusal> {
    let text = text_of(body.get("content").ok_or(Refusal::Missing("content"))?);
    let wanted = member(body, "outputDimensionality").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    Ok(json!({ "values": answer::embedding(&text, wanted.unwrap_or(768).clamp(1, 4096)) }))
}

/// The text of one `content`.
fn text_of(content: &Value) -> String {
    let parts = content.get("parts").and_then(Value::as_array).into_iter().flatten();
    parts.filter_map(|part| part.get("text").and_then(Value::as_str)).collect::<Vec<_>>().join("\n")
}

/// A member of an object under its camel-case name or the proto's own, as Google's JSON parser takes both.
fn member<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object.get(name).or_else(|| {
        let letters = name.chars().flat_map(|letter| {
            let underscore = letter.is_ascii_uppercase().then_some('_');
            underscore.into_iter().chain(std::iter::once(letter.to_ascii_lowercase()))
        });
        object.get(letters.collect::<String>())
    })
}

fn read(model: &str, body: &Value) -> Result<Ask, Refusal> {
    let contents = body.get("contents").and_then(Value::as_array).ok_or(Refusal::Missing("contents"))?;
    let last = contents.last().ok_or(Refusal::Missing("contents"))?;
    let results = last.get("parts").and_then(Value::as_array).into_iter().flatten();
    let results = results.filter_map(|part| member(part, "functionResponse")?.get("response"));
    let results = results.map(|response| {
        let value = response.get("result").or_else(|| response.get("output")).unwrap_or(response);
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    });
    let declarations = body.get("tools").and_then(Value::as_array).into_iter().flatten();
    let declarations = declarations.filter_map(|tool| member(tool, "functionDeclarations")?.as_array()).flatten();
    let tools = declarations.filter_map(|declaration| {
        let parameters = member(declaration, "parametersJsonSchema").or_else(|| declaration.get("parameters"));
        let name = declaration.get("name")?.as_str()?.to_owned();
        Some(Tool { name, parameters: parameters.cloned().unwrap_or_default() })
    });
    let calling = member(body, "toolConfig").and_then(|config| member(config, "functionCallingConfig"));
    let choice = if calling.and_then(|calling| calling.get("mode")).and_then(Value::as_str) == Some("NONE") {
        ToolChoice::Never
    } else {
        let allowed =
            calling.and_then(|calling| member(calling, "allowedFunctionNames")?.get(0)).and_then(Value::as_str);
        allowed.map_or(ToolChoice::Auto, |name| ToolChoice::Named(name.to_owned()))
    };
    let settings = member(body, "generationConfig").cloned().unwrap_or_default();
    let schema = member(&settings, "responseJsonSchema").or_else(|| member(&settings, "responseSchema")).cloned();
    let json = member(&settings, "responseMimeType").and_then(Value::as_str) == Some("application/json");
    let input = contents.iter().map(|content| answer::count(&text_of(content)) + 1).sum::<u64>()
        + member(body, "systemInstruction").map_or(0, |system| answer::count(&text_of(system)))
        + body.get("tools").map_or(0, |tools| answer::count(&tools.to_string()));
    let user = contents.iter().rev().find(|content| content.get("role").and_then(Value::as_str) != Some("model"));
    Ok(Ask {
        dialect: "the Gemini dialect",
        model: model.to_owned(),
        prompt: user.map(text_of).unwrap_or_default(),
        results: results.collect(),
        tools: tools.collect(),
        choice,
        shape: if json { Shape::Json(schema) } else { Shape::Prose },
        limit: member(&settings, "maxOutputTokens").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()),
        stop: super::chat::stops(member(&settings, "stopSequences")),
        input,
    })
}

fn generate(model: &str, body: &Value, delivery: Delivery) -> Result<Answer, Refusal> {
    let ask = read(model, body)?;
    let trigger = Trigger::find(&ask.prompt);
    if let Some(Trigger::Refuse(refused)) = trigger {
        return Err(Refusal::Provoked(refused, ask.model));
    }
    let reply = answer::answer(&ask);
    let id = random_id(22);
    let finish = match reply.finish {
        Finish::Length => "MAX_TOKENS",
        Finish::Stop | Finish::Sequence(_) | Finish::Calls => "STOP",
    };
    let calls = reply.calls.iter().map(|call| json!({ "functionCall": { "name": call.name, "args": call.arguments } }));
    let calls: Vec<Value> = calls.collect();
    let chunk = |parts: Vec<Value>, output: u64, finish: Option<&str>| chunk(&ask, &reply, &id, &parts, output, finish);
    let content = match delivery {
        Delivery::Whole => {
            let parts = if calls.is_empty() { vec![json!({ "text": reply.text() })] } else { calls };
            Content::Json(chunk(parts, reply.output, Some(finish)))
        }
        Delivery::Events | Delivery::Array => {
            let mut chunks: Vec<Value> = (1..)
                .zip(&reply.pieces)
                .map(|(sent, piece)| chunk(vec![json!({ "text": piece })], sent, None))
                .collect();
            if calls.is_empty() {
                // The last chunk carries the reason and an empty text.
                chunks.push(chunk(vec![json!({ "text": "" })], reply.output, Some(finish)));
            } else {
                chunks.push(chunk(calls, reply.output, Some(finish)));
            }
            match delivery {
                Delivery::Array => Content::Array(array(&chunks)),
                Delivery::Whole | Delivery::Events => {
                    Content::Events(chunks.iter().map(|chunk| Frame::paced(format!("data: {chunk}\r\n\r\n"))).collect())
                }
            }
        }
    };
    Ok(Answer { content, trigger })
}

fn array(chunks: &[Value]) -> Vec<Frame> {
    let mut frames: Vec<Frame> = chunks
        .iter()
        .enumerate()
        .map(|(index, chunk)| Frame::paced(format!("{}{chunk}", if index == 0 { "[" } else { "\n,\r\n" })))
        .collect();
    frames.push(Frame::at_once("\n]".to_owned()));
    frames
}

fn chunk(ask: &Ask, reply: &Reply, id: &str, parts: &[Value], output: u64, finish: Option<&str>) -> Value {
    let mut candidate = json!({ "content": { "parts": parts, "role": "model" }, "index": 0 });
    if let Some(finish) = finish {
        candidate["finishReason"] = json!(finish);
    }
    json!({
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": reply.input, "candidatesTokenCount": output, "totalTokenCount": reply.input + output,
            "promptTokensDetails": [{ "modality": "TEXT", "tokenCount": reply.input }],
        },
        "modelVersion": ask.model,
        "responseId": id,
    })
}

/// Google's error object. A bad key is a 400 here, and a missing one a 403.
pub(super) fn refuse(refusal: &Refusal) -> (StatusCode, Value) {
    let (code, status, message) = match refusal {
        Refusal::Provoked(Refused::Credential, _) | Refusal::Credential => {
            let details = json!([{
                "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID",
                "domain": "googleapis.com", "metadata": { "service": "generativelanguage.googleapis.com" },
            }]);
            let message = "API key not valid. Please pass a valid API key.";
            let error = json!({ "code": 400, "message": message, "status": "INVALID_ARGUMENT", "details": details });
            return (StatusCode::BAD_REQUEST, json!({ "error": error }));
        }
        Refusal::NoCredential => (
            StatusCode::FORBIDDEN,
            "PERMISSION_DENIED",
            "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or \
             other form of API consumer identity to call this API."
                .to_owned(),
        ),
        Refusal::Provoked(Refused::Invalid, _) => {
            (StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", "The prompt asked the sample upstream for a 400.".to_owned())
        }
        Refusal::Provoked(Refused::Forbidden, _) => {
            (StatusCode::FORBIDDEN, "PERMISSION_DENIED", "The caller does not have permission.".to_owned())
        }
        Refusal::Provoked(Refused::Model, model) => (
            StatusCode::NOT_FOUND,
            "NOT_FOUND",
            format!(
                "models/{model} is not found for API version v1beta, or is not supported for generateContent. Call \
                 ListModels to see the list of available models and their supported methods."
            ),
        ),
        Refusal::Provoked(Refused::RateLimit, _) => (
            StatusCode::TOO_MANY_REQUESTS,
            "RESOURCE_EXHAUSTED",
            "You exceeded your current quota, please check your plan and billing details.".to_owned(),
        ),
        Refusal::Provoked(Refused::Broken, _) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "An internal error has occurred. Please retry.".to_owned())
        }
        Refusal::Provoked(Refused::Overloaded, _) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "UNAVAILABLE",
            "The model is overloaded. Please try again later.".to_owned(),
        ),
        Refusal::Malformed => {
            (StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", "Invalid JSON payload received. Unexpected token.".to_owned())
        }
        Refusal::Missing(field) => (
            StatusCode::BAD_REQUEST,
            "INVALID_ARGUMENT",
            format!("* GenerateContentRequest.{field}: {field} is not specified\n"),
        ),
        Refusal::Unknown(field) => (
            StatusCode::BAD_REQUEST,
            "INVALID_ARGUMENT",
            format!("Invalid JSON payload received. Unknown name \"{field}\": Cannot find field."),
        ),
        Refusal::Route(_, path) => {
            (StatusCode::NOT_FOUND, "NOT_FOUND", format!("The requested URL {path} was not found on this server."))
        }
        Refusal::Body => (
            StatusCode::BAD_REQUEST,
            "INVALID_ARGUMENT",
            "Request payload size exceeds the limit: 33554432 bytes.".to_owned(),
        ),
    };
    (code, json!({ "error": { "code": code.as_u16(), "message": message, "status": status } }))
}
