//! What the vendors say in a realtime conversation: a turn is answered with [`Vendor::TEXT`] in its pieces, whatever else
//! is said comes back as it was.

use serde_json::{Value, json};

use super::Vendor;

impl Vendor {
    /// Whether it speaks WebSocket under this path.
    pub(super) fn speaks_websocket(self, path: &str) -> bool {
        match self {
            Self::OpenAi => path == "/v1/realtime",
            Self::Azure => matches!(path, "/openai/realtime" | "/openai/v1/realtime"),
            Self::Gemini => path.starts_with("/ws/") && path.ends_with(".GenerativeService.BidiGenerateContent"),
            Self::Anthropic | Self::Mistral => false,
        }
    }

    /// What it says before it is asked.
    pub(super) fn realtime_greeting(self) -> Vec<Value> {
        match self {
            Self::OpenAi | Self::Azure => vec![json!({
                "type": "session.created", "event_id": "event_0",
                "session": {"type": "realtime", "object": "realtime.session", "id": "sess_1", "model": self.served_model()},
            })],
            Self::Anthropic | Self::Gemini | Self::Mistral => Vec::new(),
        }
    }

    /// What it says to this.
    pub(super) fn realtime_answers(self, said: &Value) -> Vec<Value> {
        match (self, said["type"].as_str()) {
            (Self::OpenAi | Self::Azure, Some("session.update")) => {
                vec![json!({"type": "session.updated", "event_id": "event_1", "session": said["session"]})]
            }
            (Self::OpenAi | Self::Azure, Some("response.create")) => {
                let deltas = Self::PIECES.into_iter().map(|piece| {
                    json!({
                        "type": "response.output_text.delta", "event_id": "event_2", "response_id": "resp_1",
                        "item_id": "item_1", "output_index": 0, "content_index": 0, "delta": piece,
                    })
                });
                let response =
                    json!({"object": "realtime.response", "id": "resp_1", "status": "completed", "output": []});
                let done = json!({"type": "response.done", "event_id": "event_3", "response": response});
                deltas.chain([done]).collect()
            }
            (Self::Gemini, _) if said.get("setup").is_some() => vec![json!({"setupComplete": {}})],
            (Self::Gemini, _) if said.get("clientContent").or_else(|| said.get("client_content")).is_some() => {
                let turns = Self::PIECES.into_iter().map(
                    |piece| json!({"serverContent": {"modelTurn": {"role": "model", "parts": [{"text": piece}]}}}),
                );
                turns.chain([json!({"serverContent": {"turnComplete": true}})]).collect()
            }
            (_, _) => vec![said.clone()],
        }
    }
}
