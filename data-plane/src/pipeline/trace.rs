//! The trace that a caller says its request belongs to: W3C Trace Context, level 1, `traceparent`. What is not of that
//! form is as if it were not there, and what the vendor is sent is not decided here.

use http::HeaderMap;

/// Where a caller's trace stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Of the whole trace; never zero.
    pub id: [u8; 16],
    /// The caller's span; never zero.
    pub parent: [u8; 8],
    /// The caller records its own part.
    pub sampled: bool,
}

impl Trace {
    /// The one a request names; `None`: it names none, or more than one.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all("traceparent").iter();
        let value = values.next()?;
        if values.next().is_some() {
            return None;
        }
        Self::parse(value.as_bytes())
    }

    /// `00-<32 hex>-<16 hex>-<2 hex>`; a later version may go on after another hyphen.
    fn parse(text: &[u8]) -> Option<Self> {
        let [version] = hex::<1>(text.get(..2)?)?;
        let ends = match text.get(55) {
            None => true,
            Some(next) => version != 0 && *next == b'-',
        };
        if version == 0xff || !ends || text.len() < 55 || [2, 35, 52].iter().any(|at| text[*at] != b'-') {
            return None;
        }
        let (id, parent) = (hex::<16>(&text[3..35])?, hex::<8>(&text[36..52])?);
        let [flags] = hex::<1>(&text[53..55])?;
        let named = id != [0; 16] && parent != [0; 8];
        named.then_some(Self { id, parent, sampled: flags & 1 == 1 })
    }
}

/// Lower case only, as the standard has it.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |letter: u8| match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks(2)) {
        *byte = digit(pair[0])? << 4 | digit(*pair.get(1)?)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_callers_trace_is_read() {
        let trace = Trace::parse(GOOD.as_bytes()).unwrap();
        assert_eq!((trace.id[0], trace.id[15], trace.parent[0], trace.parent[7]), (0x0a, 0x9c, 0xb7, 0x31));
        assert!(trace.sampled);
        assert!(!Trace::parse(GOOD.replace("-01", "-00").as_bytes()).unwrap().sampled);
        let later = format!("cc{}-what-comes-later", &GOOD[2..]);
        assert_eq!(Trace::parse(later.as_bytes()), Some(trace));
    }

    #[test]
    fn what_is_not_of_the_form_is_not_there() {
        let zero = "0".repeat(32);
        let bad = [
            String::new(),
            GOOD[..54].to_owned(),
            format!("{GOOD}-more"),
            format!("{GOOD}0"),
            format!("ff{}", &GOOD[2..]),
            format!("cc{}.more", &GOOD[2..]),
            GOOD.to_uppercase(),
            GOOD.replace("0af7651916cd43dd8448eb211c80319c", &zero),
            GOOD.replace("b7ad6b7169203331", &zero[..16]),
            GOOD.replacen('-', "_", 1),
            GOOD.replace('7', "é"),
        ];
        for text in bad {
            assert_eq!(Trace::parse(text.as_bytes()), None, "{text}");
        }
        let mut headers = HeaderMap::new();
        headers.append("traceparent", HeaderValue::from_static(GOOD));
        assert!(Trace::of(&headers).is_some());
        headers.append("traceparent", HeaderValue::from_static(GOOD));
        assert_eq!(Trace::of(&headers), None, "two say nothing");
    }
}
