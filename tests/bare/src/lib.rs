//! The crate as a user of the default features sees it.

#![cfg(test)]

use tower_client_credentials::secret::StoredSecret;
use tower_client_credentials::ClientSecret;

#[test]
fn a_chosen_secret_is_rejected_with_the_name_of_the_feature_that_accepts_it() {
    let error = ClientSecret::new("correct horse").unwrap_err().to_string();
    assert!(error.contains("feature `argon2`") && !error.contains("horse"), "{error}");
    // The name of the variable is shown, and its value is not.
    let error = ClientSecret::from_env("PATH").unwrap_err().to_string();
    assert!(error.contains("PATH") && error.contains("feature `argon2`") && !error.contains("/bin"), "{error}");
}

#[test]
fn a_stored_argon2_hash_is_rejected_with_the_name_of_the_feature_that_accepts_it() {
    let hash = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    assert!(hash.parse::<StoredSecret>().unwrap_err().to_string().contains("feature `argon2`"));
}

#[test]
fn a_generated_secret_needs_no_feature() {
    let secret = ClientSecret::generate().unwrap();
    assert_eq!(ClientSecret::new(secret.expose()).unwrap().to_stored(), secret.to_stored());
}
