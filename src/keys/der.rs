//! Reads and writes DER (X.690 §10), as far as keys need it.

use zeroize::Zeroizing;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const SEQUENCE: u8 = 0x30;
/// `[0]`, constructed.
pub(super) const CONTEXT_0: u8 = 0xA0;

/// A reader of consecutive DER elements.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Returns a reader of the elements in one sequence, which must be all of `der`.
    pub(super) fn sequence(der: &'a [u8]) -> Option<Self> {
        let mut outer = Self(der);
        let inner = outer.enter(SEQUENCE)?;
        outer.end().map(|()| inner)
    }

    /// Returns the content of the next element, which must have this tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, content, rest) = element(self.0)?;
        (found == tag).then(|| {
            self.0 = rest;
            content
        })
    }

    /// Returns a reader of the elements in the next element, which must have this tag.
    pub(super) fn enter(&mut self, tag: u8) -> Option<Self> {
        self.take(tag).map(Self)
    }

    /// Returns the next element as a positive integer without leading zeros, big-endian (X.690 §8.3).
    pub(super) fn take_positive(&mut self) -> Option<&'a [u8]> {
        match self.take(INTEGER)? {
            [0, magnitude @ ..] if magnitude.first() >= Some(&0x80) => Some(magnitude),
            magnitude @ [1..=0x7F, ..] => Some(magnitude),
            _ => None,
        }
    }

    pub(super) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    /// Returns the tags of the elements, in order, or `None` if one is truncated.
    pub(super) fn tags(self) -> Option<Vec<u8>> {
        let mut rest = self.0;
        let mut tags = Vec::new();
        while !rest.is_empty() {
            let (tag, _, behind) = element(rest)?;
            tags.push(tag);
            rest = behind;
        }
        Some(tags)
    }
}

/// Splits off an element: its tag, its content, and the rest.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (length, rest) = length(rest)?;
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// Splits off a definite length in the fewest octets (X.690 §10.1), below 16 MiB.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let octets = match first {
        0..=0x7F => return Some((usize::from(*first), rest)),
        0x81..=0x83 => usize::from(first & 0x7F),
        _ => return None,
    };
    let (octets, rest) = rest.split_at_checked(octets)?;
    let length = octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
    let fewest = length >= 0x80 && octets.first() != Some(&0);
    fewest.then_some((length, rest))
}

/// Writes one element with the concatenated `parts` as content. The result is wiped on drop.
pub(super) fn write(tag: u8, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let length = parts.iter().map(|part| part.len()).sum();
    // With its final capacity: a buffer that grows would leave copies in memory.
    let mut der = Zeroizing::new(Vec::with_capacity(length + 2 + size_of::<usize>()));
    der.push(tag);
    write_length(&mut der, length);
    for part in parts {
        der.extend_from_slice(part);
    }
    der
}

fn write_length(der: &mut Vec<u8>, length: usize) {
    let octets = length.to_be_bytes();
    let octets = without_leading_zeros(&octets);
    match (octets, u8::try_from(octets.len())) {
        ([] | [0..=0x7F], _) => der.extend(octets.first().or(Some(&0))),
        (_, count) => {
            der.extend(count.map(|count| 0x80 | count));
            der.extend_from_slice(octets);
        }
    }
}

/// Writes a positive integer, given as big-endian bytes.
pub(super) fn write_positive(magnitude: &[u8]) -> Zeroizing<Vec<u8>> {
    match without_leading_zeros(magnitude) {
        magnitude @ [1..=0x7F, ..] => write(INTEGER, &[magnitude]),
        magnitude => write(INTEGER, &[&[0], magnitude]),
    }
}

pub(super) fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{INTEGER, OCTET_STRING, Reader, SEQUENCE, write, write_positive};

    proptest! {
        #[test]
        fn written_elements_are_read_back(content in prop::collection::vec(any::<u8>(), 0..70_000)) {
            let der = write(SEQUENCE, &[&write(OCTET_STRING, &[&content])]);
            prop_assert_eq!(Reader::sequence(&der).and_then(|mut inner| inner.take(OCTET_STRING)), Some(&*content));
        }

        #[test]
        fn positive_integers_are_read_back_without_leading_zeros(number in 1_u128..) {
            let der = write(SEQUENCE, &[&write_positive(&number.to_be_bytes())]);
            let bytes = Reader::sequence(&der).and_then(|mut inner| inner.take_positive()).unwrap();
            prop_assert_eq!(bytes.iter().fold(0_u128, |n, byte| n << 8 | u128::from(*byte)), number);
            prop_assert_ne!(bytes[0], 0);
        }

        #[test]
        fn the_reader_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Reader::sequence(&bytes).and_then(Reader::tags);
            let _ = Reader(&bytes).take_positive();
        }
    }

    #[test]
    fn bytes_that_are_not_der_are_refused() {
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 0x80, 0, 0],          // indefinite
            &[0x30, 0x81, 0x01, 0],       // not the fewest octets
            &[0x30, 0x82, 0x00, 0x80, 0], // nor here
            &[0x30, 0x02, 0x05],          // cut off
            &[0x30, 0x00, 0x00],          // something behind
            &[0x31, 0x00],                // a set
        ] {
            assert!(Reader::sequence(bytes).is_none(), "{bytes:?}");
        }
    }

    #[test]
    fn zero_negative_and_padded_integers_are_not_positive() {
        for content in [&[][..], &[0], &[0x80], &[0, 1], &[0, 0, 0x80], &[0xFF]] {
            assert!(Reader(&write(INTEGER, &[content])).take_positive().is_none(), "{content:?}");
        }
    }
}
