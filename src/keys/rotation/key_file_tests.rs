//! A key file that is replaced while the process runs.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::{KeyFile, KeyState};
use crate::clock::ManualClock;
use crate::keys::{Algorithm, SigningKey};

const SECOND: Duration = Duration::from_secs(1);

fn put(path: &Path) -> String {
    let key = SigningKey::generate(Algorithm::ES256).unwrap();
    std::fs::write(path, key.to_pkcs8_pem().unwrap().expose()).unwrap();
    key.key_id().to_owned()
}

#[test]
fn a_replaced_file_is_published_then_signs_and_the_old_key_goes_last() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("signing.pem");
    let clock = ManualClock::at(UNIX_EPOCH + 1_000_000 * SECOND);
    let file = KeyFile::builder(&path).clock(clock.clone()).longest_token(3_600 * SECOND).open().unwrap();
    let ring = file.ring();
    let first = ring.signing_key().key_id().to_owned();
    assert_eq!(file.reload().unwrap().keys.len(), 1);
    let second = put(&path);
    let status = file.reload().unwrap();
    assert_eq!(ring.signing_key().key_id(), first, "caches do not have the new key yet");
    assert_eq!(ring.key_ids().collect::<Vec<_>>(), [first.as_str(), &second]);
    assert_eq!(status.keys[1].may_step_at, Some(UNIX_EPOCH + (1_000_000 + 360) * SECOND));
    for (passed, signs) in [(359, &first), (1, &second)] {
        clock.advance(passed * SECOND);
        file.reload().unwrap();
        assert_eq!(ring.signing_key().key_id(), signs);
    }
    for (passed, keys) in [(3_600 + 5 + 13 + 59, 2_usize), (1, 1)] {
        clock.advance(passed * SECOND);
        file.reload().unwrap();
        assert_eq!(ring.key_ids().count(), keys);
    }
    assert_eq!(ring.longest_token(), Some(3_600 * SECOND));
}

#[test]
fn a_file_that_changes_twice_or_back_or_is_broken_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("signing.pem");
    let clock = ManualClock::at(UNIX_EPOCH + 1_000_000 * SECOND);
    let file = KeyFile::builder(&path).clock(clock.clone()).open().unwrap();
    let original = std::fs::read(&path).unwrap();
    let first = file.ring().signing_key().key_id().to_owned();
    put(&path);
    file.reload().unwrap();
    let third = put(&path);
    file.reload().unwrap();
    assert_eq!(file.ring().key_ids().collect::<Vec<_>>(), [first.as_str(), &third], "the second one never signed");
    std::fs::write(&path, &original).unwrap();
    file.reload().unwrap();
    assert_eq!(file.ring().key_ids().collect::<Vec<_>>(), [first.as_str()]);
    std::fs::write(&path, "no key").unwrap();
    assert!(file.reload().unwrap_err().to_string().contains("signing.pem"));
    assert_eq!(file.ring().signing_key().key_id(), first);

    let second = put(&path);
    file.reload().unwrap();
    clock.advance(360 * SECOND);
    let status = file.reload().unwrap();
    assert_eq!(status.keys.iter().map(|key| key.state).collect::<Vec<_>>(), [KeyState::Retired, KeyState::Signing]);
    std::fs::write(&path, &original).unwrap();
    assert!(file.reload().unwrap_err().to_string().contains("signed before"));
    assert_eq!(file.ring().signing_key().key_id(), second);
}
