//! [`SecretSource`]: where the client's secret is read from.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tower::BoxError;
use zeroize::Zeroizing;

use super::CredentialError;
use super::blocking::{Threads, read_file, run};
use crate::client_id::vschar;
use crate::quoted::with_sources;
use crate::secret::{ClientSecret, LONGEST};

/// Where a client secret comes from. It is read anew for each request for a token, so that a changed secret is used without a
/// restart.
///
/// The secret can be any text that the issuer gave out: 1 to 1,024 printable ASCII characters (RFC 6749 appendix A.2).
#[derive(Clone)]
#[must_use = "it is read when a credential has it"]
pub struct SecretSource(Source);

#[derive(Clone)]
enum Source {
    Value(Arc<Zeroizing<String>>),
    Environment(String),
    File(PathBuf),
    Callback(Arc<dyn Fn() -> Result<String, BoxError> + Send + Sync>),
}

impl SecretSource {
    /// Takes the secret itself.
    pub fn from_value(secret: impl Into<String>) -> Self {
        Self(Source::Value(Arc::new(Zeroizing::new(secret.into()))))
    }

    /// Reads the secret from an environment variable.
    pub fn from_env(variable: impl Into<String>) -> Self {
        Self(Source::Environment(variable.into()))
    }

    /// Reads the secret from a file, such as a mounted secret. One line break at its end is ignored.
    pub fn from_file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }

    /// Calls a function for the secret, such as one that asks a secret manager. It may block: it is called on a thread of
    /// [`spawn_blocking`](tokio::task::spawn_blocking).
    pub fn from_fn(secret: impl Fn() -> Result<String, BoxError> + Send + Sync + 'static) -> Self {
        Self(Source::Callback(Arc::new(secret)))
    }

    pub(super) async fn read(&self, threads: &Threads) -> Result<Arc<Zeroizing<String>>, CredentialError> {
        let (secret, place) = match &self.0 {
            Source::Value(secret) => (secret.clone(), "the secret".to_owned()),
            Source::Environment(variable) => {
                let secret = std::env::var(variable).map_err(|_| {
                    CredentialError::new(format!("the environment variable {variable} is not set, or not valid Unicode; set it to the client's secret"))
                })?;
                (Arc::new(Zeroizing::new(secret)), format!("the environment variable {variable}"))
            }
            Source::File(path) => {
                let text = read_file(threads, path.clone(), LONGEST + 2).await?;
                let line = text.strip_suffix('\n').unwrap_or(&text);
                let line = line.strip_suffix('\r').unwrap_or(line);
                (Arc::new(Zeroizing::new(line.to_owned())), format!("the file {}", path.display()))
            }
            Source::Callback(callback) => {
                let callback = callback.clone();
                let secret =
                    run(threads, move || callback().map_err(|error| CredentialError::new(with_sources(&*error))))
                        .await?;
                (Arc::new(Zeroizing::new(secret)), "the function that gives the secret".to_owned())
            }
        };
        check(&secret).map_err(|what| CredentialError::new(format!("{place}: {what}")))?;
        Ok(secret)
    }
}

fn check(secret: &str) -> Result<(), &'static str> {
    if secret.is_empty() || secret.len() > LONGEST {
        return Err("a client secret has 1 to 1,024 characters");
    }
    vschar(secret).map_err(|_| "a client secret has printable ASCII characters and spaces only (RFC 6749 appendix A.2)")
}

impl From<ClientSecret> for SecretSource {
    fn from(secret: ClientSecret) -> Self {
        Self::from_value(secret.expose())
    }
}

impl From<&ClientSecret> for SecretSource {
    fn from(secret: &ClientSecret) -> Self {
        Self::from_value(secret.expose())
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Value(_) => f.write_str("Value(…)"),
            Source::Environment(variable) => f.debug_tuple("Environment").field(variable).finish(),
            Source::File(path) => f.debug_tuple("File").field(path).finish(),
            Source::Callback(_) => f.write_str("Callback(…)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{SecretSource, Threads};

    #[tokio::test]
    async fn a_file_is_read_anew_each_time_and_its_line_break_is_ignored() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let source = SecretSource::from_file(file.path());
        for (content, secret) in [("first\n", "first"), ("second", "second"), ("third\r\n", "third"), ("a b", "a b")] {
            std::fs::write(file.path(), content).unwrap();
            assert_eq!(**source.read(&Threads::default()).await.unwrap(), secret);
        }
        for content in ["", "\n", "two\nlines", "é", &"a".repeat(1_100)] {
            std::fs::write(file.path(), content).unwrap();
            let error = source.read(&Threads::default()).await.unwrap_err().to_string();
            assert!(error.contains(file.path().to_str().unwrap()), "{error}");
            assert!(content.trim().is_empty() || !error.contains(content.trim()), "{error}");
        }
    }

    #[tokio::test]
    async fn a_source_that_fails_is_named() {
        let failing = SecretSource::from_fn(|| Err("the vault is sealed".into()));
        assert!(failing.read(&Threads::default()).await.unwrap_err().to_string().contains("the vault is sealed"));
        let unset = SecretSource::from_env("A_VARIABLE_THAT_IS_NOT_SET");
        assert!(unset.read(&Threads::default()).await.unwrap_err().to_string().contains("A_VARIABLE_THAT_IS_NOT_SET"));
        let panicking = SecretSource::from_fn(|| panic!("a defect"));
        assert!(panicking.read(&Threads::default()).await.is_err());
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", SecretSource::from_value("a-secret")), "Value(…)");
    }
}
