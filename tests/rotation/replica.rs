//! A replica: in this process, or in a process of its own that can be killed.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::routing::{get, post};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use serde_json::Value;
use tower::ServiceExt as _;
use tower_client_credentials::authorization_server::TokenError;
use tower_client_credentials::keys::rotation::{
    KeyEncryptionKey, KeyManager, KeyStore, KeyStoreError, KeyStoreFuture, Replica as Alive, StoredRing,
};
use tower_client_credentials::store::{PostgresStore, RedisStore};
use tower_client_credentials::verification::VerifyError;
use tower_client_credentials::{AuthorizationServer, Client, ClientSecret, MemoryStore, Verifier};

use crate::common::request::{GRANT, post as token_request};
use crate::common::stack::Body;
use crate::common::{API, ISSUER, SECRET, chain};
use crate::{Form, TOKEN_LIFE};

/// Why there is no result.
pub(crate) enum Failure {
    Refused(String),
    Unavailable(String),
    /// The process was killed before it answered.
    Lost,
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Unavailable(error) => Self::Unavailable(chain(&error)),
            error => Self::Refused(chain(&error)),
        }
    }
}

pub(crate) struct Replica {
    pub(crate) number: usize,
    place: Place,
}

enum Place {
    Here(Box<Parts>),
    Apart(Process),
}

impl Replica {
    pub(crate) async fn here(number: usize, url: &str, form: Form) -> Arc<Self> {
        Arc::new(Self { number, place: Place::Here(Box::new(Parts::start(url, &SECRET, form).await)) })
    }

    pub(crate) async fn apart(number: usize, url: &str, form: Form) -> Arc<Self> {
        let url = url.to_owned();
        let started = tokio::task::spawn_blocking(move || Process::start(&url, form));
        Arc::new(Self { number, place: Place::Apart(started.await.unwrap()) })
    }

    pub(crate) async fn token(&self) -> Result<String, Failure> {
        match &self.place {
            Place::Here(parts) => parts.token(&SECRET).await.map_err(Failure::Unavailable),
            Place::Apart(process) => process.ask("/token", String::new()).await,
        }
    }

    pub(crate) async fn verify(&self, token: &str) -> Result<(), Failure> {
        match &self.place {
            Place::Here(parts) => Ok(parts.verifier.verify_now(token).map(drop)?),
            Place::Apart(process) => process.ask("/verify", token.to_owned()).await.map(drop),
        }
    }

    /// Returns the key set or the metadata, or `None` if the process was killed.
    pub(crate) async fn document(&self, path: &str) -> Option<Response<Bytes>> {
        match &self.place {
            Place::Here(parts) => Some(parts.document(path).await),
            Place::Apart(process) => process.get(path).await,
        }
    }

    /// Returns the names of the key set, or `None` if it is not served now.
    pub(crate) async fn key_ids(&self) -> Option<Vec<String>> {
        let response = self.document("/jwks.json").await?;
        let json: Value = serde_json::from_slice(response.body()).ok()?;
        Some(json["keys"].as_array()?.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect())
    }

    /// Returns the name of the key that signs, as far as the replica knows.
    pub(crate) async fn signing(&self) -> Option<String> {
        match &self.place {
            Place::Here(parts) => parts.signing(),
            Place::Apart(process) => {
                process.ask("/signing", String::new()).await.ok().filter(|key_id| !key_id.is_empty())
            }
        }
    }

    /// Cuts it off from its store, while it still serves.
    pub(crate) async fn cut_off(&self) {
        match &self.place {
            Place::Here(parts) => parts.link.is_cut.store(true, Ordering::SeqCst),
            Place::Apart(process) => drop(process.ask("/cut", String::new()).await),
        }
    }

