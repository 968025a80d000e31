//! What one request has taken from the rules that speak of it: all or nothing, estimated before it is sent, settled
//! with what it came to, and given back if it goes another way.

use std::sync::Arc;
use std::time::Duration;

use super::meter::{Meter, Now, Short};
use super::meters::Meters;
use super::rule::{Metric, Owner, Rule};

/// What is known of a request before it is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    /// Of the vendor, without the query.
    pub(crate) path: &'a str,
    /// Tokens of input, estimated; `None`: it asks a model nothing.
    pub(crate) input: Option<u64>,
    pub(crate) now: Now,
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
    reserved: u64,
    period: u64,
}

impl Reservation {
    /// Takes from every rule that speaks of the request; where one refuses, what was taken before stays for the caller
    /// to drop.
    pub(crate) fn acquire(&mut self, rules: &[Rule], ask: &Ask<'_>, meters: &Meters) -> Result<(), Exceeded> {
        for rule in rules.iter().filter(|rule| rule.covers(ask.path)) {
            let amount = match amount(rule, ask) {
                Some(0) => continue,
                Some(amount) => amount,
                None if rule.shadow || rule.unpriced_allowed => continue,
                None => return Err(exceeded(rule, Short { measured: 0, frees_in: None }, ask.now)),
            };
            let meter = rule.meter(meters);
            let period = if rule.shadow {
                let (period, exceeded) = meter.take_anyway(rule.limit, amount, ask.now);
                if exceeded {
                    meters.would_refuse();
                }
                period
            } else {
                meter.take(rule.limit, amount, ask.now).map_err(|short| exceeded(rule, short, ask.now))?
            };
            self.holds.push(Hold { meter: Arc::clone(meter), metric: rule.metric, reserved: amount, period });
        }
        Ok(())
    }

    /// Replaces what was estimated by what it came to.
    pub(crate) fn settle(mut self, usage: &Usage, now: Now) {
        for Hold { meter, metric, reserved, period } in self.holds.drain(..) {
            let actual = actual(metric, reserved, usage);
            if actual > reserved {
                meter.add(period, actual - reserved, now);
            } else {
                meter.give_back(period, reserved - actual);
            }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        for Hold { meter, metric: _, reserved, period } in self.holds.drain(..) {
            meter.give_back(period, reserved);
        }
    }
}

/// To be reserved; `None`: nobody can say.
fn amount(rule: &Rule, ask: &Ask<'_>) -> Option<u64> {
    let tokens = |input: u64, output: u64| {
        // An estimate alone never makes a request impossible: it passes when nothing else is counted.
        Some(ask.input.map_or(0, |asked| (asked * input).saturating_add(rule.output_estimate * output)).min(rule.limit))
    };
    match rule.metric {
        Metric::Requests | Metric::ConcurrentRequests => Some(1),
        Metric::InputTokens => tokens(1, 0),
        Metric::OutputTokens => tokens(0, 1),
        Metric::TotalTokens => tokens(1, 1),
        Metric::Cost if ask.input.is_none() => Some(0),
        Metric::Cost => None,
    }
}

fn actual(metric: Metric, reserved: u64, usage: &Usage) -> u64 {
    if !usage.sent {
        return 0;
    }
    let tokens = |known: Option<u64>| match known {
        Some(tokens) => tokens,
        // Nobody will say any more: what was reserved stands for what it may have come to.
        None if usage.open => reserved,
        None => 0,
    };
    match metric {
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
        // Without a price nothing was reserved.
        Metric::Cost => reserved,
    }
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
