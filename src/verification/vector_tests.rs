//! The test vectors of Wycheproof and of the RFCs, run against the functions that the middleware itself calls:
//! [`KeySet::from_jwks`], [`Jws::split`], [`TrustedIssuer::proven`] and [`VerifyingKey::verifies`].
//!
//! The environment variable `JOSE_VECTORS` names the folder that contains `wycheproof` and `rfc7520`. The vectors have licences
//! of their own, so they are not copied here. A missing file is a failure. Every valid vector of a supported algorithm must be
//! accepted, and every invalid one refused, with any algorithm.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::jws::{Header, Jws, Presence, decode};
use super::trusted_issuer::TrustedIssuer;
use super::{InvalidToken, VerifyError};
use crate::clock::SystemClock;
use crate::keys::{Algorithm, KeySet, SigningKey, TrustedKeys, VerifyingKey};

/// A vector: its file, its number, and a remark.
type Named = (&'static str, u64, &'static str);

/// Vectors that are valid but refused, with the reason.
const NOT_OURS: [Named; 2] = [
    ("json_web_key_test.json", 2, "a set of shared secrets"),
    ("json_web_crypto_test.json", 48, "a set of shared secrets"),
];

/// Vectors whose result is left to the implementation, and that are refused here.
const ACCEPTABLE: [Named; 1] =
    [("rsa_signature_2048_sha256_test.json", 8, "a DigestInfo without the NULL that RFC 8017 §A.2.4 has there")];

/// Vectors with a wrong result: the opposite is correct.
const MISTAKEN: [Named; 4] = [
    ("json_web_signature_test.json", 367, "the padding is missing: identical to vector 357, which is valid"),
    ("json_web_signature_test.json", 370, "the padding is missing: identical to vector 357, which is valid"),
    ("json_web_signature_test.json", 372, "a `?` in the header, which is not a character of base64url (RFC 7515 §2)"),
    ("json_web_signature_test.json", 373, "a `?` in the payload, which is not a character of base64url (RFC 7515 §2)"),
];

/// The supported algorithms, with all their names.
const OURS: [&str; 9] = ["ES256", "ES384", "EdDSA", "Ed25519", "RS256", "RS384", "RS512", "PS256", "HS256"];

#[test]
fn every_vector_of_wycheproof_and_rfc_7520_has_the_expected_result() {
    match std::env::var_os("JOSE_VECTORS") {
        Some(folder) => agree_on_every_vector(&PathBuf::from(folder)),
        None => say("NOT RUN: the vectors of Wycheproof and RFC 7520, since JOSE_VECTORS does not name their folder"),
    }
}

fn agree_on_every_vector(folder: &Path) {
    let read = |path: &str| -> Value {
        let path = folder.join(path);
        let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_slice(&text).unwrap()
    };
    let mut total = Count::default();
    for file in ["json_web_signature_test.json", "json_web_key_test.json", "json_web_crypto_test.json"] {
        let vectors = read(&format!("wycheproof/{file}"));
        total.add(file, vectors_of(file, &vectors, jose_verdict));
    }
    for (file, algorithm) in [
        ("ecdsa_secp256r1_sha256_p1363_test.json", Algorithm::ES256),
        ("ed25519_test.json", Algorithm::EdDSA),
        ("rsa_signature_2048_sha256_test.json", Algorithm::RS256),
        ("rsa_pss_2048_sha256_mgf1_32_test.json", Algorithm::PS256),
    ] {
        let vectors = read(&format!("wycheproof/{file}"));
        total.add(file, vectors_of(file, &vectors, |group, test| raw_verdict(group, test, algorithm)));
    }
    for file in RFC_7520 {
        total.add(file, rfc_7520(file, &read(&format!("rfc7520/{file}"))));
    }
    say(&format!("{:<42} {total}", "in all"));
}

/// Bypasses the test harness, which hides the output of passing tests.
fn say(line: &str) {
    writeln!(io::stderr(), "{line}").unwrap();
}

/// The results of vectors.
#[derive(Default)]
struct Count {
    accepted: usize,
    refused: usize,
    not_ours: BTreeMap<String, usize>,
}

