//! Detects RSA moduli of chips with a weak prime generator (CVE-2017-15361, "ROCA"). Their private keys can be computed from
//! the public ones.

/// Modulo every small prime, the primes of such a key are powers of this number, and so is their product.
const GENERATOR: u64 = 65_537;

/// The largest small prime for which this holds, for keys of 2,048 bits or more.
const LARGEST: u64 = 701;

/// Returns whether a modulus has that fingerprint. The probability of a false positive is 2⁻¹⁶⁷.
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

    /// The generator to the 128th power is as long as the modulus of a key.
    #[test]
    fn a_power_of_the_generator_is_weak_and_its_neighbour_is_not() {
        let mut power = (0..128).fold(vec![1], |power, _| times_generator(&power));
        assert!(power.len() >= 256 && is_weak(&power));
        *power.last_mut().unwrap() += 2;
        assert!(!is_weak(&power));
    }

    /// Multiplies by 2¹⁶, and adds the number once.
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
