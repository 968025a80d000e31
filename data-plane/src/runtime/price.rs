//! What a vendor's tokens cost. Compiled with the configuration into lists that are looked up by the model's name when a
//! request has ended; integer arithmetic, rounded once. A model without a price is *unpriced*, which is not free.

use std::collections::HashMap;
use std::sync::Arc;

/// Tokens of one request, by class. `None` is unknown, never zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// All input, cached, cache-write and audio included.
    pub input: Option<u64>,
    /// All output, reasoning and audio included.
    pub output: Option<u64>,
    /// Of the input.
    pub cached_input: Option<u64>,
    /// Of the input.
    pub cache_write: Option<u64>,
    /// Of the output.
    pub reasoning: Option<u64>,
    /// Of the input.
    pub input_audio: Option<u64>,
    /// Of the output.
    pub output_audio: Option<u64>,
}

/// What a request cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cost {
    /// So much, by the price of this version.
    Known {
        /// Nano-dollars.
        nanos: u64,
        /// Of the price.
        version: Arc<str>,
    },
    /// There is a price, but the tokens are not known.
    UnknownTokens,
    /// There is no price for the model or one of its classes of tokens, or the sum is not to be believed.
    Unpriced,
}

/// There is no price, so there is no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the model has no price")]
pub struct Unpriced;

/// A vendor that counts so much for one request is not believed: $100,000. Keeps sums of very many within 63 bits.
const MOST_NANOS: u128 = 100_000_000_000_000;
const MILLION: u128 = 1_000_000;

/// Nano-dollars per million tokens; `None`: not priced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rates {
    input: Option<u64>,
    cached_input: Option<u64>,
    cache_write: Option<u64>,
    output: Option<u64>,
    reasoning: Option<u64>,
    input_audio: Option<u64>,
    output_audio: Option<u64>,
}

impl Rates {
    /// The dearest that a token of input can be, and one of output.
    fn dearest(&self) -> Option<(u64, u64)> {
        let Self { input, cached_input, cache_write, output, reasoning, input_audio, output_audio } = *self;
        let most = |whole: Option<u64>, parts: [Option<u64>; 3]| parts.into_iter().flatten().chain(whole).max();
        // Without the whole's rate nothing bounds it.
        input
            .and(most(input, [cached_input, cache_write, input_audio]))
            .zip(output.and(most(output, [reasoning, output_audio, None])))
    }
}

/// What one side of a request is charged: parts first, each at most what is left, then the rest.
fn charge(total: Option<u64>, parts: &[(Option<u64>, Option<u64>)], rate: Option<u64>) -> Result<u128, Cost> {
    let rates = || parts.iter().map(|(_, rate)| *rate).chain([rate]);
    let Some(mut left) = total else {
        // Nothing costs nothing, however much it was.
        if rates().all(|rate| rate == Some(0)) {
            return Ok(0);
        }
        return Err(if rate.is_some() { Cost::UnknownTokens } else { Cost::Unpriced });
    };
    let mut sum = 0_u128;
    for (count, rate) in parts.iter().map(|(count, rate)| (count.unwrap_or(0), *rate)).chain([(u64::MAX, rate)]) {
        let count = count.min(left);
        left -= count;
        if count > 0 {
            sum = sum.saturating_add(u128::from(count) * u128::from(rate.ok_or(Cost::Unpriced)?));
        }
    }
    Ok(sum)
}

/// The price of one or more models.
#[derive(Debug)]
pub struct Price {
    version: Arc<str>,
    rates: Rates,
    /// Input tokens beyond which these hold.
    long: Option<(u64, Rates)>,
    batch_percent: u32,
}

