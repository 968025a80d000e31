//! What limits cost a request, where 100,000 keys have some: `cargo bench -p data-plane --bench limits`.
//! `docs/guide/performance.md` has the figures that are wanted.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use data_plane::limit::board::Board;
use data_plane::limit::calendar::Period;
use data_plane::limit::lease::Reach;
use data_plane::limit::meter::{Now, Window};
use data_plane::limit::meters::Meters;
use data_plane::limit::reservation::{Ask, Cost, Load, Reservation, Usage};
use data_plane::limit::rule::{Metric, Owner, Rule};
use data_plane::runtime::price::{PriceList, Prices};
use prost::Message as _;
use proto::config;
use uuid::Uuid;

const KEYS: usize = 100_000;
/// Coprime to the number of keys: visits each of them before it comes again, and none near the one before.
const STRIDE: usize = 38_197;
/// Never reached here.
const MOST: u64 = 1_000_000_000_000_000;

/// So many rules for each key, of those that teams have: how often, how many at once, how many tokens, how much money.
fn keys(rules: usize) -> Vec<Vec<Rule>> {
    let minute = Window::Rolling(Duration::from_mins(1));
    let all = [
        ("pace", Metric::Requests, minute),
        ("budget", Metric::Cost, Window::Calendar(Period::Month)),
        ("at-once", Metric::ConcurrentRequests, Window::InFlight),
        ("tokens", Metric::TotalTokens, Window::Calendar(Period::Day)),
    ];
    let key = |at: usize| {
        let owner = Owner::ApiKey(Uuid::from_u128(at as u128));
        let rule = |(name, metric, window): &(&str, Metric, Window)| Rule::new(name, owner, *metric, MOST, *window);
        all[..rules].iter().map(rule).collect()
    };
    (0..KEYS).map(key).collect()
}

/// The price of one model among a few.
fn prices() -> Prices {
    let price = |model: &str| config::Price {
        models: vec![model.to_owned()],
        version: "1".to_owned(),
        rates: Some(config::Rates {
            input: Some(2_500_000_000),
            output: Some(10_000_000_000),
            ..config::Rates::default()
        }),
        ..config::Price::default()
    };
    let shipped = ["gpt-4o", "gpt-4o-2*", "gpt-4.1", "gpt-5*", "o3"].map(price).to_vec();
    let list = PriceList::try_from(&*config::Prices { own: vec![], shipped }.encode_to_vec()).unwrap();
    Prices::of(None, Some(&list.into()))
}

fn limits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("limits");
    let prices = prices();
    let price = |input, output| prices.worst_case("gpt-4o", input, output).ok();
    let load = Load { models: &["gpt-4o"], most_input: Some(3_000), output: Some(500), price: &price };
    let usage = Usage {
        sent: true,
        complete: true,
        input: Some(200),
        output: Some(90),
        cost: Cost::Told(1_400_000),
        ..Usage::default()
    };
    for (rules, shared) in [(0, false), (1, false), (2, false), (4, false), (1, true), (2, true), (4, true)] {
        let board = shared.then(|| Arc::new(Board::default()));
        let (keys, meters) = (keys(rules), Meters::new(board));
        let (mut at, mut tick) = (0, 0_u64);
        let mut request = || {
            at = (at + STRIDE) % KEYS;
            tick += 1;
            let now = Now { since: Duration::from_micros(tick), unix_ms: 1_800_000_000_000 + tick / 1_000 };
            let head = Ask { path: "/v1/chat/completions", input: Some(250), load: None, now, reach: Reach::Alone };
            let mut taken = Reservation::default();
            taken.acquire(&keys[at], &head, &meters).unwrap();
            taken.acquire(&keys[at], &Ask { load: Some(&load), ..head }, &meters).unwrap();
            black_box(taken).settle(&usage, now);
        };
        // Every rule has found its meter, as after a second of traffic.
        (0..KEYS).for_each(|_| request());
        let whose = if shared { ", of all nodes" } else { "" };
        group.bench_function(format!("{rules} of each key{whose}"), |bencher| bencher.iter(&mut request));
    }
    group.finish();
}

criterion_group!(benches, limits);
criterion_main!(benches);
