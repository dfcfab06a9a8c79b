//! [`Cipher`]: AES-256-GCM of the cryptographic backend.

/// The length of a nonce in bytes.
pub(super) const NONCE: usize = 12;

#[cfg(feature = "aws_lc_rs")]
mod backend {
    use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

    use super::NONCE;

    pub(crate) struct Cipher(LessSafeKey);

    impl Cipher {
        pub(crate) fn new(key: &[u8; 32]) -> Option<Self> {
            UnboundKey::new(&AES_256_GCM, key).ok().map(|key| Self(LessSafeKey::new(key)))
        }

        /// Encrypts in place, and appends the tag.
        pub(crate) fn seal(&self, nonce: [u8; NONCE], context: &[u8], text: &mut Vec<u8>) -> Option<()> {
            let nonce = Nonce::assume_unique_for_key(nonce);
            self.0.seal_in_place_append_tag(nonce, Aad::from(context), text).ok()
        }

        /// Decrypts in place, and removes the tag.
        pub(crate) fn open(&self, nonce: [u8; NONCE], context: &[u8], text: &mut Vec<u8>) -> Option<()> {
            let nonce = Nonce::assume_unique_for_key(nonce);
            let length = self.0.open_in_place(nonce, Aad::from(context), text).ok()?.len();
            text.truncate(length);
            Some(())
        }
    }
}

#[cfg(all(feature = "rust_crypto", not(feature = "aws_lc_rs")))]
mod backend {
    use aes_gcm::aead::{AeadInOut as _, KeyInit as _};
    use aes_gcm::{Aes256Gcm, Nonce};

    use super::NONCE;

    pub(crate) struct Cipher(Box<Aes256Gcm>);

    impl Cipher {
        pub(crate) fn new(key: &[u8; 32]) -> Option<Self> {
            Aes256Gcm::new_from_slice(key).ok().map(|key| Self(Box::new(key)))
        }

        /// Encrypts in place, and appends the tag.
        pub(crate) fn seal(&self, nonce: [u8; NONCE], context: &[u8], text: &mut Vec<u8>) -> Option<()> {
            self.0.encrypt_in_place(&Nonce::from(nonce), context, text).ok()
        }

        /// Decrypts in place, and removes the tag.
        pub(crate) fn open(&self, nonce: [u8; NONCE], context: &[u8], text: &mut Vec<u8>) -> Option<()> {
            self.0.decrypt_in_place(&Nonce::from(nonce), context, text).ok()
        }
    }
}

pub(super) use self::backend::Cipher;

#[cfg(test)]
mod tests {
    use super::{Cipher, NONCE};

    /// Test case 16 of `McGrew` and Viega, "The Galois/Counter Mode of Operation", which NIST's vectors repeat.
    #[test]
    fn it_is_aes_256_gcm() {
        let bytes = |hex: &str| -> Vec<u8> {
            hex.as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect()
        };
        let key = bytes("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
        let nonce: [u8; NONCE] = bytes("cafebabefacedbaddecaf888").try_into().unwrap();
        let context = bytes("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let plain = bytes(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        );
        let sealed = bytes(
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b",
        );
        let cipher = Cipher::new(key.as_slice().try_into().unwrap()).unwrap();
        let mut text = plain.clone();
        cipher.seal(nonce, &context, &mut text).unwrap();
        assert_eq!(text, sealed);
        cipher.open(nonce, &context, &mut text).unwrap();
        assert_eq!(text, plain);
    }
}
