//! A template on the wire: all that a node must know of a vendor's API.

use proto::config::{
    Dialect as WireDialect, StreamFraming as WireFraming, Template as WireTemplate,
    template::{AskUsage as WireAskUsage, Model, Request, Usage},
};

use crate::model::template::{
    AskUsage, AuthFailure, CredentialHeader, Dialect, ModelLocations, RealtimeLocations, RequestLocations,
    StreamFraming, Template, TemplateSpec, UsageLocations,
};

pub(super) fn template(template: &Template) -> WireTemplate {
    let Template { id: _, name, spec } = template;
    let TemplateSpec {
        display_name: _,
        version,
        dialect,
        default_upstream_url: _,
        upstream_url_example: _,
        version_segments: _,
        credential: CredentialHeader { header, prefix },
        credential_names,
        auth_failure: AuthFailure { status, body },
        key_locations: _,
        sample_model: _,
        usage,
        model,
        realtime,
        ask_usage,
        request,
    } = spec;
    let RealtimeLocations { paths, key_protocol } = realtime.clone().unwrap_or_default();
    let dialect = match dialect {
        Dialect::Openai => WireDialect::Openai,
        Dialect::Anthropic => WireDialect::Anthropic,
        Dialect::Gemini => WireDialect::Gemini,
        Dialect::Mistral => WireDialect::Mistral,
        Dialect::Bedrock => WireDialect::Bedrock,
    };
    WireTemplate {
        name: name.as_str().to_owned(),
        version: *version,
        dialect: dialect.into(),
        credential_header: header.clone(),
        credential_prefix: prefix.clone(),
        auth_failure_status: status.iter().copied().map(u32::from).collect(),
        usage: usage.as_ref().map(self::usage),
        model: model.as_ref().map(self::model),
        credential_names: credential_names.clone(),
        auth_failure_body: body.clone(),
        realtime_paths: paths,
        realtime_key_protocol: key_protocol,
        ask_usage: ask_usage.as_ref().map(self::ask_usage),
        error_header: usage.as_ref().map(|usage| usage.error_header.clone()).unwrap_or_default(),
        unfinished: usage.as_ref().map(|usage| usage.unfinished.clone()).unwrap_or_default(),
        model_list_paths: model.as_ref().map(|model| model.list_paths.clone()).unwrap_or_default(),
        unmodelled_paths: model.as_ref().map(|model| model.unmodelled_paths.clone()).unwrap_or_default(),
        request: request.as_ref().map(self::request),
    }
}

fn request(request: &RequestLocations) -> Request {
    let RequestLocations { output_bound, output_times, output_each, elsewhere, uncharged_paths } = request;
    Request {
        output_bound: output_bound.clone(),
        output_times: output_times.clone(),
        output_each: output_each.clone(),
        elsewhere: elsewhere.clone(),
        uncharged_paths: uncharged_paths.clone(),
    }
}

fn ask_usage(ask: &AskUsage) -> WireAskUsage {
    let AskUsage { paths, api_version_from, unversioned, unless } = ask;
    WireAskUsage {
        paths: paths.clone(),
        api_version_from: api_version_from.clone(),
        unless: unless.clone(),
        unversioned: unversioned.clone(),
    }
}

fn usage(usage: &UsageLocations) -> Usage {
    let UsageLocations {
        input,
        output,
        cached_input,
        cache_write,
        reasoning,
        input_excludes_cached,
        output_excludes_reasoning,
        input_header,
        output_header,
        framing,
        further_input,
        input_audio,
        cached_audio,
        output_audio,
        finish_reason,
        unfinished: _,
        tool_calls,
        error_type,
        error_header: _,
        text,
        payload,
    } = usage;
    let framing = match framing {
        StreamFraming::Sse => WireFraming::Sse,
        StreamFraming::AwsEventStream => WireFraming::AwsEventStream,
    };
    Usage {
        input: input.clone(),
        output: output.clone(),
        cached_input: cached_input.clone(),
        cache_write: cache_write.clone(),
        reasoning: reasoning.clone(),
        input_excludes_cached: *input_excludes_cached,
        input_header: input_header.clone(),
        output_header: output_header.clone(),
        framing: framing.into(),
        output_excludes_reasoning: *output_excludes_reasoning,
        input_audio: input_audio.clone(),
        output_audio: output_audio.clone(),
        cached_audio: cached_audio.clone(),
        finish_reason: finish_reason.clone(),
        further_input: further_input.clone(),
        tool_calls: tool_calls.clone(),
        error_type: error_type.clone(),
        text: text.clone(),
        payload: payload.clone(),
    }
}

fn model(model: &ModelLocations) -> Model {
    let ModelLocations {
        request_body,
        request_path_before,
        request_path_after,
        response_body,
        // Of the template itself.
        list_paths: _,
        unmodelled_paths: _,
    } = model;
    Model {
        request_body: request_body.clone(),
        request_path_before: request_path_before.clone(),
        request_path_after: request_path_after.clone(),
        response_body: response_body.clone(),
    }
}
