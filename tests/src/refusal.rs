//! What a refusal by Lockgate itself must look like, in each dialect.

use crate::{Vendor, client::Reply};

/// Fails the test unless the answer is this refusal, in the vendor's own shape, with a request id, and without a word
/// about addresses. Gives the message.
#[track_caller]
pub fn assert_refusal(vendor: Vendor, reply: &Reply, status: u16, label: &str) -> String {
    let body = reply.json();
    assert_eq!(reply.status(), status, "{body:#}");
    assert_eq!(reply.header("content-type"), Some("application/json"), "{body:#}");
    let id = reply.header("x-request-id").unwrap_or_else(|| panic!("a refusal must carry a request id: {reply:?}"));
    assert!(id.starts_with("req_"), "{id}");
    let text = reply.text();
    // Google writes its reasons in capitals.
    let written = if vendor == Vendor::Gemini { label.to_ascii_uppercase() } else { label.to_owned() };
    assert!(text.contains(&written), "the refusal must be {written}: {body:#}");
    for address in ["127.0.0.1", "localhost", "::1"] {
        assert!(!text.contains(address), "a refusal must not tell addresses: {text}");
    }
    let message = match vendor {
        Vendor::OpenAi | Vendor::Azure => {
            assert!(body["error"]["type"].is_string(), "{body:#}");
            assert_eq!(body["error"]["code"], label, "{body:#}");
            &body["error"]["message"]
        }
        Vendor::Anthropic => {
            assert_eq!(body["type"], "error", "{body:#}");
            assert!(body["error"]["type"].is_string(), "{body:#}");
            &body["error"]["message"]
        }
        Vendor::Gemini => {
            assert_eq!(body["error"]["code"], status, "{body:#}");
            assert!(body["error"]["status"].is_string(), "{body:#}");
            &body["error"]["message"]
        }
        Vendor::Mistral => &body["message"],
    };
    let message = message.as_str().unwrap_or_else(|| panic!("the SDK must find a message: {body:#}"));
    assert!(message.len() > 10, "{message}");
    message.to_owned()
}
