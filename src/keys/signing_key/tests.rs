//! Tests of [`SigningKey`].

use super::SigningKey;
use crate::keys::{Algorithm, KeyError};

const P256: &str = include_str!("../../../tests/keys/p256.pem");

/// OpenSSL created these files; this crate writes them identically, byte for byte.
#[test]
fn a_key_is_saved_in_the_same_form_as_by_openssl() {
    for pem in [
        P256,
        include_str!("../../../tests/keys/p384.pem"),
        include_str!("../../../tests/keys/ed25519.pem"),
        #[cfg(feature = "aws_lc_rs")]
        include_str!("../../../tests/keys/rsa2048.pem"),
    ] {
        let key = SigningKey::from_pem(pem).unwrap();
        let saved = key.to_pkcs8_pem().unwrap();
        assert_eq!(saved.expose(), pem, "{:?}", key.algorithm());
        assert_eq!(format!("{saved:?}"), "PrivateKeyPem(…)");
    }
}

#[test]
fn each_kind_of_key_that_is_generated_can_be_saved_and_loaded() {
    for algorithm in [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA] {
        let key = SigningKey::generate(algorithm).unwrap();
        let loaded = SigningKey::from_pem(key.to_pkcs8_pem().unwrap().expose()).unwrap();
        assert_eq!((loaded.key_id(), loaded.algorithm()), (key.key_id(), algorithm));
        assert!(key.verifying_key().verifies(b"payload", &signature(&loaded)), "{algorithm}");
    }
    let secret = SigningKey::dangerous_hs256_verifiers_can_forge([7; 32]).unwrap();
    let error = secret.to_pkcs8_pem().unwrap_err().to_string();
    assert!(error.contains("HS256"), "{error}");
}

fn signature(key: &SigningKey) -> Vec<u8> {
    key.private.sign(key.algorithm(), b"payload").unwrap()
}

#[test]
fn the_length_of_a_token_is_known_before_signing() {
    let keys = [
        SigningKey::generate(Algorithm::ES256).unwrap(),
        SigningKey::generate(Algorithm::ES384).unwrap(),
        SigningKey::generate(Algorithm::EdDSA).unwrap(),
        SigningKey::dangerous_hs256_verifiers_can_forge([7; 32]).unwrap(),
        #[cfg(feature = "aws_lc_rs")]
        SigningKey::from_pem(include_str!("../../../tests/keys/rsa2048.pem")).unwrap(),
    ];
    for key in keys {
        for payload in [0, 1, 2, 3, 4, 100, 1_000, 16_000] {
            let token = key.sign(&vec![b'x'; payload]).unwrap();
            assert_eq!(key.token_len(payload), token.len(), "{} {payload}", key.algorithm());
        }
    }
}

fn refusal(key: Result<SigningKey, KeyError>) -> String {
    key.expect_err("a bad key").to_string()
}

#[test]
fn keys_of_each_type_are_loaded_from_pkcs8() {
    for (pem, algorithm) in [
        (P256, Algorithm::ES256),
        (include_str!("../../../tests/keys/p384.pem"), Algorithm::ES384),
        (include_str!("../../../tests/keys/ed25519.pem"), Algorithm::EdDSA),
    ] {
        let key = SigningKey::from_pem(pem).unwrap();
        assert_eq!(key.algorithm(), algorithm);
        assert_eq!(key.key_id().len(), 43);
    }
}

#[test]
fn sec1_is_the_same_key_as_pkcs8() {
    for (sec1, pkcs8) in [
        (include_str!("../../../tests/keys/p256.sec1.pem"), P256),
        (include_str!("../../../tests/keys/p384.sec1.pem"), include_str!("../../../tests/keys/p384.pem")),
    ] {
        let (sec1, pkcs8) = (SigningKey::from_pem(sec1).unwrap(), SigningKey::from_pem(pkcs8).unwrap());
        assert_eq!((sec1.key_id(), sec1.algorithm()), (pkcs8.key_id(), pkcs8.algorithm()));
    }
}

#[test]
fn a_key_is_found_after_its_certificate_and_its_public_half() {
    let [certificate, public] =
        [include_str!("../../../tests/keys/p256.crt.pem"), include_str!("../../../tests/keys/p256.pub.pem")];
    let key = SigningKey::from_pem([certificate, public, P256, certificate].concat()).unwrap();
    assert_eq!(key.key_id(), SigningKey::from_pem(P256).unwrap().key_id());
}

