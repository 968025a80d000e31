//! What one request has taken from the rules that speak of it: all or nothing, estimated before it is sent, settled
//! with what it came to, and given back if it goes another way.

use std::sync::Arc;
use std::time::Duration;

use super::lease::{Reach, Terms};
use super::meter::{Meter, Now, Short, Taken};
use super::meters::Meters;
use super::rule::{Metric, Owner, Rule};

/// What is known of a request before it is sent.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// Of the vendor, without the query.
    pub path: &'a str,
    /// Tokens of input, estimated; `None`: it asks a model nothing.
    pub input: Option<u64>,
    /// What its body says. `None`: it has not been read, and only rules that need nothing of it are asked.
    pub load: Option<&'a Load<'a>>,
    /// When it came.
    pub now: Now,
    /// Whom a limit that is shared with other nodes can be asked of.
    pub reach: Reach,
}

/// What the body of a request says, and what that may cost.
pub struct Load<'a> {
    /// What the model is called by the client and by those who are asked; none: nobody knows.
    pub models: &'a [&'a str],
    /// Tokens of input, at most; `None`: nothing bounds them.
    pub most_input: Option<u64>,
    /// Tokens of output, at most; `None`: nothing bounds them.
    pub output: Option<u64>,
    /// Nano-dollars of so many tokens of input and output at the dearest of those who may be asked; `None`: there is no
    /// price.
    pub price: &'a (dyn Fn(u64, u64) -> Option<u64> + Sync),
}

/// What a request came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Something was sent to a vendor.
    pub sent: bool,
    /// The answer is over and said all it had to say.
    pub complete: bool,
    /// A model may have worked, and nobody has said how much.
    pub open: bool,
    /// Tokens, as the vendor counted them.
    pub input: Option<u64>,
    /// Tokens, as the vendor counted them.
    pub output: Option<u64>,
    /// Money.
    pub cost: Cost,
}

/// What a request cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cost {
    /// Nothing: a vendor charges only for what a model does.
    #[default]
    Nothing,
    /// Nano-dollars, by the vendor's own counts.
    Told(u64),
    /// Nano-dollars, by what had passed when the answer broke off.
    Estimated(u64),
    /// Nobody knows.
    Unknown,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It would be too much.
    Exceeded(Box<Exceeded>),
    /// This node has not got so much of it, and others may.
    Dry(Dry),
    /// The rule of this owner and name holds to the letter, and this does not bound it.
    Unbounded(Owner, Box<str>, Side),
    /// The rule of this owner and name counts money, and there is no price.
    Unpriced(Owner, Box<str>),
}

/// What this node lacks of a limit that is shared with others.
#[derive(Clone, Debug)]
pub struct Dry {
    pub(crate) meter: Arc<Meter>,
    pub(crate) amount: u64,
}

impl PartialEq for Dry {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.meter, &other.meter) && self.amount == other.amount
    }
}

impl Eq for Dry {}

/// Of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What is sent.
    Input,
    /// What comes back.
    Output,
}

/// Which rule refused, and what it held against the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// As the configuration calls it.
    pub rule: Box<str>,
    /// Whose rule it is.
    pub owner: Owner,
    /// Name of the provider behind a proxy whose rule it is; `None`: it is the rule of what was called, or of the key.
    pub provider: Option<Box<str>>,
    /// What it counts.
    pub metric: Metric,
    /// Counted before this request.
    pub measured: u64,
    /// At most.
    pub allowed: u64,
    /// In which time; empty: at once.
    pub window: Box<str>,
    /// When as much as was asked for is free again; `None`: no time alone frees it.
    pub frees_in: Option<Duration>,
    /// Unix microseconds of the same.
    pub frees_at_us: Option<u64>,
}

/// What was taken; given back when this goes unsettled.
#[derive(Debug, Default)]
pub struct Reservation {
    holds: Vec<Hold>,
}

#[derive(Debug)]
struct Hold {
    meter: Arc<Meter>,
    metric: Metric,
    limit: u64,
    shadow: bool,
    strict: bool,
    reserved: u64,
    /// Of attempts that nobody knows the end of, beside what is reserved.
    doubtful: u64,
    period: u64,
}

