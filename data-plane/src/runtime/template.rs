//! How a vendor's API is spoken, compiled for the request path.

use http::HeaderName;
use uuid::Uuid;

use super::access::Pattern;
use crate::dialect::pointer::Pointers;
use crate::dialect::{Dialect, demand, facts};

/// A template.
#[derive(Debug)]
pub struct Template {
    /// Its id.
    pub id: Uuid,
    /// E.g. `openai`.
    pub name: Box<str>,
    /// Shape of errors and streams.
    pub dialect: Dialect,
    /// Where the vendor reads its credential; `None`: it wants none.
    pub credential_header: Option<HeaderName>,
    /// Precedes the credential, e.g. `Bearer `.
    pub credential_prefix: Box<str>,
    /// Which answers mean "your stored credential is bad".
    pub auth_failure: AuthFailure,
    /// Where the facts of an answer stand.
    pub answer: facts::Plan,
    /// Where the model of a request stands.
    pub model: ModelPlan,
    /// Header and query names that vendors of this template read keys from, lower case; never passed on.
    pub credential_names: Box<[Box<str>]>,
    /// Which paths speak WebSocket.
    pub realtime: Realtime,
    /// Which streams are asked for usage on a client's behalf.
    pub ask_usage: AskUsage,
    /// What a request's body says of what it may come to.
    pub demand: demand::Plan,
    /// Requests there name a model, run none and cost nothing.
    pub uncharged: Box<[Pattern]>,
}

/// Streams that carry usage only when the request has `stream_options.include_usage`.
#[derive(Debug, Default)]
pub struct AskUsage {
    paths: Box<[Box<str>]>,
    unversioned: Box<[Box<str>]>,
    api_version_from: Box<str>,
    /// A request with one of these members at its top is not asked.
    pub unless: Box<[Box<str>]>,
}

impl AskUsage {
    /// Whether a vendor path (without the query) takes the question, at this `api-version` of the query.
    pub fn covers(&self, path: &str, api_version: impl FnOnce() -> Option<String>) -> bool {
        let named = |paths: &[Box<str>]| paths.iter().any(|known| matches(known, path));
        named(&self.unversioned)
            || (named(&self.paths)
                && (self.api_version_from.is_empty()
                    || api_version().is_some_and(|version| {
                        // Versions are dates, so their text sorts; `-preview` and the like come after the date.
                        let date = version.get(..self.api_version_from.len());
                        date.is_some_and(|date| date >= &*self.api_version_from)
                    })))
    }
}

/// Where a vendor speaks WebSocket, and how a browser shows its key there.
#[derive(Debug, Default)]
pub struct Realtime {
    /// A `*` stands for a part of one segment.
    pub paths: Box<[Box<str>]>,
    /// A subprotocol that begins so carries a key; empty: none does.
    pub key_protocol: Box<str>,
}

impl Realtime {
    /// Whether a vendor path (without the query) speaks WebSocket.
    pub fn covers(&self, path: &str) -> bool {
        self.paths.iter().any(|known| matches(known, path))
    }
}

/// Whether it is this path; a `*` stands for a part of one segment.
fn matches(known: &str, path: &str) -> bool {
    match known.split_once('*') {
        None => *known == *path,
        Some((before, after)) => path
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(after))
            .is_some_and(|part| !part.is_empty() && !part.contains('/')),
    }
}

/// A vendor's way of saying that the stored credential is bad.
#[derive(Debug, Default)]
pub struct AuthFailure {
    /// Statuses it uses.
    pub statuses: Box<[u16]>,
    /// The body must also contain this; empty: the status is enough.
    pub body: Box<str>,
}

/// Where a request names its model.
#[derive(Debug, Default)]
pub struct ModelPlan {
    /// One pointer into the body; empty: not there.
    pub body: Pointers,
    /// The same, as it is written; empty: not there.
    pub pointer: Box<str>,
    /// The model is the path between this text ...
    pub path_before: Box<str>,
    /// ... and the first of these, or the end.
    pub path_after: Box<[Box<str>]>,
    /// Where the vendor lists its models; below one, a path names a model.
    pub list_paths: Box<[Box<str>]>,
    /// Requests there carry a body and run no model.
    pub unmodelled: Box<[Pattern]>,
}

impl ModelPlan {
    /// The model in a vendor path (without the query), as it is written there.
    pub fn in_path<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.path_before.is_empty() {
            return None;
        }
        let start = path.find(&*self.path_before)? + self.path_before.len();
        let rest = &path[start..];
        let end = self.path_after.iter().filter_map(|after| rest.find(&**after)).min().unwrap_or(rest.len());
        (end > 0).then(|| &rest[..end])
    }
}

mod wire {
    use http::HeaderName;
    use prost::Message as _;
    use proto::config::{StreamFraming, template};
    use uuid::Uuid;

