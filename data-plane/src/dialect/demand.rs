//! How much a request asks for at most, as its body says it: tokens of output, and how many times over; and what of its
//! input lies elsewhere, so that the body's bytes do not bound it. Judges strictly: what two readers could read in two
//! ways is no bound.

use std::fmt;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::pointer::{BadPointer, Place, Pointers};

/// Where it stands: JSON pointers, of which a step `*` stands for every element of an array.
#[derive(Debug, Default)]
pub struct Places<'a> {
    /// Tokens of output at most; where several are there, the largest.
    pub output: &'a [String],
    /// How many answers are wanted; where several are there, the largest.
    pub times: &'a [String],
    /// Elements that are asked one by one: what is a text or an array there counts.
    pub each: &'a [String],
    /// What stands for input that is not in the body. Behind `!=`, texts that do not, with a `|` between them.
    pub elsewhere: &'a [String],
}

/// The same, compiled.
#[derive(Debug, Default)]
pub struct Plan {
    pointers: Pointers,
    /// Of each slot.
    kinds: Box<[Kind]>,
}

#[derive(Debug)]
enum Kind {
    Output(Box<str>),
    Times,
    Each,
    Elsewhere { pointer: Box<str>, but: Box<[Box<str>]> },
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand<'a> {
    /// Tokens of output of all its answers together, at most; `None`: it does not say.
    pub output: Option<u64>,
    /// The pointer to input that is not in the body; `None`: all of it is.
    pub elsewhere: Option<&'a str>,
}

/// It could be read in two ways, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unclear;

impl Plan {
    /// Compiles it.
    pub fn new(places: &Places<'_>) -> Result<Self, BadPointer> {
        let Places { output, times, each, elsewhere } = places;
        let (mut pointers, mut kinds) = (Vec::new(), Vec::new());
        for pointer in *output {
            pointers.push(pointer.as_str());
            kinds.push(Kind::Output(pointer.rsplit('/').next().unwrap_or_default().into()));
        }
        for pointer in *times {
            pointers.push(pointer);
            kinds.push(Kind::Times);
        }
        for pointer in *each {
            pointers.push(pointer);
            kinds.push(Kind::Each);
        }
        for text in *elsewhere {
            let (pointer, but) = text.split_once("!=").unwrap_or((text, ""));
            let but = but.split('|').filter(|but| !but.is_empty()).map(Into::into).collect();
            pointers.push(pointer);
            kinds.push(Kind::Elsewhere { pointer: pointer.into(), but });
        }
        Ok(Self { pointers: Pointers::new(pointers)?, kinds: kinds.into() })
    }

    /// Names of the members that bound the output, for whoever left them out.
    pub fn bounds(&self) -> impl Iterator<Item = &str> {
        self.kinds.iter().filter_map(|kind| match kind {
            Kind::Output(name) => Some(&**name),
            Kind::Times | Kind::Each | Kind::Elsewhere { .. } => None,
        })
    }

    /// Reads a whole body.
    pub fn read(&self, body: &[u8]) -> Result<Demand<'_>, Unclear> {
        let mut found = Found { times: 1, ..Found::default() };
        let mut reader = serde_json::Deserializer::from_slice(body);
        let walk = Walk { plan: self, place: self.pointers.root(), found: &mut found };
        walk.deserialize(&mut reader).and_then(|()| reader.end()).map_err(|_| Unclear)?;
        if found.unclear {
            return Err(Unclear);
        }
        let all = |each: u64| each.saturating_mul(found.times).saturating_mul(found.each.max(1));
        let elsewhere = found.elsewhere.and_then(|slot| match &self.kinds[slot] {
            Kind::Elsewhere { pointer, .. } => Some(&**pointer),
            Kind::Output(_) | Kind::Times | Kind::Each => None,
        });
        Ok(Demand { output: found.output.map(all), elsewhere })
    }
}

#[derive(Default)]
struct Found {
    output: Option<u64>,
    times: u64,
    each: u64,
    elsewhere: Option<usize>,
    unclear: bool,
}

