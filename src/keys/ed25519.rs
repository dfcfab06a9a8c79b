//! Weak Ed25519 public keys, which no key generator creates and on which the backends differ.

/// The y-coordinates of the points of small order, little-endian: orders 4, 1, 2, and 8.
#[rustfmt::skip]
const SMALL_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [
        0xEC, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
        0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F,
    ],
    [
        0x26, 0xE8, 0x95, 0x8F, 0xC2, 0xB2, 0x27, 0xB0, 0x45, 0xC3, 0xF4, 0x89, 0xF2, 0xEF, 0x98, 0xF0,
        0xD5, 0xDF, 0xAC, 0x05, 0xD3, 0xC6, 0x33, 0x39, 0xB1, 0x38, 0x02, 0x88, 0x6D, 0x53, 0xFC, 0x05,
    ],
    [
        0xC7, 0x17, 0x6A, 0x70, 0x3D, 0x4D, 0xD8, 0x4F, 0xBA, 0x3C, 0x0B, 0x76, 0x0D, 0x10, 0x67, 0x0F,
        0x2A, 0x20, 0x53, 0xFA, 0x2C, 0x39, 0xCC, 0xC6, 0x4E, 0xC7, 0xFD, 0x77, 0x92, 0xAC, 0x03, 0x7A,
    ],
];

/// Returns whether a key is a point of small order, for which anyone can create valid signatures, or whether its y-coordinate
/// is not below the prime, which decoders must refuse (RFC 8032 §5.1.3).
pub(super) fn is_weak(key: &[u8]) -> bool {
    let Ok(mut y) = <[u8; 32]>::try_from(key) else { return false };
    // The highest bit is the sign of the other coordinate.
    y[31] &= 0x7F;
    SMALL_ORDER.contains(&y) || is_beyond_field(&y)
}

/// Returns whether the number is at least the prime 2²⁵⁵ - 19.
fn is_beyond_field(y: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = y;
    *last == 0x7F && middle.iter().all(|byte| *byte == 0xFF) && *first >= 0xED
}

#[cfg(test)]
mod tests {
    use super::{SMALL_ORDER, is_weak};

    #[test]
    fn points_of_small_order_and_coordinates_beyond_the_field_are_weak_with_either_sign() {
        let beyond = (0xED..=0xFF_u8).map(|first| {
            let mut y = [0xFF; 32];
            (y[0], y[31]) = (first, 0x7F);
            y
        });
        let weak: Vec<_> = SMALL_ORDER.into_iter().chain(beyond).collect();
        assert_eq!(weak.len(), 24);
        for mut y in weak {
            assert!(is_weak(&y), "{y:02x?}");
            y[31] |= 0x80;
            assert!(is_weak(&y), "{y:02x?}");
            y[1] ^= 1;
            assert!(!is_weak(&y), "{y:02x?}");
            assert!(!is_weak(&y[1..]), "another length is refused by the width check");
        }
    }
}