    use super::{AskUsage, AuthFailure, Dialect, ModelPlan, Pattern, Pointers, Realtime, Template, demand, facts};
    use crate::runtime::invalid::{Code, Invalid};

    impl Template {
        pub(in crate::runtime) fn from_wire(id: Uuid, body: &[u8]) -> Result<Self, Invalid> {
            let proto::config::Template {
                name,
                version: _,
                dialect,
                credential_header,
                credential_prefix,
                auth_failure_status,
                usage,
                model,
                credential_names,
                auth_failure_body,
                realtime_paths,
                realtime_key_protocol,
                ask_usage,
                error_header,
                unfinished,
                model_list_paths,
                unmodelled_paths,
                request,
            } = proto::config::Template::decode(body)
                .map_err(|_| Invalid::new("", Code::Undecodable, "the template cannot be decoded"))?;
            let dialect = dialect_of(dialect)?;
            let credential_header = match credential_header.as_str() {
                "" => None,
                header => Some(
                    HeaderName::from_bytes(header.as_bytes())
                        .map_err(|_| Invalid::new("/credential/header", Code::Malformed, "not a header name"))?,
                ),
            };
            if http::HeaderValue::from_str(&credential_prefix).is_err() {
                return Err(Invalid::new("/credential/prefix", Code::Malformed, "not fit for a header"));
            }
            let statuses = auth_failure_status
                .into_iter()
                .map(|status| {
                    u16::try_from(status)
                        .ok()
                        .filter(|status| (400..600).contains(status))
                        .ok_or_else(|| Invalid::new("/authFailureStatus", Code::Malformed, "not a status of an error"))
                })
                .collect::<Result<Vec<_>, _>>()?;
            let (mut model, served) = model_plan(model)?;
            model.list_paths = model_list_paths.into_iter().map(Into::into).collect();
            let unmodelled = unmodelled_paths.iter().map(|path| Pattern::parse(path)).collect::<Option<_>>();
            model.unmodelled = unmodelled.ok_or_else(|| {
                Invalid::new("/model/unmodelledPaths", Code::Malformed, "not paths with a final `/*`")
            })?;
            let mut answer = answer_plan(usage, &served)?;
            answer.error_header = header(&error_header, "/usage/errorHeader")?;
            answer.unfinished = boxed(unfinished);
            let (demand, uncharged) = demand_plan(request.unwrap_or_default())?;
            let template::AskUsage { paths, api_version_from, unless, unversioned } = ask_usage.unwrap_or_default();
            Ok(Self {
                id,
                name: name.into(),
                dialect,
                credential_header,
                credential_prefix: credential_prefix.into(),
                auth_failure: AuthFailure { statuses: statuses.into(), body: auth_failure_body.into() },
                answer,
                model,
                credential_names: credential_names.into_iter().map(|name| name.to_ascii_lowercase().into()).collect(),
                realtime: Realtime {
                    paths: realtime_paths.into_iter().map(Into::into).collect(),
                    key_protocol: realtime_key_protocol.into(),
                },
                ask_usage: AskUsage {
                    paths: boxed(paths),
                    unversioned: boxed(unversioned),
                    api_version_from: api_version_from.into(),
                    unless: boxed(unless),
                },
                demand,
                uncharged,
            })
        }
    }

    fn dialect_of(dialect: i32) -> Result<Dialect, Invalid> {
        use proto::config::Dialect as Wire;
        match Wire::try_from(dialect) {
            Ok(Wire::Openai) => Ok(Dialect::OpenAi),
            Ok(Wire::Anthropic) => Ok(Dialect::Anthropic),
            Ok(Wire::Gemini) => Ok(Dialect::Gemini),
            Ok(Wire::Mistral) => Ok(Dialect::Mistral),
            Ok(Wire::Bedrock) => Ok(Dialect::Bedrock),
            Ok(Wire::Unspecified) | Err(_) => {
                Err(Invalid::new("/dialect", Code::Unsupported, "this node does not speak the dialect"))
            }
        }
    }

    fn demand_plan(request: template::Request) -> Result<(demand::Plan, Box<[Pattern]>), Invalid> {
        let template::Request { output_bound, output_times, output_each, elsewhere, uncharged_paths } = request;
        let places =
            demand::Places { output: &output_bound, times: &output_times, each: &output_each, elsewhere: &elsewhere };
        let plan = demand::Plan::new(&places).map_err(|_| bad_pointer("/request"))?;
        let paths = uncharged_paths.iter().map(|path| Pattern::parse(path)).collect::<Option<_>>();
        let malformed = || Invalid::new("/request/unchargedPaths", Code::Malformed, "not paths with a final `/*`");
        Ok((plan, paths.ok_or_else(malformed)?))
    }