impl Reservation {
    /// Takes from every rule that speaks of the request; where one refuses, what was taken before stays for the caller
    /// to drop. Rules that need the body are asked when it has been read, and the others before.
    pub fn acquire(&mut self, rules: &[Rule], ask: &Ask<'_>, meters: &Meters) -> Result<(), Refused> {
        for rule in rules {
            let asked = rule.weighs() == ask.load.is_some()
                && rule.covers(ask.path)
                && ask.load.is_none_or(|load| is_for(rule, ask, load));
            let amount = if asked { amount(rule, ask)? } else { None };
            let Some(amount) = amount else { continue };
            let meter = rule.meter(meters);
            let terms = Terms { limit: rule.limit, strict: rule.strict, reach: ask.reach };
            // What costs nothing is not refused where all is spent; what it comes to is counted.
            let period = if amount == 0 {
                meter.take_anyway(rule.limit, 0, ask.now).0
            } else if rule.shadow {
                let (period, exceeded) = meter.take_anyway(rule.limit, amount, ask.now);
                if exceeded {
                    meters.would_refuse();
                }
                period
            } else {
                match meter.take(terms, amount, ask.now) {
                    Ok(Taken { period, low }) => {
                        if let Some(board) = meters.board().filter(|_| low) {
                            board.list(meter);
                        }
                        period
                    }
                    Err(Short { dry: true, .. }) => {
                        return Err(Refused::Dry(Dry { meter: Arc::clone(meter), amount }));
                    }
                    Err(short) => return Err(Refused::Exceeded(Box::new(exceeded(rule, short, ask.now)))),
                }
            };
            self.holds.push(Hold {
                meter: Arc::clone(meter),
                metric: rule.metric,
                limit: rule.limit,
                shadow: rule.shadow,
                strict: rule.strict,
                reserved: amount,
                doubtful: 0,
                period,
            });
        }
        Ok(())
    }

    /// How many rules something was taken from.
    pub(crate) fn len(&self) -> usize {
        self.holds.len()
    }

    /// Gives back what was taken from all but the first so many.
    pub(crate) fn truncate(&mut self, len: usize) {
        for hold in self.holds.drain(len.min(self.holds.len())..) {
            hold.meter.give_back(hold.period, hold.reserved);
        }
    }

    /// An attempt came to nobody knows what, and another is to follow: takes as much again of tokens and money, or
    /// nothing. `false`: there is not so much.
    pub(crate) fn double(&mut self, now: Now) -> bool {
        for at in 0..self.holds.len() {
            let Hold { meter, metric, limit, shadow, strict, reserved, period, .. } = &self.holds[at];
            let terms = Terms { limit: *limit, strict: *strict, reach: Reach::Alone };
            if matches!(metric, Metric::Requests | Metric::ConcurrentRequests) {
                continue;
            }
            let again = if *shadow {
                Ok(meter.take_anyway(*limit, *reserved, now).0)
            } else {
                meter.take(terms, *reserved, now).map(|taken| taken.period)
            };
            match again {
                // What was taken from a period that is over stays there.
                Ok(next) if next != *period => {
                    (self.holds[at].period, self.holds[at].doubtful) = (next, 0);
                }
                Ok(_) => self.holds[at].doubtful += self.holds[at].reserved,
                Err(_) => {
                    for hold in &mut self.holds[..at] {
                        let back = hold.doubtful.min(hold.reserved);
                        hold.doubtful -= back;
                        hold.meter.give_back(hold.period, back);
                    }
                    return false;
                }
            }
        }
        true
    }

