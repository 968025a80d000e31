//! Prices: what a vendor's tokens cost. The shipped ones are the files in `prices/`, data with a version, a source and a
//! date; an organization sets its own over them, for a template or for one provider.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::error::Violation;
use super::template::{TemplateError, Templates};

/// The price of one or more models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Price {
    /// Names; one that ends in `*` stands for every model that begins so. The exact name wins, then the longest.
    pub models: Vec<String>,
    /// What they cost.
    pub rates: Rates,
    /// A request with more input tokens than this is charged by `long`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_above: Option<u64>,
    /// What such a request costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long: Option<Rates>,
    /// Of these rates, what the vendor bills for batches; 100 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_percent: Option<u32>,
    /// Where it was read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// When it was read, e.g. `2026-01-31`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub date: String,
}

/// Integer nano-dollars per million tokens: 1,000,000,000 is one dollar. Zero is a price; absent is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rates {
    /// Of a token of input; absent: not priced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<u64>,
    /// Read from the vendor's cache; absent: as input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<u64>,
    /// Written to the vendor's cache; absent: as input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<u64>,
    /// Of a token of output; absent: not priced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<u64>,
    /// Spent on reasoning; absent: as output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<u64>,
    /// Of audio; absent: as input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_audio: Option<u64>,
    /// Of audio; absent: as output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_audio: Option<u64>,
}

/// A whole list, as it is replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PriceListInput {
    /// All of them.
    pub prices: Vec<Price>,
}

/// Whose prices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PriceScope {
    /// Of every provider of a template.
    Template,
    /// Of one provider.
    Provider,
}

impl PriceScope {
    /// As the store has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Template => "template",
            Self::Provider => "provider",
        }
    }
}

/// The prices of a template or a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PriceList {
    /// Whose.
    pub scope: PriceScope,
    /// Of the template or the provider.
    pub name: String,
    /// Set by the organization; asked before `shipped`.
    pub prices: Vec<Price>,
    /// What the binary brings for a template.
    pub shipped: Vec<Price>,
    /// Of `shipped`; null: none are.
    pub version: Option<String>,
    /// That last changed `prices`; 0: none were ever set.
    pub revision: i64,
}

/// Above a million dollars per million tokens something else was meant.
const MOST_RATE: u64 = 1_000_000_000_000_000;
const MOST_PRICES: usize = 500;
const MOST_MODELS: usize = 64;
const LONGEST_MODEL: usize = 256;

impl PriceListInput {
    /// What the types cannot say.
    pub fn check(&self) -> Result<(), Vec<Violation>> {
        let mut violations = Vec::new();
        if self.prices.len() > MOST_PRICES {
            violations.push(Violation::invalid("/prices", format!("must be at most {MOST_PRICES}")));
        }
        let mut seen = std::collections::BTreeSet::new();
        for (index, price) in self.prices.iter().enumerate() {
            let at = |member: &str| format!("/prices/{index}/{member}");
            if price.models.is_empty() || price.models.len() > MOST_MODELS {
                violations.push(Violation::invalid(at("models"), format!("must be 1 to {MOST_MODELS}")));
            }
            for (number, model) in price.models.iter().enumerate() {
                let at = format!("/prices/{index}/models/{number}");
                let star = model.find('*').is_some_and(|place| place + 1 < model.len());
                if model.is_empty() || model.len() > LONGEST_MODEL || star || model.chars().any(char::is_control) {
                    let text = format!("must be 1 to {LONGEST_MODEL} bytes, with a `*` at its end or none");
                    violations.push(Violation::invalid(at, text));
                } else if !seen.insert(model) {
                    violations.push(Violation::invalid(at, "has a price in this list already"));
                }
            }
            let Price { rates, long_above, long, batch_percent, source, date, models: _ } = price;
            if long_above.is_some_and(|above| above > 0) != long.is_some() {
                violations.push(Violation::invalid(at("long"), "goes with longAbove, which is above 0"));
            }
            if batch_percent.is_some_and(|percent| !(1..=100).contains(&percent)) {
                violations.push(Violation::invalid(at("batchPercent"), "must be 1 to 100"));
            }
            if [Some(rates), long.as_ref()].into_iter().flatten().flat_map(Rates::all).any(|rate| rate > MOST_RATE) {
                let text = format!("must be at most {MOST_RATE} nano-dollars per million tokens");
                violations.push(Violation::invalid(at("rates"), text));
            }
            if source.len() > 512 || date.len() > 32 || source.contains('\0') || date.contains('\0') {
                violations.push(Violation::invalid(at("source"), "must be at most 512 bytes, and a date 32"));
            }
        }
        if violations.is_empty() { Ok(()) } else { Err(violations) }
    }
}

