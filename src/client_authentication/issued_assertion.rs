//! Assertions that another program issues: Kubernetes service-account tokens and JWT-SVIDs, in a file or from a function.

use std::path::PathBuf;

use super::blocking::{Threads, read_file};
use super::{AssertionFunction, CredentialError};
use crate::quoted::with_sources;

/// The longest assertion that servers accept, in bytes.
const MAX_LENGTH: usize = 16 * 1024;

/// Reads the one token in a file.
pub(super) async fn read(threads: &Threads, path: PathBuf) -> Result<String, CredentialError> {
    let text = read_file(threads, path.clone(), MAX_LENGTH).await?;
    let token = text.trim();
    if is_compact_jws(token) {
        Ok(token.to_owned())
    } else {
        Err(CredentialError::new(format!("the file {} does not contain one signed JWT", path.display())))
    }
}

/// Asks the function for one token.
pub(super) async fn ask(function: &AssertionFunction) -> Result<String, CredentialError> {
    let failed = |what: &str| CredentialError::new(format!("the function that gives the assertion: {what}"));
    let text = (function.0)().await.map_err(|error| failed(&with_sources(&*error)))?;
    let token = text.trim();
    if token.len() <= MAX_LENGTH && is_compact_jws(token) {
        Ok(token.to_owned())
    } else {
        Err(failed("it did not return one signed JWT of at most 16,384 bytes"))
    }
}

/// Fetches a JWT-SVID for this audience from the Workload API.
#[cfg(feature = "workload_api")]
pub(super) async fn fetch(
    api: &crate::workload_api::WorkloadApi,
    audience: &str,
    spiffe_id: Option<&str>,
) -> Result<String, CredentialError> {
    let svid = api.jwt_svid(audience, spiffe_id).await.map_err(|error| CredentialError::new(error.to_string()))?;
    if svid.len() <= MAX_LENGTH && is_compact_jws(&svid) {
        Ok(svid)
    } else {
        Err(CredentialError::new("the Workload API did not give a signed JWT of at most 16,384 bytes"))
    }
}

/// Three parts of base64url, separated by dots (RFC 7515 §7.1).
fn is_compact_jws(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.split('.').count() == 3 && text.split('.').all(is_part)
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn a_token_is_read_anew_and_anything_else_is_refused_without_being_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for content in ["e30.e30.AA", "e30.e30.BB\n"] {
            std::fs::write(file.path(), content).unwrap();
            assert_eq!(super::read(&super::Threads::default(), file.path().to_owned()).await.unwrap(), content.trim());
        }
        for content in ["", "password", "e30.e30.", "e30.e30.AA e30.e30.AA", "a.b.c.d.e"] {
            std::fs::write(file.path(), content).unwrap();
            let error = super::read(&super::Threads::default(), file.path().to_owned()).await.unwrap_err().to_string();
            assert!(content.is_empty() || !error.contains(content), "{error}");
        }
        assert!(
            super::read(&super::Threads::default(), "/does/not/exist".into())
                .await
                .unwrap_err()
                .to_string()
                .contains("/does/not/exist")
        );
    }
}
