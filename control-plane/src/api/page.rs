//! Lists: `?limit&cursor&q` in, `{"data": [...], "nextCursor": ...}` out. A cursor is the last row's sort key, opaque
//! to clients, so that rows inserted meanwhile shift nothing.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::model::error::Error;
use crate::model::page::Page;

/// Without a limit.
const DEFAULT: u32 = 50;
/// At most.
const MAX: u32 = 500;

/// Which part of a list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// How many at most, 1 to 500; 50 when absent.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
    /// `nextCursor` of the page before.
    pub cursor: Option<String>,
    /// Only those whose name contains this.
    pub q: Option<String>,
}

impl PageQuery {
    /// Understands it, or says what is wrong.
    pub fn page(&self) -> Result<Page, Error> {
        let limit = self.limit.unwrap_or(DEFAULT);
        if !(1..=MAX).contains(&limit) {
            return Err(Error::Malformed(format!("limit must be between 1 and {MAX}")));
        }
        let after = match self.cursor.as_deref() {
            None | Some("") => None,
            Some(cursor) => Some(
                BASE64_URL_SAFE_NO_PAD
                    .decode(cursor)
                    .ok()
                    .and_then(|bytes| String::from_utf8(bytes).ok())
                    .filter(|text| !text.contains('\0'))
                    .ok_or_else(|| Error::Malformed("cursor is none that a list gave".to_owned()))?,
            ),
        };
        let search = self.q.as_deref().unwrap_or_default().to_lowercase();
        if search.contains('\0') {
            return Err(Error::Malformed("q holds a character that no name has".to_owned()));
        }
        Ok(Page { limit, after, search })
    }
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    /// The rows.
    pub data: Vec<T>,
    /// For the page after this one; null: there is none.
    pub next_cursor: Option<String>,
}

impl<T> List<T> {
    /// Everything there is, in one page.
    pub const fn all(data: Vec<T>) -> Self {
        Self { data, next_cursor: None }
    }

    /// `data` holds up to one row more than the limit, which tells that there is more.
    pub fn page(mut data: Vec<T>, page: &Page, key: impl Fn(&T) -> String) -> Self {
        let limit = page.limit as usize;
        let more = data.len() > limit;
        data.truncate(limit);
        let next_cursor = if more { data.last().map(|row| BASE64_URL_SAFE_NO_PAD.encode(key(row))) } else { None };
        Self { data, next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_to_the_row_after() {
        let query = PageQuery { limit: Some(2), ..PageQuery::default() };
        let page = query.page().unwrap();
        let list = List::page(vec!["a", "b", "c"], &page, |row| (*row).to_owned());
        assert_eq!(list.data, ["a", "b"]);
        let next = PageQuery { cursor: list.next_cursor, ..query }.page().unwrap();
        assert_eq!(next.after.as_deref(), Some("b"));
    }

    #[test]
    fn the_last_page_has_no_cursor_and_a_foreign_cursor_is_refused() {
        let page = PageQuery { limit: Some(2), ..PageQuery::default() }.page().unwrap();
        assert_eq!(List::page(vec!["a", "b"], &page, |row| (*row).to_owned()).next_cursor, None);
        let foreign = PageQuery { cursor: Some("%%".to_owned()), ..PageQuery::default() };
        assert!(matches!(foreign.page(), Err(Error::Malformed(_))));
        let none = PageQuery { limit: Some(0), ..PageQuery::default() };
        assert!(none.page().is_err());
    }
}
