//! Tokens of issuers that do not follow RFC 9068, over sockets: refused by default, and accepted with the settings in the table
//! of `TokenProfile`, each of which is necessary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

mod common;

use common::forge::{Draft, good};
use common::stack::{Answer, Stack, on_every_stack};
use common::{API, KEY, NOW, clock, server};
use serde_json::{Value, json};
use tower_client_credentials::keys::KeySet;
use tower_client_credentials::verification::{InvalidToken, TokenProfile};
use tower_client_credentials::{BearerAuthLayer, Scope, Scopes, SigningKey, Verifier};

/// One setting that accepts a difference.
type Setting = fn(TokenProfile) -> TokenProfile;

struct Vendor {
    name: &'static str,
    issuer: &'static str,
    audience: &'static str,
    header: Value,
    claims: Value,
    settings: Vec<Setting>,
    /// The differences of tokens from the same issuer that must not be accepted.
    strangers: Vec<Value>,
    /// The contents of the verified token: client, subject, scopes.
    says: (&'static str, &'static str, &'static str),
}

/// As in their documentation, with the times of these tests.
#[allow(clippy::too_many_lines)] // it is a table
fn vendors() -> Vec<Vendor> {
    vec![
        Vendor {
            name: "Auth0",
            issuer: "https://tenant.eu.auth0.com/",
            audience: API,
            header: json!({"alg": "ES256", "typ": "JWT"}),
            claims: json!({
                "iss": "https://tenant.eu.auth0.com/", "sub": "wbGwPZIUZcPJ@clients", "aud": API, "iat": NOW,
                "exp": NOW + 86_400, "scope": "invoices:read", "gty": "client-credentials", "azp": "wbGwPZIUZcPJ",
            }),
            settings: vec![
                TokenProfile::jwt_type,
                |profile| profile.client_id_in(["azp"]),
                TokenProfile::without_token_id,
                |profile| profile.require_claim("gty", "client-credentials"),
            ],
            strangers: vec![json!({"gty": "password"}), json!({"gty": null})],
            says: ("wbGwPZIUZcPJ", "wbGwPZIUZcPJ@clients", "invoices:read"),
        },
        Vendor {
            name: "Amazon Cognito",
            issuer: "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_abc",
            audience: API,
            header: json!({"alg": "ES256"}),
            claims: json!({
                "sub": "4jqjpkh", "token_use": "access", "scope": "invoices/read", "auth_time": NOW,
                "iss": "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_abc", "exp": NOW + 3_600, "iat": NOW,
                "version": 2, "jti": "7a9f", "client_id": "4jqjpkh",
            }),
            settings: vec![
                TokenProfile::jwt_type,
                |profile| profile.clients_instead_of_audience(["4jqjpkh"]),
                |profile| profile.require_claim("token_use", "access"),
            ],
            strangers: vec![json!({"token_use": "id"}), json!({"client_id": "another"})],
            says: ("4jqjpkh", "4jqjpkh", "invoices/read"),
        },
        Vendor {
            name: "Entra ID, v2",
            issuer: "https://login.microsoftonline.com/72f988bf/v2.0",
            audience: API,
            header: json!({"alg": "ES256", "typ": "JWT", "x5t": "kg2L"}),
            claims: json!({
                "aud": "6e74172b-be56-4843-9ff4-e66a39bb12e3", "iss": "https://login.microsoftonline.com/72f988bf/v2.0",
                "iat": NOW, "nbf": NOW, "exp": NOW + 3_599, "aio": "E2Zg", "azp": "a1b2", "azpacr": "1", "oid": "0d1e",
                "rh": "0.AQ", "roles": ["Invoices.Read", "not a scope"], "sub": "0d1e", "tid": "72f988bf", "uti": "Zz",
                "ver": "2.0",
            }),
            settings: vec![
                TokenProfile::jwt_type,
                |profile| profile.client_id_in(["azp", "appid"]),
                |profile| profile.audience_named(["6e74172b-be56-4843-9ff4-e66a39bb12e3"]),
                TokenProfile::without_token_id,
                |profile| profile.map_scopes(|claims| roles(&claims["roles"])),
            ],
            strangers: vec![],
            says: ("a1b2", "0d1e", "Invoices.Read"),
        },
        Vendor {
            name: "Entra ID, v1",
            issuer: "https://sts.windows.net/72f988bf/",
            audience: "api://invoices",
            header: json!({"alg": "ES256", "typ": "JWT", "x5t": "kg2L"}),
            claims: json!({
                "aud": "api://invoices", "iss": "https://sts.windows.net/72f988bf/", "iat": NOW, "nbf": NOW,
                "exp": NOW + 3_599, "appid": "a1b2", "appidacr": "1", "oid": "0d1e", "sub": "0d1e", "ver": "1.0",
            }),
            settings: vec![
                TokenProfile::jwt_type,
                |profile| profile.client_id_in(["azp", "appid"]),
                TokenProfile::without_token_id,
            ],
            strangers: vec![],
            says: ("a1b2", "0d1e", ""),
        },
        Vendor {
            name: "Google",
            issuer: "https://accounts.google.com",
            audience: API,
            header: json!({"alg": "ES256", "typ": "JWT"}),
            claims: json!({
                "aud": API, "azp": "1085", "email": "billing@project.iam.gserviceaccount.com", "email_verified": true,
                "exp": NOW + 3_600, "iat": NOW, "iss": "https://accounts.google.com", "sub": "1085",
            }),
            settings: vec![
                TokenProfile::jwt_type,
                |profile| profile.client_id_in(["azp"]),
                TokenProfile::without_token_id,
                |profile| profile.require_claim("email", "billing@project.iam.gserviceaccount.com"),
            ],
            // Another customer of Google requests a token for our audience, and gets one.
            strangers: vec![
                json!({"azp": "2170", "sub": "2170", "email": "evil@attacker.iam.gserviceaccount.com"}),
                json!({"azp": "2170", "sub": "2170", "email": null}),
            ],
            says: ("1085", "1085", ""),
        },
        Vendor {
            name: "Keycloak",
            issuer: "https://sso.example.com/realms/main",
            audience: API,
            header: json!({"alg": "ES256", "typ": "JWT"}),
            claims: json!({
                "exp": NOW + 300, "iat": NOW, "jti": "trrtcc:6a", "iss": "https://sso.example.com/realms/main",
                "aud": [API, "account"], "sub": "8f1c", "typ": "Bearer", "azp": "billing", "acr": "1",
                "realm_access": {"roles": ["invoices:write", "offline_access"]}, "scope": "email invoices:read",
                "preferred_username": "service-account-billing",
            }),
            settings: vec![
                TokenProfile::jwt_type,
                |profile| profile.client_id_in(["azp"]),
                |profile| profile.require_claim("typ", "Bearer"),
                |profile| profile.map_scopes(|claims| roles(&claims["realm_access"]["roles"])),
            ],
            strangers: vec![json!({"typ": "ID"})],
            says: ("billing", "8f1c", "email invoices:read invoices:write offline_access"),
        },
        Vendor {
            name: "Okta",
            issuer: "https://tenant.okta.com/oauth2/default",
            audience: "api://default",
            header: json!({"alg": "ES256"}),
            claims: json!({
                "ver": 1, "jti": "AT.0m", "iss": "https://tenant.okta.com/oauth2/default", "aud": "api://default",
                "iat": NOW, "exp": NOW + 3_600, "cid": "0oa1", "scp": ["invoices:read", "invoices:write"], "sub": "0oa1",
            }),
            settings: vec![TokenProfile::jwt_type, |profile| profile.client_id_in(["cid"]), |profile| {
                profile.scopes_in(["scp"])
            }],
            strangers: vec![],
            says: ("0oa1", "0oa1", "invoices:read invoices:write"),
        },
        Vendor {
            name: "Ory Hydra",
            issuer: "https://hydra.example.com",
            audience: API,
            header: json!({"alg": "ES256", "typ": "JWT"}),
            claims: json!({
                "aud": [API], "client_id": "billing", "exp": NOW + 3_600, "ext": {}, "iat": NOW,
                "iss": "https://hydra.example.com", "jti": "b2d9", "nbf": NOW, "scp": ["invoices:read"],
                "sub": "billing",
            }),
            settings: vec![TokenProfile::jwt_type, |profile| profile.scopes_in(["scp"])],
            strangers: vec![],
            says: ("billing", "billing", "invoices:read"),
        },
        Vendor {
            name: "league/oauth2-server",
            issuer: "https://app.example.com",
            audience: API,
            header: json!({"alg": "ES256", "typ": "JWT", "kid": null}),
            claims: json!({
                "aud": "billing", "jti": "58c0c1a1", "iat": 1_700_000_000.123_456_f64, "nbf": 1_700_000_000.123_456_f64,
                "exp": 1_700_003_600.123_456_f64, "sub": "", "scopes": ["invoices:read"],
            }),
            settings: vec![
                TokenProfile::jwt_type,
                |profile| profile.client_id_in(["aud"]),
                |profile| profile.clients_instead_of_audience(["billing"]),
                |profile| profile.scopes_in(["scopes"]),
                TokenProfile::without_subject,
                TokenProfile::without_token_issuer,
            ],
            strangers: vec![],
            says: ("billing", "billing", "invoices:read"),
        },
    ]
}

fn roles(list: &Value) -> Scopes {
    list.as_array().into_iter().flatten().filter_map(|role| role.as_str()?.parse::<Scope>().ok()).collect()
}

impl Vendor {
    fn token(&self) -> String {
        self.token_with(&json!({}))
    }

