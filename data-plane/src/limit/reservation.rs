//! What one request has taken from the rules that speak of it: all or nothing, estimated before it is sent, settled
//! with what it came to, and given back if it goes another way.

use std::sync::Arc;
use std::time::Duration;

use super::meter::{Meter, Now, Short};
use super::meters::Meters;
use super::rule::{Metric, Owner, Rule};

/// What is known of a request before it is sent.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    /// Of the vendor, without the query.
    pub(crate) path: &'a str,
    /// Tokens of input, estimated; `None`: it asks a model nothing.
    pub(crate) input: Option<u64>,
    /// What its body says. `None`: it has not been read, and only rules that need nothing of it are asked.
    pub(crate) load: Option<&'a Load<'a>>,
    pub(crate) now: Now,
}

/// What the body of a request says, and what that may cost.
pub(crate) struct Load<'a> {
    /// What the model is called by the client and by those who are asked; none: nobody knows.
    pub(crate) models: &'a [&'a str],
    /// Tokens of input, at most; `None`: nothing bounds them.
    pub(crate) most_input: Option<u64>,
    /// Tokens of output, at most; `None`: nothing bounds them.
    pub(crate) output: Option<u64>,
    /// Nano-dollars of so many tokens of input and output at the dearest of those who may be asked; `None`: there is no
    /// price.
    pub(crate) price: &'a dyn Fn(u64, u64) -> Option<u64>,
}

/// What a request came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Something was sent to a vendor.
    pub(crate) sent: bool,
    /// The answer is over and said all it had to say.
    pub(crate) complete: bool,
    /// A model may have worked, and nobody has said how much.
    pub(crate) open: bool,
    pub(crate) input: Option<u64>,
    pub(crate) output: Option<u64>,
    pub(crate) cost: Cost,
}

/// What a request cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Cost {
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
pub(crate) enum Refused {
    /// It would be too much.
    Exceeded(Box<Exceeded>),
    /// The rule of this owner and name holds to the letter, and this does not bound it.
    Unbounded(Owner, Box<str>, Side),
}

/// Of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Input,
    Output,
}

