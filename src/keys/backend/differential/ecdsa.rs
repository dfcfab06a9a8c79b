//! Edge cases of ECDSA arithmetic.

use rsa::BigUint;
use sha2::{Digest as _, Sha256, Sha384};

use super::{Both, MESSAGE, ORDER_P256, ORDER_P384, PublicNumbers, fixed, small};
use crate::keys::Algorithm;

/// Edge cases of ECDSA signatures that are valid or invalid by construction (FIPS 186-5 §6.4.2).
macro_rules! ecdsa_by_construction {
    ($curve:ident, $nist:ident, $numbers:ident, $algorithm:expr, $digest:ident, $order:expr) => {{
        use $curve::elliptic_curve::PrimeField as _;
        use $curve::elliptic_curve::point::DecompressPoint as _;
        use $curve::elliptic_curve::sec1::ToEncodedPoint as _;
        use $curve::{AffinePoint, FieldBytes, ProjectivePoint, Scalar};

        type Uint = <$curve::$nist as $curve::elliptic_curve::Curve>::Uint;

        let order: &BigUint = &$order;
        let width = order.to_bytes_be().len();
        let field = |bytes: &[u8]| {
            let mut field = FieldBytes::default();
            field.copy_from_slice(bytes);
            field
        };
        let reduce = |bytes: &[u8]| <Scalar as $curve::elliptic_curve::ops::Reduce<Uint>>::reduce_bytes(&field(bytes));
        let digest = reduce(&$digest::digest(MESSAGE));
        let parse = |point: ProjectivePoint| {
            let point = point.to_affine().to_encoded_point(false);
            Both::parse(&PublicNumbers::from_point(point.as_bytes()).unwrap(), $algorithm).unwrap()
        };
        let signature = |r: &Scalar, s: &Scalar| [r.to_repr().to_vec(), s.to_repr().to_vec()].concat();
        let x_of = |point: ProjectivePoint| reduce(point.to_affine().to_encoded_point(false).x().unwrap());
        let invert = |scalar: Scalar| Option::<Scalar>::from(scalar.invert()).unwrap();
        let generator = ProjectivePoint::GENERATOR;
        let (two, k) = (Scalar::from(2_u64), Scalar::from(0x5eed_u64));

        // The x of the point is above the order, so r is x minus the order: the comparison is modulo the order.
        let mut tried = 0_u64;
        let (r, point) = (1_u64..)
            .find_map(|r| {
                tried = r;
                let x = fixed(&(order + small(r)), width)?;
                let point: Option<AffinePoint> = AffinePoint::decompress(&field(&x), 0.into()).into();
                Some((Scalar::from(r), ProjectivePoint::from(point?)))
            })
            .unwrap();
        assert!(tried < 100);
        let s = Scalar::from(7_u64);
        let key = parse((point * s - generator * digest) * invert(r));
        assert!(key.verifies(MESSAGE, &signature(&r, &s)), "r below x");
        assert!(!key.verifies(MESSAGE, &signature(&(r + Scalar::ONE), &s)));
        // Here r plus the order fits the width, but is out of range.
        let beyond = fixed(&(order + small(tried)), width).unwrap();
        assert!(!key.verifies(MESSAGE, &[beyond, s.to_repr().to_vec()].concat()), "r above the order");

        // The sum of the two products is the point at infinity, which has no x.
        let r = Scalar::from(9_u64);
        let key = parse(generator * (-digest * invert(r)));
        assert!(!key.verifies(MESSAGE, &signature(&r, &s)), "infinity");

        // Both products are the same point, so the addition is a doubling.
        let r = x_of(generator * k);
        let key = parse(generator * (digest * invert(r)));
        assert!(key.verifies(MESSAGE, &signature(&r, &(two * digest * invert(k)))), "doubling");

        // The generator and its negation as keys, with a signature whose s is 1.
        for secret in [Scalar::ONE, -Scalar::ONE] {
            let key = parse(generator * secret);
            let s = (digest + r * secret) * invert(k);
            assert!(key.verifies(MESSAGE, &signature(&r, &s)) && key.verifies(MESSAGE, &signature(&r, &-s)));
            assert!(!key.verifies(b"another", &signature(&r, &s)));
        }
        let key = parse(generator * ((k - digest) * invert(r)));
        assert!(key.verifies(MESSAGE, &signature(&r, &Scalar::ONE)), "s is 1");

        // Keys that are not points: off the curve, on its twist, or with coordinates beyond the field.
        let real = generator.to_affine().to_encoded_point(false);
        let (x, y) = (real.x().unwrap().to_vec(), real.y().unwrap().to_vec());
        let edge = |value: u64| fixed(&small(value), width).unwrap();
        let twist = (1..100_u64)
            .find(|x| {
                let point: Option<AffinePoint> = AffinePoint::decompress(&field(&edge(*x)), 0.into()).into();
                point.is_none()
            })
            .unwrap();
        let keys = [
            (edge(0), edge(0)),
            (x.clone(), edge(0)),
            (edge(0), y.clone()),
            (x.clone(), x.clone()),
            (y.clone(), x.clone()),
            (edge(twist), y.clone()),
            (vec![0xFF; width], y.clone()),
            (x, vec![0xFF; width]),
        ];
        for (x, y) in keys {
            assert!(Both::parse(&PublicNumbers::$numbers { x, y }, $algorithm).is_none());
        }
    }};
}

#[test]
fn both_backends_agree_on_edge_cases_of_ecdsa() {
    ecdsa_by_construction!(p256, NistP256, P256, Algorithm::ES256, Sha256, ORDER_P256);
    ecdsa_by_construction!(p384, NistP384, P384, Algorithm::ES384, Sha384, ORDER_P384);
}