    fn token_with(&self, differences: &Value) -> String {
        let mut claims = self.claims.as_object().unwrap().clone();
        claims.extend(differences.as_object().unwrap().clone());
        claims.retain(|_, value| !value.is_null());
        let mut draft = good().claims_text(Value::from(claims).to_string());
        if self.header.get("typ").is_none() {
            draft = draft.without_header("typ");
        }
        for (name, value) in self.header.as_object().unwrap() {
            draft = if value.is_null() { draft.without_header(name) } else { draft.header(name, value.clone()) };
        }
        draft.sign()
    }

    fn verifier(&self) -> Verifier {
        Verifier::with_keys(self.issuer, self.audience, keys()).unwrap().clock(clock())
    }

    /// Applies all settings except one, or all.
    fn profile(&self, without: Option<usize>) -> TokenProfile {
        let kept = self.settings.iter().enumerate().filter(|(place, _)| Some(*place) != without);
        kept.fold(TokenProfile::default(), |profile, (_, setting)| setting(profile))
    }
}

fn keys() -> KeySet {
    KeySet::from([SigningKey::from_pem(KEY).unwrap().verifying_key()])
}

async fn show(stack: Stack, verifier: Verifier, token: &str) -> Answer {
    let site = stack.protect(&server(), [BearerAuthLayer::new(verifier)]).await;
    site.get_authorized(&format!("Bearer {token}")).await
}

#[tokio::test]
async fn of_each_vendor_are_refused_by_default_and_accepted_with_their_settings() {
    for vendor in vendors() {
        on_every_stack(async |stack| {
            println!("{}", vendor.name);
            assert_eq!(show(stack, vendor.verifier(), &vendor.token()).await.status, 401, "{}", vendor.name);
            let answer = show(stack, vendor.verifier().tokens(vendor.profile(None)), &vendor.token()).await;
            assert_eq!(answer.status, 200, "{}: {answer:?}", vendor.name);
            let token = &answer.json()["token"];
            let scopes: Vec<&str> = token["scopes"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
            let says = (token["client_id"].as_str().unwrap(), token["subject"].as_str().unwrap(), scopes.join(" "));
            assert_eq!((says.0, says.1, says.2.as_str()), vendor.says, "{}", vendor.name);
        })
        .await;
    }
}

#[test]
fn of_each_vendor_need_every_one_of_their_settings() {
    for vendor in vendors() {
        let token = vendor.token();
        let all = vendor.verifier().tokens(vendor.profile(None)).verify_now(&token).unwrap();
        for without in 0..vendor.settings.len() {
            let lacking = vendor.verifier().tokens(vendor.profile(Some(without)));
            let verified = lacking.verify_now(&token);
            let is_less =
                verified.as_ref().is_err() || verified.as_ref().is_ok_and(|token| token.scopes() != all.scopes());
            let admits = |stranger: &Value| lacking.verify_now(&vendor.token_with(stranger)).is_ok();
            let is_more = vendor.strangers.iter().any(admits);
            assert!(is_less || is_more, "{} without setting {without}: {verified:?}", vendor.name);
        }
    }
}

#[tokio::test]
async fn of_each_vendor_for_another_purpose_are_refused_though_their_audience_is_ours() {
    let mut tried = 0;
    for vendor in vendors() {
        for stranger in &vendor.strangers {
            on_every_stack(async |stack| {
                let verifier = vendor.verifier().tokens(vendor.profile(None));
                let answer = show(stack, verifier, &vendor.token_with(stranger)).await;
                assert_eq!(answer.status, 401, "{}: {stranger}", vendor.name);
            })
            .await;
            tried += 1;
        }
    }
    assert_eq!(tried, 7);
}

/// The decision of a verifier with these settings about a modified RFC 9068 token.
fn refusal(profile: TokenProfile, draft: Draft) -> Option<InvalidToken> {
    let verifier = Verifier::with_keys(common::ISSUER, API, keys()).unwrap().clock(clock()).tokens(profile);
    match verifier.verify_now(&draft.sign()) {
        Ok(_) => None,
        Err(tower_client_credentials::verification::VerifyError::Refused(refused)) => Some(refused.reason()),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn must_pass_all_other_checks_regardless_of_their_profile() {
    let lenient = || {
        TokenProfile::default()
            .jwt_type()
            .ignore_foreign_keys()
            .without_subject()
            .without_token_id()
            .without_token_issuer()
    };
    let draft = || good().header("typ", "JWT").without_claim("jti").without_claim("iss");
    assert_eq!(refusal(lenient(), draft()), None);
    for (draft, reason) in [
        (draft().header("typ", "dpop+jwt"), InvalidToken::Type),
        (draft().header("typ", "logout+jwt"), InvalidToken::Type),
        (draft().header("crit", json!(["b64"])), InvalidToken::Critical),
        (draft().header("alg", "none"), InvalidToken::Algorithm),
        (draft().header("alg", "HS256"), InvalidToken::Algorithm),
        (draft().header("kid", "other"), InvalidToken::UnknownKey),
        (draft().claim("iss", "https://other.example.com"), InvalidToken::Issuer),
        (draft().claim("aud", "https://other.example.com"), InvalidToken::Audience),
        (draft().without_claim("aud"), InvalidToken::Claims),
        (draft().claim("exp", 1_699_999_994.5), InvalidToken::Expired),
        (draft().without_claim("exp"), InvalidToken::Claims),
        (draft().claim("iat", NOW + 7), InvalidToken::NotYetValid),
        (draft().claim("nbf", 1_700_000_006.5), InvalidToken::NotYetValid),
        (draft().without_claim("client_id"), InvalidToken::Claims),
    ] {
        assert_eq!(refusal(lenient(), draft.clone()), Some(reason), "{draft:?}");
    }
}

#[test]
fn with_a_key_in_their_header_are_refused_or_accepted_without_using_that_key() {
    for (name, value) in [
        ("jku", json!("https://attacker.example/keys")),
        ("x5u", json!("https://attacker.example/certificate")),
        ("jwk", json!({"kty": "EC"})),
    ] {
        let draft = || good().header(name, value.clone());
        assert_eq!(refusal(TokenProfile::default(), draft()), Some(InvalidToken::ForeignKey), "{name}");
        assert_eq!(refusal(TokenProfile::default().ignore_foreign_keys(), draft()), None, "{name}");
    }
}

#[test]
fn of_unlisted_clients_are_refused_where_the_audience_is_not_checked() {
    let profile = || TokenProfile::default().clients_instead_of_audience(["reports", "billing"]);
    assert_eq!(refusal(profile(), good().without_claim("aud")), None);
    assert_eq!(refusal(profile(), good().claim("client_id", "another")), Some(InvalidToken::Audience));
    assert_eq!(refusal(profile(), good().claim("client_id", "")), Some(InvalidToken::Claims));
}

mod of_several_issuers {
    use super::*;

    const OTHER: &str = "https://other-issuer.example.com";

    fn both() -> Verifier {
        let strict = Verifier::with_keys(common::ISSUER, API, keys()).unwrap();
        let other = SigningKey::from_pem(include_str!("keys/ed25519.pem")).unwrap().verifying_key();
        let lenient = Verifier::with_keys(OTHER, common::OTHER_API, KeySet::from([other])).unwrap();
        strict.or(lenient.tokens(TokenProfile::default().jwt_type())).unwrap().clock(clock())
    }

    #[tokio::test]
    async fn must_match_the_keys_audience_and_settings_of_the_issuer_that_they_name() {
        on_every_stack(async |stack| {
            let status = async |draft: Draft| show(stack, both(), &draft.sign()).await.status.as_u16();
            assert_eq!(status(good()).await, 200);
            assert_eq!(status(good().header("typ", "JWT")).await, 401, "that is for the other");
            assert_eq!(status(good().claim("aud", common::OTHER_API)).await, 401, "that is for the other");
            // The key of the first issuer is not accepted for the other.
            assert_eq!(status(good().claim("iss", OTHER).claim("aud", common::OTHER_API)).await, 401);
            assert_eq!(status(good().claim("iss", "https://third.example.com")).await, 401);
            assert_eq!(status(good().without_claim("iss")).await, 401);
        })
        .await;
    }

    #[test]
    fn cannot_be_distinguished_if_two_have_the_same_identifier() {
        let error = both().or(Verifier::with_keys(OTHER, API, keys()).unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("duplicate issuer"), "{error}");
    }
}
