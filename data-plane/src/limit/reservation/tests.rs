//! What is taken, what is settled, and that whoever is refused burns nothing. The clock stands still.

use std::sync::OnceLock;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::limit::lease::Reach;
use crate::limit::meter::Window;
use crate::limit::rule::{Model, Pattern};

fn rule(name: &str, metric: Metric, limit: u64) -> Rule {
    let window = match metric {
        Metric::ConcurrentRequests => Window::InFlight,
        _ => Window::Rolling(Duration::from_mins(1)),
    };
    Rule { output_estimate: 100, ..Rule::new(name, Owner::ApiKey(Uuid::nil()), metric, limit, window) }
}

fn of_models(models: &[&str], rule: Rule) -> Rule {
    Rule { models: models.iter().map(|model| Model::parse((*model).to_owned())).collect(), ..rule }
}

const NOW: Now = Now { since: Duration::ZERO, unix_ms: 0 };
const ASK: Ask<'static> =
    Ask { path: "/v1/chat/completions", input: Some(10), load: Some(&LOAD), now: NOW, reach: Reach::Alone };
/// One that says nothing.
const LOAD: Load<'static> = Load { models: &["gpt-4o"], most_input: None, output: None, price: &unpriced };

fn unpriced(_: u64, _: u64) -> Option<u64> {
    None
}

/// Three of input, seven of output.
#[expect(clippy::unnecessary_wraps, reason = "as prices are asked for")]
fn price(input: u64, output: u64) -> Option<u64> {
    Some(3 * input + 7 * output)
}

/// Before the body is read, and after.
fn acquire_for(rules: &[Rule], ask: &Ask<'_>, meters: &Meters) -> Result<Reservation, Refused> {
    let mut reservation = Reservation::default();
    reservation.acquire(rules, &Ask { load: None, ..*ask }, meters)?;
    reservation.acquire(rules, ask, meters)?;
    Ok(reservation)
}

fn acquire(rules: &[Rule], meters: &Meters) -> Result<Reservation, Refused> {
    acquire_for(rules, &ASK, meters)
}

fn exceeded(refused: Refused) -> Exceeded {
    match refused {
        Refused::Exceeded(exceeded) => *exceeded,
        Refused::Dry(_) | Refused::Unbounded(..) | Refused::Unpriced(..) => panic!("{refused:?}"),
    }
}

fn measured(rule: &Rule, meters: &Meters) -> u64 {
    rule.meter(meters).take(0, 1, NOW).unwrap_err().measured
}

const SENT: Usage = Usage { sent: true, complete: true, open: false, input: None, output: None, cost: Cost::Nothing };

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
    let exceeded = exceeded(acquire(&rules, &meters).unwrap_err());
    assert_eq!((&*exceeded.rule, exceeded.measured, exceeded.allowed), ("d", 1, 1));
    assert_eq!((&*exceeded.window, exceeded.frees_in), ("60s", Some(Duration::from_mins(1))));
    assert_eq!(rules.each_ref().map(|rule| measured(rule, &meters)), [1, 1, 110, 1]);
    drop(first);
    assert_eq!(rules.each_ref().map(|rule| measured(rule, &meters)), [0; 4], "nothing was sent");
}

#[test]
fn what_is_settled_is_what_it_came_to() {
    let known = Usage { input: Some(30), output: Some(5), cost: Cost::Told(70), ..SENT };
    let embedding = Usage { input: Some(30), cost: Cost::Told(90), ..SENT };
    let broken = Usage { input: Some(30), open: true, complete: false, cost: Cost::Estimated(95), ..SENT };
    let silent = Usage { open: true, complete: false, cost: Cost::Unknown, ..SENT };
    let failed = Usage { complete: false, ..SENT };
    // requests, in flight, input, output, both, money
    for (usage, expected) in [
        (known, [1, 0, 30, 5, 35, 70]),
        (embedding, [1, 0, 30, 0, 30, 90]),
        (broken, [1, 0, 30, 100, 110, 95]),
        (silent, [1, 0, 10, 100, 110, 730]),
        (failed, [1, 0, 0, 0, 0, 0]),
        (Usage::default(), [0; 6]),
    ] {
        let meters = Meters::default();
        let metrics = [
            Metric::Requests,
            Metric::ConcurrentRequests,
            Metric::InputTokens,
            Metric::OutputTokens,
            Metric::TotalTokens,
            Metric::Cost,
        ];
        let rules = metrics.map(|metric| rule(metric.label(), metric, 1000));
        let ask = Ask { load: Some(&Load { price: &price, ..LOAD }), ..ASK };
        acquire_for(&rules, &ask, &meters).unwrap().settle(&usage, NOW);
        assert_eq!(rules.each_ref().map(|rule| measured(rule, &meters)), expected, "{usage:?}");
    }
}

