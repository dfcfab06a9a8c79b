//! Assertions that another program issues and keeps in a file: Kubernetes service-account tokens and JWT-SVIDs.

use std::path::PathBuf;

use super::CredentialError;
use super::blocking::{Threads, read_file};

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
