//! Templates: how a vendor's API is spoken. Data, not code: the built-in ones are the files in `templates/`, read and
//! checked at start.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::access_control::check_path;
use super::error::Violation;
use super::id::TemplateId;
use super::key_location::{self, KeyLocation, KeyPlace};
use super::name::Name;

/// Everything about a vendor's API that a gateway must know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TemplateSpec {
    /// For people.
    pub display_name: String,
    /// Raised with every change of the data.
    pub version: u32,
    /// Whose shape errors and streams have.
    pub dialect: Dialect,
    /// Null: every account has its own, see `upstreamUrlExample`.
    #[serde(default)]
    pub default_upstream_url: Option<String>,
    /// What an upstream URL looks like.
    pub upstream_url_example: String,
    /// Trailing path segments that belong to what clients send and are taken off upstream URLs.
    #[serde(default)]
    pub version_segments: Vec<String>,
    /// How the vendor is shown its credential.
    pub credential: CredentialHeader,
    /// Where the vendor itself reads keys from; never sent on from a client.
    pub credential_names: Vec<String>,
    /// Which of the vendor's answers mean that the credential is bad.
    pub auth_failure: AuthFailure,
    /// Where gateway keys travel unless an endpoint says otherwise.
    pub key_locations: Vec<KeyLocation>,
    /// For examples and snippets.
    pub sample_model: String,
    /// Where token counts stand; null: never known.
    #[serde(default)]
    pub usage: Option<UsageLocations>,
    /// Where the model stands; null: never known.
    #[serde(default)]
    pub model: Option<ModelLocations>,
    /// Where the vendor speaks WebSocket; null: nowhere.
    #[serde(default)]
    pub realtime: Option<RealtimeLocations>,
    /// Which streams carry usage only when asked; null: none are asked on a client's behalf.
    #[serde(default)]
    pub ask_usage: Option<AskUsage>,
    /// What a request says of what it may come to; null: none bounds its output.
    #[serde(default)]
    pub request: Option<RequestLocations>,
}

/// Families of API shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// `OpenAI`, Azure and everything compatible.
    Openai,
    /// Anthropic.
    Anthropic,
    /// Google Gemini.
    Gemini,
    /// Mistral.
    Mistral,
    /// AWS Bedrock.
    Bedrock,
}

/// The header that carries the vendor's credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialHeader {
    /// Lower case.
    pub header: String,
    /// Before the value; may be empty.
    #[serde(default)]
    pub prefix: String,
}

/// The vendor's way to say that the credential is bad.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthFailure {
    /// HTTP statuses.
    pub status: Vec<u16>,
    /// Such an answer must also hold this text; empty: the status is enough.
    #[serde(default)]
    pub body: String,
}

