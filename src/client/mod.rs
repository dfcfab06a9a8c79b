//! The calling side: [`ClientCredentialsLayer`] sends the requests of an HTTP client with access tokens, and
//! [`CachedTokenSource`] gives the tokens to anything else.
//!
//! 1. A token is refreshed in the background once 72 to 80 % of its life has passed, when a request needs it then. Callers wait
//!    only if there is no token that can be reused. One request for a token is in flight for each set of scopes and resources,
//!    in a task of its own: a caller that is cancelled ends nothing.
//! 2. An expired token is never sent. The remaining life is checked when the token is attached, by the wall clock and the monotonic
//!    clock, with a margin (5 s, at most a tenth of the life). With the clock of the system, requests within the same 20 ms share one
//!    check. A token with less than 1 s left, or of unknown life, is given only to the callers that waited for it.
//! 3. A refused token is replaced and never sent again. A 401 with `error="invalid_token"`, a 401 without any challenge, and a gRPC answer
//!    with only the status `UNAUTHENTICATED` refuse it. The request is repeated at most once, with a new token, if its body
//!    allows that. Tokens that were accepted before are replaced at once, up to 20 in a row and then one per second. Of tokens that are
//!    refused from the start, the first is replaced at once, and the next ones after pauses as in rule 4. While no other token may
//!    be requested, a token stays in use that was accepted before, or that was refused without a challenge. If the request for another
//!    one fails, a token that was refused without a challenge is used again. A second token that the same request was refused with
//!    stays in use too, since the cause is not the token then. In these cases the request gets the 401.
//! 4. Without a token, a request is not sent. It fails with [`CallError::Token`]. After a failure, the next request for a token
//!    is made 0.5 to 1 s later, then 1 to 2 s, up to 30 s, and not before a `Retry-After` of up to 5 minutes. In between, callers
//!    get the same error at once. A token that is valid is used while its refresh fails.
//! 5. Tokens are sent to the origins that the settings name, and to no other: other hosts, ports and schemes, and plain http
//!    beyond loopback, fail before anything is sent. A layer that follows redirects must be outside of this layer: then each
//!    redirect is checked like any request.
//! 6. The credential is sent only to the token endpoint of its issuer, as configured or as the issuer's own metadata names it.
//!    Redirects are not followed there. Secrets and files are read, and assertions made, anew for each request.
//! 7. No answer of a resource server changes where the credential is sent, unless [`discover`](ClientCredentialsLayer::discover) is
//!    used, and then only to issuers that the settings name.
//! 8. A 403 with `error="insufficient_scope"` changes nothing, unless [`max_scopes`](ClientCredentials::max_scopes) allows to request
//!    the scopes that it names. Once the issuer gives a token with them, all calls use it. As long as it does not, the tokens from
//!    before stay in use.
//!
//! # When something fails
//!
//! | what | what happens |
//! |---|---|
//! | the issuer is down | Tokens are used to their end. Then calls fail at once with [`CallError::Token`], whose [`retry_after`](TokenSourceError::retry_after) says when the next attempt is due. The first call after that finds the issuer up again. |
//! | the issuer is down at the start | The same. Nothing is requested before the first call. |
//! | the issuer changes its keys | Nothing has to be done here. A resource server that does not know a key yet answers 401 or 503; a 401 is repeated once with a new token. |
//! | the issuer moves its token endpoint | A failure there makes the next attempt read the metadata again. A configured [`token_endpoint`](ClientCredentials::token_endpoint) does not follow. |
//! | the issuer's metadata cannot be had any more | The token endpoint that is known stays in use, and the metadata is requested again for later tokens. |
//! | the metadata of the resource takes long | It is read in a task of its own, once for all callers. Tokens of the issuer that was found before stay in use meanwhile. |
//! | a token is revoked | The resource server answers 401. The token is dropped, and the call is repeated with a new one. |
//! | an issuer that repeats tokens gives the refused one again | If the challenge said `invalid_token`, it is not sent, and calls fail with [`TokenSourceErrorKind::TokenRefused`] until the issuer gives another one. If there was no challenge, it is sent again. |
//! | one path answers each request with a 401 | Its calls get the 401. The calls of other paths are not affected. Only if it says `invalid_token`, other calls may fail: before any token was accepted, for as long as the pauses of rule 3; later, for as long as the issuer is down, since the refused token is not sent again. |
//! | a resource server refuses every token | Each call returns the 401 of the resource server, or fails with [`TokenSourceErrorKind::TokenRefused`] while no new token may be requested. |
//! | the process or the machine sleeps | The wall clock shows it. The first call after that waits for a new token. |
//! | the clock jumps ahead | The token is replaced early. |
//! | the clock is set back | The monotonic clock ends the token in time. Only if the clock is set back by the time since the last call, to within one second, a token can be sent for one second after its end. |
//! | the machine sleeps, and its clock is set back as far | This cannot be noticed. The resource server refuses the token, which is replaced. |
//! | the clock is wrong by a constant | Tokens are not affected: `expires_in` is relative. Assertions are: the issuer refuses those that are too far from its time. |
//! | the clock of a resource server is ahead | It refuses tokens early. Increase [`expiry_margin`](ClientCredentials::expiry_margin). |
//! | a caller is cancelled | The request for a token that it caused continues for the others. |
//! | the runtime that requested a token stands still | Callers in other runtimes wait for 8 times the [`request_timeout`](ClientCredentials::request_timeout), and then request a token themselves. |
//! | the runtime that requested a token ends | Callers in other runtimes get an error, and the next one makes a new attempt. |
//!
//! # Servers of others
//!
//! Each row is tested against a local server that behaves so.
//!
//! | server | issuer | authentication | parameters |
//! |---|---|---|---|
//! | Keycloak | `https://id.example.com/realms/main` | secret | [`scope`](ClientCredentials::scope) |
//! | Auth0 | `https://tenant.eu.auth0.com/`, with the slash | [`secret_post`](ClientAuthentication::secret_post) | [`parameter("audience", …)`](ClientCredentials::parameter) |
//! | Entra ID | `https://login.microsoftonline.com/TENANT/v2.0` | [`secret_post`](ClientAuthentication::secret_post) | the scope `api://APPLICATION/.default` |
//! | Okta | `https://company.okta.com/oauth2/default` | [`private_key_jwt`](ClientAuthentication::private_key_jwt), with the token endpoint as [`assertion_audience`](ClientCredentials::assertion_audience) | [`scope`](ClientCredentials::scope) |
//! | Cognito | `https://cognito-idp.REGION.amazonaws.com/POOL` | secret | the scope `RESOURCE/NAME` |
//! | Hydra | `https://hydra.example.com/`, with the slash | secret | [`parameter("audience", …)`](ClientCredentials::parameter) |
//!
//! Those that do not know [`resource`](ClientCredentials::resource) ignore it (RFC 6749 §3.2). Without it, use
//! [`ClientCredentialsLayer::from_source`] with the URL of the API.
//!
//! # Deployment caveat
//!
//! Each process has its own tokens: a fleet of 1,000 replicas requests 1,000 tokens per lifetime. The issuer's limit has to allow
//! that, also when all of them start together.
//!
//! # Example
//!
//! Without a layer:
//!
//! ```
//! use tower_client_credentials::ClientCredentials;
//! use tower_client_credentials::client::SecretSource;
//!
//! # #[cfg(feature = "remote")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let tokens = ClientCredentials::new("https://auth.example.com", "billing", SecretSource::from_file("/run/secrets/billing"))
//!     .resource("https://api.example.com")
//!     .build()?;
//! let mut request = http::Request::get("https://api.example.com/invoices").body(())?;
//! tokens.authorize(request.headers_mut()).await?;
//! # Ok(()) }
//! ```

