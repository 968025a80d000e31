//! Costs by class, lookups, and what absurd counts come to.

use proptest::prelude::*;
use prost::Message as _;
use proto::config::{Price as WirePrice, Prices as WirePrices, Rates as WireRates};

use super::*;

fn price(models: &[&str], version: &str, rates: WireRates) -> WirePrice {
    WirePrice {
        models: models.iter().map(|model| (*model).to_owned()).collect(),
        version: version.to_owned(),
        rates: Some(rates),
        ..WirePrice::default()
    }
}

fn flat(input: u64, output: u64) -> WireRates {
    WireRates { input: Some(input), output: Some(output), ..WireRates::default() }
}

fn list(own: Vec<WirePrice>, shipped: Vec<WirePrice>) -> Arc<PriceList> {
    let body = WirePrices { own, shipped }.encode_to_vec();
    Arc::new(PriceList::try_from(&*body).unwrap())
}

fn one(price: WirePrice) -> Prices {
    Prices::of(None, Some(&list(Vec::new(), vec![price])))
}

fn tokens(input: u64, output: u64) -> Tokens {
    Tokens { input: Some(input), output: Some(output), ..Tokens::default() }
}

fn nanos(cost: &Cost) -> u64 {
    match cost {
        Cost::Known { nanos, .. } => *nanos,
        Cost::UnknownTokens | Cost::Unpriced => panic!("{cost:?}"),
    }
}

fn version(prices: &Prices, model: &str) -> Option<String> {
    prices.find(model).map(|price| price.version.to_string())
}

const DOLLAR: u64 = 1_000_000_000;

#[test]
fn each_class_is_charged_once_at_its_own_rate() {
    let rates = WireRates {
        cached_input: Some(DOLLAR / 10),
        cache_write: Some(2 * DOLLAR),
        reasoning: Some(20 * DOLLAR),
        input_audio: Some(40 * DOLLAR),
        output_audio: Some(80 * DOLLAR),
        ..flat(DOLLAR, 10 * DOLLAR)
    };
    let prices = one(price(&["m"], "v", rates));
    let tokens = Tokens {
        input: Some(1_000),
        output: Some(100),
        cached_input: Some(500),
        cache_write: Some(200),
        input_audio: Some(50),
        reasoning: Some(60),
        output_audio: Some(10),
    };
    let by_hand = 500 * 100 + 200 * 2_000 + 50 * 40_000 + 250 * 1_000 + 60 * 20_000 + 10 * 80_000 + 30 * 10_000;
    assert_eq!(nanos(&prices.cost(Some("m"), None, &tokens)), by_hand);
}

#[test]
fn a_class_without_a_rate_costs_what_the_whole_does() {
    let prices = one(price(&["m"], "v", flat(1_000_000, 2_000_000)));
    let tokens = Tokens { cached_input: Some(4), reasoning: Some(3), ..tokens(10, 5) };
    assert_eq!(nanos(&prices.cost(Some("m"), None, &tokens)), 10 + 10);
}

#[test]
fn a_fraction_of_a_nano_dollar_is_rounded_up_once() {
    // 37.5 and 150 nano-dollars a token.
    let prices = one(price(&["m"], "v", flat(37_500_000, 150_000_000)));
    assert_eq!(nanos(&prices.cost(Some("m"), None, &tokens(1, 0))), 38);
    assert_eq!(nanos(&prices.cost(Some("m"), None, &tokens(3, 1))), 263);
}

#[test]
fn unpriced_unknown_and_free_are_three_things() {
    let prices = one(price(&["free"], "v", flat(0, 0)));
    assert_eq!(prices.cost(Some("other"), None, &tokens(1, 1)), Cost::Unpriced);
    assert_eq!(prices.cost(None, None, &tokens(1, 1)), Cost::Unpriced);
    assert_eq!(nanos(&prices.cost(Some("free"), None, &tokens(1, 1))), 0);
    assert_eq!(nanos(&prices.cost(Some("free"), None, &Tokens::default())), 0);
    let prices = one(price(&["m"], "v", flat(1, 1)));
    assert_eq!(prices.cost(Some("m"), None, &Tokens::default()), Cost::UnknownTokens);
    let half = one(price(&["m"], "v", WireRates { input: Some(1), ..WireRates::default() }));
    assert_eq!(half.cost(Some("m"), None, &tokens(1, 1)), Cost::Unpriced);
    assert_eq!(nanos(&half.cost(Some("m"), None, &tokens(1_000_000, 0))), 1);
}

#[test]
fn an_embedding_has_no_output_to_know() {
    let prices = one(price(&["embed"], "v", flat(20_000_000, 0)));
    let tokens = Tokens { input: Some(8), ..Tokens::default() };
    assert_eq!(nanos(&prices.cost(Some("embed"), None, &tokens)), 160);
}

