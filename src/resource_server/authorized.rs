//! [`Authorized`]: the proof that a token may do what a handler does, as a type.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use super::BearerError;
use crate::scope::{Scope, Scopes};
use crate::verification::VerifiedToken;

/// A scope that has a type, so that a handler can ask for it in its signature; see [`Authorized`].
///
/// ```
/// use tower_client_credentials::{Permission, Scope};
///
/// struct ReadInvoices;
///
/// impl Permission for ReadInvoices {
///     const SCOPE: Scope = Scope::from_static("invoices:read");
/// }
/// ```
pub trait Permission: 'static {
    /// The scope that stands for it.
    const SCOPE: Scope;
}

/// What [`Authorized`] can ask for: a [`Permission`], all of a tuple of them, or [any](AnyOf) of one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is nothing that a token could be asked for",
    note = "implement `Permission` for it; a tuple of permissions asks for all of them, `AnyOf<(…)>` for one"
)]
pub trait Requirement: sealed::Sealed + 'static {
    /// Whether these scopes are enough.
    fn is_met_by(granted: &Scopes) -> bool;

    /// Every scope that it names: what a client that is refused can ask for.
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

/// One of the permissions of a tuple is enough: `AnyOf<(ReadInvoices, ReadEverything)>`.
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

/// The proof that a token was verified, and may do what the [`Requirement`] `R` says. It derefs to the
/// [`VerifiedToken`].
///
/// Only [`VerifiedToken::authorize`] makes one. In axum it is an extractor (feature `axum`), so a handler says in its
/// signature what it takes, and cannot be routed without it; who lacks a scope is refused as the
/// [`BearerAuthLayer`](super::BearerAuthLayer) of the route would, challenge, log and event included.
///
/// ```
/// use axum::{Router, routing::get};
/// use tower_client_credentials::{AnyOf, Authorized, BearerAuthLayer, Permission, Scope};
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
    /// Whether the token may do what `R` says, as a proof of its own.
    ///
    /// # Errors
    ///
    /// [`BearerError::InsufficientScope`] when it may not.
    ///
    /// ```
    /// # use tower_client_credentials::{Authorized, BearerError, Permission, Scope, VerifiedToken};
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
    /// The token, without the proof of what it may do.
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
    use crate::BearerError;

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
    fn a_tuple_asks_for_all_and_any_of_it_for_one() {
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
    fn the_refusal_names_what_it_takes() {
        let token = VerifiedToken::for_test("billing").scope(Read::SCOPE).build();
        assert!(token.authorize::<Read>().is_ok());
        let error = token.authorize::<(Read, Write)>().unwrap_err();
        let BearerError::InsufficientScope { required, granted, .. } = &error else { panic!("{error}") };
        assert_eq!((required.as_str(), granted.as_str()), ("read write", "read"));
        assert_eq!(<AnyOf<(Read, Write)> as Requirement>::scopes(), Scopes::from([Read::SCOPE, Write::SCOPE]));
    }
}
