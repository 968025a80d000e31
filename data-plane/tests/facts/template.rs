//! Where facts stand in answers, by the data of the built-in templates.

use data_plane::dialect::facts::{Framing, Places, Plan};

/// As a built-in template says it.
pub(crate) fn plan(template: &str) -> Plan {
    let text =
        std::fs::read_to_string(format!("{}/../control-plane/templates/{template}.toml", env!("CARGO_MANIFEST_DIR")))
            .unwrap();
    let template: toml::Value = toml::from_str(&text).unwrap();
    let texts = |part: &str, name: &str| -> Vec<String> {
        let list = template.get(part).and_then(|part| part.get(name)).and_then(toml::Value::as_array);
        list.into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let list = |name: &str| texts("usage", name);
    let flag = |name: &str| template["usage"].get(name).and_then(toml::Value::as_bool).unwrap_or_default();
    let mut plan = Plan::new(&Places {
        model: &texts("model", "responseBody"),
        input: &list("input"),
        further_input: &list("furtherInput"),
        output: &list("output"),
        cached_input: &list("cachedInput"),
        cache_write: &list("cacheWrite"),
        reasoning: &list("reasoning"),
        input_audio: &list("inputAudio"),
        cached_audio: &list("cachedAudio"),
        output_audio: &list("outputAudio"),
        finish_reason: &list("finishReason"),
        tool_calls: &list("toolCalls"),
        error_type: &list("errorType"),
        text: &list("text"),
        payload: &list("payload"),
    })
    .unwrap();
    plan.input_excludes_cached = flag("inputExcludesCached");
    plan.output_excludes_reasoning = flag("outputExcludesReasoning");
    plan.unfinished = list("unfinished").into_iter().map(Into::into).collect();
    if template["usage"]["framing"].as_str() == Some("aws-event-stream") {
        plan.framing = Framing::AwsEventStream;
    }
    plan
}
