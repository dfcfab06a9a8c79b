//! [`Audience`]: the API that a token is for.

use crate::text::{Text, vocabulary};

/// The API that a token opens, by an absolute URI without a fragment (RFC 8707 §2).
///
/// It is what a caller asks for as `resource`, what the token says as `aud` (RFC 9068 §2.2), and what a
/// resource server looks for there. It identifies and is never fetched.
///
/// Two values of this type are equal when their text is, byte for byte, and so does a resource server compare `aud`. The
/// token endpoint is more lenient with a `resource` that a client requests: it is compared with the audiences of the
/// client as they are written, and then by the equivalence of RFC 3986 §6.2.2 and §6.2.3. `HTTPS://API.example.com:443`
/// requests `https://api.example.com/`. The token carries the spelling of the client's registration. Where a client is
/// registered with several spellings of one resource, the same spelling is chosen, and without one the first.
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
    /// Returns the form in which the equivalent spellings of one resource are equal.
    pub(crate) fn normal_form(&self) -> String {
        crate::uri_equivalence::normal_form(self)
    }
}

vocabulary!(Audience, InvalidAudience, crate::uri::absolute, "an audience (RFC 8707 §2)");
