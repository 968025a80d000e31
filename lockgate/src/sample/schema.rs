//! An example value for a JSON Schema: arguments for tool calls, answers in JSON mode.
//!
//! Understands what SDKs generate from types (`type`, `properties`, `required`, `enum`, `const`, `items`, `anyOf`,
//! local `$ref`, Gemini's upper-case type names) and answers `{}` to anything stranger.

use serde_json::{Map, Value, json};

/// Deeper schemas get `null`: a recursive type must end somewhere.
const DEPTH: usize = 12;
/// So does what comes after so many values: a recursive type may also branch.
const VALUES: usize = 1000;

/// A value that fits the schema; strings are taken from the prompt, so that a call looks like one.
pub(super) fn example(schema: &Value, prompt: &str) -> Value {
    match schema {
        Value::Null => json!({}),
        schema => Maker { root: schema, prompt, left: VALUES }.make(schema, "", DEPTH),
    }
}

struct Maker<'a> {
    root: &'a Value,
    prompt: &'a str,
    left: usize,
}

impl<'a> Maker<'a> {
    fn make(&mut self, schema: &'a Value, name: &str, depth: usize) -> Value {
        if depth == 0 || self.left == 0 {
            return Value::Null;
        }
        self.left -= 1;
        if let Some(fixed) = schema.get("const").or_else(|| schema.get("default")).filter(|fixed| !fixed.is_null()) {
            return fixed.clone();
        }
        if let Some(first) = schema.get("enum").and_then(Value::as_array).and_then(|values| values.first()) {
            return first.clone();
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#')) {
            return self.root.pointer(target).map_or(Value::Null, |target| self.make(target, name, depth - 1));
        }
        for combined in ["anyOf", "oneOf", "allOf"] {
            if let Some(first) = schema.get(combined).and_then(Value::as_array).and_then(|choices| choices.first()) {
                return self.make(first, name, depth - 1);
            }
        }
        let kind = match schema.get("type") {
            Some(Value::String(kind)) => kind.to_lowercase(),
            Some(Value::Array(kinds)) => {
                kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("null").to_lowercase()
            }
            _ => "object".to_owned(),
        };
        match kind.as_str() {
            "string" => Value::String(words(self.prompt, name, schema)),
            "integer" => schema.get("minimum").filter(|least| least.is_i64()).cloned().unwrap_or(json!(1)),
            "number" => schema.get("minimum").filter(|least| least.is_number()).cloned().unwrap_or(json!(1.5)),
            "boolean" => json!(true),
            "null" => Value::Null,
            "array" => {
                let items = schema.get("items").unwrap_or(&Value::Null);
                let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(1).clamp(1, 16);
                Value::Array((0..least).map(|_| self.make(items, name, depth - 1)).collect())
            }
            _ => {
                let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
                let members = properties.map(|(name, schema)| (name.clone(), self.make(schema, name, depth - 1)));
                Value::Object(members.collect::<Map<_, _>>())
            }
        }
    }
}

/// The last capitalised word of the prompt looks like what a person would fill in; the field's name otherwise.
fn words(prompt: &str, name: &str, schema: &Value) -> String {
    match schema.get("format").and_then(Value::as_str) {
        Some("date") => return "2026-01-31".to_owned(),
        Some("date-time") => return "2026-01-31T12:00:00Z".to_owned(),
        _ => {}
    }
    let capitalised = prompt
        .split(|letter: char| !letter.is_alphanumeric())
        .skip(1)
        .filter(|word| word.chars().next().is_some_and(char::is_uppercase) && word.chars().count() > 1)
        .last();
    let word = capitalised.unwrap_or(if name.is_empty() { "sample" } else { name });
    let least = schema.get("minLength").and_then(Value::as_u64).and_then(|least| usize::try_from(least).ok());
    format!("{word:_<width$}", width = least.unwrap_or(0).min(256))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_fits_its_schema() {
        let schema = json!({
            "type": "object",
            "properties": {
                "city": { "type": "string" },
                "unit": { "enum": ["celsius", "fahrenheit"] },
                "days": { "type": "INTEGER", "minimum": 3 },
                "more": { "$ref": "#/$defs/More" },
                "tags": { "type": "array", "items": { "type": ["null", "boolean"] } },
            },
            "$defs": { "More": { "anyOf": [{ "type": "number" }, { "type": "null" }] } },
        });
        let value = example(&schema, "What is the weather in Colombo?");
        assert_eq!(value, json!({ "city": "Colombo", "unit": "celsius", "days": 3, "more": 1.5, "tags": [true] }));
    }

    #[test]
    fn a_schema_that_contains_itself_ends() {
        let next = json!({ "$ref": "#" });
        let schema = json!({ "type": "object", "properties": { "a": next, "b": next, "c": next, "d": next } });
        assert!(example(&schema, "").to_string().len() < 20_000);
    }
}