/// JSON pointers into answers and stream events; of each list the first that is there counts. A step `*` stands for
/// every element of an array, `*[name=value]` for those that have this text under this name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UsageLocations {
    /// Input tokens.
    #[serde(default)]
    pub input: Vec<String>,
    /// Output tokens.
    #[serde(default)]
    pub output: Vec<String>,
    /// Of the input, read from the vendor's cache.
    #[serde(default)]
    pub cached_input: Vec<String>,
    /// Of the input, written to the vendor's cache.
    #[serde(default)]
    pub cache_write: Vec<String>,
    /// Of the output, spent on reasoning.
    #[serde(default)]
    pub reasoning: Vec<String>,
    /// Input that the vendor leaves out of its input count.
    #[serde(default)]
    pub further_input: Vec<String>,
    /// Of the input, sound, from the vendor's cache or not.
    #[serde(default)]
    pub input_audio: Vec<String>,
    /// Of the input, sound from the vendor's cache.
    #[serde(default)]
    pub cached_audio: Vec<String>,
    /// Of the output, sound.
    #[serde(default)]
    pub output_audio: Vec<String>,
    /// Why the answer ended.
    #[serde(default)]
    pub finish_reason: Vec<String>,
    /// What stands there as long as there is no reason.
    #[serde(default)]
    pub unfinished: Vec<String>,
    /// A text that is there once for each tool call.
    #[serde(default)]
    pub tool_calls: Vec<String>,
    /// The vendor's class of an error. A pointer of one step counts in answers of 4xx and 5xx only.
    #[serde(default)]
    pub error_type: Vec<String>,
    /// Answer header with the class of an error, up to a colon; empty: none.
    #[serde(default)]
    pub error_header: String,
    /// What the model said: tells when the first token came, and what an answer that was cut short may have cost.
    #[serde(default)]
    pub text: Vec<String>,
    /// Another document in base64, as in the streams of Bedrock's `InvokeModel`.
    #[serde(default)]
    pub payload: Vec<String>,
    /// The vendor's input count leaves cached and cache-write tokens out.
    #[serde(default)]
    pub input_excludes_cached: bool,
    /// The vendor's output count leaves reasoning out.
    #[serde(default)]
    pub output_excludes_reasoning: bool,
    /// Answer header with the input count; empty: none.
    #[serde(default)]
    pub input_header: String,
    /// Answer header with the output count; empty: none.
    #[serde(default)]
    pub output_header: String,
    /// How streams are cut into events.
    #[serde(default)]
    pub framing: StreamFraming,
}

/// Streams that carry usage only when the request has `stream_options.include_usage`: it is put there where the client
/// did not, and what comes of it is hidden from the client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AskUsage {
    /// Paths, without the query; one `*` stands for a part of one segment.
    #[serde(default)]
    pub paths: Vec<String>,
    /// For these the query's `api-version` must begin with this date or a later one; empty: any.
    #[serde(default)]
    pub api_version_from: String,
    /// Paths that are asked whatever `api-version` says.
    #[serde(default)]
    pub unversioned: Vec<String>,
    /// A request with one of these members at its top is not asked.
    #[serde(default)]
    pub unless: Vec<String>,
}

/// How streams are cut into events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StreamFraming {
    /// Server-sent events.
    #[default]
    Sse,
    /// AWS's binary event stream.
    AwsEventStream,
}

/// Where the model stands: in the request first, then in the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelLocations {
    /// JSON pointer into the request; empty: not in the body.
    #[serde(default)]
    pub request_body: String,
    /// The model is the part of the path after this text; empty: not in the path.
    #[serde(default)]
    pub request_path_before: String,
    /// ... and before the first of these, or the end.
    #[serde(default)]
    pub request_path_after: Vec<String>,
    /// JSON pointers into an answer or stream event.
    #[serde(default)]
    pub response_body: Vec<String>,
    /// Paths where the vendor lists its models; below one, a path names a model.
    #[serde(default)]
    pub list_paths: Vec<String>,
    /// Paths, as access rules write them, whose requests carry a body and run no model: where models are restricted,
    /// these alone may name none.
    #[serde(default)]
    pub unmodelled_paths: Vec<String>,
}

/// What a request says of what it may come to. JSON pointers into its body; a step `*` stands for every element of an
/// array.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestLocations {
    /// Tokens of output at most; of several the largest.
    #[serde(default)]
    pub output_bound: Vec<String>,
    /// How many answers are wanted; of several the largest.
    #[serde(default)]
    pub output_times: Vec<String>,
    /// Texts and arrays at these places are asked one by one.
    #[serde(default)]
    pub output_each: Vec<String>,
    /// What stands for input that is not in the body, so that its bytes do not bound it: addresses, files, earlier
    /// answers, pictures. Behind `!=`, texts that do not, with a `|` between them.
    #[serde(default)]
    pub elsewhere: Vec<String>,
    /// Paths, as access rules write them, whose requests name a model, run none and cost nothing.
    #[serde(default)]
    pub uncharged_paths: Vec<String>,
}

