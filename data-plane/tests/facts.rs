//! What answers tell, vendor by vendor: one recorded answer each, streaming and not, read whole and in any pieces.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use data_plane::dialect::facts::{Facts, Framing, Observer, Places, Plan, Shape};
use proptest::prelude::*;

/// As the built-in templates say it.
struct Vendor {
    model: &'static [&'static str],
    input: &'static [&'static str],
    output: &'static [&'static str],
    cached_input: &'static [&'static str],
    cache_write: &'static [&'static str],
    reasoning: &'static [&'static str],
    input_excludes_cached: bool,
    output_excludes_reasoning: bool,
    framing: Framing,
}

const NOTHING: Vendor = Vendor {
    model: &[],
    input: &[],
    output: &[],
    cached_input: &[],
    cache_write: &[],
    reasoning: &[],
    input_excludes_cached: false,
    output_excludes_reasoning: false,
    framing: Framing::ServerSentEvents,
};

const OPENAI: Vendor = Vendor {
    model: &["/model", "/response/model"],
    input: &["/usage/prompt_tokens", "/usage/input_tokens", "/response/usage/input_tokens"],
    output: &["/usage/completion_tokens", "/usage/output_tokens", "/response/usage/output_tokens"],
    cached_input: &[
        "/usage/prompt_tokens_details/cached_tokens",
        "/usage/input_tokens_details/cached_tokens",
        "/response/usage/input_tokens_details/cached_tokens",
    ],
    reasoning: &[
        "/usage/completion_tokens_details/reasoning_tokens",
        "/usage/output_tokens_details/reasoning_tokens",
        "/response/usage/output_tokens_details/reasoning_tokens",
    ],
    ..NOTHING
};

const ANTHROPIC: Vendor = Vendor {
    model: &["/model", "/message/model"],
    input: &["/usage/input_tokens", "/message/usage/input_tokens"],
    output: &["/usage/output_tokens", "/message/usage/output_tokens"],
    cached_input: &["/usage/cache_read_input_tokens", "/message/usage/cache_read_input_tokens"],
    cache_write: &["/usage/cache_creation_input_tokens", "/message/usage/cache_creation_input_tokens"],
    input_excludes_cached: true,
    ..NOTHING
};

const GEMINI: Vendor = Vendor {
    model: &["/modelVersion"],
    input: &["/usageMetadata/promptTokenCount"],
    output: &["/usageMetadata/candidatesTokenCount"],
    cached_input: &["/usageMetadata/cachedContentTokenCount"],
    reasoning: &["/usageMetadata/thoughtsTokenCount"],
    output_excludes_reasoning: true,
    ..NOTHING
};

const MISTRAL: Vendor =
    Vendor { model: &["/model"], input: &["/usage/prompt_tokens"], output: &["/usage/completion_tokens"], ..NOTHING };

const BEDROCK: Vendor = Vendor {
    input: &["/usage/inputTokens"],
    output: &["/usage/outputTokens"],
    framing: Framing::AwsEventStream,
    ..NOTHING
};

impl Vendor {
    fn plan(&self) -> Plan {
        let list = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let mut plan = Plan::new(&Places {
            model: &list(self.model),
            input: &list(self.input),
            output: &list(self.output),
            cached_input: &list(self.cached_input),
            cache_write: &list(self.cache_write),
            reasoning: &list(self.reasoning),
        })
        .unwrap();
        plan.input_excludes_cached = self.input_excludes_cached;
        plan.output_excludes_reasoning = self.output_excludes_reasoning;
        plan.framing = self.framing;
        plan
    }

    fn read<'a>(&self, shape: Shape, pieces: impl IntoIterator<Item = &'a [u8]>) -> Facts {
        let plan = self.plan();
        let mut observer = Observer::new(&plan, shape);
        for piece in pieces {
            observer.feed(&plan, piece);
        }
        observer.facts(&plan)
    }
}

