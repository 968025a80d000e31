//! What it costs to learn from an answer what it was: `cargo bench -p data-plane --bench facts`.
//! `docs/guide/performance.md` has the figures that are wanted.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/facts/template.rs"]
mod template;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use data_plane::dialect::facts::{Facts, Observer, Plan, Shape};

use self::template::plan;

/// Bytes of a whole answer.
const ANSWER: usize = 1_200;

/// A recorded answer.
fn recorded(file: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/golden/answers/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Made as long as it is to be by what the model says in it, a word of which is `word`.
fn whole(file: &str, word: &str) -> String {
    let answer = recorded(file);
    let (before, after) = answer.split_once(word).unwrap_or_else(|| panic!("{file} does not say {word}"));
    let more = "and so on, ".repeat(ANSWER / 11 + 1);
    let answer = format!("{before}{}{word}{after}", &more[..ANSWER.saturating_sub(answer.len())]);
    assert_eq!(answer.len(), ANSWER);
    answer
}

fn answers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("answer");
    group.throughput(Throughput::Bytes(ANSWER as u64));
    for (template, file, word) in [
        ("openai", "openai_chat.json", "999"),
        ("anthropic", "anthropic_messages.json", "Hello"),
        ("gemini", "gemini_generate.json", "Hi"),
    ] {
        let (plan, answer) = (plan(template), whole(file, word));
        assert!(learned(&plan, &answer).is_final());
        group.bench_function(template, |bencher| bencher.iter(|| learned(&plan, black_box(&answer))));
    }
    group.finish();
}

fn learned(plan: &Plan, answer: &str) -> Facts {
    let mut observer = Observer::new(plan, Shape::Document);
    observer.feed(plan, answer.as_bytes());
    observer.facts(plan)
}

fn pieces(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("piece");
    for (template, file, word) in [
        ("openai", "openai_chat.sse", "999"),
        ("anthropic", "anthropic_messages.sse", "text_delta"),
        ("gemini", "gemini_generate.sse", "\"H\""),
    ] {
        let (plan, stream) = (plan(template), recorded(file));
        let end = if stream.contains('\r') { "\r\n\r\n" } else { "\n\n" };
        // The middle of a stream: a piece of text, one event, as it comes from the wire.
        let event = stream.split_inclusive(end).find(|event| event.contains(word)).unwrap();
        group.throughput(Throughput::Bytes(event.len() as u64));
        let mut observer = Observer::new(&plan, Shape::Events);
        group.bench_function(template, |bencher| {
            bencher.iter(|| observer.feed(&plan, black_box(event.as_bytes())));
        });
        assert!(observer.text() > 0, "{template}: {event}");
    }
    group.finish();
}

criterion_group!(facts, answers, pieces);
criterion_main!(facts);
