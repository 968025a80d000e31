//! The query string, byte for byte: reading parameters, and cutting some out without touching the rest.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Whether a parameter has this name, however it is encoded.
fn is_named(parameter: &str, wanted: &str) -> bool {
    let name = parameter.split_once('=').map_or(parameter, |(name, _)| name);
    name == wanted || (name.contains(['%', '+']) && decode(name).is_some_and(|name| name == wanted))
}

/// Percent and plus decoding, as forms have it.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(|text| Cow::Owned(text.into_owned()))
}

/// The values of a parameter, decoded; one that is no text counts as empty.
pub(super) fn values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
    query.split('&').filter(move |parameter| is_named(parameter, name)).map(|parameter| {
        let value = parameter.split_once('=').map_or("", |(_, value)| value);
        decode(value).unwrap_or_default()
    })
}

/// The query without these parameters; every other byte stays. `None`: nothing is left, not even the question mark.
pub(super) fn without<'a>(query: &'a str, names: &[Box<str>]) -> Option<Cow<'a, str>> {
    let is_cut = |parameter: &str| names.iter().any(|name| is_named(parameter, name));
    if !query.split('&').any(is_cut) {
        return Some(Cow::Borrowed(query));
    }
    let left: Vec<&str> = query.split('&').filter(|parameter| !is_cut(parameter)).collect();
    (!left.is_empty()).then(|| Cow::Owned(left.join("&")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(query: &str) -> Option<String> {
        without(query, &["key".into(), "api-key".into()]).map(Cow::into_owned)
    }

    #[test]
    fn a_parameter_is_cut_and_every_other_byte_stays() {
        for (query, left) in [
            ("alt=sse", Some("alt=sse")),
            ("", Some("")),
            ("key=x", None),
            ("key", None),
            ("key=x&alt=sse", Some("alt=sse")),
            ("alt=sse&key=x", Some("alt=sse")),
            ("a=%2F&&key=x&b=+%20", Some("a=%2F&&b=+%20")),
            ("k%65y=x&a=1", Some("a=1")),
            ("keys=x&monkey=y&Key=z", Some("keys=x&monkey=y&Key=z")),
            ("a=key&key=1&api-key=2&b", Some("a=key&b")),
        ] {
            assert_eq!(cut(query).as_deref(), left, "{query}");
        }
    }

    #[test]
    fn values_are_decoded() {
        let of = |query| values(query, "key").map(Cow::into_owned).collect::<Vec<_>>();
        assert_eq!(of("a=1&key=x%2Dy&k%65y=2"), ["x-y", "2"]);
        assert_eq!(of("key"), [""]);
        assert_eq!(of("keys=1"), [""; 0]);
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;
    use url::form_urlencoded;

    use super::*;

    const NAMES: [&str; 3] = ["key", "api_key", "x y"];

    fn query() -> impl Strategy<Value = String> {
        let bit = prop::sample::select(vec![
            "key",
            "k%65y",
            "%6B%65%79",
            "KEY",
            "keys",
            "api_key",
            "api%5fkey",
            "x+y",
            "x%20y",
            "xy",
            "=",
            "=",
            "&",
            "&",
            "%",
            "%2",
            "%zz",
            "%26",
            "%3D",
            "%00",
            "%ff",
            "+",
            ";",
            "?",
            "/",
            "lgk_1",
            "a",
            "'",
            "[",
            "\u{e9}",
        ]);
        prop::collection::vec(bit, 0..24).prop_map(|bits| bits.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_cut_is_what_another_reader_calls_so_and_nothing_else(query in query(), names in 0..8_usize) {
            let wanted: Vec<&str> = (0..3).filter(|at| names >> at & 1 == 1).map(|at| NAMES[at]).collect();
            let names: Vec<Box<str>> = wanted.iter().map(|name| (*name).into()).collect();
            let left = without(&query, &names);
            let pairs = |query: &str| -> Vec<(String, String)> {
                form_urlencoded::parse(query.as_bytes()).into_owned().collect()
            };
            let mut expected = pairs(&query);
            for name in &wanted {
                let of: Vec<String> = expected.iter().filter(|(other, _)| other == name).map(|(_, value)| value.clone()).collect();
                let found: Vec<String> = values(&query, name).map(Cow::into_owned).collect();
                // What is no text has no value here, and something like one there.
                let of: Vec<String> = of.into_iter().map(|value| if value.contains('\u{fffd}') { String::new() } else { value }).collect();
                prop_assert_eq!(found, of);
            }
            expected.retain(|(name, _)| !wanted.contains(&name.as_str()));
            prop_assert_eq!(pairs(left.as_deref().unwrap_or_default()), expected);
            // Byte for byte, and in order.
            let named = |parameter: &&str| pairs(parameter).iter().any(|(name, _)| wanted.contains(&name.as_str()));
            let kept: Vec<&str> = query.split('&').filter(|parameter| !named(parameter)).collect();
            prop_assert_eq!(left.map(Cow::into_owned), (!kept.is_empty()).then(|| kept.join("&")));
        }
    }
}
