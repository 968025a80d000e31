//! The five vendors: what they insist on and how they answer when the script says nothing else.
//!
//! Every answer reports [`Vendor::INPUT_TOKENS`] and [`Vendor::OUTPUT_TOKENS`] in the vendor's own way, split into the
//! classes it has, and says [`Vendor::TEXT`] in the pieces [`Vendor::PIECES`].

use serde_json::{Value, json};

use super::{Answer, Request};

/// A vendor whose API an upstream speaks. Each has its template of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vendor {
    /// `openai`
    OpenAi,
    /// `anthropic`
    Anthropic,
    /// `gemini`
    Gemini,
    /// `mistral`
    Mistral,
    /// `azure-openai`
    Azure,
}

/// A refusal in the vendor's own shape.
type Refused = Box<Answer>;

impl Vendor {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::OpenAi, Self::Anthropic, Self::Gemini, Self::Mistral, Self::Azure];
    /// What every answer says.
    pub const TEXT: &str = "one two three";
    /// The same in the pieces of a stream.
    pub const PIECES: [&str; 3] = ["one", " two", " three"];
    /// All input tokens of every answer, cached ones included.
    pub const INPUT_TOKENS: u64 = 11;
    /// All output tokens of every answer, reasoning included.
    pub const OUTPUT_TOKENS: u64 = 7;

    /// The name of its template.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Mistral => "mistral",
            Self::Azure => "azure-openai",
        }
    }

    /// The header in which it wants its credential, and the value.
    pub fn credential_header(self, credential: &str) -> (&'static str, String) {
        match self {
            Self::OpenAi | Self::Mistral => ("authorization", format!("Bearer {credential}")),
            Self::Anthropic => ("x-api-key", credential.to_owned()),
            Self::Gemini => ("x-goog-api-key", credential.to_owned()),
            Self::Azure => ("api-key", credential.to_owned()),
        }
    }

    /// A model that it serves.
    pub fn model(self) -> &'static str {
        match self {
            Self::OpenAi => "gpt-4o",
            Self::Anthropic => "claude-sonnet-4-5",
            Self::Gemini => "gemini-2.5-flash",
            Self::Mistral => "mistral-small-latest",
            Self::Azure => "my-gpt4o-deployment",
        }
    }

    /// What it says it served when asked for [`Vendor::model`].
    pub fn served_model(self) -> &'static str {
        match self {
            Self::OpenAi | Self::Azure => "gpt-4o-2024-08-06",
            Self::Anthropic => "claude-sonnet-4-5-20250929",
            Self::Gemini => "gemini-2.5-flash-001",
            Self::Mistral => "mistral-small-2506",
        }
    }

    /// Path and query of a chat call, after the Invoke URL.
    pub fn chat_path(self, streamed: bool) -> &'static str {
        match self {
            Self::OpenAi | Self::Mistral => "/v1/chat/completions",
            Self::Anthropic => "/v1/messages",
            Self::Gemini if streamed => "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
            Self::Gemini => "/v1beta/models/gemini-2.5-flash:generateContent",
            Self::Azure => "/openai/deployments/my-gpt4o-deployment/chat/completions?api-version=2024-06-01",
        }
    }

    /// The body of a chat call, as its SDK would send it.
    pub fn chat_body(self, streamed: bool) -> Value {
        let messages = json!([{"role": "user", "content": "Count from 1 to 3."}]);
        let mut body = match self {
            Self::OpenAi | Self::Mistral | Self::Azure => json!({"model": self.model(), "messages": messages}),
            Self::Anthropic => json!({"model": self.model(), "max_tokens": 64, "messages": messages}),
            Self::Gemini => return json!({"contents": [{"parts": [{"text": "Count from 1 to 3."}], "role": "user"}]}),
        };
        if streamed {
            body["stream"] = true.into();
        }
        body
    }

    /// An error as it words them: `status`, and `message` where the SDK shows it.
    pub fn error(self, status: u16, message: &str) -> Answer {
        let kind = match status {
            400 => "invalid_request_error",
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            429 => "rate_limit_error",
            _ => "api_error",
        };
        let body = match self {
            Self::OpenAi => json!({"error": {"message": message, "type": kind, "param": null, "code": null}}),
            Self::Azure => {
                json!({"error": {"message": message, "code": status.to_string(), "type": null, "param": null}})
            }
            Self::Anthropic => {
                json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_vendor"})
            }
            Self::Gemini => {
                let name = match status {
                    400 => "INVALID_ARGUMENT",
                    401 => "UNAUTHENTICATED",
                    403 => "PERMISSION_DENIED",
                    404 => "NOT_FOUND",
                    429 => "RESOURCE_EXHAUSTED",
                    _ => "INTERNAL",
                };
                json!({"error": {"code": status, "message": message, "status": name}})
            }
            Self::Mistral => {
                json!({"object": "error", "message": message, "type": kind, "param": null, "code": null})
            }
        };
        Answer::json(status, &body)
    }

    /// How it says that the credential is bad.
    pub fn bad_credential(self) -> Answer {
        match self {
            // Google answers 400 to a key that it does not know.
            Self::Gemini => Answer::json(
                400,
                &json!({"error": {
                    "code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT",
                    "details": [{
                        "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID",
                        "domain": "googleapis.com", "metadata": {"service": "generativelanguage.googleapis.com"},
                    }],
                }}),
            ),
            Self::OpenAi | Self::Anthropic | Self::Mistral | Self::Azure => {
                self.error(401, "Incorrect API key provided. It was the vendor who said so.")
            }
        }
    }

    /// A chat answer in one piece.
    pub fn chat_answer(self) -> Value {
        match self {
            Self::OpenAi | Self::Mistral | Self::Azure => json!({
                "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": self.served_model(),
                "choices": [{
                    "index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": Self::TEXT},
                }],
                "usage": self.usage(),
            }),
            Self::Anthropic => json!({
                "id": "msg_1", "type": "message", "role": "assistant", "model": self.served_model(),
                "content": [{"type": "text", "text": Self::TEXT}], "stop_reason": "end_turn", "stop_sequence": null,
                "usage": self.usage(),
            }),
            Self::Gemini => json!({
                "candidates": [{
                    "content": {"parts": [{"text": Self::TEXT}], "role": "model"}, "finishReason": "STOP", "index": 0,
                }],
                "usageMetadata": self.usage(), "modelVersion": self.served_model(), "responseId": "r1",
            }),
        }
    }

    /// The events of a chat stream, each with its framing. `usage`: whether an OpenAI-shaped client asked for it.
    pub fn chat_events(self, usage: bool) -> Vec<String> {
        match self {
            Self::OpenAi | Self::Mistral | Self::Azure => self.openai_events(usage),
            Self::Anthropic => self.anthropic_events(),
            Self::Gemini => self.gemini_events(),
        }
    }

    /// What is left of them for a client that did not ask, where Lockgate asked for it.
    pub fn veiled_events(self) -> Vec<String> {
        let mut events = self.chat_events(true);
        events.retain(|event| self == Self::Mistral || !event.contains("prompt_tokens"));
        events
    }

    /// [`Vendor::chat_events`] as a stream.
    pub fn chat_stream(self, usage: bool) -> Answer {
        self.chat_events(usage).into_iter().fold(Answer::stream(), Answer::piece)
    }

    fn usage(self) -> Value {
        match self {
            Self::OpenAi | Self::Azure => json!({
                "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18,
                "prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": {"reasoning_tokens": 2},
            }),
            Self::Mistral => json!({"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}),
            // Anthropic counts what was cached beside the input, not in it.
            Self::Anthropic => json!({
                "input_tokens": 5, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 2, "output_tokens": 7,
            }),
            // Google counts thoughts beside the candidates, not in them.
            Self::Gemini => json!({
                "promptTokenCount": 11, "cachedContentTokenCount": 3, "candidatesTokenCount": 5, "thoughtsTokenCount": 2,
                "totalTokenCount": 18,
            }),
        }
    }

    fn openai_events(self, usage: bool) -> Vec<String> {
        let chunk = |choices: Value| {
            json!({
                "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000,
                "model": self.served_model(), "choices": choices,
            })
        };
        let chunk = |choices: Value| {
            let mut chunk = chunk(choices);
            if usage && self != Self::Mistral {
                // Asked, every chunk says that the count is still to come.
                chunk["usage"] = Value::Null;
            }
            chunk
        };
        let mut chunks = Vec::new();
        if self == Self::Azure {
            // Azure opens with the verdict of its content filter on the prompt, and no choices.
            let mut first = chunk(json!([]));
            first["prompt_filter_results"] = json!([{"prompt_index": 0, "content_filter_results": {}}]);
            chunks.push(first);
        }
        for (number, piece) in Self::PIECES.into_iter().enumerate() {
            let mut delta = json!({"content": piece});
            if number == 0 {
                delta["role"] = "assistant".into();
            }
            chunks.push(chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}])));
        }
        let mut last = chunk(json!([{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}]));
        if self == Self::Mistral {
            // Mistral reports without being asked, in the last chunk that has choices.
            last["usage"] = self.usage();
        }
        chunks.push(last);
        if usage && self != Self::Mistral {
            let mut report = chunk(json!([]));
            report["usage"] = self.usage();
            chunks.push(report);
        }
        let events = chunks.iter().map(|chunk| format!("data: {chunk}\n\n"));
        events.chain(["data: [DONE]\n\n".to_owned()]).collect()
    }

    fn anthropic_events(self) -> Vec<String> {
        let start = json!({"type": "message_start", "message": {
            "id": "msg_1", "type": "message", "role": "assistant", "model": self.served_model(), "content": [],
            "stop_reason": null, "stop_sequence": null,
            "usage": {"input_tokens": 5, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 2, "output_tokens": 1},
        }});
        let mut events = vec![
            ("message_start", start),
            (
                "content_block_start",
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            ),
            ("ping", json!({"type": "ping"})),
        ];
        for piece in Self::PIECES {
            let delta = json!({"type": "text_delta", "text": piece});
            events.push(("content_block_delta", json!({"type": "content_block_delta", "index": 0, "delta": delta})));
        }
        events.push(("content_block_stop", json!({"type": "content_block_stop", "index": 0})));
        // The count here is of the whole message so far, not of what came since.
        let delta = json!({"stop_reason": "end_turn", "stop_sequence": null});
        events.push(("message_delta", json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 7}})));
        events.push(("message_stop", json!({"type": "message_stop"})));
        events.into_iter().map(|(name, data)| format!("event: {name}\ndata: {data}\n\n")).collect()
    }

    fn gemini_events(self) -> Vec<String> {
        let last = Self::PIECES.len() - 1;
        let events = Self::PIECES.into_iter().enumerate().map(|(number, piece)| {
            let mut candidate = json!({"content": {"parts": [{"text": piece}], "role": "model"}, "index": 0});
            // Every chunk counts what came so far; only the last is right.
            let mut usage = json!({"promptTokenCount": 11, "candidatesTokenCount": number + 1, "totalTokenCount": 12 + number});
            if number == last {
                candidate["finishReason"] = "STOP".into();
                usage = self.usage();
            }
            let chunk = json!({
                "candidates": [candidate], "usageMetadata": usage, "modelVersion": self.served_model(), "responseId": "r1",
            });
            // Google ends its lines with CRLF.
            format!("data: {chunk}\r\n\r\n")
        });
        events.collect()
    }

    /// What the vendor would say. `credential`: the only one it takes; `None` takes any.
    pub(super) fn answer(self, request: &Request, credential: Option<&str>) -> Answer {
        self.try_answer(request, credential).unwrap_or_else(|refused| *refused)
    }

    fn try_answer(self, request: &Request, credential: Option<&str>) -> Result<Answer, Refused> {
        if let Some(credential) = credential {
            let (header, value) = self.credential_header(credential);
            if request.header(header) != Some(value.as_str()) {
                return Err(Box::new(self.bad_credential()));
            }
        }
        if self.speaks_websocket(request.path()) && request.header("upgrade").is_some() {
            return Ok(Answer::websocket(request, self));
        }
        let refuse = |status: u16, message: &str| Err(Box::new(self.error(status, message)));
        let body = request.json();
        match self {
            Self::OpenAi if request.path() == "/v1/responses" => return Ok(responses(&body)),
            Self::OpenAi | Self::Mistral if request.path() == "/v1/chat/completions" => {}
            Self::Anthropic if request.path() == "/v1/messages" => {
                if request.header("anthropic-version").is_none() {
                    return refuse(400, "anthropic-version: header is required");
                }
                if !body["max_tokens"].is_u64() {
                    return refuse(400, "max_tokens: Field required");
                }
            }
            Self::Gemini if request.path().contains(":generateContent") => {
                return Ok(Answer::json(200, &self.chat_answer()));
            }
            Self::Gemini if request.path().contains(":streamGenerateContent") => {
                return Ok(if request.query().split('&').any(|pair| pair == "alt=sse") {
                    self.chat_stream(true)
                } else {
                    Answer::json(200, &json!([self.chat_answer()]))
                });
            }
            Self::Azure => {
                let Some(version) = request.query().split('&').find_map(|pair| pair.strip_prefix("api-version="))
                else {
                    return refuse(404, "Resource not found");
                };
                // The first version that knows the field; versions are dates and compare as text.
                if version < "2024-09-01" && !body["stream_options"].is_null() {
                    return refuse(400, "Unrecognized request argument supplied: stream_options");
                }
                if !request.path().starts_with("/openai/deployments/") {
                    return Ok(echo(request));
                }
            }
            Self::OpenAi | Self::Anthropic | Self::Gemini | Self::Mistral => return Ok(echo(request)),
        }
        if !body["messages"].is_array() || (self != Self::Azure && !body["model"].is_string()) {
            return refuse(400, "you must provide model and messages");
        }
        let streamed = body["stream"] == true;
        let options = &body["stream_options"];
        if !options.is_null() && self == Self::Mistral {
            return refuse(422, "stream_options: extra fields not permitted");
        }
        if !options.is_null() && !streamed {
            return refuse(400, "The 'stream_options' parameter is only allowed when 'stream' is enabled.");
        }
        if streamed {
            return Ok(self.chat_stream(options["include_usage"] == true));
        }
        Ok(Answer::json(200, &self.chat_answer()))
    }
}