    fn model_plan(model: Option<template::Model>) -> Result<(ModelPlan, Vec<String>), Invalid> {
        let Some(template::Model { request_body, request_path_before, request_path_after, response_body }) = model
        else {
            return Ok((ModelPlan::default(), Vec::new()));
        };
        let body = (!request_body.is_empty()).then_some(request_body.as_str());
        let plan = ModelPlan {
            body: Pointers::new(body).map_err(|_| bad_pointer("/model/requestBody"))?,
            pointer: request_body.into(),
            path_before: request_path_before.into(),
            path_after: request_path_after.into_iter().filter(|after| !after.is_empty()).map(Into::into).collect(),
            list_paths: Box::default(),
            unmodelled: Box::default(),
        };
        Ok((plan, response_body))
    }

    fn answer_plan(usage: Option<template::Usage>, model: &[String]) -> Result<facts::Plan, Invalid> {
        let template::Usage {
            input,
            output,
            cached_input,
            cache_write,
            reasoning,
            input_excludes_cached,
            input_header,
            output_header,
            framing,
            output_excludes_reasoning,
            input_audio,
            output_audio,
            cached_audio,
            finish_reason,
            further_input,
            tool_calls,
            error_type,
            text,
            payload,
        } = usage.unwrap_or_default();
        let framing = match StreamFraming::try_from(framing) {
            Ok(StreamFraming::Unspecified | StreamFraming::Sse) => facts::Framing::ServerSentEvents,
            Ok(StreamFraming::AwsEventStream) => facts::Framing::AwsEventStream,
            Err(_) => {
                return Err(Invalid::new("/usage/framing", Code::Unsupported, "this node does not know the framing"));
            }
        };
        let places = facts::Places {
            model,
            input: &input,
            further_input: &further_input,
            output: &output,
            cached_input: &cached_input,
            cache_write: &cache_write,
            reasoning: &reasoning,
            input_audio: &input_audio,
            cached_audio: &cached_audio,
            output_audio: &output_audio,
            finish_reason: &finish_reason,
            tool_calls: &tool_calls,
            error_type: &error_type,
            text: &text,
            payload: &payload,
        };
        let mut plan = facts::Plan::new(&places).map_err(|_| bad_pointer("/usage"))?;
        plan.input_excludes_cached = input_excludes_cached;
        plan.output_excludes_reasoning = output_excludes_reasoning;
        plan.input_header = header(&input_header, "/usage/inputHeader")?;
        plan.output_header = header(&output_header, "/usage/outputHeader")?;
        plan.framing = framing;
        Ok(plan)
    }

    fn boxed(list: Vec<String>) -> Box<[Box<str>]> {
        list.into_iter().map(Into::into).collect()
    }

    fn header(name: &str, pointer: &'static str) -> Result<Option<Box<str>>, Invalid> {
        if name.is_empty() {
            return Ok(None);
        }
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| Invalid::new(pointer, Code::Malformed, "not a header name"))?;
        Ok(Some(name.as_str().into()))
    }

    fn bad_pointer(place: &'static str) -> Invalid {
        Invalid::new(place, Code::Malformed, "not a JSON pointer by names, of at most eight steps")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(before: &str, after: &[&str]) -> ModelPlan {
        ModelPlan {
            body: Pointers::default(),
            path_before: before.into(),
            path_after: after.iter().map(|text| (*text).into()).collect(),
            ..ModelPlan::default()
        }
    }

    #[test]
    fn a_realtime_path_is_one_that_is_named() {
        let realtime = Realtime {
            paths: ["/v1/realtime", "/ws/google.*.Service.Bidi"].map(Into::into).into(),
            key_protocol: "".into(),
        };
        for path in ["/v1/realtime", "/ws/google.v1beta.Service.Bidi"] {
            assert!(realtime.covers(path), "{path}");
        }
        for path in ["/v1/realtime/", "/v1/realtimes", "", "/ws/google..Service.Bidi", "/ws/google.a/b.Service.Bidi"] {
            assert!(!realtime.covers(path), "{path}");
        }
        assert!(!Realtime::default().covers("/v1/realtime"));
    }

    #[test]
    fn the_model_is_cut_out_of_the_path() {
        let gemini = plan("/models/", &[":", "/"]);
        assert_eq!(gemini.in_path("/v1beta/models/gemini-2.5-flash:generateContent"), Some("gemini-2.5-flash"));
        assert_eq!(gemini.in_path("/v1beta/models/gemini-2.5-flash"), Some("gemini-2.5-flash"));
        assert_eq!(gemini.in_path("/v1beta/models"), None);
        assert_eq!(gemini.in_path("/v1beta/models/"), None);
        let azure = plan("/openai/deployments/", &["/"]);
        assert_eq!(azure.in_path("/openai/deployments/my-gpt4o/chat/completions"), Some("my-gpt4o"));
        assert_eq!(plan("", &[]).in_path("/v1"), None);
    }
}