impl Count {
    fn add(&mut self, file: &str, other: Self) {
        say(&format!("{file:<42} {other}"));
        self.accepted += other.accepted;
        self.refused += other.refused;
        for (reason, number) in other.not_ours {
            *self.not_ours.entry(reason).or_default() += number;
        }
    }

    fn sum(&self) -> usize {
        self.accepted + self.refused + self.not_ours.values().sum::<usize>()
    }

    fn not_ours(&mut self, reason: impl Into<String>) {
        *self.not_ours.entry(reason.into()).or_default() += 1;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, refused, not_ours } = self;
        write!(f, "{accepted:>4} accepted, {refused:>4} refused, {:>3} not ours", not_ours.values().sum::<usize>())?;
        not_ours.iter().try_for_each(|(reason, number)| write!(f, "; {number} {reason}"))
    }
}

/// The result for a vector: accepted or not, and the algorithm that it names.
struct Verdict {
    accepted: bool,
    algorithm: String,
}

/// Compares the verdict for each vector of a Wycheproof file with its expected result.
fn vectors_of(file: &str, vectors: &Value, verdict: impl Fn(&Value, &Value) -> Verdict) -> Count {
    let mut count = Count::default();
    for group in vectors["testGroups"].as_array().unwrap() {
        for test in group["tests"].as_array().unwrap() {
            let id = test["tcId"].as_u64().unwrap();
            let Verdict { accepted, algorithm } = verdict(group, test);
            let named =
                |list: &[Named]| list.iter().find(|named| (named.0, named.1) == (file, id)).map(|named| named.2);
            match (test["result"].as_str().unwrap(), accepted) {
                ("invalid", true) if named(&MISTAKEN).is_some() => count.accepted += 1,
                ("valid", false) if named(&MISTAKEN).is_some() => count.refused += 1,
                _ if named(&MISTAKEN).is_some() => panic!("{file} {id} no longer has a wrong result"),
                ("valid", true) => count.accepted += 1,
                ("invalid", false) => count.refused += 1,
                ("acceptable", false) if named(&ACCEPTABLE).is_some() => count.refused += 1,
                ("valid", false) if !OURS.contains(&algorithm.as_str()) => count.not_ours(algorithm),
                ("valid", false) => count.not_ours(named(&NOT_OURS).unwrap_or_else(|| panic!("{file} {id}: {test}"))),
                _ => panic!("{file} {id} is accepted: {test}"),
            }
        }
    }
    assert_eq!(json!(count.sum()), vectors["numberOfTests"], "{file}");
    count
}

/// Judges a vector with a JWS or a JWE, and JWKs to trust.
fn jose_verdict(group: &Value, test: &Value) -> Verdict {
    let keys = if group["public"].is_null() { &group["private"] } else { &group["public"] };
    let (token, algorithm) = match (&test["jws"], &test["jwe"]) {
        (Value::String(jws), _) => (jws.clone(), algorithm_of(jws)),
        (_, Value::String(jwe)) => (jwe.clone(), "of JWE".to_owned()),
        (jws, jwe) => (format!("{jws}{jwe}").replace("null", ""), "in the JSON serialization".to_owned()),
    };
    Verdict { accepted: Trust::in_jwks(keys).accepts(&token), algorithm }
}

fn algorithm_of(jws: &str) -> String {
    let header = jws.split('.').next().and_then(|header| URL_SAFE_NO_PAD.decode(header).ok()).unwrap_or_default();
    let header: Value = serde_json::from_slice(&header).unwrap_or_default();
    header["alg"].as_str().unwrap_or_default().to_owned()
}

/// The trusted keys: a key set, or one shared secret, which no set may contain.
enum Trust {
    Set(TrustedIssuer),
    Secret { key_id: Value, key: VerifyingKey },
    None,
}

impl Trust {
    fn in_jwks(jwks: &Value) -> Self {
        match jwks["keys"].as_array().map(Vec::as_slice) {
            None => Self::in_jwks(&json!({ "keys": [jwks] })),
            Some([only]) if (&only["kty"], &only["alg"]) == (&json!("oct"), &json!("HS256")) => Self::in_secret(only),
            Some(_) => KeySet::from_jwks(jwks.to_string()).map_or(Self::None, |keys| Self::Set(issuer(keys))),
        }
    }

