//! [`TokenProfile`]: how the tokens of an issuer differ from RFC 9068.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::claims::Claims;
use super::jws::Header;
use super::refused_token::{listed, quoted};
use super::token_type::is_access_token;
use super::{InvalidToken, RefusedToken};
use crate::audience::Audience;
use crate::debug_fields::debug_fields;
use crate::scope::Scopes;

/// The differences of an issuer's tokens from RFC 9068, set by [`Verifier::tokens`](crate::verification::Verifier::tokens).
///
/// The default is strict RFC 9068. Each setting allows one difference, so use only those that the issuer needs. The times and
/// the signature are always checked.
///
/// | issuer | settings in addition to the audience |
/// |---|---|
/// | Auth0 (its own profile) | `jwt_type`, `client_id_in(["azp"])`, `without_token_id`, `require_claim("gty", "client-credentials")` |
/// | Amazon Cognito | `jwt_type`, `clients_instead_of_audience([…])`, `require_claim("token_use", "access")` |
/// | Entra ID | `jwt_type`, `client_id_in(["azp", "appid"])`, `audience_named([…])`, `without_token_id`, `map_scopes` for `roles` |
/// | Google (service accounts' ID tokens) | `jwt_type`, `client_id_in(["azp"])`, `without_token_id`, `require_claim("email", "…@….iam.gserviceaccount.com")` |
/// | Keycloak | `jwt_type`, `client_id_in(["azp"])`, `require_claim("typ", "Bearer")`, `map_scopes` for roles |
/// | Okta | `jwt_type`, `client_id_in(["cid"])`, `scopes_in(["scp"])` |
/// | Ory Hydra | `jwt_type`, `scopes_in(["scp"])` |
/// | league/oauth2-server (PHP), Laravel Passport | `jwt_type`, `client_id_in(["aud"])`, `clients_instead_of_audience([…])`, `scopes_in(["scopes"])`, `without_subject`, `without_token_issuer` |
///
/// Google signs an ID token for any audience that an account requests, for the accounts of all its customers. `aud` therefore
/// excludes no one, and the claim names the intended account. Without it, anyone with a Google Cloud project gets access. For
/// several accounts, use a [policy](crate::resource_server::BearerAuthLayer::policy) that compares the client with a list.
///
/// ```
/// use tower_client_credentials::keys::KeySet;
/// use tower_client_credentials::verification::TokenProfile;
/// use tower_client_credentials::{Scope, Scopes, Verifier};
/// # let pem = include_str!("../../tests/keys/p256.pub.pem");
/// # let keys = KeySet::from([tower_client_credentials::keys::VerifyingKey::from_pem(pem)?]);
///
/// let keycloak = TokenProfile::default()
///     .jwt_type()
///     .client_id_in(["azp"])
///     .require_claim("typ", "Bearer")
///     .map_scopes(|claims| {
///         let roles = claims["realm_access"]["roles"].as_array().into_iter().flatten();
///         roles.filter_map(|role| role.as_str()?.parse::<Scope>().ok()).collect::<Scopes>()
///     });
/// let verifier = Verifier::with_keys("https://sso.example.com/realms/main", "https://api.example.com", keys)?
///     .tokens(keycloak);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[allow(clippy::struct_excessive_bools)] // each is a difference of its own
#[must_use = "a profile is not used until a verifier has it"]
pub struct TokenProfile {
    jwt_type: bool,
    pub(super) ignores_foreign_keys: bool,
    audience: AudienceRule,
    pub(super) client_id: Vec<String>,
    pub(super) scopes: Vec<String>,
    pub(super) map_scopes: Option<MapScopes>,
    pub(super) required: Vec<(String, Value)>,
    pub(super) accepts_bound_tokens: bool,
    pub(super) without_token_id: bool,
    pub(super) without_subject: bool,
    pub(super) without_issuer: bool,
}

type MapScopes = Arc<dyn Fn(&Value) -> Scopes + Send + Sync>;

/// The rule by which a token is for this API.
#[derive(Clone, Debug)]
enum AudienceRule {
    /// `aud` contains the audience of the verifier.
    Own,
    /// `aud` contains one of these.
    Named(Vec<String>),
    /// `aud` is not checked; the client must be one of these.
    Clients(Vec<String>),
}

impl Default for TokenProfile {
    /// Returns the rules of RFC 9068.
    fn default() -> Self {
        Self {
            jwt_type: false,
            ignores_foreign_keys: false,
            audience: AudienceRule::Own,
            client_id: vec!["client_id".to_owned()],
            scopes: vec!["scope".to_owned()],
            map_scopes: None,
            required: Vec::new(),
            accepts_bound_tokens: false,
            without_token_id: false,
            without_subject: false,
            without_issuer: false,
        }
    }
}

impl TokenProfile {
    /// Also accepts tokens with `typ` `JWT`, or without `typ`, as access tokens.
    ///
    /// The type prevents an ID token from being used as an access token (RFC 8725 §3.11). Without it, another check must do so:
    /// an audience that only access tokens have, or a [required claim](Self::require_claim).
    pub fn jwt_type(self) -> Self {
        Self { jwt_type: true, ..self }
    }

    /// Ignores `jku`, `jwk` and `x5u` in a header. They are refused by default. Some issuers always send one. They are never
    /// followed.
    pub fn ignore_foreign_keys(self) -> Self {
        Self { ignores_foreign_keys: true, ..self }
    }

    /// Sets the claims that may name the client, instead of `client_id`. The first one present counts. Common are `azp`,
    /// `appid`, `cid`, `sub`, and `aud` if it names one client.
    pub fn client_id_in<N: Into<String>>(self, claims: impl IntoIterator<Item = N>) -> Self {
        Self { client_id: claims.into_iter().map(Into::into).collect(), ..self }
    }

