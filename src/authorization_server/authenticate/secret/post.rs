//! `client_secret_post` (RFC 6749 §2.3.1): id and secret as parameters in the body.

use zeroize::Zeroizing;

use super::{Fault, Form, SecretCredentials, TokenError, client_id};
use crate::registration::ClientAuthMethod;

pub(crate) fn read(secret: &str, form: &Form<'_>) -> Result<SecretCredentials, TokenError> {
    let id = form
        .get("client_id")
        .ok_or_else(|| TokenError::new(Fault::CLIENT).detailed("the body has a client_secret but no client_id"))?;
    SecretCredentials::new(client_id(id)?, Zeroizing::new(secret.to_owned()), ClientAuthMethod::ClientSecretPost)
}