mod access_token;
mod attempts;
mod cached_token_source;
mod concurrency;
mod config_error;
mod discovered_source;
mod discovery;
mod error;
mod future;
mod in_flight;
#[cfg(test)]
mod interleavings;
mod issuer_client;
mod layer;
mod layer_source;
mod lifetime;
mod origin;
mod ready_tokens;
#[cfg(test)]
mod ready_tokens_tests;
mod refusal;
mod refused_tokens;
mod repeat;
mod saved_head;
mod sent_request;
mod service;
mod service_tokens;
mod settings;
mod statistics;
mod token_cache;
mod token_error;
mod token_request;
mod token_sets;
mod token_source;
mod transport;
mod watch;

pub use self::access_token::{AccessToken, InvalidAccessToken};
pub use self::cached_token_source::CachedTokenSource;
pub use self::config_error::{ClientConfigError, ClientConfigErrorKind};
pub use self::error::CallError;
pub use self::future::ResponseFuture;
pub use self::layer::ClientCredentialsLayer;
pub use self::origin::{ForbiddenDestination, InvalidOrigin};
pub use self::repeat::{CloneBody, NoRepeat, RepeatBody, Replay, ReplayBody};
pub use self::service::ClientCredentialsService;
pub use self::settings::ClientCredentials;
pub use self::statistics::Statistics;
pub use self::token_error::{TokenSourceError, TokenSourceErrorKind};
pub use self::token_source::{TokenFuture, TokenSource};
pub use self::watch::TokenWatch;
pub use crate::client_authentication::{ClientAuthentication, SecretSource};
