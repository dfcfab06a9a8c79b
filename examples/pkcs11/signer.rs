//! A [`Signer`] for a P-256 key of a PKCS#11 token.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cryptoki::context::Pkcs11;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tower_client_credentials::keys::{SignError, SignFuture, Signature, Signer, VerifyingKey};

type BoxError = Box<dyn Error + Send + Sync>;

/// The name of P-256 in DER (RFC 5480 §2.1.1.1).
const P256: [u8; 10] = [0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];

/// Signs with a key that never leaves the token.
pub(crate) struct Pkcs11Signer {
    public: VerifyingKey,
    private: ObjectHandle,
    sessions: Arc<Sessions>,
}

/// The open sessions. A thread returns its session only when it is done: a token that hangs blocks no more threads than there are
/// sessions, although the futures that wait for it are dropped at their deadline.
struct Sessions {
    idle: Mutex<Vec<Session>>,
    permits: Arc<Semaphore>,
}

impl Pkcs11Signer {
    /// Finds the key with this label on the token, or creates it, and opens a pool of sessions.
    pub(crate) fn open(module: &str, token: &str, pin: &str, label: &str, sessions: usize) -> Result<Self, BoxError> {
        let library = Pkcs11::new(module)?;
        library.initialize(cryptoki::context::CInitializeArgs::OsThreads)?;
        let slot = slot_of(&library, token)?;
        let session = library.open_rw_session(slot)?;
        // One login counts for all sessions of the process.
        session.login(UserType::User, Some(&AuthPin::new(pin.to_owned())))?;
        let private = match find(&session, ObjectClass::PRIVATE_KEY, label)? {
            Some(private) => private,
            None => create(&session, label)?,
        };
        let public =
            find(&session, ObjectClass::PUBLIC_KEY, label)?.ok_or("the token has no public key of this label")?;
        let public = verifying_key(&session, public)?;
        let mut idle = vec![session];
        while idle.len() < sessions {
            idle.push(library.open_ro_session(slot)?);
        }
        let permits = Arc::new(Semaphore::new(idle.len()));
        Ok(Self { public, private, sessions: Arc::new(Sessions { idle: Mutex::new(idle), permits }) })
    }
}

impl Sessions {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sign(&self, key: ObjectHandle, digest: &[u8]) -> Result<Vec<u8>, SignError> {
        let session = self.idle().pop().ok_or_else(|| SignError::new("no session is idle"))?;
        // PKCS#11 hashes nothing with this mechanism, and returns `r` and `s` one after the other, as JWS has them.
        let signed = session.sign(&Mechanism::Ecdsa, key, digest);
        self.idle().push(session);
        signed.map_err(SignError::new)
    }
}

impl Signer for Pkcs11Signer {
    fn verifying_key(&self) -> VerifyingKey {
        self.public.clone()
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> SignFuture<'a> {
        Box::pin(async move {
            let (key, sessions, digest) = (self.private, self.sessions.clone(), Sha256::digest(message));
            let permit = sessions.permits.clone().acquire_owned().await.map_err(SignError::new)?;
            let signed = tokio::task::spawn_blocking(move || {
                let signed = sessions.sign(key, &digest);
                drop(permit);
                signed
            });
            signed.await.map_err(SignError::new)?.map(Signature::jws)
        })
    }
}

impl fmt::Debug for Pkcs11Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pkcs11Signer").field("public", &self.public).finish_non_exhaustive()
    }
}

fn slot_of(library: &Pkcs11, token: &str) -> Result<Slot, BoxError> {
    for slot in library.get_slots_with_initialized_token()? {
        if library.get_token_info(slot)?.label() == token {
            return Ok(slot);
        }
    }
    Err(format!("no token is labelled `{token}`; create it with `softhsm2-util --init-token --free --label {token}`")
        .into())
}

fn find(session: &Session, class: ObjectClass, label: &str) -> Result<Option<ObjectHandle>, BoxError> {
    let template = [Attribute::Class(class), Attribute::Label(label.into())];
    Ok(session.find_objects(&template)?.first().copied())
}

/// Creates a key pair whose private half cannot be exported.
fn create(session: &Session, label: &str) -> Result<ObjectHandle, BoxError> {
    let public = [
        Attribute::Token(true),
        Attribute::Label(label.into()),
        Attribute::KeyType(KeyType::EC),
        Attribute::Verify(true),
        Attribute::EcParams(P256.to_vec()),
    ];
    let private = [
        Attribute::Token(true),
        Attribute::Label(label.into()),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
    ];
    Ok(session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)?.1)
}

/// Reads the public key: a point in an OCTET STRING (PKCS#11 v3.1 §6.3.3).
fn verifying_key(session: &Session, key: ObjectHandle) -> Result<VerifyingKey, BoxError> {
    let attributes = session.get_attributes(key, &[AttributeType::EcPoint])?;
    let Some(Attribute::EcPoint(point)) = attributes.first() else { return Err("the key has no point".into()) };
    let point = point.strip_prefix(&[0x04, 0x41, 0x04]).filter(|point| point.len() == 64);
    let (x, y) = point.ok_or("the key is not on P-256")?.split_at(32);
    let [x, y] = [x, y].map(|number| URL_SAFE_NO_PAD.encode(number));
    Ok(VerifyingKey::from_jwk(format!(r#"{{"kty":"EC","crv":"P-256","alg":"ES256","x":"{x}","y":"{y}"}}"#))?)
}