impl Rates {
    fn all(&self) -> impl Iterator<Item = u64> {
        let Self { input, cached_input, cache_write, output, reasoning, input_audio, output_audio } = *self;
        [input, cached_input, cache_write, output, reasoning, input_audio, output_audio].into_iter().flatten()
    }
}

/// The prices that the binary brings for one template.
#[derive(Clone, Debug)]
pub struct Shipped {
    /// The template's.
    pub template: uuid::Uuid,
    /// Its name.
    pub name: &'static str,
    /// Told in records, e.g. `openai@1`.
    pub version: String,
    /// As in the file, each with source and date.
    pub prices: Vec<Price>,
}

impl Shipped {
    /// Tells one edition from another.
    pub fn digest(&self) -> [u8; 32] {
        let text = serde_json::to_vec(&(&self.version, &self.prices)).expect("prices are plain data");
        Sha256::digest(text).into()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    source: String,
    date: String,
    prices: Vec<Price>,
}

/// Templates whose vendors publish prices. What is compatible with something has none of its own.
const FILES: [(&str, &str); 7] = [
    ("openai", include_str!("../../prices/openai.toml")),
    ("anthropic", include_str!("../../prices/anthropic.toml")),
    ("gemini", include_str!("../../prices/gemini.toml")),
    ("mistral", include_str!("../../prices/mistral.toml")),
    ("azure-openai", include_str!("../../prices/azure-openai.toml")),
    ("azure-ai-foundry", include_str!("../../prices/azure-ai-foundry.toml")),
    ("aws-bedrock", include_str!("../../prices/aws-bedrock.toml")),
];

/// Reads what the binary brings.
pub fn shipped(templates: &Templates) -> Result<Vec<Shipped>, TemplateError> {
    let wrong = |name: &str, at: String, message: String| TemplateError::Wrong { name: name.to_owned(), at, message };
    let read = |(name, text): (&'static str, &str)| {
        let File { version, source, date, mut prices } =
            toml::from_str(text).map_err(|error| TemplateError::Read(name, error))?;
        for price in &mut prices {
            (price.source, price.date) = (source.clone(), date.clone());
        }
        let list = PriceListInput { prices };
        if let Err(violations) = list.check()
            && let Some(Violation { pointer, message, .. }) = violations.into_iter().next()
        {
            return Err(wrong(name, pointer, message));
        }
        let template = templates.find(name).ok_or_else(|| wrong(name, String::new(), "no such template".to_owned()))?;
        Ok(Shipped { template: template.id.0, name, version: format!("{name}@{version}"), prices: list.prices })
    };
    FILES.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_price_reads_and_has_its_source() {
        let templates = Templates::builtin().unwrap();
        let shipped = shipped(&templates).unwrap();
        assert_eq!(shipped.len(), 7);
        for list in &shipped {
            assert!(list.prices.len() > 4 && list.prices.iter().all(|price| price.source.starts_with("https://")));
            // The model that every example uses must not look unpriced at once.
            let sample = &templates.find(list.name).unwrap().spec.sample_model;
            let priced =
                list.prices.iter().flat_map(|price| &price.models).any(|model| {
                    model == sample || model.strip_suffix('*').is_some_and(|start| sample.starts_with(start))
                });
            assert!(priced, "{}: {sample}", list.name);
        }
    }

    #[test]
    fn a_wrong_price_is_told_where_it_stands() {
        let list = |json| serde_json::from_value::<PriceListInput>(json).unwrap().check();
        let rates = serde_json::json!({ "input": 1 });
        let wrong = serde_json::json!({ "prices": [
            { "models": ["a", "a"], "rates": rates },
            { "models": [], "rates": { "input": u64::MAX } },
            { "models": ["a*b"], "rates": rates, "longAbove": 5, "batchPercent": 0 },
        ] });
        let pointers: Vec<_> = list(wrong).unwrap_err().into_iter().map(|violation| violation.pointer).collect();
        let expected = [
            "/prices/0/models/1",
            "/prices/1/models",
            "/prices/1/rates",
            "/prices/2/models/0",
            "/prices/2/long",
            "/prices/2/batchPercent",
        ];
        assert_eq!(pointers, expected);
        assert!(
            list(serde_json::json!({ "prices": [{ "models": ["free*"], "rates": { "input": 0, "output": 0 } }] }))
                .is_ok()
        );
    }
}
