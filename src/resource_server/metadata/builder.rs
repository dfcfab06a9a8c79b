//! [`ResourceMetadataBuilder`]: what a resource says of itself, checked as a whole.

use std::time::Duration;

use serde::Serialize;

use super::{Inner, ResourceMetadata};
use crate::audience::Audience;
use crate::issuer::{InvalidIssuer, Issuer};
use crate::scope::Scopes;
use crate::transport::{Document, DocumentSettings};
use crate::uri::PlainHttp;

/// What [`ResourceMetadata`] says; a mistake is kept until [`build`](Self::build).
#[derive(Debug)]
pub struct ResourceMetadataBuilder {
    resource: String,
    authorization_servers: Vec<String>,
    scopes: Scopes,
    name: Option<String>,
    documentation: Option<String>,
    settings: DocumentSettings,
    plain_http: PlainHttp,
}

/// Metadata cannot be made of these settings; the text says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidResourceMetadata {
    /// The resource has no place for its metadata.
    #[error("the resource `{resource}` can have no metadata (RFC 9728 §1.2): {reason}")]
    #[non_exhaustive]
    Resource {
        /// What was given.
        resource: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An authorization server is not named by its issuer.
    #[error("an authorization server is {0}")]
    AuthorizationServer(InvalidIssuer),
    /// Nobody would issue tokens.
    #[error("no authorization server is named, so that no client can find one; add it with .authorization_server(…)")]
    NoAuthorizationServer,
    /// The documentation is not to be found at a URL.
    #[error("the documentation is no URL: {0}")]
    Documentation(&'static str),
    /// The layer is for another API than the metadata.
    #[error(
        "the metadata is of `{metadata}` and the verifier's audience is `{audience}`; they must be the same, byte for byte"
    )]
    #[non_exhaustive]
    OtherResource {
        /// What the metadata is about.
        metadata: Audience,
        /// Whom the tokens are for.
        audience: Audience,
    },
    /// No document could be made.
    #[error("the settings make no valid document: {0}")]
    Document(String),
}

// Not `#[from]`, which would make it the source as well: the text has it already.
impl From<InvalidIssuer> for InvalidResourceMetadata {
    fn from(error: InvalidIssuer) -> Self {
        Self::AuthorizationServer(error)
    }
}

/// The members of RFC 9728 §2 that hold something true of this resource; those without elements are left out. `jwks_uri`
/// is none of them: it is for keys that the resource itself signs by, and not for those of its issuers.
#[derive(Serialize)]
struct Members<'a> {
    resource: &'a str,
    authorization_servers: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes_supported: Vec<&'a str>,
    bearer_methods_supported: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_documentation: Option<&'a str>,
}

impl ResourceMetadataBuilder {
    pub(super) fn new(resource: &str) -> Self {
        Self {
            resource: resource.to_owned(),
            authorization_servers: Vec::new(),
            scopes: Scopes::NONE,
            name: None,
            documentation: None,
            settings: DocumentSettings::default(),
            plain_http: PlainHttp::default(),
        }
    }

    /// One more authorization server that issues tokens for this API, by its issuer identifier (RFC 8414 §2), under which
    /// clients find its own metadata. There must be one at least.
    #[must_use]
    pub fn authorization_server(mut self, issuer: impl AsRef<str>) -> Self {
        self.authorization_servers.push(issuer.as_ref().to_owned());
        self
    }

    /// The scopes that clients may ask for. None by default; leave out what need not be known to everybody (§2).
    #[must_use]
    pub fn scopes_supported(mut self, scopes: impl Into<Scopes>) -> Self {
        self.scopes = scopes.into();
        self
    }

    /// What people call this API. Nothing by default.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The URL of a page for developers. None by default.
    #[must_use]
    pub fn documentation(mut self, url: impl Into<String>) -> Self {
        self.documentation = Some(url.into());
        self
    }

    /// Accepts plain `http` with any host, in the resource and in its issuers. By default it is accepted on loopback only.
    ///
    /// Dangerous: an attacker on the network can read the tokens. It is for development, and for networks that encrypt
    /// underneath, such as a service mesh.
    #[must_use]
    pub fn dangerous_plain_http(mut self) -> Self {
        self.plain_http = PlainHttp::AnyHost;
        self
    }

    /// Lets web pages of any origin read it (`Access-Control-Allow-Origin: *`). Off by default.
    #[must_use]
    pub fn cross_origin(mut self) -> Self {
        self.settings.cross_origin = true;
        self
    }