/// A value at a place.
struct Walk<'a> {
    plan: &'a Plan,
    place: Place,
    found: &'a mut Found,
}

enum Value<'a> {
    Count(u64),
    Text(&'a str),
    Array,
    Odd,
}

impl Walk<'_> {
    fn met(&mut self, value: &Value<'_>) {
        for slot in self.plan.pointers.slots(self.place).iter().map(|slot| usize::from(*slot)) {
            match (&self.plan.kinds[slot], value) {
                // Nothing is no bound, in the vendors' own reading.
                (Kind::Output(_), Value::Count(0)) | (Kind::Each, Value::Count(_) | Value::Odd) => {}
                (Kind::Output(_), Value::Count(count)) => self.found.output = self.found.output.max(Some(*count)),
                (Kind::Times, Value::Count(count)) => self.found.times = self.found.times.max(*count),
                (Kind::Output(_) | Kind::Times, _) => self.found.unclear = true,
                (Kind::Each, Value::Text(_) | Value::Array) => self.found.each += 1,
                (Kind::Elsewhere { but, .. }, Value::Text(text)) if but.iter().any(|but| **but == **text) => {}
                (Kind::Elsewhere { .. }, _) => self.found.elsewhere = Some(slot),
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a request")
    }

    fn visit_bool<E: Error>(mut self, _: bool) -> Result<(), E> {
        self.met(&Value::Odd);
        Ok(())
    }

    fn visit_i64<E: Error>(mut self, _: i64) -> Result<(), E> {
        self.met(&Value::Odd);
        Ok(())
    }

    fn visit_u64<E: Error>(mut self, count: u64) -> Result<(), E> {
        self.met(&Value::Count(count));
        Ok(())
    }

    fn visit_f64<E: Error>(mut self, _: f64) -> Result<(), E> {
        self.met(&Value::Odd);
        Ok(())
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        self.met(&Value::Text(text));
        Ok(())
    }

    /// As if it were not there.
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        self.met(&Value::Array);
        if let Some(place) = self.plan.pointers.element(self.place) {
            while elements.next_element_seed(Walk { place, plan: self.plan, found: &mut *self.found })?.is_some() {}
        } else {
            while elements.next_element::<IgnoredAny>()?.is_some() {}
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        let pointers = &self.plan.pointers;
        self.met(&Value::Odd);
        if let (Some(only), false) = (pointers.element(self.place), pointers.has_children(self.place)) {
            // Google takes what stands alone for a list of one.
            self.place = only;
        }
        // Few members are looked for: a list is searched as fast as anything else.
        let mut met = Vec::new();
        while let Some(member) = members.next_key_seed(Name { plan: self.plan, place: self.place })? {
            match member {
                Member::Other => drop(members.next_value::<IgnoredAny>()?),
                Member::Like => {
                    // Some vendors read names without case.
                    self.found.unclear = true;
                    members.next_value::<IgnoredAny>()?;
                }
                Member::At(place) => {
                    // Vendors differ in which of the two they take.
                    self.found.unclear |= met.contains(&place);
                    met.push(place);
                    members.next_value_seed(Walk { place, plan: self.plan, found: &mut *self.found })?;
                }
            }
        }
        Ok(())
    }
}

/// The name of a member.
struct Name<'a> {
    plan: &'a Plan,
    place: Place,
}