/// Whatever else a vendor offers: says what was asked, so that a test sees what arrived.
fn echo(request: &Request) -> Answer {
    let length = request.body.len();
    Answer::json(200, &json!({"method": request.method, "target": request.target, "bytes": length}))
        .header("x-vendor", "echo")
}

/// OpenAI's Responses API, which counts tokens under other names.
fn responses(body: &Value) -> Answer {
    let usage = json!({
        "input_tokens": 11, "input_tokens_details": {"cached_tokens": 3},
        "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 18,
    });
    let response = json!({
        "id": "resp_1", "object": "response", "created_at": 1_700_000_000, "status": "completed",
        "model": Vendor::OpenAi.served_model(), "usage": usage,
        "output": [{"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [
            {"type": "output_text", "text": Vendor::TEXT, "annotations": []},
        ]}],
    });
    if body["stream"] != true {
        return Answer::json(200, &response);
    }
    let mut events = Vec::new();
    for (number, piece) in Vendor::PIECES.into_iter().enumerate() {
        events.push(json!({
            "type": "response.output_text.delta", "sequence_number": number, "item_id": "msg_1", "output_index": 0,
            "content_index": 0, "delta": piece,
        }));
    }
    events.push(json!({"type": "response.completed", "sequence_number": events.len(), "response": response}));
    events.iter().fold(Answer::stream(), |answer, event| {
        answer.piece(format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default()))
    })
}
