//! Comparison in constant time: the time reveals nothing about a secret, except its length.

use subtle::ConstantTimeEq as _;

#[inline]
pub(crate) fn constant_time_eq(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

#[cfg(test)]
mod tests {
    use super::constant_time_eq;

    #[test]
    fn only_equal_bytes_are_equal() {
        assert!(constant_time_eq(b"", b"") && constant_time_eq(b"abc", b"abc"));
        for other in [&b"abd"[..], b"ab", b"abcd", b"xbc", b""] {
            assert!(!constant_time_eq(b"abc", other), "{other:?}");
        }
    }
}
