//! Keys of other algorithms, and keys behind signers.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_change_of_the_algorithm_is_a_rotation() {
    let site = Site::new();
    let one = site.replica().await;
    site.jump(DAY, &[&one]).await;
    let first = signing(&one);
    one.change_algorithm(Algorithm::EdDSA).await.unwrap();
    assert_eq!(signing(&one), first, "caches do not have the new key yet");
    assert_eq!(one.ring().current().signing_algorithms(), ["ES256", "EdDSA"]);
    site.look(&[&one]).await;
    site.jump(6 * 60 * SECOND, &[&one]).await;
    let status = one.status();
    let algorithms: Vec<_> = status.keys.iter().map(|key| (key.algorithm, key.state)).collect();
    let expected = [
        (Algorithm::ES256, KeyState::Retired),
        (Algorithm::EdDSA, KeyState::Signing),
        (Algorithm::EdDSA, KeyState::Published),
    ];
    assert_eq!(algorithms, expected);
    assert!(one.change_algorithm(Algorithm::RS256).await.unwrap_err().to_string().contains("openssl"));
}

/// A key that another process has.
#[derive(Debug)]
struct Elsewhere(VerifyingKey);

impl Signer for Elsewhere {
    fn verifying_key(&self) -> VerifyingKey {
        self.0.clone()
    }

    fn sign<'a>(&'a self, _: &'a [u8]) -> SignFuture<'a> {
        Box::pin(async { Err(SignError::new("never called")) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_behind_a_signer_signs_only_where_it_was_given() {
    let site = Site::new();
    let public = SigningKey::generate(Algorithm::ES256).unwrap().verifying_key();
    let key = || SigningKey::from_signer(Elsewhere(public.clone()), SignerLimits::default()).unwrap();
    let with = async || site.builder(&Link::to(&site.store)).external_key(key()).connect().await.unwrap();
    let (one, without) = (with().await, site.replica().await);
    one.publish(key()).await.unwrap();
    one.remove(&next(&one.status())).await.unwrap();
    site.look(&[&one, &without]).await;
    site.jump(6 * 60 * SECOND, &[&one, &without]).await;
    assert_eq!(one.rotate().await.unwrap(), public.key_id());
    site.look(&[&one, &without]).await;
    assert!(one.is_ready() && !without.is_ready());
    let error = without.ring().current().signing_key().map(drop).unwrap_err().to_string();
    assert!(error.contains("external_key"), "{error}");
    assert!(with().await.is_ready());
}
