//! A vendor's list of models, cut to some of them: `data[].id` as OpenAI, Anthropic and Mistral write it, `models[].name`
//! as Gemini does, or an array alone. What stays is byte for byte what the vendor wrote, in its order; what cannot be
//! told is an error, never passed.

use std::ops::Range;

use serde::de::IgnoredAny;

use super::Dialect;
use super::members::{Member, Members, elements, space};

/// A name that is listed beside the vendor's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Further {
    /// As clients call it.
    pub name: String,
    /// The vendor's name of what it stands for: it is described as that.
    pub of: String,
}

/// The list with only the models that `keeps` says yes to, and behind them `further`, as far as they are not there.
/// Where a list has several pages, those stand on the last. `None`: it is no list that can be read.
pub fn cut(body: &[u8], dialect: Dialect, keeps: impl Fn(&str) -> bool, further: &[Further]) -> Option<Vec<u8>> {
    serde_json::from_slice::<IgnoredAny>(body).ok()?;
    let list = List::read(body, dialect)?;
    let further = if list.is_last { further } else { &[] };
    let mut edits = Vec::new();
    for array in &list.arrays {
        edits.push((array.place.clone(), array.write(body, dialect, &keeps, further)));
    }
    if let (true, Some(array)) = (list.is_last, list.arrays.first()) {
        // On any other page they say where the next begins.
        let mut kept = array.entries.iter().filter(|entry| keeps(&entry.name));
        let first = kept.next();
        let last = kept.next_back().or(first);
        for (place, entry) in [(list.first_id, first), (list.last_id, last)] {
            let value = entry.map_or(&b"null"[..], |entry| &body[entry.named.clone()]);
            edits.extend(place.map(|place| (place, value.to_vec())));
        }
    }
    edits.sort_by_key(|(place, _)| place.start);
    let (mut out, mut passed) = (Vec::with_capacity(body.len()), 0);
    for (place, text) in edits {
        out.extend_from_slice(&body[passed..place.start]);
        out.extend(text);
        passed = place.end;
    }
    out.extend_from_slice(&body[passed..]);
    Some(out)
}

/// Where everything stands.
#[derive(Default)]
struct List {
    arrays: Vec<Array>,
    first_id: Option<Range<usize>>,
    last_id: Option<Range<usize>>,
    /// No page follows.
    is_last: bool,
}

struct Array {
    place: Range<usize>,
    /// Its member of each object.
    key: &'static str,
    entries: Vec<Entry>,
}

struct Entry {
    place: Range<usize>,
    /// The text in its quotes.
    named: Range<usize>,
    /// What a request would call it.
    name: String,
}

impl List {
    fn read(body: &[u8], dialect: Dialect) -> Option<Self> {
        let start = space(body, 0);
        let mut list = Self { is_last: true, ..Self::default() };
        if body.get(start) == Some(&b'[') {
            let end = body.trim_ascii_end().len();
            list.arrays.push(Array::read(body, start..end, "id", dialect)?);
            return Some(list);
        }
        let mut names: Vec<String> = Vec::new();
        for member in Members::of(body, 0)? {
            let Member { name, value } = member?;
            let raw = &body[value.clone()];
            match &*name {
                "data" => list.arrays.push(Array::read(body, value, "id", dialect)?),
                "models" => list.arrays.push(Array::read(body, value, "name", dialect)?),
                "first_id" => list.first_id = Some(value),
                "last_id" => list.last_id = Some(value),
                "has_more" => list.is_last &= raw != b"true",
                "nextPageToken" => list.is_last &= matches!(raw, b"null" | br#""""#),
                // It might name models, too.
                _ if matches!(raw, [b'{' | b'[', ..]) => return None,
                _ => {}
            }
            // A member that comes twice is read in more than one way.
            if names.contains(&name) {
                return None;
            }
            names.push(name);
        }
        (!list.arrays.is_empty()).then_some(list)
    }
}

impl Array {
    fn read(body: &[u8], place: Range<usize>, key: &'static str, dialect: Dialect) -> Option<Self> {
        let entries = elements(body, place.start)?;
        let entries = entries.into_iter().map(|place| Entry::read(body, place, key, dialect));
        Some(Self { entries: entries.collect::<Option<_>>()?, key, place })
    }

