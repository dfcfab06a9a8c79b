//! RSA with encoded messages that have one error, and with exponents and moduli of various sizes.

use rsa::BigUint;
use sha2::{Digest as _, Sha256, Sha384};

use super::{Both, MESSAGE, PublicNumbers, fixed, jwk, member, small};
use crate::keys::Algorithm;

/// The numbers of a private RSA key.
struct RsaNumbers {
    n: BigUint,
    d: BigUint,
    bits: usize,
    public: PublicNumbers,
}

impl RsaNumbers {
    fn all() -> [Self; 2] {
        use rsa::pkcs8::DecodePrivateKey as _;
        use rsa::traits::{PrivateKeyParts as _, PublicKeyParts as _};
        let rsa2050 =
            rsa::RsaPrivateKey::from_pkcs8_pem(include_str!("../../../../tests/keys/rsa2050.e3.pem")).unwrap();
        let rsa2049 = jwk(include_str!("../../../../tests/keys/rsa2049.jwk"));
        let of = |n: &BigUint, e: &BigUint, d: &BigUint| Self {
            n: n.clone(),
            d: d.clone(),
            bits: n.bits(),
            public: PublicNumbers::Rsa { n: n.to_bytes_be(), e: e.to_bytes_be() },
        };
        let own = |name| BigUint::from_bytes_be(&member(&rsa2049, name));
        [of(&own("n"), &own("e"), &own("d")), of(rsa2050.n(), rsa2050.e(), rsa2050.d())]
    }

    fn parse(&self, algorithm: Algorithm) -> Both {
        Both::parse(&self.public, algorithm).unwrap()
    }

    /// Returns the signature for this encoded message, valid or not, or `None` if the message is not below the modulus.
    fn sign(&self, encoded: &[u8]) -> Option<Vec<u8>> {
        let encoded = BigUint::from_bytes_be(encoded);
        (encoded < self.n).then(|| fixed(&encoded.modpow(&self.d, &self.n), self.width()).unwrap())
    }

    fn width(&self) -> usize {
        self.bits.div_ceil(8)
    }
}

/// The DER before a SHA-256 digest (RFC 8017 §9.2, note 1).
const SHA256_INFO: [u8; 19] = [0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20];

#[test]
fn a_pkcs1_padding_with_one_difference_is_refused_by_both_backends() {
    let digest = Sha256::digest(MESSAGE).to_vec();
    let info = |prefix: &[u8]| [prefix, &digest].concat();
    let right = info(&SHA256_INFO);
    // Without the NULL parameters, as some libraries sign and few verify (RFC 8017 §A.2.4).
    let no_null = info(&[0x30, 0x2f, 0x30, 0x0b, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 4, 0x20]);
    let long_length = info(
        &[&[0x30, 0x81, 0x31], &SHA256_INFO[2..]].concat(), // BER
    );
    let mut sha1 = right.clone();
    sha1[14] = 3; // SHA-512's identifier
    let sha384 =
        [&SHA256_INFO[..1], &[0x41], &SHA256_INFO[2..14], &[2, 5, 0, 4, 0x30], &Sha384::digest(MESSAGE)[..]].concat();
    for key in RsaNumbers::all() {
        let width = key.width();
        let padded = |kind: u8, fill: u8, padding: usize, info: &[u8], behind: usize| {
            [&[0, kind], &*vec![fill; padding], &[0], info, &vec![0x5a; behind]].concat()
        };
        let full = |info: &[u8]| width - 3 - info.len();
        let own = key.parse(Algorithm::RS256);
        let accepted = key.sign(&padded(1, 0xFF, full(&right), &right, 0)).unwrap();
        assert!(own.verifies(MESSAGE, &accepted), "the correct encoding");
        assert!(!key.parse(Algorithm::RS384).verifies(MESSAGE, &accepted));
        assert!(!key.parse(Algorithm::PS256).verifies(MESSAGE, &accepted));
        let mut hole = padded(1, 0xFF, full(&right), &right, 0);
        hole[20] = 0xFE;
        let mut wrong = vec![
            hole,
            padded(1, 0xFF, full(&no_null), &no_null, 0),
            padded(1, 0xFF, full(&long_length), &long_length, 0),
            padded(1, 0xFF, full(&sha1), &sha1, 0),
            padded(1, 0xFF, full(&sha384), &sha384, 0),
            padded(1, 0xFF, full(&digest), &digest, 0),
            padded(2, 0xFF, full(&right), &right, 0),
            padded(0, 0, full(&right), &right, 0),
            padded(1, 0xFF, 8, &right, full(&right) - 8), // Bleichenbacher's forgery for an exponent of 3
            padded(1, 0xFF, 0, &right, full(&right)),
            padded(1, 0xFF, full(&right) - 1, &[&right[..], &[0]].concat(), 0),
            padded(1, 0xFF, full(&right), &[&right[..right.len() - 1], &[!right[right.len() - 1]]].concat(), 0),
        ];
        let mut first = padded(1, 0xFF, full(&right), &right, 0);
        first[0] = 1;
        wrong.push(first);
        for encoded in wrong {
            let Some(signature) = key.sign(&encoded) else { continue };
            assert!(!own.verifies(MESSAGE, &signature), "{encoded:02x?}");
        }
    }
}