    /// Sets the claims that contain scopes, instead of `scope`. All that are present count, as strings of scopes or as arrays.
    /// Common are `scp` and `scopes`.
    pub fn scopes_in<N: Into<String>>(self, claims: impl IntoIterator<Item = N>) -> Self {
        Self { scopes: claims.into_iter().map(Into::into).collect(), ..self }
    }

    /// Adds scopes that follow from other claims, such as roles and groups. `map` gets the claims as a JSON object.
    pub fn map_scopes(self, map: impl Fn(&Value) -> Scopes + Send + Sync + 'static) -> Self {
        Self { map_scopes: Some(Arc::new(map)), ..self }
    }

    /// Sets the names of this API in `aud`, if they differ from the verifier's audience. `aud` must contain one of them.
    pub fn audience_named<N: Into<String>>(self, names: impl IntoIterator<Item = N>) -> Self {
        Self { audience: AudienceRule::Named(names.into_iter().map(Into::into).collect()), ..self }
    }

    /// Accepts any `aud`, or none, and admits only these clients instead: for issuers whose tokens do not name the API.
    /// A token that such a client obtained for another API is accepted here, too.
    pub fn clients_instead_of_audience<N: Into<String>>(self, clients: impl IntoIterator<Item = N>) -> Self {
        Self { audience: AudienceRule::Clients(clients.into_iter().map(Into::into).collect()), ..self }
    }

    /// Requires a claim with this value, such as `token_use` with the value `access`.
    pub fn require_claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.required.push((name.into(), value.into()));
        self
    }

    /// Accepts tokens with a `cnf` claim (RFC 7800), which binds them to a key or certificate, as plain bearer tokens. By
    /// default they are refused, and so are introspection responses with `cnf`. An introspection response with a `token_type`
    /// other than `Bearer` is refused in any case.
    ///
    /// Dangerous: nothing checks that the caller has the key (RFC 9449 §7.1) or the certificate (RFC 8705 §3). A stolen token
    /// is accepted, which is what the issuer meant to prevent. Use it only if a part in front of this service checks the
    /// binding.
    pub fn dangerous_accept_bound_tokens(self) -> Self {
        Self { accepts_bound_tokens: true, ..self }
    }

    /// Accepts tokens without a `jti`. Their [`token_id`](crate::verification::VerifiedToken::token_id) is empty, and they
    /// cannot be revoked individually.
    pub fn without_token_id(self) -> Self {
        Self { without_token_id: true, ..self }
    }

    /// Accepts tokens without a `sub`, or with an empty one. Their [`subject`](crate::verification::VerifiedToken::subject) is
    /// the client.
    pub fn without_subject(self) -> Self {
        Self { without_subject: true, ..self }
    }

    /// Accepts tokens without an `iss`. The key alone identifies the issuer, so no other issuer may use it. A verifier of
    /// [several issuers](crate::verification::Verifier::or) refuses such tokens, since it could not choose.
    pub fn without_token_issuer(self) -> Self {
        Self { without_issuer: true, ..self }
    }

    /// Returns whether the type is that of an access token.
    pub(super) fn admits_type(&self, header: &Header<'_>) -> bool {
        is_access_token(&header.typ)
            || self.jwt_type && (header.typ.is_empty() || header.typ.eq_ignore_ascii_case("jwt"))
    }

    /// Returns why a token with `cnf` is refused, for the operator. The value is not shown.
    #[cold]
    pub(super) fn bound() -> RefusedToken {
        let detail = "`cnf` is present, expected no `cnf` (RFC 7800): nothing here checks that the caller has the key or \
                      certificate; `TokenProfile::dangerous_accept_bound_tokens` accepts it without that check";
        RefusedToken::because(InvalidToken::Bound, detail.to_owned())
    }

    /// Returns the `aud` found and the one expected, for the operator.
    pub(super) fn for_another_audience(&self, audience: &Audience, claims: &Claims) -> RefusedToken {
        let audiences = listed(claims.audiences.iter().map(|audience| &**audience));
        let detail = match &self.audience {
            AudienceRule::Own => format!(
                "`aud` is {audiences}, expected {} in it, compared character by character; give the verifier this audience, \
                 or name it with `TokenProfile::audience_named`, to accept it",
                quoted(audience.as_str())
            ),
            AudienceRule::Named(names) => format!(
                "`aud` is {audiences}, expected one of {}; `TokenProfile::audience_named` adds another",
                listed(names.iter().map(String::as_str))
            ),
            AudienceRule::Clients(clients) => format!(
                "the client is {}, expected one of {}; `TokenProfile::clients_instead_of_audience` adds another",
                quoted(claims.client_id.as_str()),
                listed(clients.iter().map(String::as_str))
            ),
        };
        RefusedToken::because(InvalidToken::Audience, detail)
    }

    /// Returns whether the token is for this API.
    pub(super) fn is_for(&self, audience: &Audience, claims: &Claims) -> bool {
        match &self.audience {
            AudienceRule::Own => claims.audiences.contains(audience.text()),
            AudienceRule::Named(names) => claims.audiences.iter().any(|own| names.iter().any(|name| **own == **name)),
            AudienceRule::Clients(clients) => clients.iter().any(|client| claims.client_id == client.as_str()),
        }
    }

    /// Returns whether the token may lack an `aud`.
    pub(super) fn without_audience(&self) -> bool {
        matches!(self.audience, AudienceRule::Clients(_))
    }
}

debug_fields!(TokenProfile { jwt_type, audience, client_id, scopes });

/// The claims as an object with unique names.
pub(super) type Object = Map<String, Value>;
