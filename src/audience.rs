//! [`Audience`]: the API that a token is for.

use crate::text::{Text, vocabulary};

/// The API that a token is for, as an absolute URI without a fragment (RFC 8707 §2).
///
/// A client requests it as `resource`, the token contains it as `aud` (RFC 9068 §2.2), and the resource server checks it. It is
/// only an identifier, and is never fetched.
///
/// Two values are equal if their texts are, byte for byte, and a resource server compares `aud` in the same way. The token
/// endpoint is more lenient with a requested `resource`: it is compared with the client's audiences exactly, and then by
/// the equivalence of RFC 3986 §6.2.2 and §6.2.3. `HTTPS://API.example.com:443` requests `https://api.example.com/`. The token
/// contains the spelling of the client's registration. If that has several spellings of one resource, an identical one is
/// selected, or otherwise the first.
///
/// ```
/// use tower_client_credentials::Audience;
///
/// const API: Audience = Audience::from_static("https://api.example.com");
/// assert_eq!(API, "https://api.example.com");
/// assert!("api".parse::<Audience>().is_err());
/// ```
///
/// ```compile_fail
/// # use tower_client_credentials::Audience;
/// const API: Audience = Audience::from_static("api.example.com"); // no scheme: does not compile
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Audience(Text);

impl Audience {
    /// Returns the normal form, which is equal for equivalent spellings of one resource.
    pub(crate) fn normal_form(&self) -> String {
        crate::uri_equivalence::normal_form(self)
    }
}

vocabulary!(Audience, InvalidAudience, crate::uri::absolute, "an audience (RFC 8707 §2)");
