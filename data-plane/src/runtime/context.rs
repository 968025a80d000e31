//! Contexts: one to four path segments that name an endpoint. They match by whole segments and are prefix-free, so a
//! path has one endpoint or none, and finding it costs at most four look-ups however many there are.

use std::collections::{BTreeSet, HashMap};

/// Segments a context may have.
pub const MAX_SEGMENTS: usize = 4;

/// A validated context, `/openai-prod` or `/team-a/openai`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Context(Box<str>);

impl Context {
    /// `None` unless the text is one to four segments of letters, digits, `-`, `_`, `.` and `~`, each beginning with
    /// a letter or digit, without a trailing slash.
    pub fn parse(text: &str) -> Option<Self> {
        let mut segments = text.strip_prefix('/')?.split('/');
        let well_formed = |segment: &str| {
            segment.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
                && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte))
        };
        let fits = segments.by_ref().take(MAX_SEGMENTS).all(well_formed) && segments.next().is_none();
        (fits && text.len() <= 256).then(|| Self(text.into()))
    }

    /// With the leading slash, without a trailing one.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Finds what a path belongs to.
#[derive(Debug)]
pub struct Matcher<T> {
    exact: HashMap<Box<str>, T>,
    /// Every proper prefix of a context by whole segments, so that overlaps are found whichever comes first.
    inner: BTreeSet<Box<str>>,
}

impl<T> Default for Matcher<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), inner: BTreeSet::new() }
    }
}

impl<T> Matcher<T> {
    /// What already has this context, a prefix of it, or something below it.
    pub fn overlap(&self, context: &Context) -> Option<&T> {
        if let Some((_, found)) = self.find(context.as_str()) {
            return Some(found);
        }
        if self.inner.contains(context.as_str()) {
            let below = format!("{}/", context.as_str());
            return self.exact.iter().find(|(other, _)| other.starts_with(&below)).map(|(_, found)| found);
        }
        None
    }

    /// Adds one; the caller has made sure that nothing overlaps.
    pub fn insert(&mut self, context: &Context, value: T) {
        let text = context.as_str();
        for (index, _) in text.match_indices('/').skip(1) {
            self.inner.insert(text[..index].into());
        }
        self.exact.insert(text.into(), value);
    }

    /// The value whose context is a whole-segment prefix of the path, with the length of that context.
    pub fn find(&self, path: &str) -> Option<(usize, &T)> {
        let bytes = path.as_bytes();
        if bytes.first() != Some(&b'/') {
            return None;
        }
        let mut from = 1;
        for _ in 0..MAX_SEGMENTS {
            let end = memchr::memchr(b'/', &bytes[from..]).map_or(bytes.len(), |offset| from + offset);
            if let Some(found) = self.exact.get(&path[..end]) {
                return Some((end, found));
            }
            if end == bytes.len() {
                return None;
            }
            from = end + 1;
        }
        None
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.exact.len()
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty()
    }

    /// All of them, in no order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.exact.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(contexts: &[&str]) -> Matcher<usize> {
        let mut matcher = Matcher::default();
        for (index, context) in contexts.iter().enumerate() {
            matcher.insert(&Context::parse(context).unwrap(), index);
        }
        matcher
    }

    #[test]
    fn a_path_matches_by_whole_segments() {
        let matcher = matcher(&["/a", "/b/c", "/d/e/f/g"]);
        assert_eq!(matcher.find("/a"), Some((2, &0)));
        assert_eq!(matcher.find("/a/v1/x"), Some((2, &0)));
        assert_eq!(matcher.find("/ab"), None);
        assert_eq!(matcher.find("/b"), None);
        assert_eq!(matcher.find("/b/c:x"), None);
        assert_eq!(matcher.find("/b/c/"), Some((4, &1)));
        assert_eq!(matcher.find("/d/e/f/g/h/i"), Some((8, &2)));
        assert_eq!(matcher.find(""), None);
        assert_eq!(matcher.find("*"), None);
        assert_eq!(matcher.find("/"), None);
    }

    #[test]
    fn an_overlap_is_found_whichever_came_first() {
        let matcher = matcher(&["/a/b", "/c"]);
        for (context, holder) in [("/a", Some(&0)), ("/a/b", Some(&0)), ("/a/b/c", Some(&0)), ("/c/d", Some(&1))] {
            assert_eq!(matcher.overlap(&Context::parse(context).unwrap()), holder, "{context}");
        }
        for context in ["/a/c", "/b", "/ab", "/a-b"] {
            assert_eq!(matcher.overlap(&Context::parse(context).unwrap()), None, "{context}");
        }
    }

    #[test]
    fn what_is_no_context_is_refused() {
        for text in ["", "/", "a", "/a/", "//a", "/a//b", "/a/b/c/d/e", "/%61", "/a b", "/..", "/é", "/a?b"] {
            assert_eq!(Context::parse(text), None, "{text}");
        }
    }
}