    fn in_secret(jwk: &Value) -> Self {
        let secret = URL_SAFE_NO_PAD.decode(jwk["k"].as_str().unwrap()).unwrap();
        SigningKey::dangerous_hs256_verifiers_can_forge(secret)
            .map_or(Self::None, |key| Self::Secret { key_id: jwk["kid"].clone(), key: key.verifying_key() })
    }

    fn accepts(&self, token: &str) -> bool {
        self.proven(token).is_ok()
    }

    fn proven(&self, token: &str) -> Result<Vec<u8>, VerifyError> {
        let jws = Jws::split(token)?;
        let header = decode(jws.header)?;
        let header = Header::parse(&header)?;
        match self {
            Self::Set(issuer) => issuer.proven(&jws, &header),
            Self::Secret { key_id, key } => {
                let is_named = header.kid == key_id.as_str().unwrap_or_default();
                let fits = is_named && key.algorithm().is_named(&header.alg) && header.crit == Presence::Absent;
                if fits { Ok(jws.verified_payload(key)?) } else { Err(InvalidToken::UnknownKey.into()) }
            }
            Self::None => Err(InvalidToken::UnknownKey.into()),
        }
    }
}

fn issuer(keys: KeySet) -> TrustedIssuer {
    let (issuer, audience) = ("https://auth.example.com".parse().unwrap(), "https://api.example.com".parse().unwrap());
    TrustedIssuer::new(issuer, audience, TrustedKeys::Set(keys), Arc::new(SystemClock))
}

/// Judges a vector with a message, a signature and a key in two formats.
fn raw_verdict(group: &Value, test: &Value, algorithm: Algorithm) -> Verdict {
    let key = VerifyingKey::from_pem(group["publicKeyPem"].as_str().unwrap()).unwrap();
    let key = key.with_algorithm(algorithm).unwrap();
    for jwk in [&group["publicKeyJwk"], &group["keyJwk"]].into_iter().filter(|jwk| !jwk.is_null()) {
        assert_eq!(VerifyingKey::from_jwk(jwk.to_string()).unwrap().key_id(), key.key_id(), "{jwk}");
    }
    let bytes = |name: &str| hex(test[name].as_str().unwrap());
    Verdict { accepted: key.verifies(&bytes("msg"), &bytes("sig")), algorithm: algorithm.name().to_owned() }
}

fn hex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

const RFC_7520: [&str; 10] = [
    "4_1.rsa_v15_signature.json",
    "4_2.rsa-pss_signature.json",
    "4_3.ecdsa_signature.json",
    "4_4.hmac-sha2_integrity_protection.json",
    "4_5.signature_with_detached_content.json",
    "4_6.protecting_specific_header_fields.json",
    "4_7.protecting_content_only.json",
    "4_8.multiple_signatures.json",
    "4.2.hmac-sha2_b64_false.json",
    "jws.json",
];

/// Checks each signature of an example as a JWS in compact form. Only its protected header counts, since anyone could change
/// the rest.
fn rfc_7520(file: &str, example: &Value) -> Count {
    let mut count = Count::default();
    let keys = &example["input"]["key"];
    let keys = keys.as_array().cloned().unwrap_or_else(|| vec![keys.clone()]);
    let signatures = example["output"]["json"]["signatures"].as_array().unwrap();
    assert_eq!(signatures.len(), keys.len(), "{file}");
    for (signature, key) in signatures.iter().zip(&keys) {
        let part = |part: &Value| part.as_str().unwrap_or_default().to_owned();
        let payload = part(&example["output"]["json"]["payload"]);
        let compact = format!("{}.{payload}.{}", part(&signature["protected"]), part(&signature["signature"]));
        if let Some(own) = example["output"]["compact"].as_str() {
            assert_eq!(own, compact, "{file}");
        }
        let algorithm = algorithm_of(&compact);
        let trust = Trust::in_jwks(&public(key));
        if !trust.accepts(&compact) {
            count.not_ours(why_refused(signature, &algorithm, &payload));
            continue;
        }
        let altered = altered(&compact);
        assert!(altered.iter().all(|altered| !trust.accepts(altered)), "{file}");
        count.accepted += 1;
        count.refused += altered.len();
    }
    count
}

