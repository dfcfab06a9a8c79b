//! Tests of [`Claims`].

use proptest::prelude::*;
use serde_json::{Value, json};

use super::Claims;
use super::members::Members;
use crate::text::Text;

fn good() -> Value {
    json!({"iss": "i", "sub": "s", "aud": "a", "client_id": "c", "iat": 1, "exp": 2, "jti": "j", "scope": "x y", "own": {"a": 1}})
}

fn parses(claims: &Value) -> bool {
    Claims::parse(claims.to_string().as_bytes(), &[]).is_some()
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = good();
    claims[name] = value;
    claims
}

#[test]
fn claims_of_rfc_9068_are_read() {
    let claims = Claims::parse(with("aud", json!(["a", "b"])).to_string().as_bytes(), &[]).unwrap();
    assert_eq!(*claims.audiences, ["a".into(), "b".into()]);
    assert_eq!(claims.scopes.as_str(), "x y");
    assert!(parses(&good()));
    let escaped = good().to_string().replace(r#""i""#, r#""\u0069""#).replace(r#""a""#, r#""\u0061""#);
    let claims = Claims::parse(escaped.as_bytes(), &[]).unwrap();
    assert_eq!((&*claims.issuer, &*claims.audiences), ("i", &["a".into()][..]));
}

#[test]
fn only_values_equal_to_the_usual_texts_share_their_memory() {
    let usual: [Text; 2] = ["i".into(), "a".into()];
    let shares = |text: &Text, with: &Text| std::ptr::eq(&raw const **text, &raw const **with);
    let claims = Claims::parse(good().to_string().as_bytes(), &[&usual[0], &usual[1]]).unwrap();
    assert!(shares(&claims.issuer, &usual[0]) && shares(&claims.audiences[0], &usual[1]));
    assert_eq!((&*claims.subject, claims.client_id.as_str()), ("s", "c"));
    let claims = Claims::parse(with("sub", json!("c")).to_string().as_bytes(), &[&usual[1]]).unwrap();
    assert_eq!((&*claims.issuer, &*claims.subject), ("i", "c"));
    assert!(shares(&claims.subject, claims.client_id.text()));
}

#[test]
fn each_required_claim_is_required() {
    for name in ["iss", "sub", "aud", "client_id", "iat", "exp", "jti"] {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(name);
        assert!(!parses(&claims), "{name}");
        assert!(!parses(&with(name, Value::Null)), "{name}");
        assert!(!parses(&with(name, json!({}))), "{name}");
        assert!(!parses(&with(name, json!(true))), "{name}");
    }
}

#[test]
fn claims_have_the_required_types_and_times_are_in_range() {
    for name in ["iss", "sub", "aud", "client_id", "jti", "scope"] {
        assert!(!parses(&with(name, json!(5))), "{name}");
    }
    for name in ["iat", "exp", "nbf"] {
        for value in [json!("1"), json!(-1), json!(-0.5), json!(1e12), json!(u64::MAX), json!([1]), Value::Null] {
            assert!(!parses(&with(name, value.clone())), "{name} {value}");
        }
        for value in [json!(7), json!(1.5), json!(1.0)] {
            assert!(parses(&with(name, value.clone())), "{name} {value}");
        }
    }
    assert!(!parses(&with("sub", json!(""))));
    assert!(!parses(&with("client_id", json!(""))));
    assert!(!parses(&with("aud", json!(["a", 5]))));
    assert!(!parses(&with("scope", json!("a\"b"))));
}

#[test]
fn fractional_times_are_rounded_to_shorten_the_lifetime() {
    let text = good().to_string();
    for (time, down, up) in [("1.5", 1, 2), ("2.0", 2, 2), ("2e0", 2, 2), ("25E-1", 2, 3), ("7", 7, 7)] {
        let text = text.replace(r#""exp":2"#, &format!(r#""exp":{time}"#));
        let text = text.replace(r#""iat":1"#, &format!(r#""iat":{time},"nbf":{time}"#));
        let claims = Claims::parse(text.as_bytes(), &[]).unwrap();
        let times = [Some(claims.expires_at), Some(claims.issued_at), claims.not_before];
        assert_eq!(times.map(|time| time.unwrap().as_secs()), [down, down, up], "{time}");
    }
}

#[test]
fn a_token_is_bound_if_cnf_is_present_with_any_value() {
    let bound = |text: &str| Claims::parse(text.as_bytes(), &[]).unwrap().bound;
    assert!(!bound(&good().to_string()) && !bound(&with("cnf2", json!("k")).to_string()));
    for value in [json!({"jkt": "k"}), json!({}), Value::Null, json!("k"), json!(5), json!([]), json!(false)] {
        assert!(bound(&with("cnf", value.clone()).to_string()), "{value}");
    }
    // On the fast path, and by serde_json with an escaped name.
    let plain = r#"{"iss":"i","sub":"s","aud":"a","client_id":"c","iat":1,"exp":2,"jti":"j","cnf":"k"}"#;
    assert!(Members::read_plain(plain).unwrap().bound && bound(plain));
    let escaped = plain.replace("cnf", r"\u0063nf");
    assert!(Members::read_plain(&escaped).is_none_or(|members| members.bound) && bound(&escaped));
}

#[test]
fn the_size_of_claims_counts_the_index_of_many_scopes() {
    let size = |scope: &str| Claims::parse(with("scope", json!(scope)).to_string().as_bytes(), &[]).unwrap().size();
    let many: Vec<String> = (0..3_000).map(|number| format!("s{number}")).collect();
    let many = many.join(" ");
    // At least two slots of 12 bytes for each scope.
    assert!(size(&many) - size("") >= many.len() + 3_000 * 2 * 12, "{}", size(&many));
    assert_eq!(size("read write") - size(""), "read write".len(), "a short set has no index");
}

#[test]
fn the_size_of_claims_counts_texts_and_their_containers() {
    let size =
        |claim: &str, value: Value| Claims::parse(with(claim, value).to_string().as_bytes(), &[]).unwrap().size();
    let texts = |claims: &Value| -> usize {
        ["sub", "client_id", "jti", "scope"].map(|claim| claims[claim].as_str().map_or(0, str::len)).iter().sum()
    };
    let usual = size("aud", json!("https://api.example.com"));
    assert_eq!(usual, 4 * 32 + texts(&good()));
    for claim in ["sub", "client_id", "jti"] {
        let former = good()[claim].as_str().unwrap().len();
        assert_eq!(size(claim, json!("x".repeat(former + 100))), usual + 100, "{claim}");
    }
    let several = ["https://a.example", "https://another.example", "https://c.example"];
    let more: usize = several.iter().map(|audience| audience.len() + 64).sum();
    assert_eq!(size("aud", json!(several)), usual + more);
}

#[test]
fn duplicate_claims_are_refused() {
    let text = good().to_string();
    for twice in [r#"{"iss":"i","#, r#"{"exp":9,"#, r#"{"scope":"","#, r#"{"own":1,"#, r#"{"o\u0077n":1,"#] {
        assert!(Claims::parse(text.replacen('{', twice, 1).as_bytes(), &[]).is_none(), "{twice}");
    }
    for text in [format!("{text}x"), format!("[{text}]"), String::new(), "{".repeat(9_000)] {
        assert!(Claims::parse(text.as_bytes(), &[]).is_none());
    }
}

#[test]
fn usual_claims_take_the_fast_path_and_all_others_go_to_serde_json() {
    let usual = r#"{"iss":"i","sub":"é","aud":"a","client_id":"c","iat":1,"exp":0,"nbf":3,"jti":"j","scope":"x y","other":10,"own":"t"}"#;
    assert_eq!(Members::read_plain(usual), Some(serde_json::from_str(usual).unwrap()));
    for (usual_part, other) in [
        (r#""i""#, r#""\u0069""#),
        (r#""a""#, r#"["a"]"#),
        (":1,", ":1.0,"),
        (":1,", ":01,"),
        (":1,", ":1e3,"),
        (":1,", ":-1,"),
        (":1,", ":,"),
        (":1,", ":18446744073709551616,"),
        (r#""own":"t""#, r#""own":[1]"#),
        (r#""own":"t""#, r#""own":01"#),
        (r#""own":"t""#, r#""iss":"i""#),
        (r#""own":"t""#, r#""own":"t","own":"t""#),
        ("{", "{ "),
        ("}", ",}"),
        ("}", "}}"),
        ("x y", "x\ny"),
    ] {
        let other = usual.replacen(usual_part, other, 1);
        assert_eq!(Members::read_plain(&other), None, "{other}");
    }
}

proptest! {
    #[test]
    fn the_fast_path_reads_the_same_as_serde_json(
        json in r#"\{("(iss|sub|aud|iat|exp|jti|cnf|own|o\\u0077n)":("[a-bé\\\\\x01\x7f]{0,3}"|[0-9]{1,21}|0[.]?[0-9]?|-1|true),?){0,4}\}"#
    ) {
        if let Some(plain) = Members::read_plain(&json) {
            prop_assert_eq!(Some(plain), serde_json::from_str(&json).ok());
        }
    }
}
