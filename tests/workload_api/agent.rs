//! A Workload API of the test's own: a server of tonic with messages after `workloadapi.proto`, in a runtime of its own, so that it
//! can end as abruptly as a process.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tonic::codegen::{Body as HttpBody, StdError};
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};
use tower_client_credentials::workload_api::WorkloadApi;

use crate::common::forge::{Draft, encode};
use crate::common::{ISSUER, NOW};

#[derive(Clone, PartialEq, prost::Message)]
struct JwtBundlesRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct JwtBundlesResponse {
    #[prost(map = "string, bytes", tag = "1")]
    bundles: HashMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct JwtSvidRequest {
    #[prost(string, repeated, tag = "1")]
    pub(crate) audience: Vec<String>,
    #[prost(string, tag = "2")]
    pub(crate) spiffe_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct JwtSvidResponse {
    #[prost(message, repeated, tag = "1")]
    svids: Vec<JwtSvid>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct JwtSvid {
    #[prost(string, tag = "1")]
    spiffe_id: String,
    #[prost(string, tag = "2")]
    svid: String,
    #[prost(string, tag = "3")]
    hint: String,
}

/// What the agent tells about bundles.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Bundles(BTreeMap<String, String>),
    Refused(Code),
    /// The stream ends.
    Cut,
}

struct Shared {
    told: watch::Sender<Told>,
    /// The identities of the workload, of which the first is the default, with the seed of their key.
    identities: Mutex<Vec<(&'static str, u8)>>,
    streams: AtomicUsize,
    asked: Mutex<Vec<JwtSvidRequest>>,
    is_hung: Mutex<bool>,
    /// Whether streams that are opened from now on are denied.
    denies_new: AtomicBool,
}

pub(crate) struct Agent {
    folder: TempDir,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl Agent {
    /// An agent that does not run yet, with one key for `example.org`.
    pub(crate) fn new() -> Self {
        let (told, _) = watch::channel(Told::Bundles(bundles(&[("example.org", &[(23, "s1")])])));
        let shared = Shared {
            told,
            identities: Mutex::new(vec![("spiffe://example.org/billing", 23)]),
            streams: AtomicUsize::new(0),
            asked: Mutex::default(),
            is_hung: Mutex::new(false),
            denies_new: AtomicBool::new(false),
        };
        Self { folder: tempfile::tempdir().unwrap(), shared: Arc::new(shared), runtime: None }
    }

    pub(crate) fn started() -> Self {
        let mut agent = Self::new();
        agent.start();
        agent
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    pub(crate) fn api(&self) -> WorkloadApi {
        WorkloadApi::at(&format!("unix://{}", self.socket().display())).unwrap()
    }

    pub(crate) fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _ = std::fs::remove_file(self.socket());
        let listener = std::os::unix::net::UnixListener::bind(self.socket()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let service = WorkloadService(self.shared.clone());
        runtime.spawn(async move {
            let incoming = UnixListenerStream::new(tokio::net::UnixListener::from_std(listener).unwrap());
            Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
        });
        self.runtime = Some(runtime);
    }

    /// Ends like a process that is killed: its connections break, and its socket stays.
    pub(crate) fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    pub(crate) fn tell(&self, told: Told) {
        self.shared.told.send_replace(told);
    }

    /// Tells of these keys, each by its seed and name.
    pub(crate) fn tell_keys(&self, keys: &[(&str, &[(u8, &str)])]) {
        self.tell(Told::Bundles(bundles(keys)));
    }

    /// Tells of this document as the bundle of `example.org`.
    pub(crate) fn tell_document(&self, bundle: String) {
        self.tell(Told::Bundles([("spiffe://example.org".to_owned(), bundle)].into()));
    }

    pub(crate) fn identify_as(&self, identities: &[(&'static str, u8)]) {
        *self.shared.identities.lock().unwrap() = identities.to_vec();
    }

    pub(crate) fn hang(&self) {
        *self.shared.is_hung.lock().unwrap() = true;
    }

    /// Denies each stream that is opened from now on, or none. The open ones stay open.
    pub(crate) fn deny_new(&self, denies: bool) {
        self.shared.denies_new.store(denies, Ordering::SeqCst);
    }

    /// The number of streams that were opened.
    pub(crate) fn streams(&self) -> usize {
        self.shared.streams.load(Ordering::SeqCst)
    }

    /// The requests for SVIDs since the last call.
    pub(crate) fn asked(&self) -> Vec<JwtSvidRequest> {
        std::mem::take(&mut self.shared.asked.lock().unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn bundles(keys: &[(&str, &[(u8, &str)])]) -> BTreeMap<String, String> {
    let jwk = |(seed, name): &(u8, &str)| {
        let point = es256(*seed).verifying_key().to_encoded_point(false);
        // No `use`: all keys of the Workload API are for JWT-SVIDs.
        json!({
            "kty": "EC", "crv": "P-256", "kid": name, "x": encode(point.x().unwrap()), "y": encode(point.y().unwrap()),
        })
    };
    let set = |keys: &[(u8, &str)]| json!({"keys": keys.iter().map(jwk).collect::<Vec<Value>>()}).to_string();
    keys.iter().map(|(domain, keys)| (format!("spiffe://{domain}"), set(keys))).collect()
}

fn es256(seed: u8) -> p256::ecdsa::SigningKey {
    p256::ecdsa::SigningKey::from_slice(&[seed; 32]).unwrap()
}

/// A JWT-SVID for the issuer, valid for 5 minutes from this time on.
pub(crate) fn svid(id: &str, seed: u8, kid: &str, from: u64) -> String {
    svid_for(&[ISSUER.to_owned()], id, seed, kid, from)
}

fn svid_for(audience: &[String], id: &str, seed: u8, kid: &str, from: u64) -> String {
    let header = json!({"alg": "ES256", "kid": kid, "typ": "JWT"}).to_string();
    let claims = json!({"sub": id, "aud": audience, "iat": from, "exp": from + 300}).to_string();
    Draft { header, claims }.sign_with(&es256(seed))
}

#[derive(Clone)]
struct WorkloadService(Arc<Shared>);

impl NamedService for WorkloadService {
    const NAME: &'static str = "SpiffeWorkloadAPI";
}

impl<B> Service<http::Request<B>> for WorkloadService
where
    B: HttpBody<Error: Into<StdError> + Send> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let shared = self.0.clone();
        async move {
            // SPIFFE Workload Endpoint §4.
            if request.headers().get("workload.spiffe.io").is_none_or(|value| value != "true") {
                return Ok(Status::invalid_argument("the security header is missing").into_http());
            }
            if *shared.is_hung.lock().unwrap() {
                std::future::pending::<()>().await;
            }
            Ok(match request.uri().path() {
                "/SpiffeWorkloadAPI/FetchJWTBundles" => {
                    let codec = ProstCodec::<JwtBundlesResponse, JwtBundlesRequest>::default();
                    let answer = service_fn(move |_| std::future::ready(bundles_of(&shared)));
                    tonic::server::Grpc::new(codec).server_streaming(answer, request).await
                }
                "/SpiffeWorkloadAPI/FetchJWTSVID" => {
                    let codec = ProstCodec::<JwtSvidResponse, JwtSvidRequest>::default();
                    let answer = service_fn(move |request| std::future::ready(svids_of(&shared, request)));
                    tonic::server::Grpc::new(codec).unary(answer, request).await
                }
                path => Status::unimplemented(path).into_http(),
            })
        }
        .boxed()
    }
}

fn bundles_of(
    shared: &Shared,
) -> Result<Response<impl Stream<Item = Result<JwtBundlesResponse, Status>> + use<>>, Status> {
    shared.streams.fetch_add(1, Ordering::SeqCst);
    if shared.denies_new.load(Ordering::SeqCst) {
        return Err(Status::permission_denied("no identity issued"));
    }
    let told = WatchStream::new(shared.told.subscribe()).flat_map(|told| {
        stream::iter(match told {
            Told::Bundles(bundles) => {
                let bundles = bundles.into_iter().map(|(domain, bundle)| (domain, bundle.into_bytes())).collect();
                vec![Some(Ok(JwtBundlesResponse { bundles }))]
            }
            Told::Refused(code) => vec![Some(Err(Status::new(code, "no identity issued"))), None],
            Told::Cut => vec![None],
        })
    });
    Ok(Response::new(told.take_while(|item| std::future::ready(item.is_some())).map(Option::unwrap)))
}

fn svids_of(shared: &Shared, request: Request<JwtSvidRequest>) -> Result<Response<JwtSvidResponse>, Status> {
    let asked = request.into_inner();
    shared.asked.lock().unwrap().push(asked.clone());
    let identities = shared.identities.lock().unwrap().clone();
    let wanted = identities.iter().filter(|(id, _)| asked.spiffe_id.is_empty() || asked.spiffe_id == *id);
    let svids: Vec<_> = wanted
        .map(|(id, seed)| JwtSvid {
            spiffe_id: (*id).to_owned(),
            svid: svid_for(&asked.audience, id, *seed, "s1", NOW),
            hint: String::new(),
        })
        .collect();
    if svids.is_empty() {
        return Err(Status::permission_denied("no identity issued"));
    }
    Ok(Response::new(JwtSvidResponse { svids }))
}