#[test]
fn a_rule_in_shadow_mode_counts_and_refuses_nobody() {
    let meters = Meters::default();
    let shadow = |rule: Rule| Rule { shadow: true, ..rule };
    let strict = Rule { strict: true, ..rule("c", Metric::Cost, 1000) };
    let rules = [rule("a", Metric::Requests, 1), rule("b", Metric::Cost, 1000), strict].map(shadow);
    let ask = Ask { load: Some(&Load { price: &price, ..LOAD }), ..ASK };
    for _ in 0..3 {
        let settled = Usage { cost: Cost::Told(600), ..SENT };
        acquire_for(&rules, &ask, &meters).unwrap().settle(&settled, NOW);
    }
    assert_eq!(rules.each_ref().map(|rule| measured(rule, &meters)), [3, 1800, 1800]);
    assert_eq!(meters.shadowed(), 6, "the second and the third, of each");
}

#[test]
fn a_rule_speaks_of_its_resources_alone() {
    let meters = Meters::default();
    let elsewhere = Box::new([Pattern::parse("/v1/files/*").unwrap()]);
    let rules = [Rule { resources: elsewhere, ..rule("a", Metric::Requests, 1) }];
    for _ in 0..3 {
        assert!(acquire(&rules, &meters).unwrap().holds.is_empty());
    }
}

