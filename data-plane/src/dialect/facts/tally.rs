//! What findings add up to. Within one document the first pointer of a list that has a value wins; over the documents
//! of a stream the last value wins, because vendors count up.

use super::super::facts::Facts;
use super::super::pointer::Slot;
use super::super::scan::Scalar;
use super::plan::{COUNTS, Class, Count, FILTERS, Plan};

/// No answer ever had more tokens: what claims to is no count.
const MOST_TOKENS: u64 = 1 << 40;
/// Longer than any vendor's word for an ending or an error.
const MAX_WORD: usize = 128;

/// What is known so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    model: Option<Box<str>>,
    finish: Option<(Slot, Box<str>)>,
    error: Option<(Slot, bool, Box<str>)>,
    calls: u64,
    counts: [Option<u64>; COUNTS],
    /// Of the document being read: the slot it came from, and the value; `None`: what stands there is no count.
    document: [Option<(Slot, Option<u64>)>; COUNTS],
    chosen: [Chosen; FILTERS],
    /// Each document counts what is new in it.
    sums: bool,
    /// Bytes of text, as they stand in JSON.
    pub(super) text: u64,
}

/// Of the element of an array being read: whether the filter takes it, and its count, whichever came first.
#[derive(Clone, Copy, Debug, Default)]
enum Chosen {
    #[default]
    Nothing,
    Key(bool),
    Count(Slot, Option<u64>),
}

impl Tally {
    pub(super) fn summing() -> Self {
        Self { sums: true, ..Self::default() }
    }

    pub(super) fn value(&mut self, plan: &Plan, slot: Slot, scalar: Scalar<'_>) {
        let Some(class) = plan.class(slot) else { return };
        match (class, scalar) {
            (Class::Count(count), _) => self.count(count, slot, number(scalar)),
            (Class::Chosen(count, filter), _) => match std::mem::take(&mut self.chosen[filter]) {
                Chosen::Key(true) => self.count(count, slot, number(scalar)),
                Chosen::Key(false) => {}
                Chosen::Nothing | Chosen::Count(..) => self.chosen[filter] = Chosen::Count(slot, number(scalar)),
            },
            (Class::Key(filter), Scalar::Text(text)) => {
                let taken = plan.filters.get(filter).is_some_and(|value| **value == *text);
                match self.chosen[filter] {
                    Chosen::Count(slot, number) => {
                        self.chosen[filter] = Chosen::Nothing;
                        if let (true, Some(Class::Chosen(count, _))) = (taken, plan.class(slot)) {
                            self.count(count, slot, number);
                        }
                    }
                    Chosen::Nothing | Chosen::Key(_) => self.chosen[filter] = Chosen::Key(taken),
                }
            }
            (Class::Model, Scalar::Text(text)) if !text.is_empty() => {
                // Every event of a stream repeats it.
                if self.model.as_deref() != Some(text) {
                    self.model = Some(text.into());
                }
            }
            (Class::ToolCall, Scalar::Text(text)) if !text.is_empty() => self.calls += 1,
            (Class::Finish, Scalar::Text(text)) if !text.is_empty() => self.finished(plan, slot, text),
            (Class::Error { top }, Scalar::Text(text)) if !text.is_empty() => {
                if text.len() <= MAX_WORD && self.error.as_ref().is_none_or(|(known, ..)| slot < *known) {
                    self.error = Some((slot, top, text.into()));
                }
            }
            (
                Class::Model | Class::ToolCall | Class::Finish | Class::Error { .. } | Class::Key(_),
                Scalar::Number(_) | Scalar::Text(_) | Scalar::Nested | Scalar::Odd,
            ) => {}
        }
    }

    fn count(&mut self, count: Count, slot: Slot, number: Option<u64>) {
        let known = &mut self.document[count as usize];
        let better = match known {
            None | Some((_, None)) => true,
            Some((known, Some(_))) => slot == *known || (slot < *known && number.is_some()),
        };
        if better {
            *known = Some((slot, number));
        }
    }

    /// Where several parts of an answer ended in different ways, the first in the order of the alphabet is kept, so that
    /// it does not matter which came first.
    fn finished(&mut self, plan: &Plan, slot: Slot, text: &str) {
        let better = match &self.finish {
            None => true,
            Some((known, other)) => slot < *known || (slot == *known && *text < **other),
        };
        if better && text.len() <= MAX_WORD && !plan.unfinished.iter().any(|word| **word == *text) {
            self.finish = Some((slot, text.into()));
        }
    }

    /// A document is complete.
    pub(super) fn end(&mut self) {
        for (total, document) in self.counts.iter_mut().zip(&mut self.document) {
            match document.take() {
                Some((_, Some(number))) if self.sums => {
                    *total = Some(total.unwrap_or_default().saturating_add(number).min(MOST_TOKENS));
                }
                Some((_, number)) if !self.sums => *total = number,
                Some(_) | None => {}
            }
        }
        self.chosen = [Chosen::Nothing; FILTERS];
    }

    /// What a document that never ended said does not count.
    pub(super) fn forget(&mut self) {
        self.document = [None; COUNTS];
        self.chosen = [Chosen::Nothing; FILTERS];
    }

    pub(super) fn facts(&self, plan: &Plan) -> Facts {
        let count = |count: Count| self.counts[count as usize];
        let plus = |total: Option<u64>, part: Option<u64>| total.map(|total| total + part.unwrap_or(0));
        let (cached_input, cache_write) = (count(Count::CachedInput), count(Count::CacheWrite));
        let reasoning = count(Count::Reasoning);
        let mut input = plus(count(Count::Input), count(Count::FurtherInput));
        if plan.input_excludes_cached {
            input = plus(plus(input, cached_input), cache_write);
        }
        let mut output = count(Count::Output);
        if plan.output_excludes_reasoning {
            output = plus(output, reasoning);
        }
        let heard = count(Count::InputAudio);
        let input_audio = heard.map(|audio| audio.saturating_sub(count(Count::CachedAudio).unwrap_or(0)));
        let finish_reason = self.finish.as_ref().map(|(_, text)| text.clone());
        let none = (plan.counts_calls && finish_reason.is_some()).then_some(0);
        let (error_type, error_at_top) = match &self.error {
            Some((_, top, text)) => (Some(text.clone()), *top),
            None => (None, false),
        };
        let mut facts = Facts {
            model: self.model.clone(),
            input,
            output,
            cached_input,
            cache_write,
            reasoning,
            input_audio,
            output_audio: count(Count::OutputAudio),
            finish_reason,
            tool_calls: if self.calls > 0 { Some(self.calls) } else { none },
            error_type,
            error_at_top,
        };
        facts.fit();
        facts
    }
}

fn number(scalar: Scalar<'_>) -> Option<u64> {
    match scalar {
        Scalar::Number(number) if number <= MOST_TOKENS => Some(number),
        Scalar::Number(_) | Scalar::Text(_) | Scalar::Nested | Scalar::Odd => None,
    }
}
