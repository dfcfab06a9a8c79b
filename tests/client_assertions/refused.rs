//! Assertions that are refused: always with the same bytes, and with an event that names the rule.

use p256::ecdsa::signature::Signer as _;
use serde_json::{Value, json};
use tower_client_credentials::authorization_server::AssertionRule::{self, *};

use crate::common::forge::{Draft, encode};
use crate::common::request::{GRANT, TokenRequest, post};
use crate::common::{API, ISSUER, NOW};
use crate::world::{JWT_BEARER, Sign as _, World, asks, ec_jwk, es256, good, of_key};

pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) rule: AssertionRule,
    pub(crate) request: TokenRequest,
    /// Absent if the request breaks a rule, and not the assertion.
    pub(crate) assertion: Option<String>,
}

/// How a client makes its assertions.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    pub(crate) good: fn() -> Draft,
    pub(crate) sign: fn(&Draft) -> String,
}

const BY_KEY: Way = Way { good: of_key, sign: |draft| draft.es256(7) };

pub(crate) fn row(name: impl Into<String>, rule: AssertionRule, assertion: &str) -> Row {
    Row { name: name.into(), rule, request: asks(assertion), assertion: Some(assertion.to_owned()) }
}

/// Rows for a claim with each of these values.
fn claims(way: Way, name: &str, rule: AssertionRule, values: impl IntoIterator<Item = Value>) -> Vec<Row> {
    let row = |value: Value| row(format!("{name}: {value}"), rule, &(way.sign)(&(way.good)().claim(name, value)));
    values.into_iter().map(row).collect()
}

/// Rows for a header member with each of these values.
fn headers(way: Way, name: &str, rule: AssertionRule, values: impl IntoIterator<Item = Value>) -> Vec<Row> {
    let row = |value: Value| row(format!("{name}: {value}"), rule, &(way.sign)(&(way.good)().header(name, value)));
    values.into_iter().map(row).collect()
}

pub(crate) fn with_claims(way: Way) -> Vec<Row> {
    let not_a_text = || [json!(5), Value::Null, json!(true), json!(["key"]), json!({})];
    let absent = [("iss", Issuer), ("sub", Subject), ("aud", Audience), ("exp", Expiry), ("jti", TokenId)];
    let mut rows: Vec<_> = absent
        .map(|(name, rule)| row(format!("no {name}"), rule, &(way.sign)(&(way.good)().without_claim(name))))
        .into_iter()
        .collect();
    rows.extend(claims(way, "iss", Issuer, not_a_text()));
    rows.extend(claims(way, "iss", Issuer, ["", "other", "KEY", "key ", ISSUER].map(Value::from)));
    rows.extend(claims(way, "sub", Subject, not_a_text()));
    rows.extend(claims(way, "sub", Issuer, ["", "other"].map(Value::from)));
    rows.extend(claims(way, "jti", TokenId, not_a_text()));
    rows.extend(claims(way, "jti", TokenId, [json!(""), "j".repeat(129).into()]));
    let texts = [
        format!("{ISSUER}/"),
        format!("{ISSUER}/token"),
        format!("{ISSUER}/introspect"),
        format!("{ISSUER}:443"),
        format!("{ISSUER}."),
        format!("{ISSUER} "),
        format!(" {ISSUER}"),
        format!("{ISSUER}#"),
        "https://AUTH.example.com".to_owned(),
        "HTTPS://auth.example.com".to_owned(),
        "http://auth.example.com".to_owned(),
        "https://auth.example.co".to_owned(),
        "https://auth%2Eexample.com".to_owned(),
        API.to_owned(),
        "key".to_owned(),
        String::new(),
        "*".to_owned(),
    ];
    rows.extend(claims(way, "aud", Audience, texts.map(Value::from)));
    let others = [
        json!(5),
        Value::Null,
        json!(true),
        json!({}),
        json!([]),
        json!([ISSUER, ISSUER]),
        json!([ISSUER, format!("{ISSUER}/token")]),
        json!([API, ISSUER]),
        json!([[ISSUER]]),
        json!([5]),
        json!([null]),
        json!([format!("{ISSUER}/")]),
    ];
    rows.extend(claims(way, "aud", Audience, others));
    let no_time = || [json!("1700000060"), Value::Null, json!(true), json!([NOW]), json!({})];
    rows.extend(claims(way, "exp", Expiry, no_time()));
    rows.extend(claims(way, "exp", Expiry, [json!(-1), json!(1e300), json!(0), json!(NOW - 10), json!(NOW - 3_600)]));
    rows.extend(claims(way, "exp", Lifetime, [311, 3_600, u64::from(u32::MAX)].map(|ahead| json!(NOW + ahead))));
    rows.extend(claims(way, "nbf", NotBefore, no_time()));
    rows.extend(claims(way, "nbf", NotBefore, [json!(NOW + 11), json!(1_700_000_010.5), json!(NOW + 3_600)]));
    rows.extend(claims(way, "iat", IssuedAt, no_time()));
    rows.extend(claims(way, "iat", IssuedAt, [json!(NOW + 11), json!(NOW + 86_400)]));
    let no_id = (way.good)().claim("sub", "é").claim("iss", "é");
    rows.push(row("a sub that is no client id", Subject, &(way.sign)(&no_id)));
    rows
}

