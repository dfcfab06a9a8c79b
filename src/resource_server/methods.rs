//! [`Methods`]: a set of HTTP methods.

use http::Method;

/// A set of HTTP methods, to require scopes [by method](super::BearerAuthLayer::require_scopes_for).
///
/// [`SAFE`](Self::SAFE) and [`UNSAFE`](Self::UNSAFE) together cover all methods, including extension methods. A method by name
/// is only itself, except that `GET` and `HEAD` go together, since most handlers of `GET` answer both.
///
/// ```
/// use http::Method;
/// use tower_client_credentials::resource_server::Methods;
///
/// assert!(Methods::UNSAFE.contain(&Method::from_bytes(b"PURGE")?));
/// assert!(Methods::from(Method::GET).contain(&Method::HEAD));
/// # Ok::<(), http::method::InvalidMethod>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Methods(Set);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Set {
    Safe,
    Unsafe,
    These(Vec<Method>),
}

impl Methods {
    /// The methods that only read: `GET`, `HEAD`, `OPTIONS` and `TRACE` (RFC 9110 §9.2.1).
    pub const SAFE: Self = Self(Set::Safe);

    /// All other methods, including extension methods.
    pub const UNSAFE: Self = Self(Set::Unsafe);

    /// Returns whether the set contains the method.
    #[must_use]
    pub fn contain(&self, method: &Method) -> bool {
        match &self.0 {
            Set::Safe => method.is_safe(),
            Set::Unsafe => !method.is_safe(),
            Set::These(methods) => methods.contains(if *method == Method::HEAD { &Method::GET } else { method }),
        }
    }
}

impl From<Method> for Methods {
    fn from(method: Method) -> Self {
        [method].into()
    }
}

impl<const N: usize> From<[Method; N]> for Methods {
    fn from(methods: [Method; N]) -> Self {
        let get_for_head = |method| if method == Method::HEAD { Method::GET } else { method };
        Self(Set::These(methods.into_iter().map(get_for_head).collect()))
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::Methods;

    #[test]
    fn every_method_is_either_safe_or_unsafe() {
        let own = Method::from_bytes(b"PURGE").unwrap();
        for (method, is_safe) in [
            (Method::GET, true),
            (Method::HEAD, true),
            (Method::OPTIONS, true),
            (Method::TRACE, true),
            (Method::POST, false),
            (Method::CONNECT, false),
            (own, false),
        ] {
            assert_eq!(Methods::SAFE.contain(&method), is_safe, "{method}");
            assert_eq!(Methods::UNSAFE.contain(&method), !is_safe, "{method}");
        }
    }

    #[test]
    fn get_and_head_go_together() {
        for named in [Method::GET, Method::HEAD] {
            let methods = Methods::from([named, Method::PUT]);
            for (method, is_in) in
                [(Method::GET, true), (Method::HEAD, true), (Method::PUT, true), (Method::POST, false)]
            {
                assert_eq!(methods.contain(&method), is_in, "{method}");
            }
        }
    }
}