/// Where the vendor speaks WebSocket, and how a browser, which cannot set headers, shows its key there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RealtimeLocations {
    /// Paths, without the query; one `*` stands for a part of one segment.
    pub paths: Vec<String>,
    /// The key may travel as a subprotocol that begins with this; empty: there is no such way.
    #[serde(default)]
    pub key_protocol: String,
}

/// A template with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Fixed in its file: the same in every installation.
    pub id: TemplateId,
    /// What providers say in `template`.
    pub name: Name,
    /// The data.
    pub spec: TemplateSpec,
}

impl Template {
    /// SHA-256 of the data: tells when a new binary brought other data.
    pub fn digest(&self) -> [u8; 32] {
        let data = serde_json::to_vec(&(&self.name, &self.spec)).expect("a template is plain data");
        Sha256::digest(data).into()
    }
}

/// Why a data file is no template.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// Not in the form.
    #[error("template `{0}` cannot be read")]
    Read(&'static str, #[source] toml::de::Error),
    /// In the form, and wrong.
    #[error("template `{name}` is wrong at {at}: {message}")]
    Wrong {
        /// The file's.
        name: String,
        /// JSON pointer.
        at: String,
        /// Why.
        message: String,
    },
}

/// The templates there are.
#[derive(Clone, Debug)]
pub struct Templates(Vec<Template>);

#[derive(Deserialize)]
struct File {
    id: TemplateId,
    #[serde(flatten)]
    spec: toml::Table,
}

/// In the order in which the console offers them.
const BUILTIN: [(&str, &str); 8] = [
    ("openai", include_str!("../../templates/openai.toml")),
    ("anthropic", include_str!("../../templates/anthropic.toml")),
    ("gemini", include_str!("../../templates/gemini.toml")),
    ("mistral", include_str!("../../templates/mistral.toml")),
    ("azure-openai", include_str!("../../templates/azure-openai.toml")),
    ("azure-ai-foundry", include_str!("../../templates/azure-ai-foundry.toml")),
    ("aws-bedrock", include_str!("../../templates/aws-bedrock.toml")),
    ("openai-compatible", include_str!("../../templates/openai-compatible.toml")),
];

