//! The scanner: however a document is cut, the same is found.

use super::*;

#[derive(Default, Debug, PartialEq)]
struct Found(Vec<String>);

impl Sink for Found {
    fn value(&mut self, slot: Slot, scalar: Scalar<'_>) {
        self.0.push(match scalar {
            Scalar::Number(number) => format!("{slot}={number}"),
            Scalar::Text(text) => format!("{slot}='{text}'"),
            Scalar::Nested => format!("{slot} nested"),
            Scalar::Odd => format!("{slot} odd"),
        });
    }

    fn passed(&mut self, why: Passed, bytes: &[u8]) {
        let text = std::str::from_utf8(bytes).unwrap();
        match self.0.last_mut() {
            Some(line) if line.starts_with(&format!("{why:?} ")) => line.push_str(text),
            _ => self.0.push(format!("{why:?} {text}")),
        }
    }

    fn end(&mut self) {
        self.0.push("end".to_owned());
    }
}

fn scan(pointers: &[&str], document: &str, piece: usize) -> Vec<String> {
    let pointers = Pointers::new(pointers.iter().copied()).unwrap();
    let mut scanner = Scanner::new(&pointers);
    let mut found = Found::default();
    for piece in document.as_bytes().chunks(piece) {
        scanner.feed(&pointers, piece, &mut found);
    }
    found.0
}

#[test]
fn values_are_found_however_the_bytes_are_cut() {
    let document = r#" {"choices":[{"m":"}]\"","model":"no"}], "model" : "gpt-\u0034o\"", "x":{"y":{"z":1}},
        "usage":{"prompt_tokens":12 ,"details":{"cached":3},"completion_tokens":0,"t":null}, "e":"" } "#;
    let pointers = ["/model", "/usage/prompt_tokens", "/usage/details/cached", "/usage/completion_tokens"];
    for piece in 1..document.len() {
        let found = scan(&pointers, document, piece);
        assert_eq!(found, ["0='gpt-4o\"'", "1=12", "2=3", "3=0", "end"], "pieces of {piece}");
    }
}

#[test]
fn the_first_quote_or_backslash_is_found_wherever_it_is() {
    for length in 0..80 {
        for other in [b'x', b'!', b'#', b'[', b']', 0, 0xff, b'"' | 0x80, b'\\' | 0x80] {
            let plain = vec![other; length];
            assert_eq!(quote_or_escape(&plain), None);
            for at in 0..length {
                for (first, second) in [(b'"', b'"'), (b'"', b'\\'), (b'\\', b'"')] {
                    let mut text = plain.clone();
                    text[at] = first;
                    text[at + 1..].fill(second);
                    assert_eq!(quote_or_escape(&text), Some(at), "{text:?}");
                }
            }
        }
    }
}

#[test]
fn a_list_at_the_top_is_a_list_of_documents() {
    let document = r#"[{"a":1},
        {"a":2} , [], {"a":{"b":1}}]"#;
    for piece in 1..document.len() {
        assert_eq!(scan(&["/a"], document, piece), ["0=1", "end", "0=2", "end", "end", "0 nested", "end"]);
    }
    assert!(scan(&["/a"], "[]", 1).is_empty());
}

#[test]
fn a_name_in_escapes_is_the_same_name() {
    assert_eq!(scan(&["/model"], r#"{"mod\u0065l":"x"}"#, 3), ["0='x'", "end"]);
    assert_eq!(scan(&["/a~1b"], r#"{"a/b":7}"#, 2), ["0=7", "end"]);
}

#[test]
fn a_pointer_may_lie_on_the_way_to_another() {
    assert_eq!(scan(&["/a", "/a/b"], r#"{"a":{"b":5},"a":6}"#, 4), ["0 nested", "1=5", "0=6", "end"]);
}

#[test]
fn every_element_of_an_array_is_looked_into() {
    let document = r#"{"c":[{"n":1,"t":[{"i":"a"},{"i":"b"},[],7]}, {"t":[]}, {"t":[{"i":"]"}],"n":2}],"n":[3,[4]]}"#;
    for piece in 1..document.len() {
        let found = scan(&["/c/*/n", "/c/*/t/*/i", "/n/*"], document, piece);
        assert_eq!(found, ["0=1", "1='a'", "1='b'", "1=']'", "0=2", "2=3", "2 nested", "end"], "pieces of {piece}");
    }
    assert_eq!(scan(&["/c/*/n"], r#"{"c":{"n":1},"d":[{"n":1}],"c":[[{"n":1}]]}"#, 3), ["end"]);
    for document in [r#"{"c":[{"n":1]}"#, r#"{"c":[}]"#, r#"{"c":]"#, r#"{"c":[1}"#] {
        assert!(!scan(&["/c/*/n"], document, 2).contains(&"end".to_owned()), "{document}");
    }
}

#[test]
fn a_text_is_handed_on_whatever_its_length() {
    let mut pointers = Pointers::new(["/n"]).unwrap();
    pointers.pass("/t/*/x", Passed::Text).unwrap();
    let text = format!("\\\"{}", "y".repeat(2000));
    let document = format!(r#"{{"t":[{{"x":"{text}"}}],"n":1}}"#);
    for piece in [1, 2, 3, 1000, 5000] {
        let (mut scanner, mut found) = (Scanner::new(&pointers), Found::default());
        for piece in document.as_bytes().chunks(piece) {
            scanner.feed(&pointers, piece, &mut found);
        }
        assert_eq!(found.0, [format!("Text {text}"), "0=1".to_owned(), "end".to_owned()], "pieces of {piece}");
    }
}

#[test]
fn what_is_no_count_stays_unknown() {
    for value in ["-1", "1.5", "null", "true", "\"12\"x", "1e3", "18446744073709551616", "[1]", "{}"] {
        let found = scan(&["/n"], &format!("{{\"n\":{value}}}"), 2);
        assert!(!found.iter().any(|line| line.starts_with("0=") && !line.contains('\'')), "{value}: {found:?}");
    }
    assert_eq!(scan(&["/n"], r#"{"n":12.0}"#, 1), ["0=12", "end"]);
}

#[test]
fn garbage_and_depth_cost_nothing() {
    for document in ["data", "<html>", "}", "]", "{]", "{\"a\" 1}", "{,}", "\u{1}", "{\"a\":}"] {
        for piece in 1..=document.len() {
            scan(&["/a/b"], document, piece);
        }
    }
    let deep = format!("{{\"a\":{}1{},\"n\":2}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(scan(&["/n"], &deep, 4096), ["0=2", "end"]);
    let long = format!("{{\"n\":\"{}\",\"m\":1}}", "x".repeat(100_000));
    assert_eq!(scan(&["/n", "/m"], &long, 1000), ["0 odd", "1=1", "end"]);
}
