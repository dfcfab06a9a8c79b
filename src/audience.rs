//! [`Audience`]: the API that a token is for.

use crate::text::{Text, vocabulary};

/// The API that a token opens, by an absolute URI without a fragment (RFC 8707 §2).
///
/// It is what a caller asks for as `resource`, what the token says as `aud` (RFC 9068 §2.2), and what a
/// resource server looks for there. It identifies and is never fetched; two audiences are the same when their
/// text is, byte for byte: `https://api.example.com` and `https://api.example.com/` are two.
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

vocabulary!(Audience, InvalidAudience, crate::uri::absolute, "an audience (RFC 8707 §2)");
