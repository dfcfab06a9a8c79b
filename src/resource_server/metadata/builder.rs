//! [`ResourceMetadataBuilder`]: the settings of a resource's metadata, checked as a whole.

use std::time::Duration;

use serde::Serialize;

use super::{Inner, ResourceMetadata};
use crate::audience::Audience;
use crate::issuer::{InvalidIssuer, Issuer};
use crate::quoted::shown_url;
use crate::scope::Scopes;
use crate::transport::{Document, DocumentSettings};
use crate::uri::PlainHttp;

/// A builder of [`ResourceMetadata`]. [`build`](Self::build) reports mistakes in the settings.
#[derive(Debug)]
#[must_use = "the settings are not used until .build()"]
pub struct ResourceMetadataBuilder {
    resource: String,
    authorization_servers: Vec<String>,
    scopes: Scopes,
    name: Option<String>,
    documentation: Option<String>,
    settings: DocumentSettings,
    plain_http: PlainHttp,
}

/// The settings of a [`ResourceMetadata`] are invalid; the text says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidResourceMetadata {
    /// The resource identifier is invalid, or has no place for its metadata.
    #[error("invalid resource `{resource}` (RFC 9728 §1.2): {reason}")]
    #[non_exhaustive]
    Resource {
        /// The resource that was given.
        resource: String,
        /// Why it is invalid.
        reason: &'static str,
    },
    /// An authorization server has an invalid issuer identifier.
    #[error("invalid authorization server: {0}")]
    AuthorizationServer(InvalidIssuer),
    /// No authorization server was added.
    #[error("no authorization server, so clients cannot find the issuer; add it with .authorization_server(…)")]
    NoAuthorizationServer,
    /// The documentation is not an absolute URL.
    #[error("invalid documentation URL `{url}`: {reason}")]
    #[non_exhaustive]
    Documentation {
        /// The URL that was given.
        url: String,
        /// Why it is invalid.
        reason: &'static str,
    },
    /// The layer protects another API than the one that the metadata describes.
    #[error(
        "the metadata is for `{metadata}` but the verifier's audience is `{audience}`; they must be equal, byte for byte"
    )]
    #[non_exhaustive]
    OtherResource {
        /// The resource of the metadata.
        metadata: Audience,
        /// The audience of the verifier.
        audience: Audience,
    },
    /// The document cannot be rendered.
    #[error("cannot render the metadata document: {0}")]
    Document(String),
}

// Not `#[from]`: it would set the source, too, whose text is already part of this error's text.
impl From<InvalidIssuer> for InvalidResourceMetadata {
    fn from(error: InvalidIssuer) -> Self {
        Self::AuthorizationServer(error)
    }
}

/// The members of RFC 9728 §2 that apply to this resource; empty ones are omitted. `jwks_uri` is not among them: it is for
/// keys with which the resource itself signs, not for those of its issuers.
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

    /// Adds an authorization server that issues tokens for this API, by its issuer identifier (RFC 8414 §2). Clients find its
    /// metadata below that identifier. At least one is required.
    pub fn authorization_server(mut self, issuer: impl AsRef<str>) -> Self {
        self.authorization_servers.push(issuer.as_ref().to_owned());
        self
    }

    /// Sets the scopes that clients may request. None by default; omit scopes that should not be public (§2).
    pub fn scopes_supported(self, scopes: impl Into<Scopes>) -> Self {
        Self { scopes: scopes.into(), ..self }
    }

    /// Sets the human-readable name of this API. None by default.
    pub fn name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// Sets the URL of a page for developers. None by default.
    pub fn documentation(self, url: impl Into<String>) -> Self {
        Self { documentation: Some(url.into()), ..self }
    }

    /// Accepts plain `http` with any host, in the resource and its issuers. By default only with loopback hosts.
    ///
    /// Dangerous: an attacker on the network can read the tokens. For development, and for networks that encrypt underneath,
    /// such as a service mesh.
    pub fn dangerous_plain_http(self) -> Self {
        Self { plain_http: PlainHttp::AnyHost, ..self }
    }

    /// Lets web pages of any origin read the document (`Access-Control-Allow-Origin: *`). Off by default.
    pub fn cross_origin(mut self) -> Self {
        self.settings.cross_origin = true;
        self
    }

    /// Sets how long caches may keep the document, in whole seconds. 5 minutes by default.
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.settings.max_age = max_age;
        self
    }

    /// Checks all settings and renders the document.
    ///
    /// # Errors
    ///
    /// The first invalid setting, with how to fix it.
    pub fn build(self) -> Result<ResourceMetadata, InvalidResourceMetadata> {
        self.check()?;
        let invalid = |reason| InvalidResourceMetadata::Resource { resource: shown_url(&self.resource), reason };
        let (origin, path) = crate::issuer::split_url(&self.resource, self.plain_http).map_err(invalid)?;
        // §3.1: a path that is only a slash is removed; any other path follows the well-known part unchanged.
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
        let Some(url) = &self.documentation else { return Ok(()) };
        crate::uri::absolute(url)
            .map_err(|reason| InvalidResourceMetadata::Documentation { url: shown_url(url), reason })
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
    fn the_well_known_path_is_inserted_between_host_and_path() {
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
    fn a_resource_without_a_valid_https_url_is_refused() {
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
    fn plain_http_to_other_hosts_needs_the_setting_that_the_error_names() {
        let inside =
            |resource: &str| ResourceMetadata::builder(resource).authorization_server("http://keycloak:8080/realms/m");
        for resource in ["https://h", "http://api:3000"] {
            let error = inside(resource).build().unwrap_err().to_string();
            assert!(error.contains("`dangerous_plain_http`"), "{error}");
            assert!(inside(resource).dangerous_plain_http().build().is_ok(), "{resource}");
        }
    }

    #[test]
    fn at_least_one_valid_authorization_server_is_required() {
        let none = ResourceMetadata::builder("https://h").build().unwrap_err();
        assert_eq!(none, InvalidResourceMetadata::NoAuthorizationServer);
        let error = of("https://h").authorization_server("auth.example.com").build().unwrap_err();
        assert!(matches!(error, InvalidResourceMetadata::AuthorizationServer(_)), "{error}");
        let error = of("https://h").authorization_server("http://[127.0.0.1]").build().unwrap_err();
        assert!(matches!(error, InvalidResourceMetadata::AuthorizationServer(_)), "{error}");
        let error = of("https://h").documentation("the wiki").build().unwrap_err();
        assert!(matches!(error, InvalidResourceMetadata::Documentation { .. }), "{error}");
    }
}