    /// It, with what is kept and what comes on top.
    fn write(&self, body: &[u8], dialect: Dialect, keeps: &impl Fn(&str) -> bool, further: &[Further]) -> Vec<u8> {
        let entries = &self.entries;
        let mut out = vec![b'['];
        let lead = entries.first().map_or(0..0, |first| self.place.start + 1..first.place.start);
        out.extend_from_slice(&body[lead]);
        let mut empty = true;
        for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| keeps(&entry.name)) {
            if !empty {
                out.extend_from_slice(&body[entries[index - 1].place.end..entry.place.start]);
            }
            empty = false;
            out.extend_from_slice(&body[entry.place.clone()]);
        }
        let between = match &entries[..] {
            [one, other, ..] => &body[one.place.end..other.place.start],
            _ => b",",
        };
        for Further { name, of } in further {
            if entries.iter().any(|entry| entry.name == *name && keeps(name)) {
                continue;
            }
            if !empty {
                out.extend_from_slice(between);
            }
            empty = false;
            match entries.iter().find(|entry| entry.name == *of) {
                Some(entry) => {
                    let gemini = body[entry.named.clone()].starts_with(br#""models/"#);
                    out.extend_from_slice(&body[entry.place.start..entry.named.start]);
                    out.extend(quoted(name, gemini));
                    out.extend_from_slice(&body[entry.named.end..entry.place.end]);
                }
                None => out.extend(described(name, self.key, dialect)),
            }
        }
        let tail = entries.last().map_or(self.place.end - 1, |last| last.place.end);
        out.extend_from_slice(&body[tail..self.place.end]);
        out
    }
}

impl Entry {
    fn read(body: &[u8], place: Range<usize>, key: &str, dialect: Dialect) -> Option<Self> {
        let mut named = None;
        for member in Members::of(body, place.start)? {
            let Member { name, value } = member?;
            if name == key && named.replace(value).is_some() {
                return None;
            }
        }
        let named = named?;
        let text: String = serde_json::from_slice(&body[named.clone()]).ok()?;
        let name = match text.strip_prefix("models/") {
            Some(name) if dialect == Dialect::Gemini => name.to_owned(),
            Some(_) | None => text,
        };
        Some(Self { place, named, name })
    }
}

fn quoted(name: &str, gemini: bool) -> Vec<u8> {
    let prefix = if gemini { "models/" } else { "" };
    serde_json::Value::from([prefix, name].concat()).to_string().into_bytes()
}

/// A model of which the vendor's list says nothing: as little as the vendors' own libraries ask for.
fn described(name: &str, key: &str, dialect: Dialect) -> Vec<u8> {
    let mut object = b"{\"".to_vec();
    object.extend_from_slice(key.as_bytes());
    object.extend_from_slice(b"\":");
    object.extend(quoted(name, dialect == Dialect::Gemini));
    match (dialect, key) {
        (Dialect::Anthropic, "id") => {
            object.extend_from_slice(br#","type":"model","created_at":"1970-01-01T00:00:00Z","display_name":"#);
            object.extend(quoted(name, false));
        }
        (_, "id") => object.extend_from_slice(br#","object":"model","created":0,"owned_by":"lockgate""#),
        _ => {}
    }
    object.push(b'}');
    object
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn further(name: &str, of: &str) -> Further {
        Further { name: name.to_owned(), of: of.to_owned() }
    }

    fn text(cut: Option<Vec<u8>>) -> String {
        String::from_utf8(cut.unwrap()).unwrap()
    }

    #[test]
    fn lists_of_the_vendors_are_cut_and_every_other_byte_stays() {
        let body = "{\n \"object\": \"list\",\n \"data\": [\n  {\"id\": \"a\", \"x\":1.0e2},\n  {\"\\u0069d\":\"\\u0062\"},\n  {\"id\":\"c\"}\n ]\n}\n";
        let keeps = |name: &str| name != "a";
        let cut_ = text(cut(body.as_bytes(), Dialect::OpenAi, keeps, &[further("fast", "a"), further("b", "a")]));
        assert_eq!(
            cut_,
            "{\n \"object\": \"list\",\n \"data\": [\n  {\"\\u0069d\":\"\\u0062\"},\n  {\"id\":\"c\"},\n  {\"id\": \"fast\", \"x\":1.0e2}\n ]\n}\n"
        );
        let gemini = r#"{"models":[{"name":"models/g","v":"1"},{"name":"models/h"}],"nextPageToken":""}"#;
        let added = [further("fast", "h"), further("new", "?")];
        assert_eq!(
            text(cut(gemini.as_bytes(), Dialect::Gemini, |name| name == "g", &added)),
            r#"{"models":[{"name":"models/g","v":"1"},{"name":"models/fast"},{"name":"models/new"}],"nextPageToken":""}"#
        );
        let anthropic = r#"{"data":[{"id":"a"},{"id":"b"},{"id":"c"}],"has_more":false,"first_id":"a","last_id":"c"}"#;
        assert_eq!(
            text(cut(anthropic.as_bytes(), Dialect::Anthropic, |name| name == "b", &[])),
            r#"{"data":[{"id":"b"}],"has_more":false,"first_id":"b","last_id":"b"}"#
        );
        let none = text(cut(anthropic.as_bytes(), Dialect::Anthropic, |_| false, &[further("x", "?")]));
        let none: Value = serde_json::from_str(&none).unwrap();
        assert_eq!((&none["data"][0]["id"], &none["data"][0]["display_name"]), (&json!("x"), &json!("x")));
        assert_eq!((&none["first_id"], &none["last_id"]), (&Value::Null, &Value::Null));
        let page = r#"{"data":[{"id":"a"}],"has_more":true,"last_id":"a"}"#;
        let cut_ = text(cut(page.as_bytes(), Dialect::Anthropic, |_| false, &[further("x", "a")]));
        assert_eq!(cut_, r#"{"data":[],"has_more":true,"last_id":"a"}"#, "where the next page begins must be told");
        let two = r#"{"models":[{"name":"a"},{"name":"b"}],"data":[{"id":"a"},{"id":"b"}]}"#;
        let cut_ = text(cut(two.as_bytes(), Dialect::OpenAi, |name| name == "b", &[]));
        assert_eq!(cut_, r#"{"models":[{"name":"b"}],"data":[{"id":"b"}]}"#, "some write both");
        assert_eq!(text(cut(b" [ {\"id\":\"a\"} ] ", Dialect::OpenAi, |_| true, &[])), " [ {\"id\":\"a\"} ] ");
        assert_eq!(text(cut(br#"{"data":[]}"#, Dialect::OpenAi, |_| true, &[])), r#"{"data":[]}"#);
    }

    #[test]
    fn what_cannot_be_told_is_no_list() {
        for body in [
            "",
            "x",
            "7",
            "{}",
            "{\"data\":7}",
            "{\"data\":[7]}",
            "{\"data\":[{}]}",
            "{\"data\":[{\"id\":7}]}",
            "{\"data\":[{\"id\":\"a\",\"id\":\"b\"}]}",
            "{\"data\":[{\"id\":\"a\"}],\"data\":[]}",
            "{\"data\":[{\"id\":\"a\"}],\"all\":[\"b\"]}",
            "{\"data\":[{\"id\":\"a\"}]",
            "{\"data\":[{\"id\":\"a\"}]}x",
            "{\"data\":[{\"id\":\"a\"],\"b\":1}}",
            "{\"object\":\"list\"}",
        ] {
            assert_eq!(cut(body.as_bytes(), Dialect::OpenAi, |_| true, &[]), None, "{body}");
        }
        assert_eq!(cut(b"{\"data\":[{\"id\":\"\xff\"}]}", Dialect::OpenAi, |_| true, &[]), None);
    }

    proptest! {
        #[test]
        fn what_is_kept_is_byte_for_byte_and_in_order(
            models in prop::collection::vec(("[a-e\\\\\"é\u{1}]{0,3}", any::<bool>(), "[ \n\t]{0,2}", ".{0,4}"), 0..8),
            named in prop::sample::select(vec!["data", "models"]),
        ) {
            let key = if named == "data" { "id" } else { "name" };
            let written: Vec<String> = models
                .iter()
                .map(|(name, _, gap, other)| {
                    format!("{{{gap}\"x\":{{\"{key}\":[{}]}},{gap}\"{key}\"{gap}:{}}}", json!(other), json!(name))
                })
                .collect();
            let keeps = |name: &str| models.iter().any(|(model, keep, ..)| *keep && *model == name);
            let body = format!("{{\"object\":\"list\",\"{named}\":[{}]}}", written.join(","));
            let kept: Vec<&str> =
                models.iter().zip(&written).filter(|((name, ..), _)| keeps(name)).map(|(_, text)| &**text).collect();
            let expected = format!("{{\"object\":\"list\",\"{named}\":[{}]}}", kept.join(","));
            prop_assert_eq!(text(cut(body.as_bytes(), Dialect::OpenAi, keeps, &[])), expected);
            prop_assert_eq!(text(cut(body.as_bytes(), Dialect::OpenAi, |_| true, &[])), body);
        }

        #[test]
        fn nothing_that_is_no_list_passes(body in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(cut(&body, Dialect::OpenAi, |_| false, &[]).filter(|_| body.trim_ascii() != b"[]"), None);
        }
    }
}
