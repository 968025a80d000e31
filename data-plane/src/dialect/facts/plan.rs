//! Where facts stand and how a vendor counts: the data of a template, compiled.

use super::super::pointer::{BadPointer, Passed, Pointers, Slot};

/// Where the facts stand: lists of JSON pointers. In `*[name=value]`, a step of every element of an array, only those
/// elements count that have this text under this name.
#[derive(Clone, Copy, Debug, Default)]
pub struct Places<'a> {
    /// The model that served.
    pub model: &'a [String],
    /// All input, or all but the cached (see [`Plan::input_excludes_cached`]).
    pub input: &'a [String],
    /// Input that the vendor leaves out of that count.
    pub further_input: &'a [String],
    /// All output, or all but reasoning (see [`Plan::output_excludes_reasoning`]).
    pub output: &'a [String],
    /// Input read from a cache.
    pub cached_input: &'a [String],
    /// Input written to a cache.
    pub cache_write: &'a [String],
    /// Output that was reasoning.
    pub reasoning: &'a [String],
    /// Input that was sound, what came from a cache included.
    pub input_audio: &'a [String],
    /// Of that, what came from a cache.
    pub cached_audio: &'a [String],
    /// Output that was sound.
    pub output_audio: &'a [String],
    /// Why the answer ended.
    pub finish_reason: &'a [String],
    /// A text that is there once for each tool call.
    pub tool_calls: &'a [String],
    /// The vendor's class of an error.
    pub error_type: &'a [String],
    /// What the model said.
    pub text: &'a [String],
    /// Another document, in base64.
    pub payload: &'a [String],
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
    pub(super) pointers: Pointers,
    /// For each slot what it tells; slots of one class are in order of preference.
    pub(super) classes: Box<[Class]>,
    /// The texts that elements of arrays are chosen by.
    pub(super) filters: Box<[Box<str>]>,
    /// A document may hold another.
    pub(super) nests: bool,
    /// Tool calls are looked for, so that none is a fact.
    pub(super) counts_calls: bool,
    /// The vendor's input count leaves cached and cache-write tokens out.
    pub input_excludes_cached: bool,
    /// The vendor's output count leaves reasoning out.
    pub output_excludes_reasoning: bool,
    /// Answer header with the input count.
    pub input_header: Option<Box<str>>,
    /// Answer header with the output count.
    pub output_header: Option<Box<str>>,
    /// Answer header with the class of an error, up to a colon.
    pub error_header: Option<Box<str>>,
    /// What stands where a finish reason would, as long as there is none.
    pub unfinished: Box<[Box<str>]>,
    /// Of event streams.
    pub framing: Framing,
}

/// What a slot tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Model,
    Finish,
    ToolCall,
    /// Of an error; `top`: the pointer has one step.
    Error {
        top: bool,
    },
    Count(Count),
    /// A count of those elements that a filter chooses.
    Chosen(Count, usize),
    /// What a filter chooses by.
    Key(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    Input,
    FurtherInput,
    Output,
    CachedInput,
    CacheWrite,
    Reasoning,
    InputAudio,
    CachedAudio,
    OutputAudio,
}

pub(super) const COUNTS: usize = 9;
/// Filters that one plan may have.
pub(super) const FILTERS: usize = 8;

impl Plan {
    /// Compiles.
    pub fn new(places: &Places<'_>) -> Result<Self, BadPointer> {
        let (mut texts, mut classes, mut filters) = (Vec::new(), Vec::new(), Vec::<Box<str>>::new());
        let counts = [
            (Count::Input, places.input),
            (Count::FurtherInput, places.further_input),
            (Count::Output, places.output),
            (Count::CachedInput, places.cached_input),
            (Count::CacheWrite, places.cache_write),
            (Count::Reasoning, places.reasoning),
            (Count::InputAudio, places.input_audio),
            (Count::CachedAudio, places.cached_audio),
            (Count::OutputAudio, places.output_audio),
        ];
        for (count, list) in counts {
            for pointer in list {
                let Some(filter) = Filter::of(pointer)? else {
                    classes.push(Class::Count(count));
                    texts.push(pointer.clone());
                    continue;
                };
                if filters.len() == FILTERS {
                    return Err(BadPointer);
                }
                classes.extend([Class::Chosen(count, filters.len()), Class::Key(filters.len())]);
                texts.extend([filter.pointer, filter.key]);
                filters.push(filter.value.into());
            }
        }
        let plain =
            [(Class::Model, places.model), (Class::Finish, places.finish_reason), (Class::ToolCall, places.tool_calls)];
        for (class, list) in plain {
            classes.extend(list.iter().map(|_| class));
            texts.extend(list.iter().cloned());
        }
        classes.extend(places.error_type.iter().map(|pointer| Class::Error { top: pointer.matches('/').count() == 1 }));
        texts.extend(places.error_type.iter().cloned());
        let mut pointers = Pointers::new(texts.iter().map(String::as_str))?;
        for pointer in places.text {
            pointers.pass(pointer, Passed::Text)?;
        }
        for pointer in places.payload {
            pointers.pass(pointer, Passed::Document)?;
        }
        Ok(Self {
            pointers,
            classes: classes.into(),
            filters: filters.into(),
            nests: !places.payload.is_empty(),
            counts_calls: !places.tool_calls.is_empty(),
            ..Self::default()
        })
    }

    pub(super) fn class(&self, slot: Slot) -> Option<Class> {
        self.classes.get(usize::from(slot)).copied()
    }
}

/// `/list/*[name=value]/count`, taken apart.
struct Filter<'a> {
    pointer: String,
    key: String,
    value: &'a str,
}

impl<'a> Filter<'a> {
    fn of(pointer: &'a str) -> Result<Option<Self>, BadPointer> {
        let Some((before, rest)) = pointer.split_once("/*[") else { return Ok(None) };
        let (condition, after) = rest.split_once(']').ok_or(BadPointer)?;
        let (name, value) = condition.split_once('=').ok_or(BadPointer)?;
        if name.is_empty() || value.is_empty() || !after.starts_with('/') || after.contains("/*") {
            return Err(BadPointer);
        }
        Ok(Some(Self { pointer: format!("{before}/*{after}"), key: format!("{before}/*/{name}"), value }))
    }
}