#[test]
fn long_requests_have_their_own_rates() {
    let long = WirePrice {
        long_above: 200_000,
        long: Some(flat(2_000_000, 4_000_000)),
        ..price(&["m"], "v", flat(1_000_000, 1_000_000))
    };
    let prices = one(long);
    assert_eq!(nanos(&prices.cost(Some("m"), None, &tokens(200_000, 1))), 200_001);
    assert_eq!(nanos(&prices.cost(Some("m"), None, &tokens(200_001, 1))), 400_006);
    assert_eq!(prices.worst_case("m", 1, 1), Ok(6));
}

#[test]
fn the_exact_name_then_the_longest_beginning_and_what_is_said_before_what_is_shipped() {
    let shipped =
        ["gpt*", "gpt-4o", "gpt-4o*", "gpt-4o-mini*", "gpt-5*", "g"].map(|model| price(&[model], model, flat(1, 1)));
    let own = vec![price(&["gpt-5*"], "said", flat(1, 1))];
    let template = list(own, shipped.to_vec());
    let provider = list(vec![price(&["*"], "all", flat(1, 1)), price(&["gpt-4o"], "mine", flat(1, 1))], Vec::new());
    let prices = Prices::of(None, Some(&template));
    for (model, expected) in [
        ("gpt-4o", Some("gpt-4o")),
        ("gpt-4o-2024-08-06", Some("gpt-4o*")),
        ("gpt-4o-mini-2024", Some("gpt-4o-mini*")),
        ("gpt-4.1", Some("gpt*")),
        ("gpt-5-nano", Some("said")),
        ("g", Some("g")),
        ("gp", None),
        ("claude", None),
        ("", None),
    ] {
        assert_eq!(version(&prices, model).as_deref(), expected, "{model}");
    }
    let prices = Prices::of(Some(&provider), Some(&template));
    assert_eq!(version(&prices, "gpt-4o").as_deref(), Some("mine"));
    assert_eq!(version(&prices, "gpt-4o-mini").as_deref(), Some("all"));
}

#[test]
fn the_requested_model_decides_where_the_served_one_has_no_price() {
    let prices = one(price(&["asked"], "v", flat(1_000_000, 0)));
    assert_eq!(nanos(&prices.cost(Some("served"), Some("asked"), &tokens(2, 0))), 2);
}

#[test]
fn what_no_request_can_cost_is_not_believed() {
    let prices = one(price(&["m"], "v", flat(u64::MAX, u64::MAX)));
    assert_eq!(prices.cost(Some("m"), None, &tokens(u64::MAX, u64::MAX)), Cost::Unpriced);
    assert_eq!(prices.worst_case("m", u64::MAX, u64::MAX), Ok(u64::MAX));
    assert_eq!(prices.worst_case("other", 1, 1), Err(Unpriced));
}

proptest! {
    #[test]
    fn the_longest_beginning_is_found_as_by_looking_at_all(
        prefixes in proptest::collection::vec("[ab]{0,4}", 0..12), model in "[ab]{0,6}",
    ) {
        let shipped = prefixes.iter().map(|text| price(&[&format!("{text}*")], text, flat(1, 1))).collect();
        let prices = Prices::of(None, Some(&list(Vec::new(), shipped)));
        let expected = prefixes.iter().filter(|text| model.starts_with(*text)).max_by_key(|text| text.len());
        prop_assert_eq!(version(&prices, &model), expected.cloned());
    }

    #[test]
    fn no_request_costs_more_than_its_worst_case(
        rates in proptest::array::uniform7(proptest::option::of(0..100_000_000_000_u64)),
        counts in proptest::array::uniform7(0..2_000_000_u64),
        long in proptest::option::of((1..1_000_000_u64, 0..100_000_000_000_u64)),
    ) {
        let [input, cached_input, cache_write, output, reasoning, input_audio, output_audio] = rates;
        let rates = WireRates { input, cached_input, cache_write, output, reasoning, input_audio, output_audio };
        let mut price = price(&["m"], "v", rates);
        if let Some((above, rate)) = long {
            (price.long_above, price.long) = (above, Some(flat(rate, rate)));
        }
        let prices = one(price);
        let [input, output, cached, write, reasoning, audio_in, audio_out] = counts;
        let tokens = Tokens {
            cached_input: Some(cached), cache_write: Some(write), reasoning: Some(reasoning),
            input_audio: Some(audio_in), output_audio: Some(audio_out), ..tokens(input, output)
        };
        if let Ok(worst) = prices.worst_case("m", input, output)
            && let Cost::Known { nanos, .. } = prices.cost(Some("m"), None, &tokens)
        {
            prop_assert!(nanos <= worst, "{nanos} > {worst}");
        }
    }
}