/// Bedrock's framing around each payload; checksums are not looked at.
fn frames(payloads: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for payload in payloads {
        let total = u32::try_from(16 + 7 + payload.len()).unwrap();
        bytes.extend(total.to_be_bytes());
        bytes.extend(7_u32.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(b"headers");
        bytes.extend(payload.as_bytes());
        bytes.extend([0; 4]);
    }
    bytes
}

fn recorded() -> Vec<(&'static str, Vendor, Shape, Vec<u8>)> {
    let file =
        |name: &str| std::fs::read(format!("{}/tests/golden/answers/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    vec![
        ("openai chat", OPENAI, Shape::Document, file("openai_chat.json")),
        ("openai chat stream", OPENAI, Shape::Events, file("openai_chat.sse")),
        ("openai chat stream without usage", OPENAI, Shape::Events, file("openai_chat_unasked.sse")),
        ("openai responses", OPENAI, Shape::Document, file("openai_responses.json")),
        ("openai responses stream", OPENAI, Shape::Events, file("openai_responses.sse")),
        ("openai embeddings", OPENAI, Shape::Document, file("openai_embeddings.json")),
        ("openai error", OPENAI, Shape::Document, file("openai_error.json")),
        ("azure chat stream", OPENAI, Shape::Events, file("azure_chat.sse")),
        ("anthropic messages", ANTHROPIC, Shape::Document, file("anthropic_messages.json")),
        ("anthropic messages stream", ANTHROPIC, Shape::Events, file("anthropic_messages.sse")),
        ("gemini generate", GEMINI, Shape::Document, file("gemini_generate.json")),
        ("gemini generate stream", GEMINI, Shape::Events, file("gemini_generate.sse")),
        ("gemini generate list", GEMINI, Shape::Document, file("gemini_generate_list.json")),
        ("mistral chat", MISTRAL, Shape::Document, file("mistral_chat.json")),
        ("mistral chat stream", MISTRAL, Shape::Events, file("mistral_chat.sse")),
        (
            "bedrock converse",
            BEDROCK,
            Shape::Document,
            br#"{"output":{"message":{}},"usage":{"inputTokens":7,"outputTokens":8,"totalTokens":15}}"#.to_vec(),
        ),
        (
            "bedrock converse stream",
            BEDROCK,
            Shape::Events,
            frames(&[
                r#"{"role":"assistant"}"#,
                r#"{"delta":{"text":"hi"}}"#,
                r#"{"metrics":{"latencyMs":5},"usage":{"inputTokens":7,"outputTokens":8,"totalTokens":15}}"#,
            ]),
        ),
    ]
}

#[test]
fn recorded_answers_give_their_facts() {
    let mut found = String::new();
    for (name, vendor, shape, bytes) in recorded() {
        let facts = vendor.read(shape, [bytes.as_slice()]);
        writeln!(found, "{name}: {facts:?}").unwrap();
    }
    insta::with_settings!({ snapshot_path => "golden", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("facts", found);
    });
}

#[test]
fn a_stream_and_its_single_document_twin_give_the_same_facts() {
    let of = |wanted: &str| {
        let (_, vendor, shape, bytes) = recorded().into_iter().find(|(name, ..)| *name == wanted).unwrap();
        vendor.read(shape, [bytes.as_slice()])
    };
    for (stream, twin) in [
        ("openai chat stream", "openai chat"),
        ("openai responses stream", "openai responses"),
        ("anthropic messages stream", "anthropic messages"),
        ("gemini generate stream", "gemini generate"),
        ("gemini generate list", "gemini generate"),
        ("mistral chat stream", "mistral chat"),
        ("bedrock converse stream", "bedrock converse"),
    ] {
        assert_eq!(of(stream), of(twin), "{stream}");
        assert!(of(stream).input.is_some() && of(stream).output.is_some(), "{stream}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_pieces_give_the_same_facts(cuts in proptest::collection::vec(0.0..1.0_f64, 0..12)) {
        for (name, vendor, shape, bytes) in recorded() {
            let whole = vendor.read(shape, [bytes.as_slice()]);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let mut places: Vec<usize> = cuts.iter().map(|cut| (cut * bytes.len() as f64) as usize).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let pieces = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
            prop_assert_eq!(vendor.read(shape, pieces), whole, "{}", name);
        }
    }

    #[test]
    fn bytes_that_mean_nothing_are_no_facts_and_no_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300), piece in 1..40_usize
    ) {
        for shape in [Shape::Document, Shape::Events, Shape::Opaque] {
            for vendor in [OPENAI, BEDROCK] {
                prop_assert_eq!(vendor.read(shape, bytes.chunks(piece)), Facts::default());
            }
        }
    }
}

#[test]
fn single_bytes_give_the_same_facts() {
    for (name, vendor, shape, bytes) in recorded() {
        assert_eq!(vendor.read(shape, bytes.chunks(1)), vendor.read(shape, [bytes.as_slice()]), "{name}");
    }
}
