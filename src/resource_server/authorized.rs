//! [`Authorized`]: a type that proves that a token has the permissions a handler requires.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use super::BearerError;
use crate::scope::{Scope, Scopes};
use crate::verification::VerifiedToken;

/// A scope as a type, so that a handler can require it in its signature; see [`Authorized`].
///
/// ```
/// use tower_client_credentials::resource_server::Permission;
/// use tower_client_credentials::Scope;
///
/// struct ReadInvoices;
///
/// impl Permission for ReadInvoices {
///     const SCOPE: Scope = Scope::from_static("invoices:read");
/// }
/// ```
pub trait Permission: 'static {
    /// The scope that this permission requires.
    const SCOPE: Scope;
}

/// What [`Authorized`] can require: a [`Permission`], a tuple of permissions (all of them), or [`AnyOf`] a tuple (at least
/// one).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a permission that a token can be required to have",
    note = "implement `Permission` for it; a tuple requires all of its permissions, `AnyOf<(…)>` at least one"
)]
pub trait Requirement: sealed::Sealed + 'static {
    /// Returns whether the granted scopes meet this requirement.
    fn is_met_by(granted: &Scopes) -> bool;

    /// Returns every scope that the requirement names. The challenge tells a refused client to request them.
    fn scopes() -> Scopes;
}

mod sealed {
    pub trait Sealed {}
}

impl<P: Permission> sealed::Sealed for P {}

impl<P: Permission> Requirement for P {
    fn is_met_by(granted: &Scopes) -> bool {
        granted.contains(&P::SCOPE)
    }

    fn scopes() -> Scopes {
        P::SCOPE.into()
    }
}

/// A requirement that is met by any one permission of a tuple: `AnyOf<(ReadInvoices, ReadEverything)>`.
pub struct AnyOf<T>(PhantomData<fn() -> T>);

impl<T> fmt::Debug for AnyOf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyOf")
    }
}

macro_rules! tuples {
    ($(($($name:ident),+))+) => {$(
        impl<$($name: Permission),+> sealed::Sealed for ($($name,)+) {}
        impl<$($name: Permission),+> sealed::Sealed for AnyOf<($($name,)+)> {}

        impl<$($name: Permission),+> Requirement for ($($name,)+) {
            fn is_met_by(granted: &Scopes) -> bool {
                $(granted.contains(&$name::SCOPE))&&+
            }

            fn scopes() -> Scopes {
                Scopes::from_iter([$($name::SCOPE),+])
            }
        }

        impl<$($name: Permission),+> Requirement for AnyOf<($($name,)+)> {
            fn is_met_by(granted: &Scopes) -> bool {
                $(granted.contains(&$name::SCOPE))||+
            }

            fn scopes() -> Scopes {
                Scopes::from_iter([$($name::SCOPE),+])
            }
        }
    )+};
}

tuples! { (A) (A, B) (A, B, C) (A, B, C, D) }

/// The proof that a token was verified and that it meets the [`Requirement`] `R`. It dereferences to the [`VerifiedToken`].
///
/// Only [`VerifiedToken::authorize`] creates one. In axum it is an extractor (feature `axum`): a handler states in its
/// signature what it requires, and cannot run without it. A token that lacks a scope is refused as the
/// [`BearerAuthLayer`](super::BearerAuthLayer) of the route would refuse it, with the same challenge, log message and event.
///
/// ```
/// use axum::{Router, routing::get};
/// use tower_client_credentials::resource_server::{AnyOf, Authorized, Permission};
/// use tower_client_credentials::{BearerAuthLayer, Scope};
/// # use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
/// # let server = AuthorizationServer::new("https://auth.example.com", KeyRing::generate()?, MemoryStore::default())?;
///
/// struct Read;
/// impl Permission for Read {
///     const SCOPE: Scope = Scope::from_static("invoices:read");
/// }
///
/// struct Write;
/// impl Permission for Write {
///     const SCOPE: Scope = Scope::from_static("invoices:write");
/// }
///
/// async fn list(caller: Authorized<AnyOf<(Read, Write)>>) -> String {
///     format!("invoices for {}", caller.client_id())
/// }
///
/// async fn copy(_: Authorized<(Read, Write)>) {}
///
/// let protect = BearerAuthLayer::new(server.verifier("https://api.example.com")?);
/// let app: Router = Router::new().route("/invoices", get(list).post(copy)).layer(protect);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Authorized<R> {
    token: VerifiedToken,
    requirement: PhantomData<fn() -> R>,
}