impl Templates {
    /// Those that the binary carries.
    pub fn builtin() -> Result<Self, TemplateError> {
        let read = |(name, text): (&'static str, &str)| {
            let File { id, spec } = toml::from_str(text).map_err(|error| TemplateError::Read(name, error))?;
            let spec: TemplateSpec =
                toml::Value::Table(spec).try_into().map_err(|error| TemplateError::Read(name, error))?;
            let mut violations = Vec::new();
            check(&spec, &mut violations);
            if let Some(Violation { pointer, message, .. }) = violations.into_iter().next() {
                return Err(TemplateError::Wrong { name: name.to_owned(), at: pointer, message });
            }
            Ok(Template { id, name: Name::stored(name.to_owned()), spec })
        };
        BUILTIN.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// All, in order.
    pub fn all(&self) -> &[Template] {
        &self.0
    }

    /// By name or id.
    pub fn find(&self, key: &str) -> Option<&Template> {
        self.0.iter().find(|template| template.name.as_str() == key || template.id.to_string() == key)
    }

    /// By name, as an input says it.
    pub fn named(&self, name: &str) -> Result<&Template, Violation> {
        self.0.iter().find(|template| template.name.as_str() == name).ok_or_else(|| {
            let names = self.0.iter().map(|template| template.name.as_str());
            let message = format!("must be one of: {}", names.clone().collect::<Vec<_>>().join(", "));
            Violation::new("/template", "not_found", message).suggest(name, names)
        })
    }
}

/// What the types cannot say.
fn check(spec: &TemplateSpec, violations: &mut Vec<Violation>) {
    let TemplateSpec {
        credential,
        auth_failure,
        key_locations,
        credential_names,
        usage,
        model,
        realtime,
        ask_usage,
        request,
        ..
    } = spec;
    if key_locations.is_empty() {
        violations.push(Violation::invalid("/keyLocations", "must not be empty"));
    }
    key_location::check(key_locations, "/keyLocations", violations);
    if !key_locations.first().is_some_and(|first| {
        first.r#in == KeyPlace::Header && first.name.eq_ignore_ascii_case("x-api-key") && first.prefix.is_empty()
    }) {
        violations.push(Violation::invalid("/keyLocations/0", "must be the header X-API-Key"));
    }
    let lower = |text: &str| !text.is_empty() && text == text.to_ascii_lowercase();
    if !lower(&credential.header) || !credential_names.contains(&credential.header) {
        violations.push(Violation::invalid("/credential/header", "must be lower case and among credentialNames"));
    }
    if auth_failure.status.iter().any(|status| !(400..500).contains(status)) {
        violations.push(Violation::invalid("/authFailure/status", "must be 4xx"));
    }
    let asked = ask_usage.iter().flat_map(|ask| ask.paths.iter().chain(&ask.unversioned));
    let paths = realtime.iter().flat_map(|realtime| &realtime.paths).chain(asked);
    if paths.clone().any(|path| !path.starts_with('/') || path.matches('*').count() > 1 || path.contains('?')) {
        violations.push(Violation::invalid(
            "/realtime/paths",
            "must be, as those of `/askUsage`, paths with at most one `*` and no query",
        ));
    }
    let mut pointers: Vec<&String> = Vec::new();
    if let Some(usage) = usage {
        pointers.extend(
            [
                &usage.input,
                &usage.further_input,
                &usage.output,
                &usage.cached_input,
                &usage.cache_write,
                &usage.reasoning,
                &usage.input_audio,
                &usage.cached_audio,
                &usage.output_audio,
                &usage.finish_reason,
                &usage.tool_calls,
                &usage.error_type,
                &usage.text,
                &usage.payload,
            ]
            .into_iter()
            .flatten(),
        );
    }
    if let Some(model) = model {
        pointers.extend(model.response_body.iter().chain(Some(&model.request_body).filter(|text| !text.is_empty())));
    }
    for path in model.iter().flat_map(|model| model.list_paths.iter().chain(&model.unmodelled_paths)) {
        if let Err(message) = check_path(path) {
            violations.push(Violation::invalid("/model", format!("`{path}` {message}")));
        }
    }
    if let Some(RequestLocations { output_bound, output_times, output_each, elsewhere, uncharged_paths }) = request {
        pointers.extend([output_bound, output_times, output_each, elsewhere].into_iter().flatten());
        for path in uncharged_paths {
            if let Err(message) = check_path(path) {
                violations.push(Violation::invalid("/request/unchargedPaths", format!("`{path}` {message}")));
            }
        }
    }
    for pointer in pointers {
        if !pointer.starts_with('/') {
            violations.push(Violation::invalid("/usage", format!("`{pointer}` is no JSON pointer")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_template_reads_and_its_id_is_its_own() {
        let templates = Templates::builtin().unwrap();
        let mut ids: Vec<_> = templates.all().iter().map(|template| template.id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 8);
    }

    #[test]
    fn an_unknown_template_is_told_with_the_nearest() {
        let templates = Templates::builtin().unwrap();
        let violation = templates.named("opnai").unwrap_err();
        assert_eq!((violation.pointer.as_str(), violation.suggestion.as_deref()), ("/template", Some("openai")));
    }

    #[test]
    fn keys_travel_where_each_vendors_sdk_puts_them() {
        let templates = Templates::builtin().unwrap();
        let second = |name: &str| {
            let location = &templates.find(name).unwrap().spec.key_locations[1];
            (location.name.to_ascii_lowercase(), location.prefix.clone())
        };
        let bearer = ("authorization".to_owned(), "Bearer ".to_owned());
        for name in ["openai", "anthropic", "mistral", "openai-compatible", "aws-bedrock"] {
            assert_eq!(second(name), bearer, "{name}");
        }
        assert_eq!(second("azure-openai"), ("api-key".to_owned(), String::new()));
        assert_eq!(second("gemini"), ("x-goog-api-key".to_owned(), String::new()));
    }
}
