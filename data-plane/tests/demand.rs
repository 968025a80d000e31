//! What requests of each vendor's SDK say of what they may come to, by the data of the built-in templates.

#![allow(clippy::unwrap_used)]

use data_plane::dialect::demand::{Demand, Places, Plan};

/// As a built-in template says it.
fn plan(template: &str) -> Plan {
    let path = format!("{}/../control-plane/templates/{template}.toml", env!("CARGO_MANIFEST_DIR"));
    let template: toml::Value = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let texts = |name: &str| -> Vec<String> {
        let list = template["request"].get(name).and_then(toml::Value::as_array);
        list.into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let (output, times) = (texts("outputBound"), texts("outputTimes"));
    let (each, elsewhere) = (texts("outputEach"), texts("elsewhere"));
    Plan::new(&Places { output: &output, times: &times, each: &each, elsewhere: &elsewhere }).unwrap()
}

#[test]
fn every_vendors_bound_is_found() {
    for (template, body, output) in [
        ("openai", r#"{"model":"gpt-4o","messages":[],"max_tokens":7}"#, Some(7)),
        ("openai", r#"{"model":"gpt-5","messages":[],"max_completion_tokens":7,"n":2}"#, Some(14)),
        ("openai", r#"{"model":"gpt-5","input":"hi","max_output_tokens":7}"#, Some(7)),
        ("openai", r#"{"model":"davinci-002","prompt":["a","b"],"max_tokens":7,"best_of":3}"#, Some(42)),
        ("openai", r#"{"model":"gpt-4o","messages":[]}"#, None),
        ("azure-openai", r#"{"messages":[],"max_completion_tokens":7}"#, Some(7)),
        ("azure-ai-foundry", r#"{"model":"m","messages":[],"max_tokens":7}"#, Some(7)),
        ("openai-compatible", r#"{"model":"m","messages":[],"max_tokens":7}"#, Some(7)),
        ("anthropic", r#"{"model":"claude","messages":[],"max_tokens":7}"#, Some(7)),
        ("mistral", r#"{"model":"mistral","messages":[],"max_tokens":7,"n":2}"#, Some(14)),
        ("gemini", r#"{"contents":[],"generationConfig":{"maxOutputTokens":7}}"#, Some(7)),
        ("gemini", r#"{"contents":[],"generation_config":{"max_output_tokens":7,"candidate_count":3}}"#, Some(21)),
        ("aws-bedrock", r#"{"messages":[],"inferenceConfig":{"maxTokens":7}}"#, Some(7)),
        ("aws-bedrock", r#"{"anthropic_version":"x","messages":[],"max_tokens":7}"#, Some(7)),
        ("aws-bedrock", r#"{"prompt":"x","max_gen_len":7}"#, Some(7)),
        ("aws-bedrock", r#"{"inputText":"x","textGenerationConfig":{"maxTokenCount":7}}"#, Some(7)),
    ] {
        assert_eq!(plan(template).read(body.as_bytes()), Ok(Demand { output, elsewhere: None }), "{template} {body}");
    }
}

#[test]
fn text_is_bounded_by_its_bytes_and_what_is_no_text_is_seen() {
    for (template, text) in [
        (
            "openai",
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":"x"}]}],"tools":[{"type":"function"}]}"#,
        ),
        ("openai", r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"x"}]},{"type":"message"}]}"#),
        ("openai", r#"{"input":["a","b"],"model":"text-embedding-3-small"}"#),
        (
            "anthropic",
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":"x"}]}],"tools":[{"name":"t"}]}"#,
        ),
        ("mistral", r#"{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function"}]}"#),
        ("gemini", r#"{"contents":[{"parts":[{"text":"x"}]}],"tools":[{"functionDeclarations":[]}]}"#),
        ("aws-bedrock", r#"{"messages":[{"content":[{"text":"x"}]}],"toolConfig":{"tools":[{"toolSpec":{}}]}}"#),
    ] {
        assert_eq!(plan(template).read(text.as_bytes()).unwrap().elsewhere, None, "{template} {text}");
    }
    for (template, body) in [
        ("openai", r#"{"messages":[{"content":[{"type":"image_url","image_url":{"url":"https://x"}}]}]}"#),
        ("openai", r#"{"messages":[{"content":[{"type":"input_audio","input_audio":{"data":""}}]}]}"#),
        ("openai", r#"{"input":[{"type":"item_reference","id":"x"}]}"#),
        ("openai", r#"{"input":[{"content":[{"type":"input_file","file_id":"x"}]}]}"#),
        ("openai", r#"{"input":"x","previous_response_id":"x"}"#),
        ("openai", r#"{"input":"x","tools":[{"type":"web_search"}]}"#),
        ("openai", r#"{"prompt":{"id":"pmpt_1"}}"#),
        ("anthropic", r#"{"messages":[{"content":[{"type":"image","source":{"type":"url"}}]}]}"#),
        ("anthropic", r#"{"messages":[{"content":[{"type":"tool_result","content":[{"source":{}}]}]}]}"#),
        ("anthropic", r#"{"tools":[{"type":"web_search_20250305","name":"web_search"}]}"#),
        ("mistral", r#"{"messages":[{"content":[{"type":"document_url","document_url":"https://x"}]}]}"#),
        ("gemini", r#"{"contents":[{"parts":[{"inlineData":{}}]}]}"#),
        ("gemini", r#"{"contents":{"parts":{"file_data":{}}}}"#),
        ("gemini", r#"{"contents":[],"cachedContent":"cachedContents/x"}"#),
        ("gemini", r#"{"contents":[],"tools":{"google_search":{}}}"#),
        ("aws-bedrock", r#"{"messages":[{"content":[{"image":{}}]}]}"#),
        ("aws-bedrock", r#"{"messages":[{"content":[{"toolResult":{"content":[{"document":{}}]}}]}]}"#),
    ] {
        assert!(plan(template).read(body.as_bytes()).unwrap().elsewhere.is_some(), "{template} {body}");
    }
}