    /// Kills its process without notice.
    pub(crate) fn kill(&self) {
        if let Place::Apart(process) = &self.place {
            process.kill();
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        matches!(&self.place, Place::Apart(process) if process.is_dead.load(Ordering::SeqCst))
    }
}

/// The parts of a replica, in the process where they run.
struct Parts {
    manager: KeyManager,
    server: AuthorizationServer,
    verifier: Verifier,
    link: Link,
}

impl Parts {
    async fn start(url: &str, secret: &str, form: Form) -> Self {
        let store: Arc<dyn KeyStore> = if url.starts_with("postgres") {
            Arc::new(PostgresStore::connect(url).await.unwrap())
        } else {
            Arc::new(RedisStore::connect(url).await.unwrap())
        };
        let link = Link { store, is_cut: Arc::default() };
        let by = KeyEncryptionKey::from_bytes((0..32).collect::<Vec<u8>>()).unwrap();
        let manager = KeyManager::builder(link.clone(), by)
            .every(form.every)
            .max_age(Duration::from_secs(1))
            .longest_token(TOKEN_LIFE)
            .margin(Duration::from_millis(200))
            .lease(form.lease)
            .store_timeout(form.lease / 5)
            .poll_interval(Duration::from_millis(50))
            .connect()
            .await
            .unwrap();
        let client = Client::new("billing", ClientSecret::new(secret).unwrap()).audience(API);
        let clients = MemoryStore::try_from([client]).unwrap();
        let server = AuthorizationServer::builder(ISSUER, manager.ring(), clients).token_lifetime(TOKEN_LIFE);
        let server = server.build().unwrap();
        let verifier = server.verifier(API).unwrap();
        Self { manager, server, verifier, link }
    }

    fn signing(&self) -> Option<String> {
        self.manager.status().signing().map(|key| key.key_id.clone())
    }

    /// Returns a token, or the reason of a 503.
    async fn token(&self, secret: &str) -> Result<String, String> {
        let request: Request<Body> = token_request(GRANT).basic("billing", secret).into();
        let request = request.map(|_| Full::new(Bytes::from(GRANT)));
        let response = self.server.token_service().oneshot(request).await.unwrap();
        if let Some(error) = response.extensions().get::<TokenError>() {
            return Err(chain(error));
        }
        let json: Value = serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
        Ok(json["access_token"].as_str().unwrap().to_owned())
    }

    async fn document(&self, path: &str) -> Response<Bytes> {
        let request = Request::get("/").body(Full::<Bytes>::default()).unwrap();
        let is_key_set = path.ends_with("jwks.json");
        let service = if is_key_set { self.server.jwks_service() } else { self.server.metadata_service() };
        let (head, body) = service.oneshot(request).await.unwrap().into_parts();
        Response::from_parts(head, body.collect().await.unwrap().to_bytes())
    }
}

/// A store from which a replica can be cut off.
#[derive(Clone, Debug)]
struct Link {
    store: Arc<dyn KeyStore>,
    is_cut: Arc<AtomicBool>,
}

impl Link {
    fn check(&self) -> Result<(), KeyStoreError> {
        if self.is_cut.load(Ordering::SeqCst) { Err(KeyStoreError::new("cut off")) } else { Ok(()) }
    }
}

impl KeyStore for Link {
    fn load_ring<'a>(&'a self, ring: &'a str) -> KeyStoreFuture<'a, StoredRing> {
        Box::pin(async move {
            self.check()?;
            self.store.load_ring(ring).await
        })
    }

    fn save_ring<'a>(&'a self, ring: &'a str, over: u64, version: u64, document: &'a str) -> KeyStoreFuture<'a, bool> {
        Box::pin(async move {
            self.check()?;
            self.store.save_ring(ring, over, version, document).await
        })
    }

    fn renew_lease<'a>(&'a self, ring: &'a str, replica: &'a Alive, lease: Duration) -> KeyStoreFuture<'a, ()> {
        Box::pin(async move {
            self.check()?;
            self.store.renew_lease(ring, replica, lease).await
        })
    }
}

/// A process of its own. It ends with this value, and with this process.
struct Process {
    child: Mutex<Child>,
    /// Kept, so that it can write.
    _output: BufReader<ChildStdout>,
    url: String,
    client: reqwest::Client,
    is_dead: AtomicBool,
}

/// The variables with which the process of a replica starts.
const STORE: &str = "ROTATION_REPLICA_STORE";
const CLIENT_SECRET: &str = "ROTATION_REPLICA_SECRET";
const LEASE: &str = "ROTATION_REPLICA_LEASE";
const EVERY: &str = "ROTATION_REPLICA_EVERY";

