//! [`AdministrationScopes`]: the scopes of administrators.

use crate::scope::{Scope, Scopes};

/// The scopes of administrators. Each is a permission of its own.
///
/// Only an administrator with [`administrators`](Self::administrators) can give one of them to a client, or change a client that
/// has one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the scopes are not used until an administration has them"]
pub struct AdministrationScopes {
    pub(super) read: Scope,
    pub(super) write: Scope,
    pub(super) administrators: Scope,
}

impl Default for AdministrationScopes {
    fn default() -> Self {
        Self {
            read: Scope::from_static("clients:read"),
            write: Scope::from_static("clients:write"),
            administrators: Scope::from_static("clients:administrators"),
        }
    }
}

impl AdministrationScopes {
    /// Returns the default scopes: `clients:read`, `clients:write` and `clients:administrators`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the scope for reading clients.
    pub fn read(self, scope: Scope) -> Self {
        Self { read: scope, ..self }
    }

    /// Sets the scope for creating, changing and deleting clients.
    pub fn write(self, scope: Scope) -> Self {
        Self { write: scope, ..self }
    }

    /// Sets the scope that is needed, in addition to the one for writing, for every change of an administrator.
    pub fn administrators(self, scope: Scope) -> Self {
        Self { administrators: scope, ..self }
    }

    pub(super) fn all(&self) -> Scopes {
        [&self.read, &self.write, &self.administrators].into_iter().cloned().collect()
    }
}
