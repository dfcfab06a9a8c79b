//! [`PlatformIdentity`]: a workload, as the tokens of its platform name it.

use serde_json::{Map, Value};

use super::nesting::nesting;
use crate::registration::InvalidCredential;

/// The issuer, the exact subject, and further claims that a token must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlatformIdentity {
    issuer: String,
    subject: String,
    claims: Vec<(String, Value)>,
}

/// The start of the subject of a Kubernetes service account.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

impl PlatformIdentity {
    pub(crate) fn service_account(issuer: String, namespace: &str, name: &str) -> Result<Self, InvalidCredential> {
        for (what, text) in [("namespace", namespace), ("name", name)] {
            let is_valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
            if text.is_empty() || text.len() > 253 || !text.bytes().all(is_valid) {
                let text = format!(
                    "the {what} of the service account must be 1 to 253 lower-case letters, digits, `-` and `.`"
                );
                return Err(InvalidCredential::new(text));
            }
        }
        let subject = format!("{SERVICE_ACCOUNT}{namespace}:{name}");
        Ok(Self { issuer, subject, claims: Vec::new() })
    }

    pub(crate) fn new(
        issuer: String,
        subject: String,
        claims: Vec<(String, Value)>,
    ) -> Result<Self, InvalidCredential> {
        if subject.is_empty() {
            return Err(InvalidCredential::new("the `subject` is empty; use the exact `sub` of the platform's tokens"));
        }
        if claims.is_empty() && !subject.starts_with(SERVICE_ACCOUNT) {
            let text = "`claims` is empty; require a claim whose meaning never changes, such as `repository_id`, because \
                        someone else may get the same subject later";
            return Err(InvalidCredential::new(text));
        }
        Ok(Self { issuer, subject, claims })
    }

    pub(crate) fn with_claim(mut self, name: String, value: Value) -> Self {
        self.claims.push((name, value));
        self
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    pub(crate) fn claims(&self) -> &[(String, Value)] {
        &self.claims
    }

    pub(super) fn nesting(&self) -> usize {
        nesting(self.claims.iter().map(|(_, value)| value))
    }

    /// Returns whether it is the account that Kubernetes gives to every pod without another.
    pub(crate) fn is_default_account(&self) -> bool {
        self.subject.starts_with(SERVICE_ACCOUNT) && self.subject.ends_with(":default")
    }

    /// Returns the first claim that the token lacks, or has with another value.
    pub(crate) fn first_missing(&self, token: &Map<String, Value>) -> Option<&str> {
        let differs = |(name, value): &&(String, Value)| claim(token, name) != Some(value);
        self.claims.iter().find(differs).map(|(name, _)| name.as_str())
    }
}

/// Returns a claim by its name, or by a JSON Pointer (RFC 6901).
fn claim<'a>(token: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let Some(pointer) = name.strip_prefix('/') else { return token.get(name) };
    let (first, rest) = pointer.split_at(pointer.find('/').unwrap_or(pointer.len()));
    token.get(&first.replace("~1", "/").replace("~0", "~"))?.pointer(rest)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::PlatformIdentity;

    fn missing(claims: &[(&str, Value)], token: &Value) -> Option<String> {
        let claims = claims.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let identity = PlatformIdentity::new("https://i".to_owned(), "s".to_owned(), claims).unwrap();
        identity.first_missing(token.as_object().unwrap()).map(str::to_owned)
    }

    #[test]
    fn each_claim_is_compared_with_its_type_and_found_by_name_or_pointer() {
        let token =
            json!({"repository_id": "5", "a/b": 1, "kubernetes.io": {"serviceaccount": {"uid": "u", "x": [7]}}});
        for (name, value, is_there) in [
            ("repository_id", json!("5"), true),
            ("repository_id", json!(5), false),
            ("repository_id", Value::Null, false),
            ("absent", Value::Null, false),
            ("a/b", json!(1), true),
            ("/a~1b", json!(1), true),
            ("/kubernetes.io/serviceaccount/uid", json!("u"), true),
            ("/kubernetes.io/serviceaccount/uid", json!("v"), false),
            ("/kubernetes.io/serviceaccount/x/0", json!(7), true),
            ("/kubernetes.io", json!({"serviceaccount": {"uid": "u", "x": [7]}}), true),
        ] {
            assert_eq!(missing(&[(name, value.clone())], &token).is_none(), is_there, "{name} {value}");
        }
    }

    #[test]
    fn a_subject_that_can_be_reused_needs_a_claim() {
        let of = |subject: &str| PlatformIdentity::new("https://i".to_owned(), subject.to_owned(), Vec::new());
        assert!(of("repo:acme/app:ref:refs/heads/main").unwrap_err().to_string().contains("repository_id"));
        assert!(of("").is_err());
        assert!(of("system:serviceaccount:prod:billing").is_ok());
    }

    #[test]
    fn an_account_has_the_names_of_kubernetes() {
        let of = |namespace, name| PlatformIdentity::service_account("https://i".to_owned(), namespace, name);
        assert_eq!(of("prod", "billing").unwrap().subject(), "system:serviceaccount:prod:billing");
        assert!(of("prod", "default").unwrap().is_default_account());
        for (namespace, name) in [("", "a"), ("a", ""), ("a:b", "c"), ("a", "B"), ("a", "*")] {
            assert!(of(namespace, name).is_err(), "{namespace} {name}");
        }
    }
}
