//! [`ClientPage`]: a page of the clients in a database, without the rows that cannot be clients.

use std::num::NonZeroUsize;

use super::StoreError;
use crate::client_id::ClientId;

/// A page of ids and records that is read in one or more steps.
///
/// Rows whose id cannot be that of a client are left out with a warning: no request can name such a client, and no page can
/// begin after it. Others take their places.
pub(super) struct ClientPage {
    found: Vec<(ClientId, String)>,
    limit: NonZeroUsize,
    /// The id of the last row that was read.
    last: Option<String>,
    /// The number of rows to read next.
    wanted: Option<NonZeroUsize>,
    left_out: usize,
}

/// The number of rows that are read after the first step, so that many rows that are left out do not cost a step each.
const READ_ON: NonZeroUsize = NonZeroUsize::new(1_000).unwrap();

impl ClientPage {
    /// Reads a page that begins with the first id after `after`. `rows` reads at most so many rows after an id, in the order of their
    /// ids.
    pub(super) async fn read<F>(
        after: Option<&ClientId>,
        limit: NonZeroUsize,
        rows: impl Fn(Option<String>, NonZeroUsize) -> F,
    ) -> Result<Vec<(ClientId, String)>, StoreError>
    where
        F: Future<Output = Result<Vec<(String, String)>, StoreError>>,
    {
        let mut page = Self::new(after, limit);
        while let Some((after, count)) = page.next() {
            page.add(rows(after.map(str::to_owned), count).await?);
        }
        Ok(page.finish())
    }

    fn new(after: Option<&ClientId>, limit: NonZeroUsize) -> Self {
        Self { found: Vec::new(), limit, last: after.map(ToString::to_string), wanted: Some(limit), left_out: 0 }
    }

    /// Returns the id after which the next rows begin, and their maximum number, or `None` if the page is complete.
    fn next(&self) -> Option<(Option<&str>, NonZeroUsize)> {
        self.wanted.map(|wanted| (self.last.as_deref(), wanted))
    }

    /// Adds the rows that were read, in their order.
    fn add(&mut self, rows: Vec<(String, String)>) {
        let is_end = self.wanted.is_none_or(|wanted| rows.len() < wanted.get());
        for (id, record) in rows {
            match id.parse() {
                Ok(client_id) => self.found.push((client_id, record)),
                Err(_) => self.left_out += 1,
            }
            self.last = Some(id);
        }
        let is_complete = is_end || self.found.len() >= self.limit.get();
        self.wanted = (!is_complete).then(|| self.limit.max(READ_ON));
    }

    /// Returns the ids and the records.
    fn finish(mut self) -> Vec<(ClientId, String)> {
        self.found.truncate(self.limit.get());
        if self.left_out > 0 {
            tracing::warn!(
                left_out = self.left_out,
                "clients of the store are not listed, because their ids are invalid: no request can name them"
            );
        }
        self.found
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::ClientPage;
    use crate::client_id::ClientId;

    /// Returns the ids of a page, and how many rows were asked for in each step.
    fn page(ids: &[&str], after: Option<&'static str>, limit: usize) -> (Vec<String>, Vec<usize>) {
        let after = after.map(ClientId::from_static);
        let mut page = ClientPage::new(after.as_ref(), NonZeroUsize::new(limit).unwrap());
        let mut asked = Vec::new();
        while let Some((after, count)) = page.next() {
            asked.push(count.get());
            let rows = ids.iter().filter(|id| after.is_none_or(|after| **id > after)).take(count.get());
            let rows = rows.map(|id| ((*id).to_owned(), String::new())).collect();
            page.add(rows);
        }
        (page.finish().into_iter().map(|(id, _)| id.to_string()).collect(), asked)
    }

    #[test]
    fn a_row_whose_id_cannot_be_that_of_a_client_neither_fails_nor_shortens_nor_ends_a_list() {
        let long = "d".repeat(256);
        let ids = ["", "a", "b\n", "c", &long, "e", "é"];
        assert_eq!(page(&ids, None, 2), (vec!["a".to_owned(), "c".to_owned()], vec![2, 1_000]));
        assert_eq!(page(&ids, Some("a"), 1), (vec!["c".to_owned()], vec![1, 1_000]));
        assert_eq!(page(&ids, Some("c"), 2), (vec!["e".to_owned()], vec![2, 1_000]));
        assert_eq!(page(&ids, Some("e"), 2), (vec![], vec![2]));
        assert_eq!(page(&["", ""], None, 1), (vec![], vec![1, 1_000]));
        assert_eq!(page(&["a", "b"], None, 2), (vec!["a".to_owned(), "b".to_owned()], vec![2]));
    }
}