/// EMSA-PSS (RFC 8017 §9.1.1) with SHA-256, with parameters for the possible errors.
fn pss(message: &[u8], bits: usize, salt: &[u8], separator: u8, trailer: u8) -> Vec<u8> {
    let bits = bits - 1;
    let width = bits.div_ceil(8);
    let hash = Sha256::digest([&[0; 8], &*Sha256::digest(message), salt].concat());
    let mut db = vec![0; width - 32 - 1 - salt.len() - 1];
    db.push(separator);
    db.extend(salt);
    let mask = (0_u32..).flat_map(|counter| Sha256::digest([&*hash, &counter.to_be_bytes()].concat()));
    let mut masked: Vec<u8> = db.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
    masked[0] &= 0xFF >> (8 * width - bits);
    [&masked, &*hash, &[trailer]].concat()
}

#[test]
fn a_pss_salt_must_be_as_long_as_the_hash_with_both_backends() {
    for key in RsaNumbers::all() {
        let own = key.parse(Algorithm::PS256);
        let longest = (key.bits - 1).div_ceil(8) - 34;
        for length in [0, 1, 20, 31, 32, 33, 48, 64, longest - 1, longest] {
            let signature = key.sign(&pss(MESSAGE, key.bits, &vec![0xA5; length], 1, 0xBC)).unwrap();
            assert_eq!(own.verifies(MESSAGE, &signature), length == 32, "{} bits, salt of {length}", key.bits);
        }
        for (separator, trailer) in [(0, 0xBC), (2, 0xBC), (0x81, 0xBC), (1, 0xCC), (1, 0xBD)] {
            let signature = key.sign(&pss(MESSAGE, key.bits, &[0xA5; 32], separator, trailer)).unwrap();
            assert!(!own.verifies(MESSAGE, &signature), "{separator:x} {trailer:x}");
        }
    }
}

/// RFC 8017 §9.1.2, step 6: the bits above `emBits` are zero. With 2,049 bits they are a separate byte.
#[test]
fn bits_above_the_encoded_message_of_pss_are_refused_by_both_backends() {
    for key in RsaNumbers::all() {
        let own = key.parse(Algorithm::PS256);
        // The encoded message plus the bit must be below the modulus: some salt makes it so.
        let signature = (0..=u8::MAX).find_map(|salt| {
            let encoded = BigUint::from_bytes_be(&pss(MESSAGE, key.bits, &[salt; 32], 1, 0xBC));
            key.sign(&(encoded + (small(1) << (key.bits - 1))).to_bytes_be())
        });
        assert!(!own.verifies(MESSAGE, &signature.unwrap()), "{} bits", key.bits);
    }
}

#[test]
fn rsa_exponents_and_sizes_are_checked_before_either_backend() {
    let modulus = |bits: usize| ((small(1) << bits) - small(1) - (small(1) << (bits / 2))).to_bytes_be();
    let parse = |n: Vec<u8>, e: BigUint| {
        let numbers = PublicNumbers::Rsa { n, e: e.to_bytes_be() };
        let algorithms = [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256];
        let accepted = algorithms.map(|algorithm| Both::parse(&numbers, algorithm).is_some());
        assert!(accepted.iter().all(|one| *one == accepted[0]), "{accepted:?}");
        accepted[0]
    };
    for bits in [2048, 2049, 2050, 2055, 2056, 3072, 4096, 8191, 8192] {
        assert!(parse(modulus(bits), small(65_537)), "{bits}");
    }
    for bits in [512, 1024, 2047, 8193, 8200, 16_384] {
        assert!(!parse(modulus(bits), small(65_537)), "{bits}");
    }
    for e in [3, 5, 17, 65_537, (1 << 32) + 1, (1 << 33) - 1] {
        assert!(parse(modulus(2048), small(e)), "{e}");
    }
    for e in [0, 1, 2, 4, 65_536, 65_538, 1 << 33, (1 << 33) + 1, u64::MAX] {
        assert!(!parse(modulus(2048), small(e)), "{e}");
    }
    let n = BigUint::from_bytes_be(&modulus(2048));
    for e in [&n - small(2), n.clone(), &n + small(2)] {
        assert!(!parse(modulus(2048), e));
    }
    for n in [&n - small(1), &n + small(1)] {
        assert!(!parse(n.to_bytes_be(), small(65_537)), "an even modulus");
    }
}
