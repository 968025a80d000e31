//! What answers tell, vendor by vendor: recorded answers of every operation, streaming and not, read whole and in any
//! pieces by the data of the built-in templates.

#![allow(clippy::unwrap_used)]

#[path = "facts/template.rs"]
mod template;

use std::fmt::Write as _;

use data_plane::dialect::facts::{Facts, Observer, Plan, Shape};
use proptest::prelude::*;

use self::template::plan;

const HOME: &str = env!("CARGO_MANIFEST_DIR");

/// A recorded answer; its file's name begins with the vendor's and ends with how it comes.
struct Recorded {
    name: String,
    plan: Plan,
    way: Way,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Body(Shape),
    /// Of a socket, one each line.
    Messages,
}

impl Recorded {
    fn read(file: &str) -> Self {
        let (name, ending) = file.rsplit_once('.').unwrap();
        let template = match name.split('_').next().unwrap() {
            "azure" => "azure-openai",
            "bedrock" => "aws-bedrock",
            vendor => vendor,
        };
        let bytes = std::fs::read(format!("{HOME}/tests/golden/answers/{file}")).unwrap();
        let (way, bytes) = match ending {
            "json" => (Way::Body(Shape::Document), bytes),
            "sse" => (Way::Body(Shape::Events), bytes),
            "frames" => (Way::Body(Shape::Events), frames(std::str::from_utf8(&bytes).unwrap().lines())),
            "messages" => (Way::Messages, bytes),
            other => panic!("an answer that ends in {other}"),
        };
        Self { name: file.to_owned(), plan: plan(template), way, bytes }
    }

    fn all() -> Vec<Self> {
        let files = std::fs::read_dir(format!("{HOME}/tests/golden/answers")).unwrap();
        let mut files: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        files.iter().map(|file| Self::read(file)).collect()
    }

    /// Facts and bytes of text, of the answer in these pieces.
    fn facts<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Facts, u64) {
        let plan = &self.plan;
        let Way::Body(shape) = self.way else {
            let mut observer = Observer::of_messages(plan);
            for piece in pieces {
                for part in piece.split_inclusive(|byte| *byte == b'\n') {
                    observer.feed(plan, part);
                    if part.ends_with(b"\n") {
                        observer.next_message(plan);
                    }
                }
            }
            return (observer.facts(plan), observer.text());
        };
        let mut observer = Observer::new(plan, shape);
        for piece in pieces {
            observer.feed(plan, piece);
        }
        (observer.facts(plan), observer.text())
    }

    fn whole(&self) -> (Facts, u64) {
        self.facts([self.bytes.as_slice()])
    }
}

/// Bedrock's framing around each payload; checksums are not looked at.
fn frames<'a>(payloads: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
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

#[test]
fn recorded_answers_give_their_facts() {
    let mut found = String::new();
    for recorded in Recorded::all() {
        let (facts, text) = recorded.whole();
        writeln!(found, "{}: {facts:#?}, {text} bytes of text\n", recorded.name).unwrap();
    }
    insta::with_settings!({ snapshot_path => "golden", prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("facts", found);
    });
}

#[test]
fn a_stream_and_its_single_document_twin_give_the_same_facts() {
    let mut pairs = 0;
    for stream in Recorded::all() {
        let Some(name) = stream.name.strip_suffix(".sse").or_else(|| stream.name.strip_suffix(".frames")) else {
            continue;
        };
        if !std::fs::exists(format!("{HOME}/tests/golden/answers/{name}.json")).unwrap() {
            continue;
        }
        let twin = Recorded::read(&format!("{name}.json"));
        assert_eq!(stream.whole().0, twin.whole().0, "{name}");
        assert!(twin.whole().0.input.is_some() && twin.whole().0.output.is_some(), "{name}");
        pairs += 1;
    }
    assert_eq!(Recorded::read("gemini_generate_list.json").whole().0, Recorded::read("gemini_generate.json").whole().0);
    assert!(pairs >= 14, "{pairs}");
}

#[test]
fn any_two_pieces_give_the_same_facts() {
    for recorded in Recorded::all() {
        let whole = recorded.whole();
        for cut in 0..=recorded.bytes.len() {
            let (first, second) = recorded.bytes.split_at(cut);
            assert_eq!(recorded.facts([first, second]), whole, "{} cut at {cut}", recorded.name);
        }
    }
}