impl Price {
    /// What these tokens cost, rounded up to a whole nano-dollar.
    pub fn cost(&self, tokens: &Tokens, batch: bool) -> Cost {
        let rates = match &self.long {
            Some((above, long)) if tokens.input.is_some_and(|input| input > *above) => long,
            _ => &self.rates,
        };
        match Self::sum(rates, tokens) {
            Ok(sum) => {
                let percent = u128::from(if batch { self.batch_percent } else { 100 });
                match sum.checked_mul(percent).map(|sum| sum.div_ceil(100 * MILLION)) {
                    Some(nanos) if nanos <= MOST_NANOS => Cost::Known {
                        nanos: u64::try_from(nanos).unwrap_or(u64::MAX),
                        version: Arc::clone(&self.version),
                    },
                    _ => Cost::Unpriced,
                }
            }
            Err(cost) => cost,
        }
    }

    fn sum(rates: &Rates, tokens: &Tokens) -> Result<u128, Cost> {
        let input = [
            (tokens.cached_input, rates.cached_input),
            (tokens.cache_write, rates.cache_write),
            (tokens.input_audio, rates.input_audio),
        ];
        let output = [(tokens.reasoning, rates.reasoning), (tokens.output_audio, rates.output_audio)];
        let input = charge(tokens.input, &input, rates.input);
        let output = charge(tokens.output, &output, rates.output);
        match (input, output) {
            (Ok(input), Ok(output)) => Ok(input.saturating_add(output)),
            (Err(Cost::Unpriced), _) | (_, Err(Cost::Unpriced)) => Err(Cost::Unpriced),
            (Err(cost), _) | (_, Err(cost)) => Err(cost),
        }
    }

    fn worst_case(&self, input: u64, output: u64) -> Result<u64, Unpriced> {
        let mut worst = 0;
        for rates in [Some(&self.rates), self.long.as_ref().map(|(_, rates)| rates)].into_iter().flatten() {
            let (by_input, by_output) = rates.dearest().ok_or(Unpriced)?;
            let sum =
                (u128::from(input) * u128::from(by_input)).saturating_add(u128::from(output) * u128::from(by_output));
            worst = sum.div_ceil(MILLION).max(worst);
        }
        Ok(u64::try_from(worst).unwrap_or(u64::MAX))
    }
}

/// Prices by model: exact names, and beginnings of names.
#[derive(Debug, Default)]
struct Index {
    exact: HashMap<Box<str>, Arc<Price>>,
    /// In order of their texts.
    prefixes: Vec<Prefix>,
}

#[derive(Debug)]
struct Prefix {
    text: Box<str>,
    price: Arc<Price>,
    /// The longest other one that this one begins with.
    parent: Option<usize>,
}

impl Index {
    fn new(prices: Vec<(Vec<String>, Price)>) -> Self {
        let mut index = Self::default();
        let mut prefixes = Vec::new();
        for (models, price) in prices {
            let price = Arc::new(price);
            for model in models {
                match model.strip_suffix('*') {
                    Some(text) => prefixes.push((Box::<str>::from(text), Arc::clone(&price))),
                    None => drop(index.exact.insert(model.into(), Arc::clone(&price))),
                }
            }
        }
        prefixes.sort_by(|one, other| one.0.cmp(&other.0));
        prefixes.dedup_by(|later, earlier| later.0 == earlier.0);
        for (text, price) in prefixes {
            let parent = index.longest(index.prefixes.len().checked_sub(1), &text);
            index.prefixes.push(Prefix { text, price, parent });
        }
        index
    }

    /// From this one on up, the first that `model` begins with.
    fn longest(&self, mut from: Option<usize>, model: &str) -> Option<usize> {
        while let Some(prefix) = from.map(|at| &self.prefixes[at]) {
            if model.starts_with(&*prefix.text) {
                return from;
            }
            from = prefix.parent;
        }
        None
    }

    /// As the list writes what this model is found under, without the `*`.
    fn name(&self, model: &str) -> Option<&str> {
        if let Some((name, _)) = self.exact.get_key_value(model) {
            return Some(name);
        }
        let before = self.prefixes.partition_point(|prefix| &*prefix.text <= model).checked_sub(1);
        self.longest(before, model).map(|at| &*self.prefixes[at].text)
    }

