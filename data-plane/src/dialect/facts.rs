//! What an answer tells about itself: the model that served it and its token counts. Unknown is `None`, never zero.
//!
//! Within one document the first pointer of a list that has a value wins; over the documents of a stream the last value
//! wins, because vendors count up. So a stream and its single-document twin give the same facts, whatever the pieces.

use super::aws;
use super::pointer::{BadPointer, Pointers, Slot};
use super::scan::{Scalar, Scanner, Sink};
use super::sse;

/// Where the facts stand: lists of JSON pointers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Places<'a> {
    /// The model that served.
    pub model: &'a [String],
    /// All input, or all but the cached (see [`Plan::input_excludes_cached`]).
    pub input: &'a [String],
    /// All output, or all but reasoning (see [`Plan::output_excludes_reasoning`]).
    pub output: &'a [String],
    /// Input read from a cache.
    pub cached_input: &'a [String],
    /// Input written to a cache.
    pub cache_write: &'a [String],
    /// Output that was reasoning.
    pub reasoning: &'a [String],
}

/// How event streams are cut into documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// `text/event-stream`.
    #[default]
    ServerSentEvents,
    /// Amazon's binary framing.
    AwsEventStream,
}

/// Compiled [`Places`] and the vendor's way of counting.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pointers: Pointers,
    /// For each slot the class it belongs to; slots of one class are in order of preference.
    classes: Box<[Class]>,
    /// The vendor's input count leaves cached and cache-write tokens out.
    pub input_excludes_cached: bool,
    /// The vendor's output count leaves reasoning out.
    pub output_excludes_reasoning: bool,
    /// Answer header with the input count.
    pub input_header: Option<Box<str>>,
    /// Answer header with the output count.
    pub output_header: Option<Box<str>>,
    /// Of event streams.
    pub framing: Framing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Model,
    Count(Count),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    Input,
    Output,
    CachedInput,
    CacheWrite,
    Reasoning,
}

const COUNTS: usize = 5;

impl Plan {
    /// Compiles.
    pub fn new(places: &Places<'_>) -> Result<Self, BadPointer> {
        let lists = [
            (Class::Model, places.model),
            (Class::Count(Count::Input), places.input),
            (Class::Count(Count::Output), places.output),
            (Class::Count(Count::CachedInput), places.cached_input),
            (Class::Count(Count::CacheWrite), places.cache_write),
            (Class::Count(Count::Reasoning), places.reasoning),
        ];
        let pointers = Pointers::new(lists.iter().flat_map(|(_, list)| list.iter().map(String::as_str)))?;
        let classes = lists.iter().flat_map(|(class, list)| list.iter().map(|_| *class)).collect();
        Ok(Self { pointers, classes, ..Self::default() })
    }
}

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
    Aws(aws::Splitter, Scanner),
    Nothing,
}

impl Observer {
    /// Before the first byte.
    pub fn new(plan: &Plan, shape: Shape) -> Self {
        let scanner = || Scanner::new(&plan.pointers);
        let reader = match (shape, plan.framing) {
            (Shape::Document, _) => Reader::Document(scanner()),
            (Shape::Events, Framing::ServerSentEvents) => Reader::Sse(sse::Splitter::default(), scanner()),
            (Shape::Events, Framing::AwsEventStream) => Reader::Aws(aws::Splitter::default(), scanner()),
            (Shape::Opaque, _) => Reader::Nothing,
        };
        Self { reader, tally: Tally::default() }
    }

    /// Takes the next piece.
    pub fn feed(&mut self, plan: &Plan, bytes: &[u8]) {
        let pointers = &plan.pointers;
        let sink = &mut Fold { tally: &mut self.tally, classes: &plan.classes };
        match &mut self.reader {
            Reader::Document(scanner) => scanner.feed(pointers, bytes, sink),
            Reader::Sse(splitter, scanner) => splitter.feed(bytes, |piece| match piece {
                sse::Piece::Data(data) => scanner.feed(pointers, data, sink),
                sse::Piece::End => next(scanner, pointers, sink),
            }),
            Reader::Aws(splitter, scanner) => splitter.feed(bytes, |piece| match piece {
                aws::Piece::Data(data) => scanner.feed(pointers, data, sink),
                aws::Piece::End => next(scanner, pointers, sink),
            }),
            Reader::Nothing => {}
        }
    }

    /// Whether everything seen so far are complete events, so that another may be written behind it.
    pub fn at_boundary(&self) -> bool {
        match &self.reader {
            Reader::Sse(splitter, _) => splitter.at_boundary(),
            Reader::Aws(splitter, _) => splitter.at_boundary(),
            Reader::Document(_) | Reader::Nothing => false,
        }
    }

    /// What is known so far.
    pub fn facts(&self, plan: &Plan) -> Facts {
        let count = |count: Count| self.tally.counts[count as usize];
        let (cached_input, cache_write) = (count(Count::CachedInput), count(Count::CacheWrite));
        let reasoning = count(Count::Reasoning);
        let plus = |total: Option<u64>, part: Option<u64>| total.map(|total| total.saturating_add(part.unwrap_or(0)));
        let mut input = count(Count::Input);
        if plan.input_excludes_cached {
            input = plus(plus(input, cached_input), cache_write);
        }
        let mut output = count(Count::Output);
        if plan.output_excludes_reasoning {
            output = plus(output, reasoning);
        }
        Facts { model: self.tally.model.clone(), input, output, cached_input, cache_write, reasoning }
    }
}

fn next(scanner: &mut Scanner, pointers: &Pointers, sink: &mut Fold<'_>) {
    scanner.reset(pointers);
    // What a document that never ended said does not count.
    sink.tally.document = Default::default();
}

#[derive(Debug, Default)]
struct Tally {
    model: Option<Box<str>>,
    counts: [Option<u64>; COUNTS],
    /// Of the document being read: the slot it came from, and the value.
    document: [Option<(Slot, u64)>; COUNTS],
}

struct Fold<'a> {
    tally: &'a mut Tally,
    classes: &'a [Class],
}

impl Sink for Fold<'_> {
    fn value(&mut self, slot: Slot, scalar: Scalar<'_>) {
        match (self.classes.get(usize::from(slot)), scalar) {
            (Some(Class::Model), Scalar::Text(text)) if !text.is_empty() => {
                // Every event of a stream repeats it.
                if self.tally.model.as_deref() != Some(text) {
                    self.tally.model = Some(text.into());
                }
            }
            (Some(Class::Count(count)), Scalar::Number(number)) => {
                let known = &mut self.tally.document[*count as usize];
                if known.is_none_or(|(better, _)| slot <= better) {
                    *known = Some((slot, number));
                }
            }
            (Some(Class::Model | Class::Count(_)) | None, _) => {}
        }
    }

    fn end(&mut self) {
        for (total, document) in self.tally.counts.iter_mut().zip(&mut self.tally.document) {
            if let Some((_, number)) = document.take() {
                *total = Some(number);
            }
        }
    }
}
