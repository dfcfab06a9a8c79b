//! [`ExternalKey`]: calls a [`Signer`] within its limits, and checks what it returns.

use std::sync::Arc;

use pkcs8::der::asn1::UintRef;
use pkcs8::der::{Decode as _, Error as DerError, Reader as _, SliceReader};
use tokio::sync::Semaphore;

use super::signer::SignatureForm;
use super::{Algorithm, KeyError, SignError, Signature, Signer, SignerLimits, VerifyingKey};
use crate::deadline::within;

/// A key whose private half is behind a [`Signer`].
pub(super) struct ExternalKey {
    signer: Arc<dyn Signer>,
    public: VerifyingKey,
    limits: SignerLimits,
    /// One permit for each signature under way, and one for each that waits.
    places: Semaphore,
    turns: Semaphore,
}

impl ExternalKey {
    pub(super) fn new(signer: Arc<dyn Signer>, limits: SignerLimits) -> Result<Self, KeyError> {
        let public = signer.verifying_key();
        if public.algorithm() == Algorithm::HS256 {
            return Err(KeyError::mismatch(
                "a signer needs an asymmetric key, and its verifying key is a secret for HS256; use for example ES256",
            ));
        }
        if limits.at_once == 0 || limits.deadline.is_zero() {
            return Err(KeyError::unsupported(
                "a signer with a limit of 0 signatures at once, or with a deadline of 0, never signs; use a larger value",
            ));
        }
        let at_once = limits.at_once.min(Semaphore::MAX_PERMITS);
        let places = limits.at_once.saturating_add(limits.waiting).min(Semaphore::MAX_PERMITS);
        Ok(Self { signer, public, limits, places: Semaphore::new(places), turns: Semaphore::new(at_once) })
    }

    pub(super) fn verifying_key(&self) -> &VerifyingKey {
        &self.public
    }

    /// Returns a signature of the message that the public half verifies.
    pub(super) async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let _place = self.places.try_acquire().map_err(|_| {
            SignError::new(format!(
                "{} signatures of key `{}` wait or are under way; raise the limits with SignerLimits::at_once or \
                 SignerLimits::waiting",
                self.limits.at_once.saturating_add(self.limits.waiting),
                self.public.key_id()
            ))
        })?;
        let signed = within(self.limits.deadline, async {
            let _turn = self.turns.acquire().await.map_err(SignError::new)?;
            self.signer.sign(message).await
        });
        let signature = signed.await.map_err(SignError::new)??;
        let signature = to_jws(signature, self.public.algorithm()).ok_or_else(|| {
            SignError::new(format!(
                "the signer returned an ECDSA signature in DER that is malformed, or not for the {} key `{}`",
                self.public.algorithm(),
                self.public.key_id()
            ))
        })?;
        if !self.public.verifies(message, &signature) {
            return Err(SignError::new(format!(
                "the signer returned a signature of {} bytes that the {} key `{}` does not verify; check that the signer \
                 uses this key, and signs the whole message with this algorithm",
                signature.len(),
                self.public.algorithm(),
                self.public.key_id()
            )));
        }
        Ok(signature)
    }
}

/// Returns the signature in the form of RFC 7518 §3.4, or `None` if it is DER and invalid for the algorithm.
fn to_jws(signature: Signature, algorithm: Algorithm) -> Option<Vec<u8>> {
    let der = match signature.0 {
        SignatureForm::Jws(bytes) => return Some(bytes),
        SignatureForm::EcdsaDer(der) => der,
    };
    let width = match algorithm {
        Algorithm::ES256 => 32,
        Algorithm::ES384 => 48,
        _ => return None,
    };
    let mut reader = SliceReader::new(&der).ok()?;
    let numbers = reader.sequence(|numbers| Ok::<_, DerError>([UintRef::decode(numbers)?, UintRef::decode(numbers)?]));
    let numbers = numbers.ok()?;
    reader.finish().ok()?;
    let mut raw = Vec::with_capacity(2 * width);
    for number in numbers {
        let number = number.as_bytes();
        if number == [0] {
            return None;
        }
        raw.resize(raw.len() + width.checked_sub(number.len())?, 0);
        raw.extend_from_slice(number);
    }
    Some(raw)
}

#[cfg(test)]
mod tests {
    use super::to_jws;
    use crate::keys::{Algorithm, Signature, SigningKey};

    fn from_der(der: &[u8], algorithm: Algorithm) -> Option<Vec<u8>> {
        to_jws(Signature::ecdsa_der(der), algorithm)
    }

    #[test]
    fn numbers_of_any_length_are_padded_to_the_width_of_the_curve() {
        let short = from_der(&[0x30, 6, 2, 1, 5, 2, 1, 7], Algorithm::ES256).unwrap();
        assert_eq!((short.len(), short[31], short[63]), (64, 5, 7));
        assert_eq!(short.iter().filter(|byte| **byte != 0).count(), 2);
        let high = [&[0x30, 38, 2, 33, 0, 0x80][..], &[1; 31], &[2, 1, 7]].concat();
        let high = from_der(&high, Algorithm::ES256).unwrap();
        assert_eq!((high.len(), high[0], high[63]), (64, 0x80, 7));
        assert_eq!(from_der(&[0x30, 6, 2, 1, 5, 2, 1, 7], Algorithm::ES384).unwrap().len(), 96);
    }

    #[test]
    fn malformed_der_is_refused() {
        let too_wide = [&[0x30, 38, 2, 33, 1][..], &[1; 32], &[2, 1, 7]].concat();
        for der in [
            &[][..],
            &[0x30, 0],
            &[0x30, 3, 2, 1, 5],
            &[0x30, 6, 2, 1, 0, 2, 1, 7],    // zero
            &[0x30, 6, 2, 1, 0x85, 2, 1, 7], // negative
            &[0x30, 6, 2, 1, 5, 2, 1, 7, 0], // bytes behind it
            &[0x30, 9, 2, 1, 5, 2, 1, 7, 2, 1, 7],
            &[0x30, 7, 2, 2, 0, 5, 2, 1, 7], // not the shortest form
            &too_wide,
        ] {
            assert!(from_der(der, Algorithm::ES256).is_none(), "{der:02x?}");
        }
        assert!(from_der(&[0x30, 6, 2, 1, 5, 2, 1, 7], Algorithm::EdDSA).is_none(), "EdDSA has no form in DER");
    }

    /// DER that another implementation wrote: that of `p256` and `p384`.
    #[test]
    fn der_of_another_implementation_verifies_after_the_conversion() {
        use p256::ecdsa::signature::Signer as _;
        use p256::pkcs8::DecodePrivateKey as _;

        for number in 0..200_u32 {
            let message = number.to_be_bytes();
            let pem = include_str!("../../tests/keys/p256.pem");
            let signature: p256::ecdsa::Signature =
                p256::ecdsa::SigningKey::from_pkcs8_pem(pem).unwrap().sign(&message);
            let raw = from_der(signature.to_der().as_bytes(), Algorithm::ES256).unwrap();
            assert!(SigningKey::from_pem(pem).unwrap().verifying_key().verifies(&message, &raw), "{number}");
            let pem = include_str!("../../tests/keys/p384.pem");
            let signature: p384::ecdsa::Signature =
                p384::ecdsa::SigningKey::from_pkcs8_pem(pem).unwrap().sign(&message);
            let raw = from_der(signature.to_der().as_bytes(), Algorithm::ES384).unwrap();
            assert!(SigningKey::from_pem(pem).unwrap().verifying_key().verifies(&message, &raw), "{number}");
        }
    }
}