#[test]
fn der_formats_are_detected_by_content() {
    let pkcs8 = include_bytes!("../../../tests/keys/p256.der");
    let section = crate::keys::pem::private_section(include_bytes!("../../../tests/keys/p256.sec1.pem")).unwrap();
    for der in [&pkcs8[..], &section.der().unwrap()] {
        let key = SigningKey::from_der(der).unwrap();
        assert_eq!(key.key_id(), SigningKey::from_pem(P256).unwrap().key_id());
    }
    let cut = &pkcs8[..100];
    let longer = [&pkcs8[..], &[0]].concat();
    for der in [&[][..], cut, &longer, P256.as_bytes()] {
        assert!(refusal(SigningKey::from_der(der)).contains("PKCS#8"));
    }
}

#[test]
fn the_error_for_an_invalid_key_says_how_to_fix_it_and_does_not_show_the_key() {
    for (pem, fix) in [
        ("hello", "openssl genpkey"),
        (&P256.replacen("MIGH", "MIGI", 1), "P-256"),
        (include_str!("../../../tests/keys/p521.pem"), "P-256"),
        (include_str!("../../../tests/keys/rsa2048.pss.pem"), "P-256"),
        (include_str!("../../../tests/keys/p256.pub.pem"), "`VerifyingKey::from_pem`"),
        (include_str!("../../../tests/keys/p256.crt.pem"), "certificate"),
        (include_str!("../../../tests/keys/p256.encrypted.pem"), "feature `encrypted_pem`"),
        (include_str!("../../../tests/keys/p256.proc-type.pem"), "openssl pkcs8 -topk8"),
        (include_str!("../../../tests/keys/openssh.pem"), "ssh-keygen"),
        (&P256.repeat(2), "more than one private key"),
    ] {
        let refusal = refusal(SigningKey::from_pem(pem));
        assert!(refusal.contains(fix), "{refusal}");
        let mut body = pem.lines().filter(|line| line.len() > 20 && !line.starts_with("--"));
        assert!(body.all(|line| !refusal.contains(line)), "{refusal}");
    }
}

#[test]
fn a_key_signs_only_with_an_algorithm_of_its_type() {
    let key = || SigningKey::generate(Algorithm::ES256).unwrap();
    assert!(key().with_algorithm(Algorithm::ES256).is_ok());
    assert!(refusal(key().with_algorithm(Algorithm::ES384)).contains("ES384"));
    assert!(refusal(key().with_algorithm(Algorithm::HS256)).contains("HS256"));
    assert!(refusal(SigningKey::generate(Algorithm::RS256)).contains("openssl"));
    assert!(refusal(SigningKey::generate(Algorithm::HS256)).contains("dangerous_hs256"));
}

#[cfg(feature = "aws_lc_rs")]
#[test]
fn an_rsa_key_is_loaded_from_each_format_and_signs_with_each_of_its_algorithms() {
    let pkcs1 = include_str!("../../../tests/keys/rsa2048.pkcs1.pem");
    let key = SigningKey::from_pem(include_str!("../../../tests/keys/rsa2048.pem")).unwrap();
    assert_eq!(SigningKey::from_pem(pkcs1).unwrap().key_id(), key.key_id());
    let section = crate::keys::pem::private_section(pkcs1.as_bytes()).unwrap();
    assert_eq!(SigningKey::from_der(section.der().unwrap()).unwrap().key_id(), key.key_id());

    for algorithm in [Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::RS256] {
        let key = SigningKey::from_pem(pkcs1).unwrap().with_algorithm(algorithm).unwrap();
        let token = key.sign(b"payload").unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, signature).unwrap();
        assert!(key.verifying_key().verifies(signed.as_bytes(), &signature), "{algorithm}");
        assert!(!key.verifying_key().verifies(b"another", &signature), "{algorithm}");
    }
}

#[cfg(feature = "aws_lc_rs")]
#[test]
fn an_rsa_key_of_1024_bits_is_refused() {
    let refusal = refusal(SigningKey::from_pem(include_str!("../../../tests/keys/rsa1024.pem")));
    assert!(refusal.contains("2,048"), "{refusal}");
}

#[cfg(not(feature = "aws_lc_rs"))]
#[test]
fn an_rsa_key_does_not_sign_and_the_error_says_why() {
    for key in [
        SigningKey::from_pem(include_str!("../../../tests/keys/rsa2048.pem")),
        SigningKey::from_pem(include_str!("../../../tests/keys/rsa2048.pkcs1.pem")),
        SigningKey::from_jwk(include_str!("../../../tests/keys/rfc7517-a2-rsa.jwk")),
    ] {
        let refusal = refusal(key);
        assert!(refusal.contains("RUSTSEC-2023-0071") && refusal.contains("`aws_lc_rs`"), "{refusal}");
    }
}