const LISTENS: &str = "a replica listens on ";

impl Process {
    fn start(url: &str, form: Form) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "replica_process", "--nocapture"])
            .envs([(STORE, url), (CLIENT_SECRET, SECRET.as_str())])
            .env(LEASE, form.lease.as_millis().to_string())
            .env(EVERY, form.every.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        let port = loop {
            let mut line = String::new();
            let length = output.read_line(&mut line).unwrap();
            assert!(length > 0, "the process of a replica ended: {said}");
            said += &line;
            if let Some((_, port)) = line.split_once(LISTENS) {
                break port.trim().to_owned();
            }
        };
        let (url, client) = (format!("http://127.0.0.1:{port}"), reqwest::Client::new());
        Self { child: Mutex::new(child), _output: output, url, client, is_dead: AtomicBool::new(false) }
    }

    /// Posts a text.
    async fn ask(&self, path: &str, body: String) -> Result<String, Failure> {
        let Ok(response) = self.client.post(format!("{}{path}", self.url)).body(body).send().await else {
            return Err(self.failed(path));
        };
        let status = response.status().as_u16();
        let Ok(text) = response.text().await else { return Err(self.failed(path)) };
        match status {
            200 => Ok(text),
            503 => Err(Failure::Unavailable(text)),
            _ => Err(Failure::Refused(text)),
        }
    }

    async fn get(&self, path: &str) -> Option<Response<Bytes>> {
        let response = self.client.get(format!("{}{path}", self.url)).send().await.ok()?;
        let mut answer = Response::builder().status(response.status().as_u16());
        *answer.headers_mut().unwrap() = response.headers().clone();
        answer.body(response.bytes().await.ok()?).ok()
    }

    /// Only a process that was killed may fail to answer.
    fn failed(&self, path: &str) -> Failure {
        if self.is_dead.load(Ordering::SeqCst) {
            Failure::Lost
        } else {
            Failure::Refused(format!("{path}: the connection failed, although the process was not killed"))
        }
    }

    fn kill(&self) {
        self.is_dead.store(true, Ordering::SeqCst);
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

type Shared = State<Arc<(Parts, String)>>;

/// Serves a replica in a process of its own, until the process that started it ends.
pub(crate) async fn serve() {
    let variable = |name: &str| {
        std::env::var(name)
            .unwrap_or_else(|_| panic!("{name} is not set: another test of this file starts this process"))
    };
    let millis = |name: &str| Duration::from_millis(variable(name).parse().unwrap());
    let (url, secret) = (variable(STORE), variable(CLIENT_SECRET));
    let form = Form { lease: millis(LEASE), every: millis(EVERY), ..Form::short() };
    let parts = Arc::new((Parts::start(&url, &secret, form).await, secret));
    let document = async |State(parts): Shared, uri: Uri| {
        let (head, body) = parts.0.document(uri.path()).await.into_parts();
        (head.status, head.headers, body)
    };
    let token = async |State(parts): Shared| match parts.0.token(&parts.1).await {
        Ok(token) => (StatusCode::OK, token),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    };
    let verify = async |State(parts): Shared, token: String| match parts.0.verifier.verify_now(&token) {
        Ok(_) => (StatusCode::OK, String::new()),
        Err(error) => match Failure::from(error) {
            Failure::Unavailable(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
            Failure::Refused(why) => (StatusCode::UNAUTHORIZED, why),
            Failure::Lost => unreachable!("nothing was sent"),
        },
    };
    let app = Router::new()
        .route("/token", post(token))
        .route("/verify", post(verify))
        .route("/signing", post(async |State(parts): Shared| parts.0.signing().unwrap_or_default()))
        .route("/cut", post(async |State(parts): Shared| parts.0.link.is_cut.store(true, Ordering::SeqCst)))
        .fallback(get(document))
        .with_state(parts);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{LISTENS}{}", listener.local_addr().unwrap().port());
    tokio::task::spawn_blocking(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    axum::serve(listener, app).await.unwrap();
}
