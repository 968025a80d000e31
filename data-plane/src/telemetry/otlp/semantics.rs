//! OpenTelemetry's semantic conventions for generative AI, version 1.37.0: the names of that version, and how what we
//! know maps to its closed words. Nothing here follows a later version by itself.

use crate::pipeline::account::{Outcome, Record};
use crate::runtime::provider::Provider;

/// The version that all names below are of.
pub(super) const SCHEMA: &str = "https://opentelemetry.io/schemas/1.37.0";

pub(super) const OPERATION: &str = "gen_ai.operation.name";
pub(super) const PROVIDER: &str = "gen_ai.provider.name";
pub(super) const REQUEST_MODEL: &str = "gen_ai.request.model";
pub(super) const RESPONSE_MODEL: &str = "gen_ai.response.model";
pub(super) const FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
pub(super) const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
pub(super) const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
pub(super) const TOKEN_TYPE: &str = "gen_ai.token.type";
pub(super) const SERVER_ADDRESS: &str = "server.address";
pub(super) const SERVER_PORT: &str = "server.port";
pub(super) const ERROR_TYPE: &str = "error.type";

/// `gen_ai.operation.name`, by the end of the path; `None`: it is none that the conventions name.
pub(super) fn operation(path: &str) -> Option<&'static str> {
    // In this order: the longer ends first.
    const ENDS: [(&str, &str); 13] = [
        ("/chat/completions", "chat"),
        ("/completions", "text_completion"),
        ("/responses", "chat"),
        ("/messages", "chat"),
        ("/converse", "chat"),
        ("/converse-stream", "chat"),
        ("/invoke", "chat"),
        ("/invoke-with-response-stream", "chat"),
        (":generateContent", "generate_content"),
        (":streamGenerateContent", "generate_content"),
        ("/embeddings", "embeddings"),
        (":embedContent", "embeddings"),
        (":batchEmbedContents", "embeddings"),
    ];
    ENDS.iter().find(|(end, _)| path.ends_with(end)).map(|(_, operation)| *operation)
}

/// `gen_ai.provider.name`: the conventions' own word where they have one, else what the template is called.
pub(super) fn provider(provider: &Provider) -> String {
    let known = match &*provider.template.name {
        "azure-openai" => "azure.ai.openai",
        "azure-ai-foundry" => "azure.ai.inference",
        "aws-bedrock" => "aws.bedrock",
        "gemini" => "gcp.gemini",
        "mistral" => "mistral_ai",
        other => other,
    };
    known.to_owned()
}

/// `error.type`, a closed word; `None`: it went well.
pub(super) fn error(record: &Record) -> Option<&'static str> {
    match record.outcome {
        Outcome::Answered => None,
        Outcome::Refused
        | Outcome::VendorError
        | Outcome::UpstreamFailed
        | Outcome::UpstreamBroken
        | Outcome::ClientGone
        | Outcome::Drained => Some(record.refusal.unwrap_or_else(|| record.outcome.label())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_known_by_the_end_of_its_path() {
        for (path, expected) in [
            ("/v1/chat/completions", Some("chat")),
            ("/v1/completions", Some("text_completion")),
            ("/v1/messages", Some("chat")),
            ("/v1beta/models/gemini-2.5-pro:streamGenerateContent", Some("generate_content")),
            ("/model/anthropic.claude/converse-stream", Some("chat")),
            ("/v1/embeddings", Some("embeddings")),
            ("/v1/files", None),
            ("/v1/messages/batches", None),
        ] {
            assert_eq!(operation(path), expected, "{path}");
        }
    }
}
