//! Reads a page of the clients in a database, without the rows that cannot be clients.

use std::num::NonZeroUsize;

use super::StoreError;
use super::database::Records;
use crate::client_id::ClientId;

/// The number of rows that are read after the first step, so that many rows that are left out do not cost a step each.
const READ_ON: NonZeroUsize = NonZeroUsize::new(1_000).unwrap();

/// Reads the ids and the records of a page that begins with the first id after `after`, in one or more steps. `rows` reads at most so
/// many rows after an id, in the order of their ids.
///
/// Rows whose id cannot be that of a client are left out with a warning: no request can name such a client, and no page can
/// begin after it. Others take their places.
pub(super) async fn client_page<F>(
    after: Option<&ClientId>,
    limit: NonZeroUsize,
    rows: impl Fn(Option<String>, NonZeroUsize) -> F,
) -> Result<Vec<(ClientId, String)>, StoreError>
where
    F: Future<Output = Result<Records, StoreError>>,
{
    let (mut found, mut left_out) = (Vec::new(), 0);
    let (mut last, mut wanted, mut is_end) = (after.map(ToString::to_string), limit, false);
    while !is_end && found.len() < limit.get() {
        let rows = rows(last.clone(), wanted).await?;
        is_end = rows.len() < wanted.get();
        for (id, record) in rows {
            match id.parse() {
                Ok(client_id) => found.push((client_id, record)),
                Err(_) => left_out += 1,
            }
            last = Some(id);
        }
        wanted = limit.max(READ_ON);
    }
    found.truncate(limit.get());
    if left_out > 0 {
        tracing::warn!(
            left_out,
            "clients of the store are not listed, because their ids are invalid: no request can name them"
        );
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::ready;
    use std::num::NonZeroUsize;

    use super::client_page;
    use crate::client_id::ClientId;

    /// Returns the ids of a page, and how many rows were asked for in each step.
    async fn page(ids: &[&str], after: Option<&'static str>, limit: usize) -> (Vec<String>, Vec<usize>) {
        let after = after.map(ClientId::from_static);
        let asked = RefCell::new(Vec::new());
        let page = client_page(after.as_ref(), NonZeroUsize::new(limit).unwrap(), |after, count| {
            asked.borrow_mut().push(count.get());
            let rows = ids.iter().filter(|id| after.as_deref().is_none_or(|after| **id > after)).take(count.get());
            ready(Ok(rows.map(|id| ((*id).to_owned(), String::new())).collect()))
        });
        let ids = page.await.unwrap().into_iter().map(|(id, _)| id.to_string()).collect();
        (ids, asked.into_inner())
    }

    #[tokio::test]
    async fn a_row_whose_id_cannot_be_that_of_a_client_neither_fails_nor_shortens_nor_ends_a_list() {
        let long = "d".repeat(256);
        let ids = ["", "a", "b\n", "c", &long, "e", "é"];
        assert_eq!(page(&ids, None, 2).await, (vec!["a".to_owned(), "c".to_owned()], vec![2, 1_000]));
        assert_eq!(page(&ids, Some("a"), 1).await, (vec!["c".to_owned()], vec![1, 1_000]));
        assert_eq!(page(&ids, Some("c"), 2).await, (vec!["e".to_owned()], vec![2, 1_000]));
        assert_eq!(page(&ids, Some("e"), 2).await, (vec![], vec![2]));
        assert_eq!(page(&["", ""], None, 1).await, (vec![], vec![1, 1_000]));
        assert_eq!(page(&["a", "b"], None, 2).await, (vec!["a".to_owned(), "b".to_owned()], vec![2]));
    }
}
