//! What names things: contexts against a list that is searched from end to end, keys against every slip of the pen, ids
//! against each other.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proto::token::{self, TokenKind};
use uuid::Uuid;

use crate::runtime::api_key;
use crate::runtime::context::{Context, MAX_SEGMENTS, Matcher};
use crate::runtime::request_id::{self, RequestIds};

/// Segments that are parts of each other.
fn segments(most: usize) -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", "a-b", "a.b", "A", "0"]), 1..=most)
}

fn path() -> impl Strategy<Value = String> {
    let text = prop::sample::select(vec!["a", "b", "ab", "a-b", "a.b", "A", "0", "", "a:b", "%61", "é"]);
    (any::<bool>(), prop::collection::vec(text, 0..7)).prop_map(|(slash, parts)| {
        let slash = if slash { "/" } else { "" };
        format!("{slash}{}", parts.join("/"))
    })
}

fn is_prefix(of: &[&str], path: &[&str]) -> bool {
    path.starts_with(of)
}

/// What a slip of the pen does to a key.
#[derive(Clone, Debug)]
enum Slip {
    Other(u8),
    Gone,
    More(u8),
    Swapped,
    Cut,
    Case,
    Twice,
}

fn slip() -> impl Strategy<Value = Slip> {
    prop_oneof![
        3 => (b' '..=b'~').prop_map(Slip::Other),
        1 => Just(Slip::Gone),
        2 => (b' '..=b'~').prop_map(Slip::More),
        1 => Just(Slip::Swapped),
        1 => Just(Slip::Cut),
        1 => Just(Slip::Case),
        1 => Just(Slip::Twice),
    ]
}

fn slipped(key: &str, at: usize, slip: &Slip) -> String {
    let mut bytes = key.as_bytes().to_vec();
    match slip {
        Slip::Other(byte) => bytes[at] = *byte,
        Slip::Gone => drop(bytes.remove(at)),
        Slip::More(byte) => bytes.insert(at, *byte),
        Slip::Swapped => bytes.swap(at, (at + 1).min(key.len() - 1)),
        Slip::Cut => bytes.truncate(at),
        Slip::Case => bytes[at] ^= if bytes[at].is_ascii_alphabetic() { 0x20 } else { 0 },
        Slip::Twice => bytes.extend_from_slice(key.as_bytes()),
    }
    String::from_utf8(bytes).expect("it was ASCII")
}

const KINDS: [TokenKind; 4] = [TokenKind::ApiKey, TokenKind::PersonalAccess, TokenKind::Gateway, TokenKind::Bootstrap];

