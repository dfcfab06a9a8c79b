//! Tokens for an application's tests (feature `test-util`): a proof without a token, and an issuer of real tokens.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::{Map, Value};

use super::{VerifiedToken, Verifier};
use crate::clock::{Clock, SystemClock, UnixTime};
use crate::issuer::Issuer;
use crate::keys::{Algorithm, KeySet, SigningKey, TrustedKeys};
use crate::scope::{Scope, Scopes};

/// The issuer of every token here, unless a test names another one. No such host can exist (RFC 6761 §6.2).
const ISSUER: &str = "https://auth.test";
const AUDIENCE: &str = "https://api.test";

const LIFETIME: Duration = Duration::from_secs(600);

/// How long ago an expired token expired: longer than the maximum leeway of a verifier.
const PAST: Duration = Duration::from_secs(60 * 60);

/// The claims of a token under construction.
#[derive(Clone)]
struct Draft {
    claims: Map<String, Value>,
    scopes: Scopes,
    /// Empty while the audience is the default.
    audiences: Vec<String>,
}

impl Draft {
    fn new(issuer: &str, client_id: &str, issued_at: UnixTime, expires_at: UnixTime) -> Self {
        let claims = [
            ("iss", issuer.into()),
            ("sub", client_id.into()),
            ("aud", AUDIENCE.into()),
            ("client_id", client_id.into()),
            ("iat", issued_at.as_secs().into()),
            ("exp", expires_at.as_secs().into()),
            ("jti", "test".into()),
        ];
        let claims = claims.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { claims, scopes: Scopes::NONE, audiences: Vec::new() }
    }

    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.claims.insert(name.to_owned(), value.into());
    }

    fn set_scopes(&mut self, scopes: Scopes) {
        self.set("scope", scopes.as_str());
        self.scopes = scopes;
    }

    fn add_audience(&mut self, audience: String) {
        self.audiences.push(audience);
        match &*self.audiences {
            [one] => self.set("aud", one.clone()),
            several => self.set("aud", several.to_vec()),
        }
    }

    fn set_time(&mut self, name: &str, time: SystemTime) {
        self.set(name, UnixTime::at(time).as_secs());
    }

    fn payload(&self) -> Vec<u8> {
        Value::Object(self.claims.clone()).to_string().into_bytes()
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.claims).finish()
    }
}

/// The setters of both builders.
macro_rules! setters {
    ($($builder:ident)+) => {$(
        impl $builder {
            /// Adds a scope. The token has none by default.
            pub fn scope(mut self, scope: Scope) -> Self {
                self.draft.set_scopes(self.draft.scopes.with(&scope));
                self
            }

            /// Sets the scopes.
            pub fn scopes(mut self, scopes: impl Into<Scopes>) -> Self {
                self.draft.set_scopes(scopes.into());
                self
            }

            /// Adds an audience. Without any, the token is for `https://api.test`.
            pub fn audience(mut self, audience: impl Into<String>) -> Self {
                self.draft.add_audience(audience.into());
                self
            }

            /// Sets the subject, by default the id of the client.
            pub fn subject(mut self, subject: impl Into<String>) -> Self {
                self.draft.set("sub", subject.into());
                self
            }

            /// Sets the identifier of the token, the `jti`. `test` by default.
            pub fn token_id(mut self, token_id: impl Into<String>) -> Self {
                self.draft.set("jti", token_id.into());
                self
            }

            /// Sets the time at which the token was issued, in whole seconds.
            pub fn issued_at(mut self, time: SystemTime) -> Self {
                self.draft.set_time("iat", time);
                self
            }

            /// Sets the time at which the token expires, in whole seconds.
            pub fn expires_at(mut self, time: SystemTime) -> Self {
                self.draft.set_time("exp", time);
                self
            }

            /// Sets a claim. A claim of RFC 9068 replaces this builder's value for it.
            ///
            /// # Panics
            ///
            /// If the value cannot be serialized as JSON.
            pub fn claim(mut self, name: &str, value: impl Serialize) -> Self {
                self.draft.set(name, serde_json::to_value(value).expect("the value of a claim is JSON"));
                self
            }
        }
    )+};
}

