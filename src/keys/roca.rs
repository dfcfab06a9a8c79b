//! Moduli of chips that drew their primes from too few (CVE-2017-15361, "ROCA"): who has such a public key can compute
//! the private one.

/// The primes of such a key are powers of this modulo every small prime, and so is their product.
const GENERATOR: u64 = 65_537;

/// From 2,048 bits on, it holds up to this small prime.
const LARGEST: u64 = 701;

/// Whether a modulus has that fingerprint, which no other has by chance: the odds are 1 to 2¹⁶⁷.
pub(super) fn is_weak(n: &[u8]) -> bool {
    (3..=LARGEST).filter(|number| is_prime(*number)).all(|prime| is_power(remainder(n, prime), prime))
}

fn is_prime(number: u64) -> bool {
    (2..number).all(|divisor| !number.is_multiple_of(divisor))
}

fn remainder(n: &[u8], prime: u64) -> u64 {
    n.iter().fold(0, |rest, byte| (rest << 8 | u64::from(*byte)) % prime)
}

fn is_power(rest: u64, prime: u64) -> bool {
    let next = |power: &u64| Some(power * GENERATOR % prime);
    std::iter::successors(Some(1), next).zip(1..prime).any(|(power, _)| power == rest)
}

#[cfg(test)]
mod tests {
    use super::is_weak;

    /// The generator to the 128th: as long as the modulus of a key.
    #[test]
    fn a_power_of_the_generator_is_weak_and_its_neighbour_is_not() {
        let mut power = (0..128).fold(vec![1], |power, _| times_generator(&power));
        assert!(power.len() >= 256 && is_weak(&power));
        *power.last_mut().unwrap() += 2;
        assert!(!is_weak(&power));
    }

    /// Times 2¹⁶, and once.
    fn times_generator(number: &[u8]) -> Vec<u8> {
        let shifted = number.iter().rev().copied();
        let shifted = [0, 0].into_iter().chain(shifted);
        let once = number.iter().rev().copied().chain([0, 0]);
        let mut carry = 0;
        let mut product: Vec<u8> = shifted
            .zip(once)
            .map(|(one, other)| {
                let sum = u16::from(one) + u16::from(other) + carry;
                carry = sum >> 8;
                u8::try_from(sum & 0xFF).unwrap()
            })
            .collect();
        product.reverse();
        assert_eq!(carry, 0);
        product
    }
}
