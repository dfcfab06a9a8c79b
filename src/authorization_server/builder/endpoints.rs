//! The settings for endpoints: URLs, paths, documents and bodies.

use std::time::Duration;

use http::Extensions;

use super::AuthorizationServerBuilder;
use crate::authorization_server::endpoint::PathSetting;
use crate::authorization_server::error::TokenError;
use crate::transport::{RefusalBody, RefusalHook};

/// Settings for the endpoints.
impl AuthorizationServerBuilder {
    /// Sets the base URL of the endpoints in the metadata, as clients see it. The default is the issuer's scheme and
    /// authority. Set it if clients reach the endpoints at another host than the issuer's. If a proxy removes the
    /// issuer's path, [`proxy_strips_issuer_path`](Self::proxy_strips_issuer_path) is sufficient.
    pub fn public_url(self, url: impl Into<String>) -> Self {
        Self { public_url: Some(url.into()), ..self }
    }

    /// Expects requests without the issuer's path, because a proxy removes it. With the issuer
    /// `https://host.example/auth`, clients send token requests to `https://host.example/auth/token`, as the metadata
    /// says, and this server receives them at `/token`.
    ///
    /// By default, the proxy keeps the issuer's path, and this server receives token requests at `/auth/token`. See
    /// [`TokenEndpointLayer`](crate::authorization_server::TokenEndpointLayer#behind-a-proxy-with-a-path) for the proxy
    /// configuration of both cases.
    ///
    /// The metadata path does not change. RFC 8414 §3.1 puts the metadata at
    /// `/.well-known/oauth-authorization-server/auth`, which does not begin with the issuer's path. An issuer without a
    /// path is an error.
    pub fn proxy_strips_issuer_path(mut self) -> Self {
        self.paths.stripped = true;
        self
    }

