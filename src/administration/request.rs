//! [`Operation`]: what a request asks for, by its method and path.

use http::{Method, Uri};

use super::AdministrationRefusal;
use crate::client_id::ClientId;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Operation {
    List,
    Create,
    Read(ClientId),
    Change(ClientId, Change),
}

/// A change of a client that exists.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Update,
    Delete,
    AddSecret,
    AddCredential,
    /// The label of the secret or credential.
    RemoveCredential(String),
    Disable,
    Enable,
    RevokeTokens,
    RefreshKeys,
}

impl Operation {
    /// Reads the method and the path, which is below `base`.
    pub(super) fn read(base: &str, method: &Method, uri: &Uri) -> Result<Self, AdministrationRefusal> {
        let unknown = || AdministrationRefusal::not_found("there is nothing at this path");
        let rest = uri.path().strip_prefix(base).ok_or_else(unknown)?;
        let segments = match rest {
            "" => Vec::new(),
            rest => rest.strip_prefix('/').ok_or_else(unknown)?.split('/').map(decoded).collect(),
        };
        let segments = segments.into_iter().collect::<Option<Vec<String>>>().ok_or_else(unknown)?;
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        let client = |id: &String| id.parse::<ClientId>().map_err(|_| AdministrationRefusal::unknown_client());
        let post = |id: &String, change| match *method {
            Method::POST => Ok(Self::Change(client(id)?, change)),
            _ => Err(AdministrationRefusal::method("POST")),
        };
        let parts: Vec<&str> = segments.iter().skip(1).map(String::as_str).collect();
        match (segments.first(), parts.as_slice()) {
            (None, _) if is_read => Ok(Self::List),
            (None, _) if *method == Method::POST => Ok(Self::Create),
            (None, _) => Err(AdministrationRefusal::method("GET, HEAD, POST")),
            (Some(id), []) => match *method {
                _ if is_read => Ok(Self::Read(client(id)?)),
                Method::PUT => Ok(Self::Change(client(id)?, Change::Update)),
                Method::DELETE => Ok(Self::Change(client(id)?, Change::Delete)),
                _ => Err(AdministrationRefusal::method("GET, HEAD, PUT, DELETE")),
            },
            (Some(id), ["secrets"]) => post(id, Change::AddSecret),
            (Some(id), ["credentials"]) => post(id, Change::AddCredential),
            (Some(id), ["credentials", label]) => match *method {
                Method::DELETE => Ok(Self::Change(client(id)?, Change::RemoveCredential((*label).to_owned()))),
                _ => Err(AdministrationRefusal::method("DELETE")),
            },
            (Some(id), ["disable"]) => post(id, Change::Disable),
            (Some(id), ["enable"]) => post(id, Change::Enable),
            (Some(id), ["revoke-tokens"]) => post(id, Change::RevokeTokens),
            (Some(id), ["refresh-keys"]) => post(id, Change::RefreshKeys),
            _ => Err(unknown()),
        }
    }

    pub(super) fn is_change(&self) -> bool {
        matches!(self, Self::Create | Self::Change(..))
    }

    /// Returns a stable name, for events and metrics.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Create => "create",
            Self::Read(_) => "read",
            Self::Change(_, change) => change.name(),
        }
    }

    pub(super) fn client_id(&self) -> Option<&ClientId> {
        match self {
            Self::List | Self::Create => None,
            Self::Read(id) | Self::Change(id, _) => Some(id),
        }
    }
}

impl Change {
    fn name(&self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Delete => "delete",
            Self::AddSecret => "add_secret",
            Self::AddCredential => "add_credential",
            Self::RemoveCredential(_) => "remove_credential",
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::RevokeTokens => "revoke_tokens",
            Self::RefreshKeys => "refresh_keys",
        }
    }

    /// Returns whether the change only takes something from the client. It needs no check against the rules of the server, which
    /// may have changed since the client was registered: otherwise a client could not be disabled because of an old scope.
    pub(super) fn only_reduces(&self) -> bool {
        matches!(self, Self::Disable | Self::RemoveCredential(_) | Self::RefreshKeys)
    }

    /// Returns whether the request has a body.
    pub(super) fn has_body(&self) -> bool {
        matches!(self, Self::Update | Self::AddSecret | Self::AddCredential)
    }
}

/// Decodes a segment of a path (RFC 3986 §2.1). Returns `None` if an escape is malformed, or the text is not UTF-8.
fn decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use http::{Method, Uri};

    use super::{Change, Operation};
    use crate::client_id::ClientId;

    fn read(method: &Method, path: &str) -> Result<Operation, u16> {
        let uri: Uri = path.parse().unwrap();
        Operation::read("/admin/clients", method, &uri).map_err(|refusal| refusal.status().as_u16())
    }

    #[test]
    fn an_operation_is_read_from_the_method_and_the_decoded_path() {
        let billing = || ClientId::from_static("billing");
        for (method, path, operation) in [
            (Method::GET, "/admin/clients", Operation::List),
            (Method::HEAD, "/admin/clients", Operation::List),
            (Method::POST, "/admin/clients", Operation::Create),
            (Method::GET, "/admin/clients/billing", Operation::Read(billing())),
            (Method::PUT, "/admin/clients/billing", Operation::Change(billing(), Change::Update)),
            (Method::DELETE, "/admin/clients/b%69lling", Operation::Change(billing(), Change::Delete)),
            (Method::GET, "/admin/clients/a%2Fb%25%20c", Operation::Read(ClientId::from_static("a/b% c"))),
            (Method::GET, "/admin/clients/spiffe:%2f%2Fa%2Fb", Operation::Read(ClientId::from_static("spiffe://a/b"))),
            (Method::POST, "/admin/clients/billing/secrets", Operation::Change(billing(), Change::AddSecret)),
            (
                Method::DELETE,
                "/admin/clients/billing/credentials/%C3%BC%2F1",
                Operation::Change(billing(), Change::RemoveCredential("ü/1".to_owned())),
            ),
            (Method::POST, "/admin/clients/billing/disable", Operation::Change(billing(), Change::Disable)),
        ] {
            assert_eq!(read(&method, path), Ok(operation), "{method} {path}");
        }
    }

    #[test]
    fn another_method_or_path_is_refused() {
        for (method, path, status) in [
            (Method::PATCH, "/admin/clients", 405),
            (Method::POST, "/admin/clients/billing", 405),
            (Method::GET, "/admin/clients/billing/secrets", 405),
            (Method::GET, "/admin/clients/billing/credentials/1", 405),
            (Method::GET, "/admin/clients/billing/disable", 405),
            (Method::GET, "/admin/clients/billing/", 404),
            (Method::GET, "/admin/clients/", 404),
            (Method::POST, "/admin/clients/", 405),
            (Method::GET, "/admin/clients//", 404),
            (Method::GET, "/admin/clients/%00", 404),
            (Method::GET, "/admin/clients/%", 404),
            (Method::GET, "/admin/clients/%6", 404),
            (Method::GET, "/admin/clients/%ff", 404),
            (Method::GET, "/admin/clients/%C3%BC", 404),
            (Method::GET, "/admin/clientsbilling", 404),
            (Method::GET, "/admin", 404),
            (Method::POST, "/admin/clients/billing/disable/now", 404),
        ] {
            assert_eq!(read(&method, path), Err(status), "{method} {path}");
        }
    }
}
