//! [`Striped`]: several instances of a value, one of which is selected by a hash, to avoid lock contention.

/// A fixed number of values. Every hash selects one of them.
#[derive(Debug)]
pub(crate) struct Striped<T, const N: usize>(Box<[T; N]>);

impl<T: Default, const N: usize> Default for Striped<T, N> {
    fn default() -> Self {
        Self::from_fn(T::default)
    }
}

impl<T, const N: usize> Striped<T, N> {
    #[expect(clippy::expect_used, reason = "the vector is created with the length of the array")]
    pub(crate) fn from_fn(mut value: impl FnMut() -> T) -> Self {
        const { assert!(N > 0, "there must be at least one value") };
        // Through a vector, since an array on the stack may exceed the stack.
        let values: Box<[T]> = (0..N).map(|_| value()).collect();
        Self(values.try_into().ok().expect("there are N values"))
    }

    #[inline]
    #[expect(clippy::indexing_slicing, reason = "the remainder is smaller than the number of values")]
    #[expect(clippy::cast_possible_truncation, reason = "the remainder is smaller than a `usize`")]
    pub(crate) fn select(&self, hash: u64) -> &T {
        &self.0[(hash % N as u64) as usize]
    }

    /// Returns the value at this index, or `None` beyond the last one.
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.0.get(index)
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::ptr;

    use super::Striped;

    #[test]
    fn every_hash_selects_a_value_and_every_value_is_selected() {
        let striped = Striped::<u64, 3>::default();
        let chosen: HashSet<_> = (0..3).map(|hash| ptr::from_ref(striped.select(hash))).collect();
        assert_eq!(chosen, striped.iter().map(ptr::from_ref).collect());
        for hash in [3, u64::from(u32::MAX) + 1, u64::MAX - 1, u64::MAX] {
            assert!(chosen.contains(&ptr::from_ref(striped.select(hash))), "{hash}");
        }
        assert!(striped.get(2).is_some() && striped.get(3).is_none());
    }
}