/// Header members that mean the same for keys and secrets.
pub(crate) fn with_common_headers(way: Way) -> Vec<Row> {
    let types = [
        "",
        "at+jwt",
        "AT+JWT",
        "application/at+jwt",
        "dpop+jwt",
        "oauth-id-jag+jwt",
        "wit+jwt",
        "txntoken+jwt",
        "token-introspection+jwt",
        "secevent+jwt",
        "logout+jwt",
        "JOSE",
        "JWS",
        "JWE",
        "jwt ",
        "application/",
        "text/jwt",
        "unknown",
    ];
    let mut rows = headers(way, "typ", Type, types.map(Value::from));
    rows.extend(headers(way, "typ", Header, [Value::Null, json!(5), json!(["JWT"])]));
    rows.extend(headers(way, "alg", Header, [Value::Null, json!(5), json!(["ES256"])]));
    rows.push(row("no alg", Header, &(way.sign)(&(way.good)().without_header("alg"))));
    rows.extend(headers(way, "kid", Header, [Value::Null, json!(5), json!(["k1"])]));
    rows.extend(headers(way, "crit", Critical, [json!(["exp"]), json!(["b64"]), json!([]), Value::Null, json!("exp")]));
    for name in ["jwk", "jku", "x5u"] {
        rows.extend(headers(way, name, ForeignKey, [json!("https://evil.example/keys"), Value::Null]));
    }
    rows
}

fn with_headers() -> Vec<Row> {
    let mut rows = with_common_headers(BY_KEY);
    rows.extend(headers(
        BY_KEY,
        "alg",
        Algorithm,
        ["", "none", "None", "es256", "ES256K", "ES512", "HS256"].map(Value::from),
    ));
    rows.extend(headers(BY_KEY, "alg", Algorithm, ["ES384", "RS256", "PS256", "EdDSA", "Ed25519"].map(Value::from)));
    rows.push(row("none without a signature", Algorithm, &of_key().header("alg", "none").seal("")));
    let public = es256(7).verifying_key().to_encoded_point(false);
    let hmac = of_key().header("alg", "HS256").sign_hs256(public.as_bytes());
    rows.push(row("an HMAC under the public key", Algorithm, &hmac));
    rows.extend(headers(BY_KEY, "kid", Key, ["k2", "K1", "k1 ", "../k1"].map(Value::from)));
    let own = of_key().header("jwk", ec_jwk(&es256(9))).without_header("kid").es256(9);
    rows.push(row("a key in the header", ForeignKey, &own));
    rows
}