#[test]
fn what_has_no_price_is_counted_if_the_bill_has_one() {
    let meters = Meters::default();
    let rules = [Rule { unpriced_allowed: true, ..rule("money", Metric::Cost, 1000) }];
    acquire(&rules, &meters).unwrap().settle(&Usage { cost: Cost::Unknown, ..SENT }, NOW);
    assert_eq!(measured(&rules[0], &meters), 0);
    acquire(&rules, &meters).unwrap().settle(&Usage { cost: Cost::Told(5), ..SENT }, NOW);
    assert_eq!(measured(&rules[0], &meters), 5);
    let [lax] = rules;
    for rule in [Rule { unpriced_allowed: false, ..lax }].into_iter().flat_map(|rule| {
        let strict =
            Rule { strict: true, meter: OnceLock::new(), name: "money".into(), ..self::rule("", Metric::Cost, 9) };
        [rule, strict]
    }) {
        let refused = acquire(&[rule], &meters).unwrap_err();
        assert_eq!(refused, Refused::Unpriced(Owner::ApiKey(Uuid::nil()), "money".into()));
    }
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

#[test]
fn what_the_request_states_is_reserved_and_else_the_rules_estimate() {
    for (output, reserved) in [(Some(40), 50), (None, 110), (Some(0), 10), (Some(1), 11)] {
        let meters = Meters::default();
        let rules = [rule("a", Metric::TotalTokens, 500)];
        let ask = Ask { load: Some(&Load { output, ..LOAD }), ..ASK };
        let held = acquire_for(&rules, &ask, &meters).unwrap();
        assert_eq!(measured(&rules[0], &meters), reserved, "{output:?}");
        drop(held);
    }
}

#[test]
fn a_strict_rule_reserves_the_most_and_refuses_what_has_none() {
    let strict = |limit| [Rule { strict: true, ..rule("a", Metric::Cost, limit) }];
    let asks = |most_input, output, rules: &[Rule]| {
        let meters = Meters::default();
        let ask = Ask { load: Some(&Load { most_input, output, price: &price, ..LOAD }), ..ASK };
        let taken = acquire_for(rules, &ask, &meters);
        (taken, measured(&rules[0], &meters))
    };
    assert_eq!(asks(Some(40), Some(10), &strict(190)).1, 190);
    let (refused, _) = asks(Some(40), Some(10), &strict(189));
    assert_eq!(exceeded(refused.unwrap_err()).frees_in, None, "an estimate may pass, the most may not");
    for (most_input, output, side) in [(None, Some(1), Side::Input), (Some(1), None, Side::Output)] {
        let (refused, _) = asks(most_input, output, &strict(1000));
        assert_eq!(refused.unwrap_err(), Refused::Unbounded(Owner::ApiKey(Uuid::nil()), "a".into(), side));
    }
    // Embeddings put out nothing that costs anything.
    let meters = Meters::default();
    let load = Load { most_input: Some(9), price: &|input, _| Some(input), ..LOAD };
    let rules = strict(1000);
    let _held = acquire_for(&rules, &Ask { load: Some(&load), ..ASK }, &meters).unwrap();
    assert_eq!(measured(&rules[0], &meters), 9);
}

#[test]
fn a_strict_rule_keeps_what_the_vendor_may_have_spent_unheard() {
    let load = Load { most_input: Some(40), output: Some(10), price: &price, ..LOAD };
    for (cost, complete, kept) in [
        (Cost::Estimated(20), false, 190),
        (Cost::Unknown, false, 190),
        (Cost::Unknown, true, 190),
        (Cost::Told(20), false, 20),
        (Cost::Told(20), true, 20),
        (Cost::Nothing, false, 0),
    ] {
        let meters = Meters::default();
        let rules = [Rule { strict: true, ..rule("a", Metric::Cost, 1000) }];
        let usage = Usage { cost, complete, open: cost != Cost::Nothing && !complete, ..SENT };
        acquire_for(&rules, &Ask { load: Some(&load), ..ASK }, &meters).unwrap().settle(&usage, NOW);
        assert_eq!(measured(&rules[0], &meters), kept, "{usage:?}");
    }
}

#[test]
fn an_attempt_that_came_to_nobody_knows_what_stays_spent_when_another_follows() {
    let meters = Meters::default();
    let rules = [rule("a", Metric::Requests, 9), rule("b", Metric::Cost, 1500), rule("c", Metric::TotalTokens, 230)];
    let ask = Ask { load: Some(&Load { price: &price, ..LOAD }), ..ASK };
    let mut taken = acquire_for(&rules, &ask, &meters).unwrap();
    assert!(taken.double(NOW));
    let counts = || rules.each_ref().map(|rule| measured(rule, &meters));
    assert_eq!(counts(), [1, 1460, 220]);
    assert!(!taken.double(NOW), "there is no room for a third");
    assert_eq!(counts(), [1, 1460, 220]);
    taken.settle(&Usage { input: Some(10), output: Some(1), cost: Cost::Told(37), ..SENT }, NOW);
    assert_eq!(counts(), [1, 767, 121]);
}

#[test]
fn a_rule_about_models_speaks_of_them_by_every_name_and_of_what_names_none() {
    let cases: [(&[&str], Option<u64>, bool); 7] = [
        (&["gpt-4o"], Some(1), true),
        (&["gpt-4o-mini"], Some(1), true),
        (&["o3"], Some(1), true),
        (&["o3-mini"], Some(1), false),
        (&["fast", "gpt-4o"], Some(1), true),
        // A body in which nobody could find the model.
        (&[], Some(1), true),
        // No model is asked anything.
        (&[], None, false),
    ];
    for (models, input, counted) in cases {
        let meters = Meters::default();
        let rules = [of_models(&["gpt-4*", "o3"], rule("a", Metric::Requests, 9))];
        let ask = Ask { input, load: Some(&Load { models, ..LOAD }), ..ASK };
        let held = acquire_for(&rules, &ask, &meters).unwrap();
        assert_eq!(held.holds.len(), usize::from(counted), "{models:?} {input:?}");
    }
}

#[test]
fn money_belongs_to_the_month_it_was_taken_in_whatever_the_clock_does() {
    const HOUR: u64 = 3_600_000;
    let end = 1_701_388_800_000; // 2023-12-01
    let wall = |unix_ms| Now { since: Duration::ZERO, unix_ms };
    let month = Window::Calendar(crate::limit::calendar::Period::Month);
    let rule = |limit| [Rule::new("a", Owner::ApiKey(Uuid::nil()), Metric::Cost, limit, month)];
    let load = Load { output: Some(10), price: &price, ..LOAD };
    let told = |nanos| Usage { cost: Cost::Told(nanos), ..SENT };
    let (meters, rules) = (Meters::default(), rule(1000));
    let take = |rules: &[Rule], at| {
        acquire_for(rules, &Ask { load: Some(&load), now: wall(at), ..ASK }, &meters).map_err(exceeded)
    };
    let spent = |at| rules[0].meter(&meters).take(0, 1, wall(at)).unwrap_err().measured;
    // Taken in November, told in December: neither what it came to nor what is given back is December's.
    let late = take(&rules, end - 1).unwrap();
    let other = take(&rules, end - 1).unwrap();
    late.settle(&told(900), wall(end));
    assert_eq!(spent(end), 0);
    let next = take(&rules, end).unwrap();
    drop(other);
    assert_eq!(spent(end), 100);
    next.settle(&told(40), wall(end + 1));
    // A leap second is told as the second before it once more: midnight comes again, and the month does not.
    take(&rules, end - 1).unwrap().settle(&told(50), wall(end - 1));
    take(&rules, end).unwrap().settle(&told(60), wall(end));
    assert_eq!(spent(end), 150);
    // An hour ahead and back, within the month and over its beginning.
    for at in [end + 2 * HOUR, end + HOUR, end - HOUR, end + HOUR] {
        take(&rules, at).unwrap().settle(&told(10), wall(at));
    }
    assert_eq!(spent(end + HOUR), 190);
    // Lowered below what is spent: refused until the month is over, and nothing is lost when it is raised again.
    let lowered = rule(100);
    let refused = take(&lowered, end + HOUR).unwrap_err();
    assert_eq!((refused.measured, refused.allowed), (190, 100));
    assert_eq!(refused.frees_in, Some(Duration::from_millis(31 * 24 * HOUR - HOUR)));
    take(&rules, end + HOUR).unwrap().settle(&told(1), wall(end + HOUR));
    assert_eq!(spent(end + HOUR), 191);
    take(&lowered, end + 31 * 24 * HOUR).unwrap();
    // A price of zero takes nothing, even of nothing.
    let free = Load { price: &|_, _| Some(0), ..LOAD };
    let full = rule(1);
    take(&full, end + 32 * 24 * HOUR).unwrap().settle(&told(500), wall(end + 32 * 24 * HOUR));
    let ask = Ask { load: Some(&free), now: wall(end + 32 * 24 * HOUR), ..ASK };
    acquire_for(&full, &ask, &meters).unwrap().settle(&told(0), ask.now);
}

/// Any rule.
fn any_rule() -> impl Strategy<Value = Rule> {
    let metrics = prop_oneof![
        Just(Metric::Requests),
        Just(Metric::InputTokens),
        Just(Metric::OutputTokens),
        Just(Metric::TotalTokens),
        Just(Metric::Cost),
        Just(Metric::ConcurrentRequests),
    ];
    (metrics, 1..3000_u64, any::<bool>(), any::<bool>(), 0..3_usize).prop_map(
        |(metric, limit, shadow, strict, models)| {
            let models: &[&str] = [&[][..], &["gpt-4*"], &["o3"]][models];
            of_models(models, Rule { shadow, strict, ..rule("", metric, limit) })
        },
    )
}

proptest! {
    /// Rules of a key, of a proxy and of a provider, as they are asked one after the other.
    #[test]
    fn who_is_refused_leaves_every_meter_as_it_was(
        lists in proptest::collection::vec(proptest::collection::vec(any_rule(), 0..5), 3),
        asks in proptest::collection::vec(
            (0..3_usize, 0..400_u64, proptest::option::of(0..100_u64), any::<bool>(), 0..900_u64), 1..40,
        ),
    ) {
        let lists: Vec<Vec<Rule>> = lists.into_iter().enumerate().map(|(list, rules)| {
            let named = |(at, rule): (usize, Rule)| Rule { name: format!("{list}-{at}").into(), ..rule };
            rules.into_iter().enumerate().map(named).collect()
        }).collect();
        let meters = Meters::default();
        let all = || lists.iter().flatten().map(|rule| measured(rule, &meters)).collect::<Vec<_>>();
        let mut spent = vec![0; lists.iter().map(Vec::len).sum::<usize>()];
        for (model, bytes, output, ends, nanos) in asks {
            let models: &[&str] = [&[][..], &["gpt-4o"], &["o3", "o4"]][model];
            let most_input = (bytes % 5 != 0).then_some(bytes);
            let load = Load { models, most_input, output, price: &price };
            let ask = Ask { input: Some(bytes / 4), load: Some(&load), ..ASK };
            let before = all();
            prop_assert_eq!(&before, &spent, "everything is settled");
            let mut taken = Reservation::default();
            let refused = lists.iter().try_for_each(|rules| {
                taken.acquire(rules, &Ask { load: None, ..ask }, &meters)?;
                taken.acquire(rules, &ask, &meters)
            });
            if refused.is_err() || !ends {
                drop(taken);
                prop_assert_eq!(all(), before);
                continue;
            }
            let usage = Usage { input: Some(bytes / 4), output: Some(3), cost: Cost::Told(nanos), ..SENT };
            taken.settle(&usage, NOW);
            let counts = |rule: &Rule| match rule.metric {
                _ if !rule.models.is_empty() && !rule.speaks_of(models.iter().copied()) => 0,
                Metric::Requests => 1,
                Metric::InputTokens => bytes / 4,
                Metric::OutputTokens => 3,
                Metric::TotalTokens => bytes / 4 + 3,
                Metric::Cost => nanos,
                Metric::ConcurrentRequests => 0,
            };
            for (spent, rule) in spent.iter_mut().zip(lists.iter().flatten()) {
                *spent += counts(rule);
            }
        }
    }
}

/// How one request ends: what the vendor spends of what it may, and how much of that anybody hears of.
#[derive(Clone, Debug)]
enum Fate {
    /// It says what it came to.
    Told(u64),
    /// The client leaves, and the vendor goes on.
    Unheard { spent: u64, heard: u64 },
    /// No answer, though it ran.
    Silent(u64),
    /// No answer, though it ran; then another attempt, which ends so.
    Again(u64, Box<Fate>),
    /// A vendor's error, or nothing was sent.
    Failed,
}

fn any_fate() -> impl Strategy<Value = Fate> {
    let ended = prop_oneof![
        4 => (0..=100_u64).prop_map(Fate::Told),
        1 => (0..=100_u64, 0..=100_u64).prop_map(|(spent, heard)| Fate::Unheard { spent, heard: heard.min(spent) }),
        1 => (0..=100_u64).prop_map(Fate::Silent),
        1 => Just(Fate::Failed),
    ];
    ended
        .prop_recursive(3, 8, 1, |ended| (0..=100_u64, ended).prop_map(|(spent, next)| Fate::Again(spent, next.into())))
}

/// What the vendor spends of `most`, and what is told at the end.
fn spend(taken: &mut Reservation, most: u64, fate: &Fate) -> (u64, Usage) {
    let share = |percent: u64| most * percent / 100;
    let unheard = Usage { complete: false, open: true, ..SENT };
    match fate {
        Fate::Told(percent) => (share(*percent), Usage { cost: Cost::Told(share(*percent)), ..SENT }),
        Fate::Unheard { spent, heard } => (share(*spent), Usage { cost: Cost::Estimated(share(*heard)), ..unheard }),
        Fate::Silent(percent) => (share(*percent), Usage { cost: Cost::Unknown, ..unheard }),
        Fate::Failed => (0, Usage { complete: false, ..SENT }),
        Fate::Again(percent, next) => {
            let first = share(*percent);
            if !taken.double(NOW) {
                return (first, Usage { cost: Cost::Unknown, ..unheard });
            }
            let (second, usage) = spend(taken, most, next);
            (first + second, usage)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Fifty callers at a time on one dollar, in any order, whatever becomes of them.
    #[test]
    fn a_hard_budget_is_never_exceeded_by_the_vendors_own_count(
        requests in proptest::collection::vec((1..4_000_u64, 1..40_000_u64, any_fate(), 0..50_usize), 50..200),
    ) {
        const DOLLAR: u64 = 1_000_000_000;
        let month = Window::Calendar(crate::limit::calendar::Period::Month);
        let rules = [Rule { strict: true, ..Rule::new("a", Owner::ApiKey(Uuid::nil()), Metric::Cost, DOLLAR, month) }];
        let meters = Meters::default();
        let price = |input, output| Some(2_500 * input + 10_000 * output);
        let (mut spent, mut open) = (0, Vec::new());
        for (input, output, fate, ends) in requests {
            let load = Load { most_input: Some(input), output: Some(output), price: &price, ..LOAD };
            if let Ok(taken) = acquire_for(&rules, &Ask { load: Some(&load), ..ASK }, &meters) {
                open.push((taken, 2_500 * input + 10_000 * output, fate));
            }
            if open.len() == 50 || ends < open.len() {
                let (mut taken, most, fate) = open.swap_remove(ends % open.len());
                let (nanos, usage) = spend(&mut taken, most, &fate);
                spent += nanos;
                taken.settle(&usage, NOW);
            }
            prop_assert!(spent <= DOLLAR, "{spent}");
        }
        for (mut taken, most, fate) in open {
            let (nanos, usage) = spend(&mut taken, most, &fate);
            spent += nanos;
            taken.settle(&usage, NOW);
        }
        prop_assert!(spent <= DOLLAR, "{spent}");
        prop_assert!(measured(&rules[0], &meters) >= spent);
    }
}
