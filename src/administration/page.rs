//! [`Page`]: the query of a list.

use std::num::NonZeroUsize;

use super::AdministrationRefusal;
use crate::client_id::ClientId;

/// Which clients a list contains.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) after: Option<ClientId>,
    pub(super) limit: NonZeroUsize,
}

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 100;

impl Page {
    pub(super) fn read(query: Option<&str>) -> Result<Self, AdministrationRefusal> {
        let refused = |text: &'static str| AdministrationRefusal::request(text);
        let pairs: Vec<(String, String)> =
            serde_urlencoded::from_str(query.unwrap_or_default()).map_err(|_| refused("the query is malformed"))?;
        let (mut after, mut limit) = (None, None);
        for (name, value) in pairs {
            match name.as_str() {
                "after" if after.is_none() => {
                    let cursor = value.parse().map_err(|_| refused("after: must be the `next` of an earlier page"))?;
                    after = Some(cursor);
                }
                "limit" if limit.is_none() => {
                    let number =
                        value.parse().ok().and_then(NonZeroUsize::new).filter(|limit| limit.get() <= MAX_LIMIT);
                    limit = Some(number.ok_or_else(|| refused("limit: must be a number from 1 to 100"))?);
                }
                "after" | "limit" => return Err(refused("`after` and `limit` must not be repeated")),
                _ => return Err(refused("unknown parameter in the query; use `after` and `limit`")),
            }
        }
        let default = NonZeroUsize::new(DEFAULT_LIMIT).unwrap_or(NonZeroUsize::MIN);
        Ok(Self { after, limit: limit.unwrap_or(default) })
    }
}

#[cfg(test)]
mod tests {
    use super::Page;

    #[test]
    fn a_page_has_bounds_and_a_malformed_query_is_refused() {
        let page = |query| Page::read(query).map(|page| (page.after.map(|id| id.to_string()), page.limit.get()));
        assert_eq!(page(None).unwrap(), (None, 50));
        assert_eq!(page(Some("limit=100&after=a%2Fb+c")).unwrap(), (Some("a/b c".to_owned()), 100));
        for query in
            ["limit=0", "limit=101", "limit=-1", "limit=a", "after=", "after=%0a", "limit=1&limit=2", "offset=1"]
        {
            assert!(page(Some(query)).is_err(), "{query}");
        }
    }
}
