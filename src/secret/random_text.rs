//! Checks whether a text can be a random secret of at least 128 bits. Whether it really is random cannot be checked.

/// The minimum number of different characters. Among 22 characters of base64url, fewer than 6 different ones occur once
/// in 10^25 times.
const MIN_DIFFERENT: usize = 6;

/// Refuses text that is too short for 128 bits in the smallest alphabet that contains its characters, and text that
/// looks like a passphrase.
pub(super) fn check(text: &str) -> Result<(), &'static str> {
    let all = |is_of: fn(&u8) -> bool| text.bytes().all(|byte| is_of(&byte));
    let is_of_one_case = all(|byte| !byte.is_ascii_lowercase()) || all(|byte| !byte.is_ascii_uppercase());
    let (least, too_short) = if all(u8::is_ascii_digit) {
        (39, "a random secret of decimal digits must have at least 39 of them (128 bits)")
    } else if all(u8::is_ascii_hexdigit) {
        (32, "a random secret of hexadecimal digits must have at least 32 of them (128 bits)")
    } else if all(u8::is_ascii_alphanumeric) && is_of_one_case {
        (25, "a random secret of digits and letters of one case must have at least 25 characters (128 bits)")
    } else {
        (22, "a random secret must have at least 22 characters (128 bits in base64url)")
    };
    if text.len() < least {
        return Err(too_short);
    }
    if text.contains(' ') {
        return Err(
            "a secret with spaces is a passphrase; use `ClientSecret::new` for it, or generate a random secret",
        );
    }
    let mut different: Vec<u8> = text.bytes().collect();
    different.sort_unstable();
    different.dedup();
    if different.len() < MIN_DIFFERENT {
        return Err(
            "a random secret must have at least 6 different characters; generate one with `openssl rand -hex 32`",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::secret::ClientSecret;

    #[test]
    fn text_that_cannot_have_128_random_bits_is_refused_and_not_in_the_error() {
        for (secret, part) in [
            ("hunter2", "at least 25"),
            ("Zm9vYmFyYmF6cXV4eHl6e", "at least 22"),
            ("0123456789abcdef0123456789abcde", "at least 32"),
            ("012345678901234567890123456789012345678", "39"),
            ("abcdefghijklmnopqrstuvwx", "at least 25"),
            ("correct horse battery staple", "passphrase"),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "6 different"),
            ("ababababababababababababababababababABAB", "6 different"),
            ("tcc_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8PJj0uB", "checksum"),
            ("Zm9vYmFyYmF6cXV4eHl6enk\n", "printable"),
            ("", "1 to 1,024"),
        ] {
            let taken = ClientSecret::assume_random(secret);
            if secret.len() == 39 {
                assert!(taken.is_ok(), "39 digits are sufficient");
                continue;
            }
            let error = taken.unwrap_err().to_string();
            assert!(error.contains(part) && (secret.is_empty() || !error.contains(secret)), "{error}");
        }
    }

    #[test]
    fn a_random_secret_is_stored_as_a_standard_sha256_digest() {
        for secret in [
            "5f4dcc3b5aa765d61d8327deb882cf99",
            "jR3uWc0sYk8p4hT1nQ7vZ2xB6mD9fG5a-LqEoHiKwXs",
            "MFRGGZDFMZTWQ2LKNNWG23TPOA",
            "tcc_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8PJj0uA",
        ] {
            let stored = ClientSecret::assume_random(secret).unwrap().to_stored().unwrap();
            assert!(stored.to_phc_string().starts_with("$sha256$") && !stored.is_slow(), "{secret}");
            assert!(stored.matches(&crate::secret::Presented::new(secret)));
        }
        // printf 5f4dcc3b5aa765d61d8327deb882cf99 | openssl dgst -sha256 -binary | base64
        let stored = ClientSecret::assume_random("5f4dcc3b5aa765d61d8327deb882cf99").unwrap().to_stored().unwrap();
        assert_eq!(stored.to_phc_string(), "$sha256$PyzY5XsJb+fkp4pWJ+NMo/iFrWWlbmHCh89CEbvFlJ8");
    }

    #[test]
    fn the_error_names_the_variable_of_a_random_secret_that_is_not_set() {
        let error = ClientSecret::assume_random_from_env("A_VARIABLE_THAT_IS_NOT_SET").unwrap_err().to_string();
        assert!(error.contains("A_VARIABLE_THAT_IS_NOT_SET"), "{error}");
    }
}