    /// Replaces what was estimated by what it came to.
    pub fn settle(mut self, usage: &Usage, now: Now) {
        for hold in self.holds.drain(..) {
            let actual = actual(&hold, usage);
            if actual > hold.reserved {
                hold.meter.add(hold.period, actual - hold.reserved, now);
            } else {
                hold.meter.give_back(hold.period, hold.reserved - actual);
            }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        for hold in self.holds.drain(..) {
            hold.meter.give_back(hold.period, hold.reserved);
        }
    }
}

/// Whether the rule speaks of its model. What asks no model is not spoken of by a rule about some.
fn is_for(rule: &Rule, ask: &Ask<'_>, load: &Load<'_>) -> bool {
    rule.models.is_empty() || (ask.input.is_some() && rule.speaks_of(load.models.iter().copied()))
}

/// To be reserved; `None`: the rule does not speak of it.
fn amount(rule: &Rule, ask: &Ask<'_>) -> Result<Option<u64>, Refused> {
    if matches!(rule.metric, Metric::Requests | Metric::ConcurrentRequests) {
        return Ok(Some(1));
    }
    let Some(estimate) = ask.input else { return Ok(None) };
    let stated = ask.load.and_then(|load| load.output);
    let price = |input, output| ask.load.and_then(|load| (load.price)(input, output));
    let strict = rule.strict && !rule.shadow;
    let (input, output) = if strict {
        let unbounded = |side| Refused::Unbounded(rule.owner, rule.name.clone(), side);
        if rule.wants_price() && price(1, 1).is_none() {
            return Err(Refused::Unpriced(rule.owner, rule.name.clone()));
        }
        let input = ask.load.and_then(|load| load.most_input).ok_or_else(|| unbounded(Side::Input))?;
        // Output that costs nothing needs no bound.
        let free = || (rule.metric == Metric::Cost && price(0, u64::from(u32::MAX)) == Some(0)).then_some(0);
        (input, stated.or_else(free).ok_or_else(|| unbounded(Side::Output))?)
    } else {
        (estimate, stated.unwrap_or(rule.output_estimate))
    };
    let amount = match rule.metric {
        // No question is empty: where nobody knows its length, none passes a limit that is used up.
        Metric::InputTokens => input.max(1),
        Metric::OutputTokens => output.max(1),
        Metric::TotalTokens => input.saturating_add(output).max(1),
        Metric::Cost | Metric::Requests | Metric::ConcurrentRequests => match price(input, output) {
            Some(nanos) => nanos,
            None if rule.wants_price() => return Err(Refused::Unpriced(rule.owner, rule.name.clone())),
            // What turns out to have a price after all is counted then.
            None => 0,
        },
    };
    // An estimate alone never makes a request impossible: it passes when nothing else is counted.
    Ok(Some(if strict { amount } else { amount.min(rule.limit) }))
}

/// What stays counted of what is reserved, and more.
fn actual(hold: &Hold, usage: &Usage) -> u64 {
    let Hold { metric, strict, reserved, .. } = *hold;
    if !usage.sent {
        return 0;
    }
    let tokens = |known: Option<u64>| match known {
        Some(tokens) => tokens,
        // Nobody will say any more: what was reserved stands for what it may have come to.
        None if usage.open => reserved,
        None => 0,
    };
    let settled = match metric {
        Metric::Requests => 1,
        Metric::ConcurrentRequests => 0,
        Metric::InputTokens => tokens(usage.input),
        Metric::OutputTokens => match (usage.input, usage.output) {
            // An answer that tells its input and no output has none, such as embeddings.
            (Some(_), None) if usage.complete => 0,
            (_, output) => tokens(output),
        },
        Metric::TotalTokens => match (usage.input, usage.output) {
            (None, None) => tokens(None),
            (input, output) => {
                let sum = input.unwrap_or_default().saturating_add(output.unwrap_or_default());
                if usage.complete || (input.is_some() && output.is_some()) { sum } else { sum.max(reserved) }
            }
        },
        Metric::Cost => match usage.cost {
            Cost::Nothing => 0,
            Cost::Told(nanos) => return nanos,
            Cost::Estimated(nanos) => nanos,
            Cost::Unknown => reserved,
        },
    };
    // The model may have gone on when nobody listened any more.
    let unheard = strict && usage.open && !usage.complete;
    if unheard { settled.max(reserved) } else { settled }
}

fn exceeded(rule: &Rule, short: Short, now: Now) -> Exceeded {
    let Short { measured, frees_in, dry: _ } = short;
    let at = |frees: Duration| {
        let micros = u64::try_from(frees.as_micros()).unwrap_or(u64::MAX);
        now.unix_ms.saturating_mul(1000).saturating_add(micros)
    };
    Exceeded {
        rule: rule.name.clone(),
        owner: rule.owner,
        provider: None,
        metric: rule.metric,
        measured,
        allowed: rule.limit,
        window: rule.window.to_string().into(),
        frees_in,
        frees_at_us: frees_in.map(at),
    }
}

#[cfg(test)]
mod tests;