fn minted(kind: TokenKind, entropy: &[u8]) -> String {
    let ca = token::fingerprint(entropy);
    let ca = (kind == TokenKind::Gateway).then_some(ca.as_str());
    token::mint(kind, ca, entropy.try_into().expect("as long as it must be")).expect("enough of it is usable")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_path_belongs_to_the_context_that_a_search_of_all_finds(
        wanted in prop::collection::vec(segments(MAX_SEGMENTS), 0..12), paths in prop::collection::vec(path(), 1..20),
    ) {
        let (mut matcher, mut all): (Matcher<usize>, Vec<Vec<&str>>) = (Matcher::default(), Vec::new());
        for segments in &wanted {
            let context = Context::parse(&format!("/{}", segments.join("/"))).expect("it is one");
            let clashes = |other: &Vec<&str>| is_prefix(other, segments) || is_prefix(segments, other);
            if let Some(other) = matcher.overlap(&context) {
                prop_assert!(clashes(&all[*other]), "{:?} is said to overlap {:?}", segments, all[*other]);
            } else {
                prop_assert!(!all.iter().any(clashes), "{:?} overlaps one of {:?}", segments, all);
                matcher.insert(&context, all.len());
                all.push(segments.clone());
            }
        }
        prop_assert_eq!(matcher.len(), all.len());
        for path in paths {
            let parts: Option<Vec<&str>> = path.strip_prefix('/').map(|path| path.split('/').collect());
            let of = parts.map_or(Vec::new(), |parts| {
                (0..all.len()).filter(|at| is_prefix(&all[*at], &parts)).collect()
            });
            prop_assert!(of.len() <= 1, "{} belongs to several of {:?}", path, all);
            let length = |at: usize| format!("/{}", all[at].join("/")).len();
            let expected = of.first().map(|at| (length(*at), *at));
            prop_assert_eq!(matcher.find(&path).map(|(length, at)| (length, *at)), expected, "{}", path);
        }
    }

    #[test]
    fn what_is_a_context_is_its_own_only_spelling(text in "[/a0._~%é :-]{0,12}") {
        let parts: Vec<&str> = text.split('/').collect();
        let plain = |part: &&str| {
            part.starts_with(|first: char| first.is_ascii_alphanumeric())
                && part.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.~".contains(letter))
        };
        let fits = parts[0].is_empty() && (2..=5).contains(&parts.len()) && parts[1..].iter().all(plain);
        prop_assert_eq!(Context::parse(&text).is_some(), fits);
        if let Some(context) = Context::parse(&text) {
            prop_assert_eq!(context.as_str(), &text);
            let mut matcher = Matcher::default();
            matcher.insert(&context, ());
            prop_assert_eq!(matcher.find(&text), Some((text.len(), &())));
        }
    }

    #[test]
    fn a_key_is_read_as_it_was_made_and_as_nothing_else(
        entropy in prop::collection::vec(0..248_u8, token::ENTROPY), kind in prop::sample::select(KINDS.to_vec()),
    ) {
        let text = minted(kind, &entropy);
        for other in KINDS {
            prop_assert_eq!(token::parse(other, &text).ok(), (other == kind).then_some(&text[4..16]));
        }
        prop_assert_eq!(api_key::digest(&text), (kind == TokenKind::ApiKey).then(|| token::digest(&text)));
        let fingerprint = token::fingerprint(&entropy);
        prop_assert_eq!(token::ca_fingerprint(&text), (kind == TokenKind::Gateway).then_some(fingerprint.as_str()));
    }

    #[test]
    fn a_slip_of_the_pen_is_told_without_a_look_up(
        entropy in prop::collection::vec(0..248_u8, token::ENTROPY),
        kind in prop::sample::select(KINDS.to_vec()),
        at in any::<prop::sample::Index>(),
        slip in slip(),
    ) {
        let text = minted(kind, &entropy);
        let wrong = slipped(&text, at.index(text.len()), &slip);
        if wrong != text {
            prop_assert!(token::parse(kind, &wrong).is_err(), "{}", wrong);
            prop_assert_eq!(api_key::digest(&wrong), None);
        }
    }

    #[test]
    fn what_is_no_key_is_none(text in any::<String>(), prefix in prop::sample::select(vec!["", "lgk_", "lge_"])) {
        let text = format!("{prefix}{text}");
        prop_assert_eq!(api_key::digest(&text), None);
        for kind in KINDS {
            prop_assert!(token::parse(kind, &text).is_err());
        }
    }

    #[test]
    fn ids_of_requests_are_distinct_and_tell_their_time(
        process in any::<u64>(),
        connections in prop::collection::btree_set(any::<u64>(), 1..5),
        times in prop::collection::vec(0..1_u64 << 48, 1..20),
    ) {
        let (mut seen, mut of_time) = (BTreeSet::new(), Vec::new());
        for connection in connections {
            let ids = RequestIds::new(process, connection);
            for now_ms in &times {
                let id = ids.next(*now_ms);
                prop_assert!(seen.insert(id), "{} twice", id);
                prop_assert_eq!((id.get_version_num(), id.as_u128() >> 80), (7, u128::from(*now_ms)));
                let text = request_id::text(id);
                prop_assert_eq!(proto::id::decode("req", text.as_str()), Some(id));
                prop_assert_eq!(text.header(), text.as_str());
                of_time.push((id, text.as_str().to_owned()));
            }
        }
        of_time.sort();
        prop_assert!(of_time.is_sorted_by_key(|(_, text)| text), "texts are in another order than their ids");
    }

    #[test]
    fn an_id_has_one_text(id in any::<u128>(), at in 0..30_usize, byte in b' '..=b'~') {
        let id = Uuid::from_u128(id);
        let text = proto::id::encode("req", id);
        prop_assert_eq!(proto::id::decode("req", &text), Some(id));
        let mut other = text.clone().into_bytes();
        other[at] = byte;
        let other = String::from_utf8(other).expect("it was ASCII");
        if other != text {
            prop_assert_ne!(proto::id::decode("req", &other), Some(id), "{}", other);
        }
    }
}