#[test]
fn pieces_of_any_size_give_the_same_facts() {
    for recorded in Recorded::all() {
        let whole = recorded.whole();
        for size in [1, 2, 3, 4, 5, 7, 16, 61] {
            assert_eq!(recorded.facts(recorded.bytes.chunks(size)), whole, "{} by {size}", recorded.name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_pieces_give_the_same_facts(cuts in proptest::collection::vec(0.0..1.0_f64, 0..12)) {
        for recorded in Recorded::all() {
            let bytes = &recorded.bytes;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let mut places: Vec<usize> = cuts.iter().map(|cut| (cut * bytes.len() as f64) as usize).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let pieces = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
            prop_assert_eq!(recorded.facts(pieces), recorded.whole(), "{}", &recorded.name);
        }
    }

    #[test]
    fn bytes_that_mean_nothing_are_no_facts_and_no_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300), piece in 1..40_usize
    ) {
        for shape in [Shape::Document, Shape::Events, Shape::Opaque] {
            for template in ["openai", "aws-bedrock"] {
                let recorded = Recorded {
                    name: String::new(), plan: plan(template), way: Way::Body(shape), bytes: bytes.clone(),
                };
                prop_assert_eq!(recorded.facts(bytes.chunks(piece)), (Facts::default(), 0));
            }
        }
    }
}

/// An `OpenAI` stream of one event with this usage.
fn usage(usage: &str) -> Facts {
    let of = |bytes: String, shape| {
        let recorded =
            Recorded { name: String::new(), plan: plan("openai"), way: Way::Body(shape), bytes: bytes.into() };
        recorded.whole().0
    };
    let document = format!(r#"{{"model":"m","usage":{usage}}}"#);
    let facts = of(document.clone(), Shape::Document);
    assert_eq!(of(format!("data: {document}\n\n"), Shape::Events), facts, "{usage}");
    facts
}

#[test]
fn a_count_that_is_none_is_unknown() {
    for lie in [
        "-5",
        "1e30",
        "1e3",
        "1.5",
        "18446744073709551616",
        "9223372036854775808",
        "1099511627777",
        "\"11\"",
        "true",
        "null",
        "{}",
        "[]",
        "[11]",
        "NaN",
        "\"\"",
        "-0.0",
    ] {
        let facts = usage(&format!(r#"{{"prompt_tokens":{lie},"completion_tokens":7}}"#));
        assert_eq!(facts.input, None, "{lie}");
        if lie != "NaN" {
            assert_eq!(facts.output, Some(7), "{lie}");
        }
    }
    assert_eq!(usage(r#"{"prompt_tokens":11.0,"completion_tokens":0}"#).input, Some(11));
    assert_eq!(usage(r#"{"prompt_tokens":11.0,"completion_tokens":0}"#).output, Some(0));
    for nothing in ["null", "{}", "[]", "7", "\"no\""] {
        assert_eq!((usage(nothing).input, usage(nothing).output), (None, None), "{nothing}");
    }
}

#[test]
fn a_class_that_does_not_fit_into_its_total_is_unknown() {
    let input = r#""prompt_tokens":10,"prompt_tokens_details":{"cached_tokens":11,"audio_tokens":10}"#;
    let output = r#""completion_tokens":5,"completion_tokens_details":{"reasoning_tokens":3,"audio_tokens":3}"#;
    let facts = usage(&format!("{{{input},{output}}}"));
    assert_eq!((facts.input, facts.cached_input, facts.input_audio), (Some(10), None, Some(10)));
    assert_eq!((facts.output, facts.reasoning, facts.output_audio), (Some(5), Some(3), None));
}

#[test]
fn the_last_word_counts_even_if_it_is_a_lie() {
    let said = |counts: &[&str]| {
        let events = counts.iter().map(|count| {
            format!("data: {{\"usageMetadata\":{{\"promptTokenCount\":5,\"candidatesTokenCount\":{count}}}}}\n\n")
        });
        let bytes = events.collect::<String>().into_bytes();
        Recorded { name: String::new(), plan: plan("gemini"), way: Way::Body(Shape::Events), bytes }.whole().0.output
    };
    assert_eq!(said(&["1", "9"]), Some(9));
    assert_eq!(said(&["9", "1"]), Some(1));
    assert_eq!(said(&["9", "null"]), Some(9));
    assert_eq!(said(&["9", "-1"]), None);
    assert_eq!(said(&["-1", "9"]), Some(9));
}

#[test]
fn half_an_event_at_the_end_does_not_count() {
    let recorded = Recorded::read("openai_chat.sse");
    let text = String::from_utf8(recorded.bytes.clone()).unwrap();
    let end = text.find(r#","completion_tokens":310"#).unwrap();
    let (facts, text) = recorded.facts([&recorded.bytes[..end]]);
    assert_eq!((facts.input, facts.output), (None, None));
    assert_eq!(facts.finish_reason.as_deref(), Some("stop"));
    assert!(text > 0 && facts.model.is_some());
}

#[test]
fn bytes_that_are_no_text_disturb_nothing_around_them() {
    let (before, after) = (br#"{"choices":[{"message":{"content":""#, br#""},"finish_reason":"stop"}],"model":"#);
    let usage = br#","usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    // Cut letters, letters that do not exist, a lone continuation.
    for odd in [&b"\xe2\x82"[..], b"\xff\xfe", b"\x80", b"\xf0\x9f\x98", b"\xed\xa0\x80"] {
        for model in [&b"\"m\""[..], b"\"\xff\""] {
            let bytes = [before, odd, after, model, usage].concat();
            let recorded =
                Recorded { name: String::new(), plan: plan("openai"), way: Way::Body(Shape::Document), bytes };
            for size in [1, 2, 3, 1000] {
                let (facts, text) = recorded.facts(recorded.bytes.chunks(size));
                assert_eq!((facts.input, facts.output, text), (Some(1), Some(2), odd.len() as u64));
                assert_eq!(facts.finish_reason.as_deref(), Some("stop"));
                assert_eq!(facts.model.as_deref(), (model == b"\"m\"").then_some("m"));
            }
        }
    }
}

#[test]
fn the_first_ending_in_the_alphabet_stands_for_several() {
    for order in [["stop", "length"], ["length", "stop"]] {
        let [first, second] = order;
        let bytes = format!(r#"{{"choices":[{{"finish_reason":"{first}"}},{{"finish_reason":"{second}"}}]}}"#).into();
        let recorded = Recorded { name: String::new(), plan: plan("openai"), way: Way::Body(Shape::Document), bytes };
        assert_eq!(recorded.whole().0.finish_reason.as_deref(), Some("length"));
    }
}