setters! { VerifiedTokenBuilder TestTokenBuilder }

/// A builder of a [`VerifiedToken`] for a test; created by [`VerifiedToken::for_test`].
#[derive(Clone, Debug)]
#[must_use = "`build` returns the token"]
pub struct VerifiedTokenBuilder {
    draft: Draft,
}

impl VerifiedToken {
    /// Returns a builder of a proof **without a verification**, to unit-test a handler (feature `test-util`, which release
    /// builds should not enable).
    ///
    /// By default it is issued by `https://auth.test` for `https://api.test` at second 0, is valid until the year 2100, and has
    /// no scopes. A [`BearerAuthLayer`](crate::resource_server::BearerAuthLayer) does not accept such a proof; to test a whole
    /// service, see [`TestIssuer`].
    ///
    /// ```
    /// use tower_client_credentials::{Scope, VerifiedToken};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Tenancy {
    ///     tenant: String,
    /// }
    ///
    /// let token = VerifiedToken::for_test("billing")
    ///     .scope(Scope::from_static("invoices:read"))
    ///     .audience("https://api.example.com")
    ///     .issuer("https://auth.example.com")
    ///     .claim("tenant", "acme")
    ///     .build();
    /// assert_eq!(token.client_id(), &"billing");
    /// assert!(token.audiences().eq(["https://api.example.com"]));
    /// assert_eq!(token.claims::<Tenancy>()?.tenant, "acme");
    /// # Ok::<(), tower_client_credentials::verification::ClaimsError>(())
    /// ```
    pub fn for_test(client_id: &str) -> VerifiedTokenBuilder {
        const YEAR_2100: Duration = Duration::from_secs(4_102_444_800);
        let start = UnixTime::at(SystemTime::UNIX_EPOCH);
        VerifiedTokenBuilder { draft: Draft::new(ISSUER, client_id, start, start.after(YEAR_2100)) }
    }
}

impl VerifiedTokenBuilder {
    /// Sets the issuer.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.draft.set("iss", issuer.into());
        self
    }

    /// Returns the proof.
    ///
    /// # Panics
    ///
    /// If the claims are not those of an access token (RFC 9068 §2.2): the client id is malformed, the subject is empty, or
    /// [`claim`](Self::claim) gave one of them another type.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a mistake in a test should stop it")]
    pub fn build(self) -> VerifiedToken {
        VerifiedToken::unverified(self.draft.payload())
            .expect("the claims are those of an access token (RFC 9068 §2.2)")
    }
}

/// An issuer for tests that signs any token a test needs (feature `test-util`; without the feature this type does not exist).
///
/// The tokens are real: the service under test verifies them as in production, with a [`Verifier`] of this issuer.
///
/// 1. Each issuer generates its own key. Only the public key leaves it. Only verifiers of the same instance accept its tokens,
///    even if another issuer has the same name.
/// 2. It authenticates no one. Enable the feature `test-util` only in `[dev-dependencies]`. Each new issuer logs a warning.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use axum::{Router, body::Body, routing::get};
/// use http::Request;
/// use tower::ServiceExt;
/// use tower_client_credentials::verification::TestIssuer;
/// use tower_client_credentials::{BearerAuthLayer, Scope, VerifiedToken, Verifier};
///
/// const READ: Scope = Scope::from_static("invoices:read");
///
/// fn app(verifier: Verifier) -> Router {
///     let protect = BearerAuthLayer::new(verifier).require_scope(READ);
///     Router::new().route("/", get(async |token: VerifiedToken| token.client_id().to_string()).layer(protect))
/// }
///
/// let issuer = TestIssuer::new();
/// let app = app(issuer.verifier("https://api.example.com"));
/// for (token, status) in [
///     (issuer.token("billing").audience("https://api.example.com").scope(READ), 200),
///     (issuer.token("billing").audience("https://api.example.com"), 403),
///     (issuer.token("billing").audience("https://other.example.com").scope(READ), 401),
///     (issuer.token("billing").audience("https://api.example.com").scope(READ).expired(), 401),
/// ] {
///     let request = Request::get("/").header("authorization", format!("Bearer {}", token.sign()));
///     assert_eq!(app.clone().oneshot(request.body(Body::empty())?).await?.status(), status);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TestIssuer {
    name: Issuer,
    key: Arc<SigningKey>,
    clock: Arc<dyn Clock>,
}