impl VerifiedToken {
    /// Returns the proof that the token meets the requirement `R`.
    ///
    /// # Errors
    ///
    /// [`BearerError::InsufficientScope`] if the token lacks a scope.
    ///
    /// ```
    /// # use tower_client_credentials::resource_server::{Authorized, BearerError, Permission};
    /// # use tower_client_credentials::{Scope, VerifiedToken};
    /// struct Read;
    /// impl Permission for Read {
    ///     const SCOPE: Scope = Scope::from_static("invoices:read");
    /// }
    ///
    /// fn invoices(caller: Authorized<Read>) {}
    ///
    /// fn serve(token: VerifiedToken) -> Result<(), BearerError> {
    ///     Ok(invoices(token.authorize()?))
    /// }
    /// ```
    pub fn authorize<R: Requirement>(&self) -> Result<Authorized<R>, BearerError> {
        if !R::is_met_by(self.scopes()) {
            return Err(BearerError::insufficient_scope(self, R::scopes()));
        }
        Ok(Authorized { token: self.clone(), requirement: PhantomData })
    }
}

impl<R> Authorized<R> {
    /// Returns the token and drops the proof of its permissions.
    #[must_use]
    pub fn into_token(self) -> VerifiedToken {
        self.token
    }
}

impl<R> Deref for Authorized<R> {
    type Target = VerifiedToken;

    fn deref(&self) -> &VerifiedToken {
        &self.token
    }
}

impl<R> Clone for Authorized<R> {
    fn clone(&self) -> Self {
        Self { token: self.token.clone(), requirement: PhantomData }
    }
}

impl<R> fmt::Debug for Authorized<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Authorized").field(&self.token).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{AnyOf, Permission, Requirement, Scope, Scopes, VerifiedToken};
    use crate::resource_server::BearerError;

    struct Read;
    impl Permission for Read {
        const SCOPE: Scope = Scope::from_static("read");
    }

    struct Write;
    impl Permission for Write {
        const SCOPE: Scope = Scope::from_static("write");
    }

    fn meets<R: Requirement>(granted: &str) -> bool {
        R::is_met_by(&granted.parse().unwrap())
    }

    #[test]
    fn a_tuple_requires_all_permissions_and_any_of_requires_one() {
        for (granted, read, both, one) in [
            ("", false, false, false),
            ("read", true, false, true),
            ("write", false, false, true),
            ("x write read", true, true, true),
            ("reader", false, false, false),
        ] {
            assert_eq!(meets::<Read>(granted), read, "{granted}");
            assert_eq!(meets::<(Read, Write)>(granted), both, "{granted}");
            assert_eq!(meets::<AnyOf<(Read, Write)>>(granted), one, "{granted}");
        }
    }

    #[test]
    fn the_refusal_names_the_required_scopes() {
        let token = VerifiedToken::for_test("billing").scope(Read::SCOPE).build();
        assert!(token.authorize::<Read>().is_ok());
        let error = token.authorize::<(Read, Write)>().unwrap_err();
        let BearerError::InsufficientScope { required, granted, .. } = &error else { panic!("{error}") };
        assert_eq!((required.as_str(), granted.as_str()), ("read write", "read"));
        assert_eq!(<AnyOf<(Read, Write)> as Requirement>::scopes(), Scopes::from([Read::SCOPE, Write::SCOPE]));
    }
}
