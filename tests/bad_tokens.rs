//! Every known kind of bad token, sent to a protected route: refused, with the same text, and for its own reason. Each row
//! changes one part of an otherwise valid token.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use std::collections::HashSet;
use std::fmt::Display;

use common::forge::{self, Draft, good};
use common::stack::on_every_stack;
use common::{API, ISSUER, KEY, NOW, OTHER_API, clock};
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use rsa::rand_core::OsRng;
use rsa::traits::PublicKeyParts as _;
use rsa::{BigUint, Pkcs1v15Sign, Pss, RsaPrivateKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use tower_client_credentials::keys::{KeySet, VerifyingKey};
use tower_client_credentials::verification::{InvalidToken, TokenProfile};
use tower_client_credentials::{AuthorizationServer, BearerAuthLayer, KeyRing, MemoryStore, SigningKey, Verifier};

/// A token, and the reason of its refusal.
struct Row {
    name: String,
    token: String,
    reason: InvalidToken,
}

fn row(reason: InvalidToken, name: impl Into<String>, token: impl Into<String>) -> Row {
    Row { name: name.into(), token: token.into(), reason }
}

/// A row for each value, named after it.
fn each<V: Display>(
    reason: InvalidToken,
    name: &str,
    values: impl IntoIterator<Item = V>,
    token: impl Fn(&V) -> String,
) -> Vec<Row> {
    values.into_iter().map(|value| row(reason, format!("{name} {value:.70}"), token(&value))).collect()
}

fn table() -> Vec<Row> {
    let sections: [fn() -> Vec<Row>; 17] = [
        forms,
        encodings,
        headers,
        types,
        critical_extensions,
        keys_brought_along,
        key_names,
        algorithms,
        shared_secrets,
        ecdsa_signatures,
        eddsa_signatures,
        rsa_signatures,
        missing_claims,
        claims_of_another_type,
        claims_out_of_shape,
        claims_that_do_not_hold,
        bound_tokens,
    ];
    sections.into_iter().flat_map(|section| section()).collect()
}

/// RFC 7515 §7.1.
fn forms() -> Vec<Row> {
    let token = good().sign();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (_, without_header) = token.split_once('.').unwrap();
    let bad = |name, token: String| row(InvalidToken::Malformed, name, token);
    vec![
        bad("one part", "a".into()),
        bad("dots alone", "...".into()),
        bad("no signature, and no dot before it", signed.into()),
        bad("no dot between header and claims", token.replacen('.', "", 1)),
        bad("a dot at the end", format!("{token}.")),
        bad("a dot in front", format!(".{token}")),
        bad("an empty part in the middle", format!("{signed}..{signature}")),
        bad("the signature twice", format!("{token}.{signature}")),
        bad("five parts, as a JWE has them", format!("{token}.{signed}")),
        row(InvalidToken::Header, "an empty header", format!(".{without_header}")),
        row(InvalidToken::TooLong, "more than 16 KiB", good().claim("long", "a".repeat(12 * 1024)).sign()),
    ]
}

/// base64url without padding, strictly (RFC 7515 §2).
fn encodings() -> Vec<Row> {
    let token = good().sign();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    // 64 bytes leave four bits over in the last character, which must be zero.
    let (most, last) = signature.split_at(signature.len() - 1);
    let stray_bits = char::from(last.bytes().next().unwrap() + 1);
    let bad = |name, token: String| row(InvalidToken::Malformed, name, token);
    vec![
        bad("padding", format!("{token}=")),
        bad("twice the padding", format!("{token}==")),
        bad("a tilde at the end", format!("{signed}.{signature}~")),
        bad("a plus at the end", format!("{signed}.{signature}+")),
        bad("a slash in front of the signature", format!("{signed}./{signature}")),
        bad("a tilde in front of the header", format!("~{token}")),
        bad("a signature in the alphabet of plain base64", format!("{signed}.+/{}", &signature[2..])),
        bad("stray bits in the last character", format!("{signed}.{most}{stray_bits}")),
        bad("a signature of a length that base64 does not have", format!("{signed}.{most}AAAA")),
    ]
}

/// RFC 7515 §4: a JSON object with unique names.
fn headers() -> Vec<Row> {
    let text = good().header;
    let twice = |member: &str| text.replacen('{', &format!("{{{member},"), 1);
    let texts = [
        "[]".into(),
        "null".into(),
        "\"ES256\"".into(),
        "{".into(),
        "{}".into(),
        format!("[{text}]"),
        format!("{text}x"),
        format!("\u{feff}{text}"),
        format!(" {text}"),
        text.replace('"', "'"),
        twice(r#""alg":"ES256""#),
        twice(r#""alg":"none""#),
        twice(r#""typ":"JWT""#),
        twice(r#""k\u0069d":"x""#),
        "[".repeat(5_000),
    ];
    let with = |header: &String| Draft { header: header.clone(), ..good() }.sign();
    let mut rows = each(InvalidToken::Header, "the header", texts, with);
    rows.push(row(InvalidToken::Header, "no alg", good().without_header("alg").sign()));
    for name in ["alg", "typ", "kid"] {
        let values = [json!(5), json!(null), json!(["ES256"]), json!({})];
        rows.extend(each(InvalidToken::Header, name, values, |value| good().header(name, value.clone()).sign()));
    }
    rows
}

/// RFC 9068 §4.
fn types() -> Vec<Row> {
    let others = [
        "JWT",
        "jwt",
        "at",
        "id+jwt",
        "logout+jwt",
        "at+jwt;x",
        "application/jwt",
        "application/application/at+jwt",
        "",
    ];
    let mut rows = each(InvalidToken::Type, "typ", others, |typ| good().header("typ", *typ).sign());
    rows.push(row(InvalidToken::Type, "no typ", good().without_header("typ").sign()));
    rows
}

/// RFC 7515 §4.1.11: we support no extension.
fn critical_extensions() -> Vec<Row> {
    let values = [json!(["exp"]), json!(["b64"]), json!(["alg"]), json!([]), json!(null), json!("exp"), json!(false)];
    let mut rows = each(InvalidToken::Critical, "crit", values, |value| good().header("crit", value.clone()).sign());
    let unencoded = good().header("b64", false).header("crit", json!(["b64"]));
    rows.push(row(InvalidToken::Critical, "b64 of RFC 7797", unencoded.sign()));
    rows
}

/// RFC 8725 §3.10: the verifier chooses the key.
fn keys_brought_along() -> Vec<Row> {
    let point = p256::ecdsa::VerifyingKey::from(&forge::foreign_key()).to_encoded_point(false);
    let jwk = json!({
        "kty": "EC", "crv": "P-256", "x": forge::encode(point.x().unwrap()), "y": forge::encode(point.y().unwrap()),
    });
    let foreign = forge::foreign_key();
    let bad = |name, token: String| row(InvalidToken::ForeignKey, name, token);
    vec![
        bad("a jwk with a valid signature", good().header("jwk", jwk.clone()).sign()),
        bad("a jwk that the signature is of", good().header("jwk", jwk.clone()).sign_with(&foreign)),
        bad("a jwk and no kid", good().header("jwk", jwk).without_header("kid").sign_with(&foreign)),
        bad("a jku", good().header("jku", "https://evil.example/keys").sign()),
        bad("a jku within the network", good().header("jku", "http://169.254.169.254/").sign_with(&foreign)),
        bad("an x5u", good().header("x5u", "https://evil.example/chain").sign()),
        bad("a jku that is null", good().header("jku", Value::Null).sign()),
    ]
}

fn key_names() -> Vec<Row> {
    let known = forge::key_id();
    let others = [
        "other".to_owned(),
        String::new(),
        known.to_lowercase(),
        format!("{known} "),
        known[..known.len() - 1].to_owned(),
        "../../dev/null".to_owned(),
        "' OR 1=1 --".to_owned(),
        "\u{0}".to_owned(),
        "k".repeat(4_000),
    ];
    let mut rows = each(InvalidToken::UnknownKey, "kid", others, |kid| good().header("kid", kid.as_str()).sign());
    let stranger = forge::foreign_key();
    rows.push(row(InvalidToken::UnknownKey, "a kid of its own", good().header("kid", "x").sign_with(&stranger)));
    rows.push(row(InvalidToken::UnknownKey, "no kid", good().without_header("kid").sign()));
    rows
}

/// RFC 8725 §3.1: the key determines the algorithm.
fn algorithms() -> Vec<Row> {
    let wrong = InvalidToken::Algorithm;
    let unsigned =
        each(wrong, "alg, unsigned,", ["none", "None", "NONE", "nOnE", ""], |alg| good().header("alg", *alg).seal(""));
    let others = ["ES384", "ES512", "RS256", "PS256", "EdDSA", "Ed25519", "ES256K", "es256", "HS256", "none", "A256KW"];
    let of_p256 = each(wrong, "alg under a key for ES256", others, |alg| good().header("alg", *alg).sign());
    let others = ["ES256", "HS256", "RS256", "Ed448", "X25519", "eddsa"];
    let of_ed25519 = each(wrong, "alg under a key for EdDSA", others, |alg| eddsa(&under(&ed25519(), alg)));
    let others = ["RS1", "RS384", "RS512", "PS256", "HS256", "ES256", "RSA1_5"];
    let of_rsa = each(wrong, "alg under a key for RS256", others, |alg| rs256(&under(&rsa(), alg)));
    [unsigned, of_p256, of_ed25519, of_rsa].into_iter().flatten().collect()
}

/// RFC 8725 §2.1: a verifier that uses a public key as a shared secret accepts tokens that anyone can sign.
fn shared_secrets() -> Vec<Row> {
    let public = p256::ecdsa::VerifyingKey::from(&forge::signing_key());
    let der = p256::PublicKey::from(&public).to_public_key_der().unwrap();
    let pem = p256::PublicKey::from(&public).to_public_key_pem(LineEnding::LF).unwrap();
    let hs256 =
        |name, secret: &[u8]| row(InvalidToken::Algorithm, name, good().header("alg", "HS256").sign_hs256(secret));
    vec![
        hs256("HS256 with the public key in DER", der.as_bytes()),
        hs256("HS256 with the public key in PEM", pem.as_bytes()),
        hs256("HS256 with the public key in PEM, trimmed", pem.trim_end().as_bytes()),
        hs256("HS256 with the public point", &public.to_sec1_bytes()),
        hs256("HS256 with the private key in PEM", KEY.as_bytes()),
        hs256("HS256 with no secret", b""),
        hs256("HS256 with RSA's public key", RSA_PEM.as_bytes()),
        row(InvalidToken::Signature, "an HMAC that calls itself ES256", good().sign_hs256(pem.as_bytes())),
    ]
}

/// RFC 7518 §3.4: R and S, each as wide as the curve.
fn ecdsa_signatures() -> Vec<Row> {
    const ORDER: [u8; 32] = [
        0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xBC, 0xE6, 0xFA, 0xAD,
        0xA7, 0x17, 0x9E, 0x84, 0xF3, 0xB9, 0xCA, 0xC2, 0xFC, 0x63, 0x25, 0x51,
    ];
    let token = good().sign();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = forge::decode(signature);
    let (r, s) = signature.split_at(32);
    let flipped = |at: usize| [&signature[..at], &[signature[at] ^ 1], &signature[at + 1..]].concat();
    let der = p256::ecdsa::Signature::from_slice(&signature).unwrap().to_der();
    let wide: p384::ecdsa::Signature = p384_key().sign(good().signed_part().as_bytes());
    let bad = |name, signature: &[u8]| row(InvalidToken::Signature, name, good().seal(signature));
    let own = |name, token: String| row(InvalidToken::Signature, name, token);
    let es384 = under(&p384(), "ES384");
    let short: p256::ecdsa::Signature = forge::signing_key().sign(es384.signed_part().as_bytes());
    let narrow: p384::ecdsa::Signature = p384_key().sign_prehash(&Sha256::digest(es384.signed_part())).unwrap();
    vec![
        own("no signature", format!("{signed}.")),
        own("the signature of an untrusted key", good().sign_with(&forge::foreign_key())),
        own("other claims with a valid signature", good().claim("scope", "admin").seal(&signature)),
        own("another header with a valid signature", good().header("x", 1).seal(&signature)),
        bad("a bit of R flipped", &flipped(5)),
        bad("a bit of S flipped", &flipped(40)),
        bad("the last bit flipped", &flipped(63)),
        bad("a byte less", &signature[..63]),
        bad("a byte more", &[&signature[..], &[0]].concat()),
        bad("a zero in front", &[&[0], &signature[..]].concat()),
        bad("R alone", r),
        bad("R and S swapped", &[s, r].concat()),
        bad("R and S in DER", der.as_bytes()),
        bad("R and S of zero (CVE-2022-21449)", &[0; 64]),
        bad("R of zero", &[&[0; 32], s].concat()),
        bad("S of zero", &[r, &[0; 32]].concat()),
        bad("R of the order", &[&ORDER[..], s].concat()),
        bad("S of the order", &[r, &ORDER[..]].concat()),
        bad("nothing but ones", &[0xFF; 64]),
        bad("a signature on P-384", &wide.to_bytes()),
        own("a signature on P-256 under a key on P-384", es384.seal(short.to_bytes())),
        own("ES384 over SHA-256", es384.seal(narrow.to_bytes())),
        own("ES384 of zero", es384.seal([0; 96])),
    ]
}

/// RFC 8032 §5.1.7.
fn eddsa_signatures() -> Vec<Row> {
    let draft = under(&ed25519(), "EdDSA");
    let signature = ed25519_key().sign(draft.signed_part().as_bytes()).to_bytes();
    let (r, s) = signature.split_at(32);
    let flipped = |at: usize| [&signature[..at], &[signature[at] ^ 1], &signature[at + 1..]].concat();
    let stranger = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let other = under(&ed25519(), "EdDSA").claim("scope", "admin");
    let bad = |name, signature: &[u8]| row(InvalidToken::Signature, name, draft.seal(signature));
    vec![
        bad("EdDSA: no signature", &[]),
        bad("EdDSA: a bit of R flipped", &flipped(3)),
        bad("EdDSA: a bit of S flipped", &flipped(33)),
        bad("EdDSA: a byte less", &signature[..63]),
        bad("EdDSA: a byte more", &[&signature[..], &[0]].concat()),
        bad("EdDSA: S beyond the order, which is the same number", &[r, &plus_order(s)].concat()),
        bad("EdDSA: nothing but zeros", &[0; 64]),
        bad("EdDSA: R of small order and S of zero", &[&[1][..], &[0; 63]].concat()),
        bad("EdDSA: of an untrusted key", &stranger.sign(draft.signed_part().as_bytes()).to_bytes()),
        row(InvalidToken::Signature, "EdDSA: other claims", other.seal(signature)),
        row(InvalidToken::Signature, "EdDSA: called Ed25519, and spoilt", under(&ed25519(), "Ed25519").seal(signature)),
    ]
}

/// S + L (RFC 8032 §5.1), little-endian: a verifier that does not check the range accepts it for S.
fn plus_order(s: &[u8]) -> Vec<u8> {
    const ORDER: &str = "7237005577332262213973186563042994240857116359379907606001950938285454250989";
    let sum = BigUint::from_bytes_le(s) + BigUint::parse_bytes(ORDER.as_bytes(), 10).unwrap();
    let mut bytes = sum.to_bytes_le();
    bytes.resize(32, 0);
    bytes
}

/// RFC 8017 §8.2.2.
fn rsa_signatures() -> Vec<Row> {
    let draft = under(&rsa(), "RS256");
    let message = draft.signed_part();
    let key = rsa_key();
    let over = |scheme, hash: &[u8]| key.sign(scheme, hash).unwrap();
    let good = pkcs1(&key, &message);
    let pss = key.sign_with_rng(&mut OsRng, Pss::new::<Sha256>(), &Sha256::digest(&message)).unwrap();
    let beyond = (BigUint::from_bytes_be(&good) + key.n()).to_bytes_be();
    let flipped = [&good[..100], &[good[100] ^ 1], &good[101..]].concat();
    let ps256_without_salt = Pss::new_with_salt::<Sha256>(0);
    let ps256 = under(&rsa_pss(), "PS256");
    let digest = Sha256::digest(ps256.signed_part());
    let saltless = other_rsa_key().sign_with_rng(&mut OsRng, ps256_without_salt, &digest).unwrap();
    let bad = |name, signature: &[u8]| row(InvalidToken::Signature, name, draft.seal(signature));
    vec![
        bad("RS256: no signature", &[]),
        bad("RS256: a bit flipped", &flipped),
        bad("RS256: a byte less", &good[..255]),
        bad("RS256: a byte more", &[&good[..], &[0]].concat()),
        bad("RS256: a zero in front", &[&[0], &good[..]].concat()),
        bad("RS256: the modulus added, which is the same number", &beyond),
        bad("RS256: zero", &[0; 256]),
        bad("RS256: one", &[&[0; 255][..], &[1]].concat()),
        bad("RS256: the modulus itself", &key.n().to_bytes_be()),
        bad("RS256: over SHA-384", &over(Pkcs1v15Sign::new::<Sha384>(), &Sha384::digest(&message))),
        bad("RS256: over SHA-512", &over(Pkcs1v15Sign::new::<Sha512>(), &Sha512::digest(&message))),
        bad("RS256: without the name of the hash", &over(Pkcs1v15Sign::new_unprefixed(), &Sha256::digest(&message))),
        bad("RS256: padded as PS256", &pss),
        bad("RS256: of another key", &pkcs1(&other_rsa_key(), &message)),
        row(
            InvalidToken::Signature,
            "PS256: padded as RS256",
            ps256.seal(pkcs1(&other_rsa_key(), &ps256.signed_part())),
        ),
        row(InvalidToken::Signature, "PS256: without salt", ps256.seal(saltless)),
        row(InvalidToken::Signature, "PS256: zero", ps256.seal([0; 256])),
    ]
}

const TEXTS: [&str; 5] = ["iss", "sub", "aud", "client_id", "jti"];
const TIMES: [&str; 2] = ["iat", "exp"];

/// RFC 9068 §2.2.
fn missing_claims() -> Vec<Row> {
    let names = || TEXTS.into_iter().chain(TIMES);
    let missing = each(InvalidToken::Claims, "no", names(), |name| good().without_claim(name).sign());
    let null = each(InvalidToken::Claims, "null as", names(), |name| good().claim(name, Value::Null).sign());
    missing.into_iter().chain(null).collect()
}

fn claims_of_another_type() -> Vec<Row> {
    let mut values = Vec::new();
    for name in TEXTS.into_iter().chain(["scope"]) {
        values.extend([json!(5), json!(true), json!({})].map(|value| (name, value)));
    }
    values.extend(["iss", "sub", "client_id", "jti", "scope"].map(|name| (name, json!(["billing"]))));
    for (name, time) in [("iat", NOW), ("nbf", NOW), ("exp", NOW + 600)] {
        let times = [json!(time.to_string()), json!(-1), json!(u64::MAX), json!([time]), json!({}), json!(true)];
        values.extend(times.map(|value| (name, value)));
    }
    values.extend([
        ("sub", json!("")),
        ("client_id", json!("")),
        ("client_id", json!("b\u{e9}")),
        ("aud", json!([API, 5])),
        ("scope", json!("a\"b")),
    ]);
    let bad = |(name, value): (&str, Value)| {
        row(InvalidToken::Claims, format!("{name}: {value}"), good().claim(name, value).sign())
    };
    values.into_iter().map(bad).collect()
}

/// Forms that few JSON libraries would write: numbers out of range, duplicate names (RFC 7519 §4), no object.
fn claims_out_of_shape() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, time) in [("iat", NOW), ("nbf", NOW), ("exp", NOW + 600)] {
        let numbers =
            [format!("-{time}.5"), format!("{time}e3"), "1e999".to_owned(), "NaN".to_owned(), format!("{time}.")];
        let draft = good().claim(name, "MARKER");
        rows.extend(each(InvalidToken::Claims, name, numbers, |number| {
            draft.clone().claims_text(draft.claims.replace("\"MARKER\"", number)).sign()
        }));
    }
    let text = good().claim("tenant", "acme").claims;
    let twice = [
        format!(r#""iss":"{ISSUER}""#),
        r#""sub":"billing""#.to_owned(),
        format!(r#""aud":"{API}""#),
        format!(r#""exp":{}"#, NOW + 600),
        format!(r#""iat":{NOW}"#),
        r#""scope":"invoices:read""#.to_owned(),
        r#""tenant":"acme""#.to_owned(),
        r#""ten\u0061nt":"acme""#.to_owned(),
    ];
    rows.extend(each(InvalidToken::Claims, "twice", twice, |claim| {
        good().claims_text(text.replacen('{', &format!("{{{claim},"), 1)).sign()
    }));
    let texts = ["", "null", "[]", "\"billing\"", "{", &format!("{text}x"), &format!("[{text}]"), &"[".repeat(9_000)]
        .map(str::to_owned);
    rows.extend(each(InvalidToken::Claims, "the claims", texts, |claims| good().claims_text(claims.as_str()).sign()));
    rows.push(row(InvalidToken::Claims, "claims that are no UTF-8", {
        let signed = format!("{}.{}", forge::encode(good().header), forge::encode(b"{\"iss\":\"\xff\"}"));
        let signature: p256::ecdsa::Signature = forge::signing_key().sign(signed.as_bytes());
        format!("{signed}.{}", forge::encode(signature.to_bytes()))
    }));
    rows
}

/// RFC 9068 §4.
fn claims_that_do_not_hold() -> Vec<Row> {
    let issuers = ["https://evil.example", "https://auth.example.com/", "https://AUTH.example.com", ""];
    let issuers = each(InvalidToken::Issuer, "iss", issuers, |issuer| good().claim("iss", *issuer).sign());
    let audiences = [
        json!(OTHER_API),
        json!("https://api.example.com/"),
        json!("https://api.example.com.evil.example"),
        json!("HTTPS://api.example.com"),
        json!("billing"),
        json!(""),
        json!([]),
        json!([OTHER_API, "billing"]),
    ];
    let audiences = each(InvalidToken::Audience, "aud", audiences, |aud| good().claim("aud", aud.clone()).sign());
    let old = good().claim("iat", NOW - 4_000);
    let expired = each(InvalidToken::Expired, "exp, seconds ago,", [5, 6, 3_600, NOW], |ago| {
        old.clone().claim("exp", NOW - ago).sign()
    });
    let ahead = ["nbf", "iat"].into_iter().flat_map(|name| {
        let name_of_row = format!("{name}, seconds ahead,");
        each(InvalidToken::NotYetValid, &name_of_row, [6, 3_600], |secs| good().claim(name, NOW + secs).sign())
    });
    [issuers, audiences, expired].into_iter().flatten().chain(ahead).collect()
}

/// RFC 9449 §7.2, RFC 8705 §3: we do not check that the caller has the key or the certificate.
fn bound_tokens() -> Vec<Row> {
    let bindings = [
        json!({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}),
        json!({"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}),
        json!({"jwk": {"kty": "EC"}}),
        json!({}),
        json!([]),
        json!("key"),
        json!(5),
        json!(false),
        Value::Null,
    ];
    let mut rows = each(InvalidToken::Bound, "cnf", bindings, |cnf| good().claim("cnf", cnf.clone()).sign());
    let escaped = good().claim("cnf", json!({})).claims.replace("\"cnf\"", "\"c\\u006ef\"");
    rows.push(row(InvalidToken::Bound, "cnf, escaped", good().claims_text(escaped).sign()));
    rows
}

/// A token that is valid except for its signature, under another trusted key of the server.
fn under(key: &VerifyingKey, alg: &str) -> Draft {
    good().header("kid", key.key_id()).header("alg", alg)
}

fn eddsa(draft: &Draft) -> String {
    draft.seal(ed25519_key().sign(draft.signed_part().as_bytes()).to_bytes())
}

fn es384(draft: &Draft) -> String {
    let signature: p384::ecdsa::Signature = p384_key().sign(draft.signed_part().as_bytes());
    draft.seal(signature.to_bytes())
}

fn rs256(draft: &Draft) -> String {
    draft.seal(pkcs1(&rsa_key(), &draft.signed_part()))
}

fn ps256(draft: &Draft) -> String {
    let digest = Sha256::digest(draft.signed_part());
    draft.seal(other_rsa_key().sign_with_rng(&mut OsRng, Pss::new::<Sha256>(), &digest).unwrap())
}

fn pkcs1(key: &RsaPrivateKey, message: &str) -> Vec<u8> {
    key.sign(Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(message)).unwrap()
}

fn ed25519_key() -> ed25519_dalek::SigningKey {
    ed25519_dalek::SigningKey::from_pkcs8_pem(include_str!("keys/ed25519.pem")).unwrap()
}

fn p384_key() -> p384::ecdsa::SigningKey {
    p384::ecdsa::SigningKey::from_pkcs8_pem(include_str!("keys/p384.pem")).unwrap()
}

fn rsa_key() -> RsaPrivateKey {
    RsaPrivateKey::from_pkcs8_pem(include_str!("keys/rsa2048.pem")).unwrap()
}

/// RFC 7517 §A.2.
fn other_rsa_key() -> RsaPrivateKey {
    let jwk: Value = serde_json::from_str(include_str!("keys/rfc7517-a2-rsa.jwk")).unwrap();
    let number = |name: &str| BigUint::from_bytes_be(&forge::decode(jwk[name].as_str().unwrap()));
    let primes = vec![number("p"), number("q")];
    RsaPrivateKey::from_components(number("n"), number("e"), number("d"), primes).unwrap()
}

fn ed25519() -> VerifyingKey {
    VerifyingKey::from_pem(include_str!("keys/ed25519.pub.pem")).unwrap()
}

fn p384() -> VerifyingKey {
    VerifyingKey::from_pem(include_str!("keys/p384.pub.pem")).unwrap()
}

fn rsa() -> VerifyingKey {
    VerifyingKey::from_pem(RSA_PEM).unwrap()
}

const RSA_PEM: &str = include_str!("keys/rsa2048.pub.pem");

/// The other RSA key, only for PS256.
fn rsa_pss() -> VerifyingKey {
    let key = other_rsa_key();
    let [n, e] = [key.n(), key.e()].map(|number| forge::encode(number.to_bytes_be()));
    VerifyingKey::from_jwk(json!({"kty": "RSA", "alg": "PS256", "n": n, "e": e}).to_string()).unwrap()
}

/// A server that trusts a key of each type.
fn server() -> AuthorizationServer {
    let keys =
        [ed25519(), p384(), rsa(), rsa_pss()].into_iter().fold(KeyRing::from_pem(KEY).unwrap(), KeyRing::also_trust);
    AuthorizationServer::builder(ISSUER, keys, MemoryStore::default()).clock(clock()).build().unwrap()
}

#[tokio::test]
async fn each_is_refused_with_the_same_text_and_for_its_own_reason() {
    let table = table();
    let names: HashSet<&str> = table.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names.len(), table.len(), "row names are unique");
    assert!(table.len() >= 80);
    println!("{} bad tokens", table.len());
    let server = server();
    on_every_stack(async |stack| {
        let site = stack.protect(&server, [BearerAuthLayer::new(server.verifier(API).unwrap())]).await;
        for Row { name, token, reason } in &table {
            println!("{}", name.escape_debug());
            // The second time, a cache might have stored it.
            for _ in 0..2 {
                site.get_authorized(&format!("Bearer {token}")).await.assert_invalid_token(reason);
            }
        }
    })
    .await;
}

/// Otherwise the table would be refused regardless of its changes.
#[tokio::test]
async fn the_base_tokens_of_the_rows_are_valid() {
    let server = server();
    let good_ones = [
        good().sign(),
        eddsa(&under(&ed25519(), "EdDSA")),
        eddsa(&under(&ed25519(), "Ed25519")),
        es384(&under(&p384(), "ES384")),
        rs256(&under(&rsa(), "RS256")),
        ps256(&under(&rsa_pss(), "PS256")),
    ];
    on_every_stack(async |stack| {
        let site = stack.protect(&server, [BearerAuthLayer::new(server.verifier(API).unwrap())]).await;
        for token in &good_ones {
            let answer = site.get_authorized(&format!("Bearer {token}")).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    })
    .await;
}

fn keys() -> KeySet {
    KeySet::from([SigningKey::from_pem(KEY).unwrap().verifying_key()])
}

/// Returns the operator's text about a token that a verifier with this profile refuses.
fn told(profile: Option<TokenProfile>, token: &str) -> String {
    let verifier = Verifier::with_keys(ISSUER, API, keys()).unwrap().clock(clock());
    let verifier = profile.into_iter().fold(verifier, Verifier::tokens);
    let error = verifier.verify_now(token).unwrap_err();
    assert!(!error.to_string().contains(token) && !format!("{error:?}").contains(token), "{error:?}");
    error.to_string()
}

#[test]
#[allow(clippy::too_many_lines)] // a table
fn the_operator_reads_the_value_found_the_value_expected_and_the_setting_that_accepts_it() {
    let own_client = || TokenProfile::default().client_id_in(["azp", "appid"]);
    for (profile, draft, text) in [
        (
            None,
            good().header("typ", "JWT"),
            r#"its type is not that of a bearer access token: `typ` is "JWT", expected `at+jwt` (RFC 9068 §4); `TokenProfile::jwt_type` accepts `JWT` and an absent `typ`"#,
        ),
        (
            None,
            good().without_header("typ"),
            "its type is not that of a bearer access token: `typ` is absent, expected `at+jwt` (RFC 9068 §4); `TokenProfile::jwt_type` accepts `JWT` and an absent `typ`",
        ),
        (
            None,
            good().header("typ", "dpop+jwt"),
            r#"its type is not that of a bearer access token: `typ` is "dpop+jwt", expected `at+jwt` (RFC 9068 §4); no setting accepts this type"#,
        ),
        (
            None,
            good().header("typ", "a\n\"very\u{202e} long type"),
            r#"its type is not that of a bearer access token: `typ` is "a\n\"very\u{202e} lo"…, expected `at+jwt` (RFC 9068 §4); no setting accepts this type"#,
        ),
        (
            None,
            good().header("kid", "another"),
            r#"its key is unknown: `kid` is "another", expected the name of a key in the issuer's key set; add the key to the set to accept it"#,
        ),
        (
            None,
            good().header("alg", "RS256"),
            r#"its algorithm differs from that of its key: `alg` is "RS256", expected "ES256"; the key determines the algorithm, not the token (RFC 8725 §3.1); trust a key of this algorithm to accept it"#,
        ),
        (
            None,
            good().header("jku", "https://evil.example"),
            "its header contains a key or the URL of one: `jku` is present, expected only `kid` with the name of a trusted key; `TokenProfile::ignore_foreign_keys` accepts and ignores it",
        ),
        (
            None,
            good().header("crit", json!(["b64"])),
            "its header requires a critical extension: `crit` is present, and no setting accepts that (RFC 7515 §4.1.11)",
        ),
        (
            None,
            good().claim("iss", "https://auth.example.com/"),
            r#"it is from another issuer: `iss` is "https://auth.example.com/", expected "https://auth.example.com", compared character by character; give the verifier this issuer to accept it"#,
        ),
        (
            None,
            good().claim("aud", json!([OTHER_API, "b"])),
            r#"it is for another audience: `aud` is ["https://other.example.com", "b"], expected "https://api.example.com" in it, compared character by character; give the verifier this audience, or name it with `TokenProfile::audience_named`, to accept it"#,
        ),
        (
            None,
            good().claim("aud", vec!["a"; 9]),
            r#"it is for another audience: `aud` is ["a", "a", "a", "a", …], expected "https://api.example.com" in it, compared character by character; give the verifier this audience, or name it with `TokenProfile::audience_named`, to accept it"#,
        ),
        (
            Some(TokenProfile::default().audience_named(["api"])),
            good(),
            r#"it is for another audience: `aud` is ["https://api.example.com"], expected one of ["api"]; `TokenProfile::audience_named` adds another"#,
        ),
        (
            Some(TokenProfile::default().clients_instead_of_audience(["reports"])),
            good(),
            r#"it is for another audience: the client is "billing", expected one of ["reports"]; `TokenProfile::clients_instead_of_audience` adds another"#,
        ),
        (
            None,
            good().claim("exp", NOW - 60).claim("iat", NOW - 90),
            "it has expired: `exp` is 1699999940, 60 s before now (1700000000), expected less than 5 s before now; `Verifier::leeway` sets how far it may be",
        ),
        (
            None,
            good().claim("nbf", NOW + 60),
            "it is not valid yet: `nbf` is 1700000060, 60 s after now (1700000000), expected at most 5 s after now; `Verifier::leeway` sets how far it may be",
        ),
        (
            None,
            good().claim("cnf", json!({"jkt": "secret"})),
            "it is bound to a key or certificate, which is not checked here: `cnf` is present, expected no `cnf` (RFC 7800): nothing here checks that the caller has the key or certificate; `TokenProfile::dangerous_accept_bound_tokens` accepts it without that check",
        ),
        (
            None,
            good().without_claim("jti"),
            "invalid claims for a JWT access token: `jti` is absent, expected a string; `TokenProfile::without_token_id` accepts tokens without it",
        ),
        (
            None,
            good().without_claim("client_id"),
            r#"invalid claims for a JWT access token: each of the claims ["client_id"] is absent, expected one of them to name the client; `TokenProfile::client_id_in` names another claim"#,
        ),
        (
            Some(own_client()),
            good().claim("appid", json!(["a", "b"])),
            "invalid claims for a JWT access token: `appid` is an array, expected one client id of 1 to 255 printable ASCII characters; `TokenProfile::client_id_in` names another claim",
        ),
        (
            None,
            good().without_claim("sub"),
            "invalid claims for a JWT access token: `sub` is absent, expected a non-empty string; `TokenProfile::without_subject` accepts tokens without it",
        ),
        (
            None,
            good().claim("iss", json!(["x"])),
            "invalid claims for a JWT access token: `iss` is an array, expected a non-empty string; `TokenProfile::without_token_issuer` accepts tokens without it",
        ),
        (
            None,
            good().without_claim("aud"),
            "invalid claims for a JWT access token: `aud` is absent, expected a string or an array of strings; `TokenProfile::clients_instead_of_audience` accepts tokens without it",
        ),
        (
            None,
            good().claim("iat", "yesterday"),
            r#"invalid claims for a JWT access token: `iat` is "yesterday", expected a number of seconds since 1970, before the year 10,000 (RFC 7519 §2); no setting accepts tokens without it"#,
        ),
        (
            None,
            good().claim("scope", json!({"a": 1})),
            "invalid claims for a JWT access token: `scope` is an object, expected scopes in a string, separated by spaces, or in an array (RFC 6749 §3.3); `TokenProfile::scopes_in` names other claims",
        ),
        (
            Some(TokenProfile::default().require_claim("token_use", "access")),
            good().claim("token_use", "id"),
            r#"invalid claims for a JWT access token: `token_use` is "id", expected "access"; `TokenProfile::require_claim` requires it"#,
        ),
        (
            None,
            good().claims_text("[]"),
            "invalid claims for a JWT access token: the payload must be a JSON object with unique names (RFC 7519 §4)",
        ),
    ] {
        assert_eq!(told(profile, &draft.sign()), text, "{draft:?}");
    }
    let unsigned = "it is not a JWS in compact form: three parts in base64url, separated by dots (RFC 7515 §7.1)";
    assert_eq!(told(None, "garbage"), unsigned);
    let foreign = good().sign_with(&forge::foreign_key());
    assert_eq!(told(None, &foreign), "its signature does not match the key that `kid` names");
}

#[test]
fn the_operator_of_several_issuers_reads_which_of_them_a_token_could_be_from() {
    let other = Verifier::with_keys("https://other-issuer.example.com", API, keys()).unwrap();
    let both = Verifier::with_keys(ISSUER, API, keys()).unwrap().or(other).unwrap().clock(clock());
    let error = both.verify_now(&good().claim("iss", "https://evil.example\n").sign()).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"it is from another issuer: `iss` is "https://evil.example\n", expected one of ["https://auth.example.com", "https://other-issuer.example.com"], compared character by character; `Verifier::or` adds the verifier of another issuer"#
    );
}

#[test]
fn a_bound_token_is_accepted_only_with_a_dangerous_setting_by_every_profile() {
    for cnf in [json!({"jkt": "k"}), json!({"x5t#S256": "k"}), Value::Null] {
        let token = good().claim("cnf", cnf).sign();
        let strict = [
            TokenProfile::default(),
            TokenProfile::default().jwt_type().client_id_in(["client_id"]).without_token_id().without_subject(),
        ];
        for profile in strict {
            assert!(told(Some(profile.clone()), &token).contains("`TokenProfile::dangerous_accept_bound_tokens`"));
            let verifier = Verifier::with_keys(ISSUER, API, keys()).unwrap().clock(clock());
            let lenient = verifier.clone().tokens(profile.dangerous_accept_bound_tokens());
            assert!(lenient.verify_now(&token).is_ok() && lenient.verify_now(&token).is_ok());
            assert!(verifier.verify_now(&token).is_err(), "the settings of one issuer do not apply to the other");
        }
    }
}
