//! What an answer tells about itself: the model that served it, its tokens by class, how it ended. Unknown is `None`,
//! never zero. A stream and its single-document twin give the same facts, whatever the pieces they come in.

use self::base64::Decoder;
pub use self::plan::{Framing, Places, Plan};
use self::tally::Tally;
use super::aws;
use super::pointer::{Passed, Slot};
use super::scan::{Scalar, Scanner, Sink};
use super::sse;

mod base64;
mod plan;
mod tally;

/// What is known of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The model that served.
    pub model: Option<Box<str>>,
    /// All input, cached and cache-write tokens included.
    pub input: Option<u64>,
    /// All output, reasoning included.
    pub output: Option<u64>,
    /// Of the input.
    pub cached_input: Option<u64>,
    /// Of the input.
    pub cache_write: Option<u64>,
    /// Of the output.
    pub reasoning: Option<u64>,
    /// Of the input: sound that did not come from a cache.
    pub input_audio: Option<u64>,
    /// Of the output.
    pub output_audio: Option<u64>,
    /// Why it ended, in the vendor's word.
    pub finish_reason: Option<Box<str>>,
    /// How many tools it calls.
    pub tool_calls: Option<u64>,
    /// The vendor's class of an error.
    pub error_type: Option<Box<str>>,
    /// That stood at the top of the document, where other answers have other things: it is one only with a status that
    /// says so.
    pub error_at_top: bool,
}

impl Facts {
    /// Whether the vendor has said all it will say about tokens.
    pub fn is_final(&self) -> bool {
        self.finish_reason.is_some() && self.input.is_some() && self.output.is_some()
    }

    /// It was only read again: what it took was told before.
    #[must_use]
    pub fn without_usage(self) -> Self {
        let Self { model, error_type, error_at_top, .. } = self;
        Self { model, error_type, error_at_top, ..Self::default() }
    }

    /// The classes are disjoint parts of their totals. One that does not fit is a lie, and unknown.
    fn fit(&mut self) {
        fit(self.input, [&mut self.cached_input, &mut self.cache_write, &mut self.input_audio]);
        fit(self.output, [&mut self.reasoning, &mut self.output_audio]);
    }
}

fn fit<const N: usize>(total: Option<u64>, classes: [&mut Option<u64>; N]) {
    let Some(mut left) = total else { return };
    for class in classes {
        match class.map(|part| left.checked_sub(part)) {
            Some(Some(rest)) => left = rest,
            Some(None) => *class = None,
            None => {}
        }
    }
}

/// The body of an answer, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One JSON document, or a list of them.
    Document,
    /// A stream of events, in the framing of the plan.
    Events,
    /// Nothing that could be read.
    Opaque,
}

impl Shape {
    /// Reads a `Content-Type`.
    pub fn of(content_type: &str) -> Self {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let is = |other: &str| essence.eq_ignore_ascii_case(other);
        if is("text/event-stream") || is("application/vnd.amazon.eventstream") {
            Self::Events
        } else if is("application/json") || essence.to_ascii_lowercase().ends_with("+json") {
            Self::Document
        } else {
            Self::Opaque
        }
    }
}

/// Reads an answer as it passes.
#[derive(Debug)]
pub struct Observer {
    reader: Reader,
    tally: Tally,
}

#[derive(Debug)]
enum Reader {
    Document(Scanner),
    Sse(sse::Splitter, Scanner),
    Aws(aws::Splitter, Scanner, Option<Box<Nested>>),
    /// Documents that somebody else cuts.
    Messages(Scanner),
    Nothing,
}

/// A document within a document.
#[derive(Debug)]
struct Nested {
    decoder: Decoder,
    scanner: Scanner,
}

impl Observer {
    /// Before the first byte.
    pub fn new(plan: &Plan, shape: Shape) -> Self {
        let scanner = || Scanner::new(&plan.pointers);
        let reader = match (shape, plan.framing) {
            (Shape::Document, _) => Reader::Document(scanner()),
            (Shape::Events, Framing::ServerSentEvents) => Reader::Sse(sse::Splitter::default(), scanner()),
            (Shape::Events, Framing::AwsEventStream) => {
                let nested = plan.nests.then(|| Box::new(Nested { decoder: Decoder::default(), scanner: scanner() }));
                Reader::Aws(aws::Splitter::default(), scanner(), nested)
            }
            (Shape::Opaque, _) => Reader::Nothing,
        };
        Self { reader, tally: Tally::default() }
    }

