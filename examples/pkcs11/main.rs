//! Issues tokens that a PKCS#11 token signs, such as `SoftHSM`:
//!
//! ```text
//! softhsm2-util --init-token --free --label tokens --pin 1234 --so-pin 5678
//! PKCS11_PIN=1234 cargo run --example pkcs11 -- /usr/lib/softhsm/libsofthsm2.so tokens
//! ```
//!
//! `signer.rs` is all that an application needs; this program issues some tokens at once and verifies them.

#![allow(clippy::print_stdout)] // its output is for people and for scripts

#[path = "../common/failure.rs"]
mod failure;
mod signer;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use serde_json::Value;
use tower::ServiceExt as _;
use tower_client_credentials::authorization_server::TokenError;
use tower_client_credentials::keys::SignerLimits;
use tower_client_credentials::{AuthorizationServer, Client, ClientSecret, KeyRing, MemoryStore, SigningKey};

use self::failure::Failure;
use self::signer::Pkcs11Signer;

const API: &str = "https://api.example.com";

/// How many sessions there are, and so how many signatures at once.
const SESSIONS: usize = 4;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (Some(module), Some(token)) = (arguments.next(), arguments.next()) else {
        return Err("usage: pkcs11 MODULE TOKEN, with the PIN in PKCS11_PIN".into());
    };
    let pin = std::env::var("PKCS11_PIN")?;
    let signer = Pkcs11Signer::open(&module, &token, &pin, "signing", SESSIONS)?;
    let key = SigningKey::from_signer(signer, SignerLimits::default().at_once(SESSIONS))?;
    println!("{} {}", key.algorithm(), key.key_id());

    let secret = ClientSecret::generate()?;
    let clients = MemoryStore::try_from([Client::new("billing", &secret).audience(API)])?;
    let server = AuthorizationServer::new("https://auth.example.com", KeyRing::new(key), clients)?;
    let verifier = server.verifier(API)?;
    let credentials = STANDARD.encode(format!("billing:{}", secret.expose()));
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let request = Request::post("/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", format!("Basic {credentials}"))
            .body(Full::new(Bytes::from_static(b"grant_type=client_credentials")))?;
        requests.spawn(server.token_service().oneshot(request));
    }
    let mut issued = 0;
    while let Some(response) = requests.join_next().await {
        let response = response??;
        if let Some(error) = response.extensions().get::<TokenError>() {
            return Err(error.clone().into());
        }
        let json: Value = serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?;
        let token = json.get("access_token").and_then(Value::as_str).unwrap_or_default();
        verifier.verify(token).await?;
        issued += 1;
    }
    println!("issued and verified {issued} tokens");
    Ok(())
}