/// Which rule refused, and what it held against the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// As the configuration calls it.
    pub rule: Box<str>,
    /// Whose rule it is.
    pub owner: Owner,
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
pub(crate) struct Reservation {
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
    pub(crate) fn acquire(&mut self, rules: &[Rule], ask: &Ask<'_>, meters: &Meters) -> Result<(), Refused> {
        for rule in rules {
            let asked = rule.weighs() == ask.load.is_some()
                && rule.covers(ask.path)
                && ask.load.is_none_or(|load| rule.speaks_of(load.models.iter().copied()));
            let amount = if asked { amount(rule, ask)? } else { None };
            let Some(amount) = amount else { continue };
            let meter = rule.meter(meters);
            let period = if rule.shadow {
                let (period, exceeded) = meter.take_anyway(rule.limit, amount, ask.now);
                if exceeded {
                    meters.would_refuse();
                }
                period
            } else {
                let taken = meter.take(rule.limit, amount, ask.now);
                taken.map_err(|short| Refused::Exceeded(Box::new(exceeded(rule, short, ask.now))))?
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

    /// An attempt came to nobody knows what, and another is to follow: takes as much again of tokens and money, or
    /// nothing. `false`: there is not so much.
    pub(crate) fn double(&mut self, now: Now) -> bool {
        for at in 0..self.holds.len() {
            let Hold { meter, metric, limit, shadow, reserved, period, .. } = &self.holds[at];
            if matches!(metric, Metric::Requests | Metric::ConcurrentRequests) {
                continue;
            }
            let again = if *shadow { Ok(meter.take_anyway(*limit, *reserved, now).0) } else { meter.take(*limit, *reserved, now) };
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
    pub(crate) fn settle(mut self, usage: &Usage, now: Now) {
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
        let input = ask.load.and_then(|load| load.most_input).ok_or_else(|| unbounded(Side::Input))?;
        // Output that costs nothing needs no bound.
        let free = || (rule.metric == Metric::Cost && price(0, u64::from(u32::MAX)) == Some(0)).then_some(0);
        (input, stated.or_else(free).ok_or_else(|| unbounded(Side::Output))?)
    } else {
        (estimate, stated.unwrap_or(rule.output_estimate))
    };
    let amount = match rule.metric {
        Metric::InputTokens => input,
        Metric::OutputTokens => output,
        Metric::TotalTokens => input.saturating_add(output),
        // What turns out to have a price after all is counted then.
        Metric::Cost | Metric::Requests | Metric::ConcurrentRequests => price(input, output).unwrap_or(0),
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
    let Short { measured, frees_in } = short;
    let at = |frees: Duration| {
        let micros = u64::try_from(frees.as_micros()).unwrap_or(u64::MAX);
        now.unix_ms.saturating_mul(1000).saturating_add(micros)
    };
    Exceeded {
        rule: rule.name.clone(),
        owner: rule.owner,
        metric: rule.metric,
        measured,
        allowed: rule.limit,
        window: rule.window.to_string().into(),
        frees_in,
        frees_at_us: frees_in.map(at),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use uuid::Uuid;

    use super::*;
    use crate::limit::meter::Window;
    use crate::limit::rule::Pattern;

    fn rule(name: &str, metric: Metric, limit: u64) -> Rule {
        let window = match metric {
            Metric::ConcurrentRequests => Window::InFlight,
            _ => Window::Rolling(Duration::from_mins(1)),
        };
        Rule {
            name: name.into(),
            owner: Owner::ApiKey(Uuid::nil()),
            metric,
            limit,
            window,
            resources: Box::default(),
            shadow: false,
            unpriced_allowed: false,
            output_estimate: 100,
            models: Box::default(),
            strict: false,
            meter: OnceLock::new(),
        }
    }

    const NOW: Now = Now { since: Duration::ZERO, unix_ms: 0 };
    const ASK: Ask<'static> = Ask { path: "/v1/chat/completions", input: Some(10), now: NOW };

    fn acquire(rules: &[Rule], meters: &Meters) -> Result<Reservation, Exceeded> {
        let mut reservation = Reservation::default();
        reservation.acquire(rules, &ASK, meters)?;
        Ok(reservation)
    }

    fn measured(rule: &Rule, meters: &Meters) -> u64 {
        rule.meter(meters).take(0, 1, NOW).unwrap_err().measured
    }

    #[test]
    fn who_is_refused_by_one_rule_burns_no_other() {
        let meters = Meters::default();
        let rules = [
            rule("a", Metric::Requests, 5),
            rule("b", Metric::ConcurrentRequests, 9),
            rule("c", Metric::TotalTokens, 500),
            rule("d", Metric::Requests, 1),
        ];
        let first = acquire(&rules, &meters).unwrap();
        let exceeded = acquire(&rules, &meters).unwrap_err();
        assert_eq!((&*exceeded.rule, exceeded.measured, exceeded.allowed), ("d", 1, 1));
        assert_eq!((&*exceeded.window, exceeded.frees_in), ("60s", Some(Duration::from_mins(1))));
        assert_eq!(rules.each_ref().map(|rule| measured(rule, &meters)), [1, 1, 110, 1]);
        drop(first);
        assert_eq!(rules.each_ref().map(|rule| measured(rule, &meters)), [0; 4], "nothing was sent");
    }

    #[test]
    fn what_is_settled_is_what_it_came_to() {
        let sent = Usage { sent: true, complete: true, ..Usage::default() };
        let known = Usage { input: Some(30), output: Some(5), ..sent };
        let embedding = Usage { input: Some(30), ..sent };
        let broken = Usage { input: Some(30), open: true, complete: false, ..sent };
        let silent = Usage { open: true, complete: false, ..sent };
        let failed = Usage { complete: false, ..sent };
        // requests, in flight, input, output, both
        for (usage, expected) in [
            (known, [1, 0, 30, 5, 35]),
            (embedding, [1, 0, 30, 0, 30]),
            (broken, [1, 0, 30, 100, 110]),
            (silent, [1, 0, 10, 100, 110]),
            (failed, [1, 0, 0, 0, 0]),
            (Usage::default(), [0; 5]),
        ] {
            let meters = Meters::default();
            let metrics = [
                Metric::Requests,
                Metric::ConcurrentRequests,
                Metric::InputTokens,
                Metric::OutputTokens,
                Metric::TotalTokens,
            ];
            let rules = metrics.map(|metric| rule(metric.label(), metric, 1000));
            acquire(&rules, &meters).unwrap().settle(&usage, NOW);
            assert_eq!(rules.each_ref().map(|rule| measured(rule, &meters)), expected, "{usage:?}");
        }
    }

    #[test]
    fn a_rule_in_shadow_mode_counts_and_refuses_nobody() {
        let meters = Meters::default();
        let rules = [Rule { shadow: true, ..rule("a", Metric::Requests, 1) }];
        for _ in 0..3 {
            acquire(&rules, &meters).unwrap().settle(&Usage { sent: true, ..Usage::default() }, NOW);
        }
        assert_eq!(measured(&rules[0], &meters), 3);
        assert_eq!(meters.shadowed(), 2);
    }

    #[test]
    fn a_rule_speaks_of_its_resources_alone_and_what_has_no_price_is_not_free() {
        let meters = Meters::default();
        let elsewhere = Box::new([Pattern::parse("/v1/files/*").unwrap()]);
        let rules = [Rule { resources: elsewhere, ..rule("a", Metric::Requests, 1) }];
        for _ in 0..3 {
            assert!(acquire(&rules, &meters).unwrap().holds.is_empty());
        }
        let cost = rule("money", Metric::Cost, 1_000_000_000);
        assert_eq!(acquire(std::slice::from_ref(&cost), &meters).unwrap_err().frees_in, None);
        let lax = Rule { unpriced_allowed: true, ..cost };
        assert!(acquire(&[lax], &meters).is_ok());
    }

    #[test]
    fn an_estimate_larger_than_the_limit_passes_when_nothing_else_is_counted() {
        let meters = Meters::default();
        let rules = [rule("a", Metric::TotalTokens, 50)];
        let first = acquire(&rules, &meters).unwrap();
        assert!(acquire(&rules, &meters).is_err());
        drop(first);
        assert!(acquire(&rules, &meters).is_ok());
    }
}