enum Member {
    At(Place),
    /// Of one that is looked for, in another case.
    Like,
    Other,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Member;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Member, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Member;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Member, E> {
        let pointers = &self.plan.pointers;
        Ok(match pointers.child(self.place, name.as_bytes()) {
            Some(place) => Member::At(place),
            None if pointers.has_like(self.place, name.as_bytes()) => Member::Like,
            None => Member::Other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Plan::new(&Places {
            output: &texts(&["/max_tokens", "/max_completion_tokens", "/generationConfig/maxOutputTokens"]),
            times: &texts(&["/n", "/best_of"]),
            each: &texts(&["/prompt/*"]),
            elsewhere: &texts(&[
                "/previous_response_id",
                "/messages/*/content/*/image_url",
                "/tools/*/type!=function|custom",
            ]),
        })
        .unwrap()
    }

    #[test]
    fn the_bound_is_the_largest_times_all_that_is_asked_for() {
        let plan = plan();
        for (body, output) in [
            ("{}", None),
            (r#"{"max_tokens":null,"max_completion_tokens":50}"#, Some(50)),
            (r#"{"max_tokens":70,"max_completion_tokens":50}"#, Some(70)),
            (r#"{"max\u005ftokens":7}"#, Some(7)),
            (r#"{"max_tokens":0}"#, None),
            (r#"{"max_tokens":10,"n":3}"#, Some(30)),
            (r#"{"max_tokens":10,"n":2,"best_of":5}"#, Some(50)),
            (r#"{"max_tokens":10,"n":2,"prompt":["a","b",[1,2]]}"#, Some(60)),
            (r#"{"max_tokens":10,"prompt":[1,2,3]}"#, Some(10)),
            (r#"{"max_tokens":10,"prompt":"abc","n":null}"#, Some(10)),
            (r#"{"max_tokens":18446744073709551615,"n":9}"#, Some(u64::MAX)),
            (r#"{"generationConfig":{"maxOutputTokens":5},"x":{"max_tokens":9}}"#, Some(5)),
        ] {
            assert_eq!(plan.read(body.as_bytes()).map(|demand| demand.output), Ok(output), "{body}");
        }
        let names: Vec<_> = plan.bounds().collect();
        assert_eq!(names, ["max_tokens", "max_completion_tokens", "maxOutputTokens"]);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_no_bound() {
        let plan = plan();
        for body in [
            r#"{"max_tokens":1,"max_tokens":99999}"#,
            r#"{"max_tokens":1,"max_tokens":null}"#,
            r#"{"max_tokens":1,"MAX_TOKENS":99999}"#,
            r#"{"max_tokens":1,"max\u005fTokens":99999}"#,
            r#"{"generationConfig":{"maxOutputTokens":5},"generationConfig":{}}"#,
            r#"{"max_tokens":-1}"#,
            r#"{"max_tokens":1e3}"#,
            r#"{"max_tokens":"12"}"#,
            r#"{"max_tokens":[1]}"#,
            r#"{"max_tokens":true}"#,
            r#"{"max_tokens":5,"n":"3"}"#,
            r#"{"max_tokens":5,"n":-3}"#,
            r#"{"max_tokens":5}{"max_tokens":9}"#,
            r#"{"max_tokens":5"#,
            "max_tokens=5",
            "",
        ] {
            assert_eq!(plan.read(body.as_bytes()), Err(Unclear), "{body}");
        }
        let deep = ["{\"a\":", &"[".repeat(200_000)].concat();
        assert_eq!(plan.read(deep.as_bytes()), Err(Unclear), "and nothing overflows");
    }

    #[test]
    fn input_that_is_not_in_the_body_is_seen() {
        let plan = plan();
        for (body, elsewhere) in [
            (r#"{"previous_response_id":"resp_1"}"#, Some("/previous_response_id")),
            (r#"{"previous_response_id":null}"#, None),
            (r#"{"messages":{"content":{"image_url":"x"}}}"#, Some("/messages/*/content/*/image_url")),
            (
                r#"{"messages":[{"content":"x"},{"content":[{"text":"y"},{"image_url":{"url":"z"}}]}]}"#,
                Some("/messages/*/content/*/image_url"),
            ),
            (r#"{"tools":[{"type":"function"},{"name":"x"},{"type":"custom"}]}"#, None),
            (r#"{"tools":[{"type":"function"},{"type":"web_search"}]}"#, Some("/tools/*/type")),
            (r#"{"metadata":{"previous_response_id":"x"}}"#, None),
        ] {
            assert_eq!(plan.read(body.as_bytes()).unwrap().elsewhere, elsewhere, "{body}");
        }
    }
}