fn why_refused(signature: &Value, algorithm: &str, payload: &str) -> String {
    match (algorithm, payload) {
        ("", _) => "without a protected alg".to_owned(),
        (_, "") => "detached".to_owned(),
        (_, payload) if URL_SAFE_NO_PAD.decode(payload).is_err() => "with a payload that is not encoded".to_owned(),
        (algorithm, _) if !OURS.contains(&algorithm) => algorithm.to_owned(),
        _ if signature["header"]["kid"].is_string() => "with a kid that is not protected".to_owned(),
        _ => panic!("refused: {signature}"),
    }
}

fn public(jwk: &Value) -> Value {
    let mut jwk = jwk.clone();
    jwk.as_object_mut().unwrap().retain(|name, _| !["d", "p", "q", "dp", "dq", "qi"].contains(&name.as_str()));
    jwk
}

/// Returns the token with another header, payload and signature.
fn altered(compact: &str) -> [String; 3] {
    let parts: Vec<&str> = compact.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("{compact}") };
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    bytes[10] ^= 1;
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let spaced = [&URL_SAFE_NO_PAD.decode(header).unwrap()[..], b" "].concat();
    [
        format!("{}.{payload}.{signature}", encode(&spaced)),
        format!("{header}.{}.{signature}", encode(b"another")),
        format!("{header}.{payload}.{}", encode(&bytes)),
    ]
}

/// The claims of RFC 7515 appendix A.
const CLAIMS: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

#[test]
fn the_examples_of_rfc_7515_and_rfc_8037_are_accepted_and_no_others() {
    let jwk = |text: &str| public(&serde_json::from_str(text).unwrap());
    let secret = json!({
        "kty": "oct", "alg": "HS256",
        "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
    });
    let rsa = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUA\
               r7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--x\
               i12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypG\
               lUPQGe77Rw";
    let (rfc_7515_a_2, rfc_7515_a_3) =
        (include_str!("../../tests/keys/rfc7515-a2.public.jwk"), include_str!("../../tests/keys/rfc7515-a3.jwk"));
    let rfc_8037 = include_str!("../../tests/keys/rfc8037-a1.jwk");
    let good = [
        (
            secret,
            format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{CLAIMS}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        ),
        (jwk(rfc_7515_a_2), format!("eyJhbGciOiJSUzI1NiJ9.{CLAIMS}.{rsa}")),
        (
            jwk(rfc_7515_a_3),
            format!(
                "eyJhbGciOiJFUzI1NiJ9.{CLAIMS}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
            ),
        ),
        (
            jwk(rfc_8037),
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQ\
            R6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
                .to_owned(),
        ),
    ];
    // RFC 7515 A.4 uses an unsupported algorithm, and A.5 uses none.
    let es512 = "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KG\
                 DKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn";
    let unsigned = format!("eyJhbGciOiJub25lIn0.{CLAIMS}.");
    for (key, token) in &good {
        let trust = Trust::in_jwks(key);
        let payload = token.split('.').nth(1).unwrap();
        assert_eq!(trust.proven(token).unwrap(), URL_SAFE_NO_PAD.decode(payload).unwrap(), "{token}");
        let others = good.iter().map(|(_, other)| other.clone()).filter(|other| other != token);
        for bad in altered(token).into_iter().chain(others).chain([es512.to_owned(), unsigned.clone()]) {
            assert!(!trust.accepts(&bad), "{bad}");
        }
    }
}

/// RFC 7638 §3.1, RFC 8037 §A.3.
#[test]
fn a_key_has_the_thumbprint_of_the_rfcs() {
    for (jwk, thumbprint) in [
        (include_str!("../../tests/keys/rfc7517-a2-rsa.jwk"), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"),
        (include_str!("../../tests/keys/rfc8037-a1.jwk"), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"),
    ] {
        let public = public(&serde_json::from_str(jwk).unwrap());
        assert_eq!(VerifyingKey::from_jwk(public.to_string()).unwrap().key_id(), thumbprint);
    }
}