fn malformed() -> Vec<Row> {
    let good = of_key().es256(7);
    let [header, claims, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let text = |header: &str, claims: &str| Draft { header: header.to_owned(), claims: claims.to_owned() }.es256(7);
    let Draft { header: header_text, claims: claims_text } = of_key();
    let twice = |json: &str, member: &str| json.replacen('{', &format!("{{{member},"), 1);
    vec![
        row("one part", Form, header),
        row("two parts", Form, &format!("{header}.{claims}")),
        row("four parts", Form, &format!("{good}.{signature}")),
        row("five parts", Form, "a.b.c.d.e"),
        row("no base64", Form, &format!("{header}!.{claims}.{signature}")),
        row("padding", Form, &format!("{header}=.{claims}.{signature}")),
        row("a space", Form, &format!(" {good}")),
        row("too long", Form, &of_key().claim("x", "x".repeat(16 * 1024)).es256(7)),
        row("empty parts", Header, ".."),
        row("a header that is an array", Header, &text("[\"ES256\"]", &claims_text)),
        row("a header that is no JSON", Header, &text("ES256", &claims_text)),
        row("alg twice", Header, &text(&twice(&header_text, "\"alg\":\"none\""), &claims_text)),
        row("claims that are an array", Payload, &text(&header_text, "[]")),
        row("claims that are no JSON", Payload, &text(&header_text, "claims")),
        row("no claims", Payload, &text(&header_text, "")),
        row("exp twice", Payload, &text(&header_text, &twice(&claims_text, "\"exp\":1"))),
        row("aud twice", Payload, &text(&header_text, &twice(&claims_text, "\"aud\":\"https://a.example\""))),
        row("two objects", Payload, &text(&header_text, &format!("{claims_text}{claims_text}"))),
    ]
}

fn with_signatures() -> Vec<Row> {
    let draft = of_key();
    let signature: p256::ecdsa::Signature = es256(7).sign(draft.signed_part().as_bytes());
    let bytes = signature.to_bytes();
    let (r, s) = bytes.split_at(32);
    let changed = |at: usize, bit: u8| {
        let mut bytes = bytes;
        bytes[at] ^= bit;
        draft.seal(bytes)
    };
    let of_another = |draft: Draft| draft.seal(bytes);
    let mut rows = vec![
        row("no signature", Signature, &draft.seal("")),
        row("zero", Signature, &draft.seal([0; 64])),
        row("r is zero", Signature, &draft.seal([&[0; 32], s].concat())),
        row("s is zero", Signature, &draft.seal([r, &[0; 32]].concat())),
        row("all bits set", Signature, &draft.seal([0xff; 64])),
        row("DER", Signature, &draft.seal(signature.to_der())),
        row("swapped", Signature, &draft.seal([s, r].concat())),
        row("a byte less", Signature, &draft.seal(&bytes[..63])),
        row("a byte more", Signature, &draft.seal([&bytes[..], &[0]].concat())),
        row("claims changed", Signature, &of_another(of_key().claim("jti", "two"))),
        row("header changed", Signature, &of_another(of_key().header("x", "y"))),
        row("the key of another client", Signature, &of_key().es256(8)),
        row("the key of the server", Signature, &of_key().sign()),
        row("the id of another client", Signature, &good("other", "ES256", Some("k1")).es256(7)),
        row("neither of two keys", Signature, &good("two", "ES256", None).es256(9)),
        row("not base64", Signature, &format!("{}!", draft.seal(bytes))),
        row("PS256 named RS256", Signature, &good("rsa", "RS256", Some("r1")).ps256()),
        row("RS256 named PS256", Signature, &good("pss", "PS256", Some("r1")).rs256()),
        row("an RSA signature of zero", Signature, &good("rsa", "RS256", Some("r1")).seal([0; 256])),
        row("an RSA signature of 1,024 bits", Signature, &good("rsa", "RS256", Some("r1")).seal([7; 128])),
        row("PS256 for a key for RS256", Algorithm, &good("rsa", "PS256", Some("r1")).ps256()),
        row("RS256 for a client with PS256", Algorithm, &good("pss", "RS256", Some("r1")).rs256()),
        row("an Ed25519 signature of zero", Signature, &good("ed", "EdDSA", Some("e1")).seal([0; 64])),
        row("ES256 for a client with Ed25519", Algorithm, &good("ed", "ES256", Some("e1")).es256(7)),
    ];
    for (at, bit) in [(0, 1), (31, 128), (32, 1), (63, 1)] {
        rows.push(row(format!("bit {bit} of byte {at} flipped"), Signature, &changed(at, bit)));
    }
    rows
}

fn of_clients() -> Vec<Row> {
    let by = |client: &str| good(client, "ES256", Some("k1"));
    let endpoint = format!("{ISSUER}/token");
    let request = |kind: Option<&str>| {
        let request = post(GRANT).param("client_assertion", &of_key().es256(7));
        kind.into_iter().fold(request, |request, kind| request.param("client_assertion_type", kind))
    };
    let typed = |kind: Option<&str>| Row {
        name: format!("{kind:?}"),
        rule: AssertionType,
        request: request(kind),
        assertion: None,
    };
    let mut rows = vec![
        row("an unknown client", Client, &by("stranger").es256(7)),
        row("a disabled client", Client, &by("retired").es256(7)),
        row("a client with only a secret", Credential, &by("secret").es256(7)),
        row("an expired credential", Credential, &by("ended").es256(7)),
        row("an allowance that has ended", Audience, &by("late").claim("aud", endpoint.as_str()).es256(7)),
        row("an hour, no longer allowed", Lifetime, &by("late").claim("exp", NOW + 3_600).es256(7)),
        row("more than an hour", Lifetime, &by("old").claim("exp", NOW + 3_611).es256(7)),
        row("another endpoint", Audience, &by("old").claim("aud", format!("{ISSUER}/revoke")).es256(7)),
        row("the endpoint with a slash", Audience, &by("old").claim("aud", format!("{endpoint}/")).es256(7)),
        row("two audiences, one allowed", Audience, &by("old").claim("aud", json!([ISSUER, endpoint])).es256(7)),
        typed(None),
        typed(Some("")),
        typed(Some("urn:ietf:params:oauth:client-assertion-type:saml2-bearer")),
        typed(Some("urn:ietf:params:oauth:client-assertion-type:JWT-bearer")),
        typed(Some(&format!("{JWT_BEARER} "))),
        typed(Some("jwt-bearer")),
    ];
    for id in ["other", "KEY", "stranger"] {
        let request = asks(&of_key().es256(7)).param("client_id", id);
        rows.push(Row { name: format!("client_id={id}"), rule: ClientId, request, assertion: None });
    }
    rows
}

#[tokio::test]
async fn every_assertion_that_breaks_a_rule_gets_the_same_bytes_and_its_event_names_the_rule() {
    let mut world = World::new();
    let rows: Vec<_> = [with_claims(BY_KEY), with_headers(), malformed(), with_signatures(), of_clients()]
        .into_iter()
        .flatten()
        .collect();
    println!("{} assertions", rows.len());
    assert!(rows.len() >= 120, "{}", rows.len());
    let wrong_secret = world.send(post(GRANT).basic("secret", &crate::common::WRONG_SECRET)).await;
    assert_eq!(wrong_secret.status.as_u16(), 401);
    world.outcome();
    for Row { name, rule, request, assertion } in rows {
        let seen = world.send(request).await;
        assert_eq!(seen, wrong_secret, "{name}");
        let (broken, text) = world.broken_rule();
        assert_eq!(broken, rule, "{name}: {text}");
        assert!(text.len() < 700 && !text.contains('\n'), "{name}: {text}");
        world.assert_diagnosed(&name, assertion.as_deref(), rule).await;
    }
    // None of them was recorded: the log comes last.
    for (client, seed) in [("key", 7), ("other", 8), ("old", 7), ("late", 7)] {
        let seen = world.send(asks(&good(client, "ES256", Some("k1")).es256(seed))).await;
        assert_eq!(seen.status.as_u16(), 200, "{client}");
    }
}

#[tokio::test]
async fn the_text_for_the_operator_has_the_value_found_the_value_expected_and_how_to_fix_it() {
    let mut world = World::new();
    for (draft, says) in [
        (
            of_key().claim("aud", format!("{ISSUER}/token")),
            ["/token\"", "\"https://auth.example.com\"", "legacy_assertions"],
        ),
        (of_key().claim("exp", NOW + 3_600), ["3600 seconds ahead", "at most 300", "shorter"]),
        (of_key().claim("exp", NOW - 60), ["1699999940", "1700000000", "clocks"]),
        (of_key().header("kid", "k2"), ["`kid`", "\"k2\"", "register"]),
        (of_key().header("typ", "at+jwt"), ["`typ`", "\"at+jwt\"", "client authentication"]),
        (of_key().header("alg", "HS256"), ["\"HS256\"", "ES256", "ClientAssertions::algorithms"]),
        (of_key().claim("jti", "x\ny".repeat(100)), ["300 bytes", "128", "UUID"]),
    ] {
        world.send(asks(&draft.es256(7))).await;
        let (_, text) = world.broken_rule();
        for part in says {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

#[tokio::test]
async fn at_most_four_keys_are_tried_for_an_assertion_without_kid() {
    let keys = (11..16).map(|seed| crate::world::ec_keys(seed, None));
    let first =
        tower_client_credentials::Client::with_credential("many", crate::world::ec_keys(10, None)).audience(API);
    let store = tower_client_credentials::MemoryStore::try_from([
        keys.fold(first, tower_client_credentials::Client::credential)
    ])
    .unwrap();
    let mut world = World::of(store);
    for (seed, is_tried) in [(10, true), (13, true), (14, false), (15, false)] {
        let assertion = good("many", "ES256", None).claim("jti", format!("{seed}")).es256(seed);
        let status = world.send(asks(&assertion)).await.status.as_u16();
        assert_eq!(status, if is_tried { 200 } else { 401 }, "{seed}");
        world.outcome();
    }
}

#[tokio::test]
async fn an_assertion_with_a_second_method_is_a_malformed_request() {
    let world = World::new();
    let request = || asks(&of_key().es256(7));
    for request in [
        request().basic("key", &crate::common::SECRET),
        request().param("client_secret", "x"),
        request().param("client_assertion", &encode("another")),
    ] {
        let seen = world.send(request).await;
        assert_eq!(seen.status.as_u16(), 400);
        assert!(seen.body.starts_with(br#"{"error":"invalid_request""#), "{seen:?}");
    }
    assert_eq!(world.send(request()).await.status.as_u16(), 200, "nothing was recorded");
}