impl TestIssuer {
    /// Creates an issuer with a new ES256 key and the name `https://auth.test`.
    ///
    /// # Panics
    ///
    /// If the system has no random bytes.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a default should not generate a new key each time")]
    #[expect(clippy::expect_used, reason = "a mistake in a test should stop it")]
    pub fn new() -> Self {
        tracing::warn!(
            "a TestIssuer signs tokens without authenticating a client; it is for tests: remove the feature `test-util` \
             from a release build"
        );
        let key = Arc::new(SigningKey::generate(Algorithm::ES256).expect("the system has random bytes"));
        Self { name: ISSUER.parse().expect("an issuer"), key, clock: Arc::new(SystemClock) }
    }

    /// Sets the name of the issuer, which is the `iss` of its tokens. `https://auth.test` by default.
    ///
    /// # Panics
    ///
    /// If it is not a valid issuer (RFC 8414 §2).
    #[must_use]
    #[expect(clippy::expect_used, reason = "a mistake in a test should stop it")]
    pub fn name(self, issuer: &str) -> Self {
        Self { name: issuer.parse().expect("the name of an issuer"), ..self }
    }

    /// Sets the clock of the issuer and of the verifiers that it creates later. The system clock by default.
    #[must_use]
    pub fn clock(self, clock: impl Clock) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// Returns a verifier that accepts only this issuer's tokens for this audience.
    ///
    /// # Panics
    ///
    /// If it is not a valid audience (RFC 8707 §2).
    #[expect(clippy::expect_used, reason = "a mistake in a test should stop it")]
    pub fn verifier(&self, audience: impl AsRef<str>) -> Verifier {
        let audience = audience.as_ref().parse().expect("an audience");
        Verifier::new(self.name.clone(), audience, TrustedKeys::Set(self.key_set()), self.clock.clone())
    }

    /// Returns the public key, for a verifier that the application creates with [`Verifier::with_keys`].
    #[must_use]
    pub fn key_set(&self) -> KeySet {
        KeySet::from_iter([self.key.verifying_key()])
    }

    /// Returns a builder of a token for a client, issued now and valid for ten minutes.
    pub fn token(&self, client_id: &str) -> TestTokenBuilder {
        let now = UnixTime::now(&*self.clock);
        let draft = Draft::new(self.name.as_str(), client_id, now, now.after(LIFETIME));
        TestTokenBuilder { draft, key: self.key.clone(), now: self.clock.now() }
    }
}

impl fmt::Debug for TestIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestIssuer").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A builder of a token that a [`TestIssuer`] signs.
#[derive(Clone)]
#[must_use = "`sign` returns the token"]
pub struct TestTokenBuilder {
    draft: Draft,
    key: Arc<SigningKey>,
    now: SystemTime,
}

impl TestTokenBuilder {
    /// Sets the token to have expired an hour ago, which exceeds the maximum leeway of a verifier.
    pub fn expired(self) -> Self {
        let expired = self.now.checked_sub(PAST).unwrap_or(SystemTime::UNIX_EPOCH);
        self.issued_at(expired.checked_sub(LIFETIME).unwrap_or(SystemTime::UNIX_EPOCH)).expires_at(expired)
    }

    /// Removes a claim, for a token that a service must refuse.
    pub fn without_claim(mut self, name: &str) -> Self {
        self.draft.claims.remove(name);
        self
    }

    /// Signs the token: a JWT access token in compact form (RFC 9068).
    ///
    /// # Panics
    ///
    /// If the cryptographic backend fails.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a mistake in a test should stop it")]
    pub fn sign(&self) -> String {
        self.key.sign(&self.draft.payload()).expect("a key in memory can sign")
    }
}