    fn find(&self, model: &str) -> Option<&Price> {
        if let Some(price) = self.exact.get(model) {
            return Some(price);
        }
        // Whatever `model` begins with sorts before it, and the last that does begins with all of those.
        let before = self.prefixes.partition_point(|prefix| &*prefix.text <= model).checked_sub(1);
        self.longest(before, model).map(|at| &*self.prefixes[at].price)
    }
}

/// The prices of one provider or template.
#[derive(Debug, Default)]
pub struct PriceList {
    own: Index,
    shipped: Index,
}

impl PriceList {
    fn find(&self, model: &str) -> Option<&Price> {
        self.own.find(model).or_else(|| self.shipped.find(model))
    }
}

/// What a provider's tokens cost: its own prices, then its organization's for the template, then those shipped. Within
/// each the exact name, then the longest beginning.
#[derive(Clone, Debug, Default)]
pub struct Prices {
    provider: Option<Arc<PriceList>>,
    template: Option<Arc<PriceList>>,
}

impl Prices {
    /// Of a provider and of its template.
    pub fn of(provider: Option<&Arc<PriceList>>, template: Option<&Arc<PriceList>>) -> Self {
        Self { provider: provider.cloned(), template: template.cloned() }
    }

    /// The price of a model.
    pub fn find(&self, model: &str) -> Option<&Price> {
        [&self.provider, &self.template].into_iter().flatten().find_map(|list| list.find(model))
    }

    /// What the model is called where its price is: of a closed set, whatever a client or a vendor calls it.
    pub fn name(&self, model: &str) -> Option<&str> {
        let lists = [&self.provider, &self.template].into_iter().flatten();
        let mut indexes = lists.flat_map(|list| [&list.own, &list.shipped]);
        indexes.find_map(|index| index.name(model)).filter(|name| !name.is_empty())
    }

    /// What a request cost. The served model decides; where it has no price, the requested one.
    pub fn cost(&self, served: Option<&str>, requested: Option<&str>, tokens: &Tokens) -> Cost {
        let price = served.and_then(|model| self.find(model)).or_else(|| self.find(requested?));
        price.map_or(Cost::Unpriced, |price| price.cost(tokens, false))
    }

    /// The most, in nano-dollars, that a request to this model can cost with at most so many tokens of input and of
    /// output, whatever class the vendor counts them in.
    pub fn worst_case(&self, model: &str, input_tokens: u64, output_tokens: u64) -> Result<u64, Unpriced> {
        self.find(model).ok_or(Unpriced)?.worst_case(input_tokens, output_tokens)
    }
}

mod wire {
    use prost::Message as _;
    use proto::config::{Price as WirePrice, Prices as WirePrices, Rates as WireRates};

    use super::{Index, Price, PriceList, Rates};
    use crate::runtime::invalid::{Code, Invalid};

    impl TryFrom<&[u8]> for PriceList {
        type Error = Invalid;

        fn try_from(body: &[u8]) -> Result<Self, Invalid> {
            let WirePrices { own, shipped } = WirePrices::decode(body)
                .map_err(|_| Invalid::new("", Code::Undecodable, "the prices cannot be decoded"))?;
            let index = |prices: Vec<WirePrice>| Index::new(prices.into_iter().map(price).collect());
            Ok(Self { own: index(own), shipped: index(shipped) })
        }
    }

    fn price(price: WirePrice) -> (Vec<String>, Price) {
        let WirePrice { models, version, rates, long_above, long, batch_percent } = price;
        let price = Price {
            version: version.into(),
            rates: self::rates(rates),
            long: (long_above > 0).then(|| (long_above, self::rates(long))),
            batch_percent: if batch_percent == 0 { 100 } else { batch_percent },
        };
        (models, price)
    }

    fn rates(rates: Option<WireRates>) -> Rates {
        let WireRates { input, cached_input, cache_write, output, reasoning, input_audio, output_audio } =
            rates.unwrap_or_default();
        Rates {
            input,
            cached_input: cached_input.or(input),
            cache_write: cache_write.or(input),
            output,
            reasoning: reasoning.or(output),
            input_audio: input_audio.or(input),
            output_audio: output_audio.or(output),
        }
    }
}

#[cfg(test)]
mod tests;