    /// Of a conversation: documents that are fed one by one, each of which counts what is new in it.
    pub fn of_messages(plan: &Plan) -> Self {
        Self { reader: Reader::Messages(Scanner::new(&plan.pointers)), tally: Tally::summing() }
    }

    /// Takes the next piece.
    pub fn feed(&mut self, plan: &Plan, bytes: &[u8]) {
        let pointers = &plan.pointers;
        let tally = &mut self.tally;
        match &mut self.reader {
            Reader::Document(scanner) | Reader::Messages(scanner) => {
                scanner.feed(pointers, bytes, &mut Fold { plan, tally, nested: None });
            }
            Reader::Sse(splitter, scanner) => splitter.feed(bytes, |piece| match piece {
                sse::Piece::Data(data) => scanner.feed(pointers, data, &mut Fold { plan, tally, nested: None }),
                sse::Piece::End => {
                    scanner.reset(pointers);
                    tally.forget();
                }
            }),
            Reader::Aws(splitter, scanner, nested) => splitter.feed(bytes, |piece| match piece {
                aws::Piece::Data(data) => {
                    scanner.feed(pointers, data, &mut Fold { plan, tally, nested: nested.as_deref_mut() });
                }
                aws::Piece::End => {
                    scanner.reset(pointers);
                    if let Some(nested) = nested {
                        nested.decoder = Decoder::default();
                        nested.scanner.reset(pointers);
                    }
                    tally.forget();
                }
            }),
            Reader::Nothing => {}
        }
    }

    /// A document that somebody else cuts has ended.
    pub fn next_message(&mut self, plan: &Plan) {
        if let Reader::Messages(scanner) = &mut self.reader {
            scanner.reset(&plan.pointers);
            self.tally.forget();
        }
    }

    /// Whether everything seen so far are complete events, so that another may be written behind it.
    pub fn at_boundary(&self) -> bool {
        match &self.reader {
            Reader::Sse(splitter, _) => splitter.at_boundary(),
            Reader::Aws(splitter, ..) => splitter.at_boundary(),
            Reader::Document(_) | Reader::Messages(_) | Reader::Nothing => false,
        }
    }

    /// Bytes of what the model said so far, as they stand in JSON.
    pub fn text(&self) -> u64 {
        self.tally.text
    }

    /// What is known so far.
    pub fn facts(&self, plan: &Plan) -> Facts {
        self.tally.facts(plan)
    }
}

struct Fold<'a> {
    plan: &'a Plan,
    tally: &'a mut Tally,
    nested: Option<&'a mut Nested>,
}

impl Sink for Fold<'_> {
    fn value(&mut self, slot: Slot, scalar: Scalar<'_>) {
        self.tally.value(self.plan, slot, scalar);
    }

    fn passed(&mut self, why: Passed, bytes: &[u8]) {
        match (why, &mut self.nested) {
            (Passed::Text, _) => self.tally.text += bytes.len() as u64,
            (Passed::Document, Some(Nested { decoder, scanner })) => {
                let (plan, tally) = (self.plan, &mut *self.tally);
                // Of the documents in one message the inner one is meant: the outer has nothing but it.
                let sink = &mut Inner { plan, tally };
                decoder.feed(bytes, |bytes| scanner.feed(&plan.pointers, bytes, sink));
            }
            (Passed::Document, None) => {}
        }
    }

    fn end(&mut self) {
        self.tally.end();
    }
}

struct Inner<'a> {
    plan: &'a Plan,
    tally: &'a mut Tally,
}

impl Sink for Inner<'_> {
    fn value(&mut self, slot: Slot, scalar: Scalar<'_>) {
        self.tally.value(self.plan, slot, scalar);
    }

    fn passed(&mut self, why: Passed, bytes: &[u8]) {
        if why == Passed::Text {
            self.tally.text += bytes.len() as u64;
        }
    }

    fn end(&mut self) {
        self.tally.end();
    }
}