impl fmt::Debug for TestTokenBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestTokenBuilder").field("claims", &self.draft).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{TestIssuer, VerifiedToken};
    use crate::clock::ManualClock;
    use crate::scope::Scope;
    use crate::verification::VerifyError;
    use crate::{AuthorizationServer, KeyRing, MemoryStore};

    const API: &str = "https://api.example.com";
    const READ: Scope = Scope::from_static("read");
    const WRITE: Scope = Scope::from_static("write");

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Tenancy {
        tenant: String,
        floors: Vec<u8>,
    }

    fn assert_has_all_settings(token: &VerifiedToken, issuer: &str) {
        assert_eq!((token.client_id().as_str(), token.subject()), ("billing", "svc:billing"));
        assert_eq!((token.issuer(), token.token_id()), (issuer, "one"));
        assert!(token.audiences().eq([API, "https://other.example.com"]));
        assert_eq!(token.scopes().as_str(), "read write");
        assert_eq!((token.issued_at(), token.expires_at()), (at(1_000), at(2_000)));
        let expected = Tenancy { tenant: "acme".to_owned(), floors: vec![1, 2] };
        assert_eq!(token.claims::<Tenancy>().unwrap(), expected);
    }

    macro_rules! say_all_of_it {
        ($builder:expr) => {
            $builder
                .subject("svc:billing")
                .audience(API)
                .audience("https://other.example.com")
                .scope(READ)
                .scope(WRITE)
                .token_id("one")
                .issued_at(at(1_000))
                .expires_at(at(2_000))
                .claim("tenant", "acme")
                .claim("floors", [1, 2])
        };
    }

    #[test]
    fn a_test_proof_has_the_claims_that_were_set() {
        let token = say_all_of_it!(VerifiedToken::for_test("billing")).issuer("https://auth.example.com").build();
        assert_has_all_settings(&token, "https://auth.example.com");
        let plain = VerifiedToken::for_test("billing").build();
        assert_eq!((plain.subject(), plain.issuer(), plain.scopes().as_str()), ("billing", "https://auth.test", ""));
        assert!(plain.audiences().eq(["https://api.test"]));
    }

    #[test]
    #[should_panic(expected = "the claims are those of an access token")]
    fn a_proof_with_a_malformed_client_id_panics() {
        let _ = VerifiedToken::for_test("é").build();
    }

    #[test]
    fn a_token_of_a_test_issuer_is_verified_and_has_the_claims_that_were_set() {
        let issuer = TestIssuer::new().name("https://auth.example.com").clock(ManualClock::at(at(1_500)));
        let token = say_all_of_it!(issuer.token("billing")).sign();
        assert_has_all_settings(&issuer.verifier(API).verify_now(&token).unwrap(), "https://auth.example.com");
    }

    #[test]
    fn a_test_issuer_signs_tokens_that_a_service_must_refuse() {
        let issuer = TestIssuer::new();
        let verifier = issuer.verifier("https://api.test");
        let refused = |token: super::TestTokenBuilder| match verifier.verify_now(&token.sign()) {
            Err(VerifyError::Refused(invalid)) => invalid.reason().name(),
            other => panic!("{other:?}"),
        };
        assert!(verifier.verify_now(&issuer.token("billing").sign()).is_ok());
        assert_eq!(refused(issuer.token("billing").expired()), "expired");
        assert_eq!(refused(issuer.token("billing").audience(API)), "audience");
        assert_eq!(refused(issuer.token("billing").without_claim("jti")), "claims");
        assert_eq!(refused(issuer.token("billing").claim("exp", "soon")), "claims");
    }

    #[test]
    fn only_the_verifiers_of_the_same_test_issuer_accept_its_tokens() {
        let name = "https://auth.example.com";
        let issuer = TestIssuer::new().name(name);
        let token = issuer.token("billing").audience(API).sign();
        assert!(issuer.verifier(API).verify_now(&token).is_ok());
        let server = AuthorizationServer::new(name, KeyRing::generate().unwrap(), MemoryStore::default()).unwrap();
        assert!(server.verifier(API).unwrap().verify_now(&token).is_err());
        assert!(TestIssuer::new().name(name).verifier(API).verify_now(&token).is_err());
    }
}