    /// How long caches may keep it, in whole seconds: 5 minutes by default.
    #[must_use]
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.settings.max_age = max_age;
        self
    }

    /// Checks everything, and makes the document.
    ///
    /// # Errors
    ///
    /// The first mistake, with the mend.
    pub fn build(self) -> Result<ResourceMetadata, InvalidResourceMetadata> {
        self.check()?;
        let invalid = |reason| InvalidResourceMetadata::Resource { resource: self.resource.clone(), reason };
        let (origin, path) = crate::issuer::split_url(&self.resource, self.plain_http).map_err(invalid)?;
        // §3.1: a slash that is all of the path goes, and the rest follows the well-known part as it is.
        let path = format!("/.well-known/oauth-protected-resource{}", if path == "/" { "" } else { path });
        let url = format!("{origin}{path}");
        let document = Document::new("application/json", &self.members(), self.settings)
            .map_err(|error| InvalidResourceMetadata::Document(error.to_string()))?;
        let resource = self.resource.parse().map_err(|_| invalid("it is not an absolute URI"))?;
        Ok(ResourceMetadata { inner: Inner { resource, url, path, document }.into() })
    }

    fn check(&self) -> Result<(), InvalidResourceMetadata> {
        if self.authorization_servers.is_empty() {
            return Err(InvalidResourceMetadata::NoAuthorizationServer);
        }
        self.authorization_servers.iter().try_for_each(|issuer| Issuer::new(issuer, self.plain_http).map(drop))?;
        let documentation = self.documentation.as_deref().map_or(Ok(()), crate::uri::absolute);
        documentation.map_err(InvalidResourceMetadata::Documentation)
    }

    fn members(&self) -> Members<'_> {
        Members {
            resource: &self.resource,
            authorization_servers: &self.authorization_servers,
            scopes_supported: self.scopes.iter().collect(),
            bearer_methods_supported: ["header"],
            resource_name: self.name.as_deref(),
            resource_documentation: self.documentation.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{InvalidResourceMetadata, ResourceMetadata, ResourceMetadataBuilder};

    fn of(resource: &str) -> ResourceMetadataBuilder {
        ResourceMetadata::builder(resource).authorization_server("https://auth.example.com")
    }

    #[test]
    fn the_document_is_between_the_host_and_the_path() {
        for (resource, path) in [
            ("https://h", "/.well-known/oauth-protected-resource"),
            ("https://h/", "/.well-known/oauth-protected-resource"),
            ("https://h:8443/a/b", "/.well-known/oauth-protected-resource/a/b"),
            ("https://h/a/", "/.well-known/oauth-protected-resource/a/"),
            ("http://127.0.0.1:3000/mcp", "/.well-known/oauth-protected-resource/mcp"),
        ] {
            let metadata = of(resource).build().unwrap();
            assert_eq!(metadata.path(), path);
            let origin = metadata.url().strip_suffix(path).unwrap();
            assert!(resource.starts_with(origin) && origin.len() >= "https://h".len(), "{}", metadata.url());
            assert_eq!(metadata.resource(), &resource);
        }
    }

    #[test]
    fn a_resource_that_cannot_be_asked_over_https_has_no_metadata() {
        for resource in [
            "api",
            "api://billing",
            "urn:example:api",
            "http://api.example.com",
            "https://h?q",
            "https://h#f",
            "https://u@h",
            "https://h:99999",
            "http://[::1].evil.example",
        ] {
            let error = of(resource).build().unwrap_err();
            assert!(matches!(error, InvalidResourceMetadata::Resource { .. }), "{error}");
        }
    }

    #[test]
    fn plain_http_beyond_loopback_needs_the_setting_that_the_error_names() {
        let inside =
            |resource: &str| ResourceMetadata::builder(resource).authorization_server("http://keycloak:8080/realms/m");
        for resource in ["https://h", "http://api:3000"] {
            let error = inside(resource).build().unwrap_err().to_string();
            assert!(error.contains("`dangerous_plain_http`"), "{error}");
            assert!(inside(resource).dangerous_plain_http().build().is_ok(), "{resource}");
        }
    }

    #[test]
    fn there_is_an_authorization_server_and_each_is_an_issuer() {
        let none = ResourceMetadata::builder("https://h").build().unwrap_err();
        assert_eq!(none, InvalidResourceMetadata::NoAuthorizationServer);
        let error = of("https://h").authorization_server("auth.example.com").build().unwrap_err();
        assert!(matches!(error, InvalidResourceMetadata::AuthorizationServer(_)), "{error}");
        let error = of("https://h").authorization_server("http://[127.0.0.1]").build().unwrap_err();
        assert!(matches!(error, InvalidResourceMetadata::AuthorizationServer(_)), "{error}");
        let error = of("https://h").documentation("the wiki").build().unwrap_err();
        assert!(matches!(error, InvalidResourceMetadata::Documentation(_)), "{error}");
    }
}