    /// Sets the path of the token endpoint, as this server receives it. The default is `/token` below the issuer's
    /// path. `None` turns the endpoint off, for a listener that serves only the key set and the metadata.
    pub fn token_path<'a>(mut self, path: impl Into<Option<&'a str>>) -> Self {
        self.paths.token = PathSetting::new(path.into());
        self
    }

    /// Sets the path of an authorization endpoint, such as `/authorize`, and adds it to the metadata. Off by default:
    /// RFC 8414 §2 requires the endpoint only for grants that use it.
    ///
    /// The server supports no grant that uses it, and answers GET and POST with 400 `unsupported_response_type`. Some
    /// clients, such as the MCP SDKs for TypeScript, Python and Rust, refuse metadata without an
    /// `authorization_endpoint`, even if they use only client credentials.
    pub fn authorization_path<'a>(mut self, path: impl Into<Option<&'a str>>) -> Self {
        self.paths.authorization = PathSetting::new(path.into());
        self
    }

    /// Sets the path of the revocation endpoint (RFC 7009). The default is `/revoke` below the issuer's path if the
    /// server has [revocations](Self::revocations), otherwise none. `None` turns the endpoint off.
    ///
    /// A client authenticates as at the token endpoint, and revokes one of its own tokens.
    pub fn revocation_path<'a>(mut self, path: impl Into<Option<&'a str>>) -> Self {
        self.paths.revocation = PathSetting::new(path.into());
        self
    }

    /// Sets the path of the introspection endpoint (RFC 7662). The default is `/introspect` below the issuer's path if
    /// the server has [revocations](Self::revocations), otherwise none: without revocations, a token is active until it
    /// expires. `None` turns the endpoint off.
    ///
    /// A client authenticates as at the token endpoint, and may introspect tokens for the audiences listed in
    /// [`Client::introspects`](crate::Client::introspects). A client that sends
    /// `Accept: application/token-introspection+jwt` gets a signed answer (RFC 9701).
    pub fn introspection_path<'a>(mut self, path: impl Into<Option<&'a str>>) -> Self {
        self.paths.introspection = PathSetting::new(path.into());
        self
    }

    /// Sets the path of the key set. The default is `/.well-known/jwks.json` below the issuer's path. `None` turns it
    /// off.
    pub fn jwks_path<'a>(mut self, path: impl Into<Option<&'a str>>) -> Self {
        self.paths.jwks = PathSetting::new(path.into());
        self
    }

    /// Sets the path of the metadata. The default is the path of RFC 8414 §3.1:
    /// `/.well-known/oauth-authorization-server`, followed by the issuer's path. `None` turns it off.
    pub fn metadata_path<'a>(mut self, path: impl Into<Option<&'a str>>) -> Self {
        self.paths.metadata = PathSetting::new(path.into());
        self
    }

    /// Sets `response_types_supported` in the metadata. The default is `["none"]`.
    ///
    /// RFC 8414 §2 requires this member, but §3.2 omits members without a value. Some clients refuse metadata without
    /// it; `none` is the registered response type for "nothing is returned". If another server provides further grants,
    /// list its response types. An empty list omits the member:
    ///
    /// ```
    /// # use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
    /// # let builder = AuthorizationServer::builder("https://a.example", KeyRing::generate()?, MemoryStore::default());
    /// let builder = builder.response_types_supported(None::<&str>);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn response_types_supported(self, types: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { response_types: types.into_iter().map(Into::into).collect(), ..self }
    }

    /// Allows web pages of any origin to read the key set and the metadata (`Access-Control-Allow-Origin: *`). Off by
    /// default. Other endpoints are not affected: web pages must not have client secrets.
    pub fn cross_origin_documents(mut self) -> Self {
        self.documents.cross_origin = true;
        self
    }

    /// Sets the maximum size of a request body, in bytes. The default is 64 KiB. A larger body gets 413.
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limits.bytes = bytes;
        self
    }

    /// Sets the maximum time in which a request body must arrive. The default is 10 seconds. A slower body gets 408.
    pub fn body_timeout(mut self, time: Duration) -> Self {
        self.body_limits.time = time;
        self
    }

    /// Sets a hook that writes the bodies of refusals, for an application with an error format of its own, such as RFC 9457.
    /// By default they are those of RFC 6749 §5.2. It applies to the token, revocation, introspection and authorization
    /// endpoints.
    ///
    /// The hook gets the error and the extensions of the request. It cannot change the status, the challenge, or any header
    /// other than the content type. It runs for refused requests only, and must not block.
    ///
    /// Keep the members `error` and `error_description`: OAuth clients read them, and RFC 6749 §5.2 requires `error`. Do not
    /// write the error's `Display` into the body: that text is for the operator, and tells an attacker which check failed.
    ///
    /// ```
    /// use serde_json::json;
    /// use tower_client_credentials::transport::RefusalBody;
    /// # use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
    /// # let builder = AuthorizationServer::builder("https://a.example", KeyRing::generate()?, MemoryStore::default());
    ///
    /// let server = builder
    ///     .refusal_body(|error, _| {
    ///         RefusalBody::problem_json(&json!({
    ///             "title": error.description(),
    ///             "status": error.status().as_u16(),
    ///             "error": error.kind().code(),
    ///             "error_description": error.description(),
    ///         }))
    ///     })
    ///     .build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn refusal_body(
        mut self,
        write: impl Fn(&TokenError, &Extensions) -> RefusalBody + Send + Sync + 'static,
    ) -> Self {
        self.refusal_body = Some(RefusalHook::new(write));
        self
    }

    /// Sets how long caches may keep the key set and the metadata, in whole seconds. The default is 5 minutes. Publish
    /// a new key for at least this time before it signs. A [managed ring](crate::keys::rotation) does this automatically: its
    /// own `max_age` applies to the key set.
    pub fn documents_max_age(mut self, max_age: Duration) -> Self {
        self.documents.max_age = max_age;
        self
    }
}
