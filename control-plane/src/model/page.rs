//! Which part of a list is asked for.

/// Rows after one, at most so many, whose name holds a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// How many at most.
    pub limit: u32,
    /// The sort key of the last row before this page.
    pub after: Option<String>,
    /// Lower case; empty: all.
    pub search: String,
}

impl Page {
    /// Everything, for callers that are not people.
    pub const fn everything() -> Self {
        Self { limit: u32::MAX - 1, after: None, search: String::new() }
    }

    /// For `LIKE .. ESCAPE '!'`.
    pub fn pattern(&self) -> String {
        let escaped: String = self.search.chars().fold(String::new(), |mut text, letter| {
            if matches!(letter, '%' | '_' | '!') {
                text.push('!');
            }
            text.push(letter);
            text
        });
        format!("%{escaped}%")
    }

    /// For `LIMIT`: one row more than asked for tells whether there is a next page.
    pub fn rows(&self) -> i64 {
        i64::from(self.limit) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_in_a_search_are_plain_letters() {
        let page = Page { search: "a_b%!".to_owned(), ..Page::everything() };
        assert_eq!(page.pattern(), "%a!_b!%!!%");
    }
}
