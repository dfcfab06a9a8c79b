//! The error for a token that is longer than resource servers accept. It is found before the signature, and names the
//! claims that make the token long.

use super::grant::Grant;
use crate::authorization_server::error::{Fault, TokenError};
use crate::issuer::Issuer;
use crate::registration::shorten;
use crate::verification::LONGEST_TOKEN;

/// A part of a token and its size in bytes.
struct Part {
    bytes: usize,
    text: String,
    fix: &'static str,
}

impl Part {
    fn of(claim: &str, bytes: usize, fix: &'static str) -> Self {
        Self { bytes, text: format!("`{claim}` has {bytes} bytes"), fix }
    }
}

/// Returns the error for a grant whose token would have `length` bytes.
pub(super) fn error(issuer: &Issuer, grant: &Grant, length: usize) -> TokenError {
    let mut parts = parts(issuer, grant);
    parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
    let longest = parts.first().map_or(0, |part| part.bytes);
    // Parts with less than a tenth of the longest part are not the reason.
    let named: Vec<&str> =
        parts.iter().take_while(|part| part.bytes * 10 >= longest).map(|part| part.text.as_str()).collect();
    let detail = format!(
        "the token would have {length} bytes, but resource servers accept at most {LONGEST_TOKEN}: {}; {}",
        named.join(", "),
        parts.first().map_or("", |part| part.fix),
    );
    TokenError::new(Fault::UNAVAILABLE).of(grant.client().id()).detailed(detail)
}

fn parts(issuer: &Issuer, grant: &Grant) -> Vec<Part> {
    const SCOPE: &str = "request fewer scopes, or give the client fewer or shorter ones";
    const AUDIENCE: &str = "request fewer resources";
    let audiences = grant.audiences().iter().map(|audience| audience.as_str().len()).sum();
    let mut parts = vec![
        Part::of("scope", grant.scopes().as_str().len(), SCOPE),
        Part::of("aud", audiences, AUDIENCE),
        Part::of("sub", grant.client().subject().len(), "give the client a shorter subject"),
        Part::of("iss", issuer.as_str().len(), "give the server a shorter issuer"),
    ];
    parts.extend(of_the_hook(grant));
    parts
}

/// Returns all claims of the grant hook together, since many short claims can be as long as one long claim.
fn of_the_hook(grant: &Grant) -> Option<Part> {
    let sizes = grant.claims().iter().map(|(name, value)| (name.len() + value.to_string().len(), name));
    let (mut bytes, mut longest) = (0, None);
    for size in sizes {
        bytes += size.0;
        longest = longest.max(Some(size));
    }
    let (most, name) = longest?;
    let name = shorten(name).escape_debug();
    let text = match grant.claims().len() {
        1 => format!("the claim `{name}` of the grant hook has {bytes} bytes"),
        count => format!("the {count} claims of the grant hook have {bytes} bytes, {most} of them in `{name}`"),
    };
    Some(Part { bytes, text, fix: "add less in the grant hook" })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Request, StatusCode};
    use http_body_util::Full;
    use tower::ServiceExt as _;

    use crate::authorization_server::{AuthorizationServerBuilder, PendingGrant, TokenError};
    use crate::keys::{Algorithm, SigningKey};
    use crate::{AuthorizationServer, Client, ClientSecret, KeyRing, MemoryStore, Scope};

    const API: &str = "https://api.example.com";

    /// Returns the operator's text of the refusal by a server whose key cannot sign.
    async fn refusal(
        client: impl FnOnce(Client) -> Client,
        form: &str,
        settings: impl FnOnce(AuthorizationServerBuilder) -> AuthorizationServerBuilder,
    ) -> String {
        let secret = ClientSecret::generate().unwrap();
        let key = SigningKey::generate(Algorithm::ES256).unwrap().unable_to_sign();
        let clients = MemoryStore::try_from([client(Client::new("billing", &secret).audience(API))]).unwrap();
        let server = AuthorizationServer::builder("https://auth.example.com", KeyRing::new(key), clients);
        let server = settings(server).build().unwrap();
        let credentials =
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("billing:{}", secret.expose()));
        let request = Request::post("/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", format!("Basic {credentials}"))
            .body(Full::new(Bytes::from(format!("grant_type=client_credentials{form}"))))
            .unwrap();
        let response = server.token_service().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        response.extensions().get::<TokenError>().unwrap().to_string()
    }

    fn scopes(count: usize) -> impl Iterator<Item = Scope> {
        (0..count).map(|number| format!("scope:{number:04}").parse().unwrap())
    }

    #[tokio::test]
    async fn a_token_within_the_limit_is_signed() {
        let error = refusal(|client| client, "", |server| server).await;
        assert!(error.ends_with("the key could not sign"), "{error}");
        let error = refusal(|client| client.scopes(scopes(1_000)), "", |server| server.default_scopes(one())).await;
        assert!(error.ends_with("the key could not sign"), "{error}");
    }

    fn one() -> Scope {
        Scope::from_static("scope:0000")
    }

    #[tokio::test]
    async fn an_error_names_the_scopes_that_make_a_token_too_long_and_nothing_is_signed() {
        let names: Vec<String> = scopes(1_500).map(|scope| scope.to_string()).collect();
        let form = format!("&scope={}", names.join("+"));
        let error = refusal(|client| client.scopes(scopes(1_500)), &form, |server| server).await;
        assert!(error.contains("client `billing`: the token would have 22"), "{error}");
        assert!(error.contains("accept at most 16384: `scope` has 16499 bytes; request fewer scopes"), "{error}");
        assert!(!error.contains("hook") && !error.contains("scope:0"), "{error}");
    }

    #[tokio::test]
    async fn an_error_names_the_claims_of_the_hook_that_make_a_token_too_long_and_nothing_is_signed() {
        let long = |grant: &mut PendingGrant| {
            grant.add_claim("every\nthing", "v".repeat(13_000));
            Ok(())
        };
        let error = refusal(|client| client, "", |server| server.grant_hook(long)).await;
        assert!(
            error.contains(": the claim `every\\nthing` of the grant hook has 13013 bytes; add less in the grant hook"),
            "{error}"
        );
        assert!(!error.contains("vvv") && !error.contains("scope"), "{error}");

        let many = |grant: &mut PendingGrant| {
            (0..1_000).for_each(|number| grant.add_claim(format!("claim-{number:04}"), "v"));
            grant.add_claim("the longest", "v".repeat(100));
            Ok(())
        };
        let error = refusal(|client| client, "", |server| server.grant_hook(many)).await;
        assert!(
            error.contains(": the 1001 claims of the grant hook have 13113 bytes, 113 of them in `the longest`;"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn an_error_names_each_claim_with_a_large_part_in_a_token_that_is_too_long() {
        let names: Vec<String> = scopes(800).map(|scope| scope.to_string()).collect();
        let form = format!("&scope={}", names.join("+"));
        let client = |client: Client| client.scopes(scopes(800)).subject("s".repeat(4_000));
        let error = refusal(client, &form, |server| server).await;
        assert!(error.contains(": `scope` has 8799 bytes, `sub` has 4000 bytes; request fewer scopes"), "{error}");
    }
}
