//! `clients --server URL`: the same commands over the administration API of a running service, with a token that the client layer
//! of this crate obtains.

use std::io::Write as _;
use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::{CONTENT_TYPE, ETAG, IF_MATCH};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Map, Value, json};
use tower::util::BoxService;
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};
use tower_client_credentials::client::{CachedTokenSource, SecretSource};
use tower_client_credentials::registration::RegisteredClient;
use tower_client_credentials::secret::StoredSecret;
use tower_client_credentials::{ClientCredentials, ClientCredentialsLayer, ClientId, Scopes};

use crate::hints::{NEW_TOKENS, OLD_API_KEY, explain, warn_of_useless};
use crate::store::chain;
use crate::{Command, Create, Failure, Update, changed, print, show_members};

/// The service and the administrator, for `--server`.
#[derive(Args)]
pub(crate) struct ServerArguments {
    /// The URL of the administration of a running service, such as `https://auth.example.com/clients`. The secret of the
    /// administrator is in the variable `ADMINISTRATOR_SECRET`.
    #[arg(long, global = true, conflicts_with = "store")]
    server: Option<String>,
    /// The client id of the administrator, with --server.
    #[arg(long = "as", global = true, value_name = "CLIENT_ID")]
    administrator: Option<String>,
    /// The issuer of its tokens, with --server. Defaults to the URL without its last segment.
    #[arg(long, global = true)]
    issuer: Option<String>,
    /// The audience of its tokens, with --server. Defaults to the URL.
    #[arg(long, global = true)]
    server_audience: Option<String>,
    /// Also requests the scope for changes of administrators, with --server.
    #[arg(long, global = true)]
    administrators: bool,
}

impl ServerArguments {
    pub(crate) fn is_set(&self) -> bool {
        self.server.is_some()
    }
}

type Http = BoxService<Request<Bytes>, http::Response<reqwest::Body>, Box<dyn std::error::Error + Send + Sync>>;

/// The administration API, as an administrator calls it.
struct Administration {
    http: Http,
    url: String,
}

/// An answer of success.
struct Answer {
    tag: Option<String>,
    body: Value,
}

/// The hash of no secret, for a registration whose secrets the service does not show.
const NO_HASH: &str = "$sha256$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The time limit of a request. The service itself answers within its own time limits, which are shorter by default.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// The number of clients per page.
const PAGE: usize = 100;

pub(crate) async fn run(arguments: ServerArguments, command: Command, json: bool) -> Result<(), Failure> {
    let needs_store = |what: &str| Err(Failure(2, format!("{what} works at the store itself: use --store")));
    let scopes = match &command {
        Command::List { .. } | Command::Show { .. } => "clients:read",
        _ => "clients:read clients:write",
    };
    let mut administration = Administration::new(arguments, scopes)?;
    let done = |id: &ClientId, what: &str| {
        if json {
            return print(json!({ "client_id": id, "done": what }));
        }
        explain(false, &format!("client `{id}` is {what}"));
        Ok(())
    };
    match command {
        Command::Create(new) => administration.create(new, json).await,
        Command::List { with_hashes: true, .. } | Command::Show { with_hashes: true, .. } => {
            needs_store("--with-hashes")
        }
        Command::List { after, limit, .. } => administration.list(after, limit, json).await,
        Command::Show { id, .. } => {
            let shown = administration.read(&id).await?.body;
            if json { print(shown) } else { show_members(shown) }
        }
        Command::Update(update) => {
            administration.update(&update).await?;
            done(&update.id, "changed")
        }
        Command::RotateSecret { id, keep, label } => {
            let body = json!({ "keep_old_for": keep, "label": label });
            let rotated = administration.change(Method::POST, &id, "/secrets", Some(body)).await?.body;
            let label = text_of(&rotated, "client_secret_label");
            crate::print_secret_text(&id, label, secret_in(&rotated)?, json)?;
            explain(json, OLD_API_KEY);
            Ok(())
        }
        Command::Disable { id } => administration.act(&id, "/disable").await.and_then(|()| done(&id, "disabled")),
        Command::Enable { id } => administration.act(&id, "/enable").await.and_then(|()| done(&id, "enabled")),
        Command::RefreshKeys { id } => {
            administration.act(&id, "/refresh-keys").await.and_then(|()| done(&id, "its keys are fetched anew"))
        }
        Command::RevokeTokens { id } => {
            administration.act(&id, "/revoke-tokens").await.and_then(|()| done(&id, "without tokens"))?;
            explain(json, NEW_TOKENS);
            Ok(())
        }
        Command::Delete { id } => {
            administration.change(Method::DELETE, &id, "", None).await?;
            done(&id, "deleted")
        }
        Command::AudienceReport => needs_store("`audience-report`"),
        Command::Credentials(_) => needs_store("`credentials`"),
        Command::Doctor(_) => needs_store("`doctor`"),
        Command::Keys(_) => needs_store("`keys`"),
        Command::RevokeToken { .. } => needs_store("`revoke-token`"),
        Command::Import { .. } => needs_store("`import`"),
    }
}

impl Administration {
    fn new(arguments: ServerArguments, scopes: &str) -> Result<Self, Failure> {
        let wrong = |error: &dyn std::error::Error| Failure(2, chain(error));
        let url = arguments.server.unwrap_or_default().trim_end_matches('/').to_owned();
        let administrator =
            arguments.administrator.ok_or_else(|| Failure(2, "name the administrator with --as".to_owned()))?;
        let issuer =
            arguments.issuer.unwrap_or_else(|| url.rsplit_once('/').map_or(&*url, |(issuer, _)| issuer).to_owned());
        let audience = arguments.server_audience.unwrap_or_else(|| url.clone());
        let scopes =
            if arguments.administrators { format!("{scopes} clients:administrators") } else { scopes.to_owned() };
        let scopes: Scopes = scopes.parse().map_err(crate::invalid)?;
        let secret = SecretSource::from_env("ADMINISTRATOR_SECRET");
        let credentials = ClientCredentials::new(&issuer, administrator, secret).resource(audience).scopes(scopes);
        let tokens: CachedTokenSource = credentials.build().map_err(|error| wrong(&error))?;
        let layer = ClientCredentialsLayer::from_source(tokens, &url).map_err(|error| wrong(&error))?;
        // A redirected request, or one through a proxy of the environment, would carry the token that is meant for this service.
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
        let client = client.timeout(TIME_LIMIT).build();
        let client = client.map_err(|error| wrong(&error))?;
        let send = service_fn(move |request: Request<Bytes>| {
            let client = client.clone();
            async move {
                let response = client.execute(reqwest::Request::try_from(request)?).await?;
                Ok::<_, reqwest::Error>(http::Response::<reqwest::Body>::from(response))
            }
        });
        let http = layer.layer(send).map_err(Into::into);
        Ok(Self { http: BoxService::new(http), url })
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        tag: Option<&str>,
        body: Option<Value>,
    ) -> Result<Answer, Failure> {
        let failed = |error: &dyn std::error::Error| Failure(1, chain(error));
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        if let Some(tag) = tag {
            request = request.header(IF_MATCH, tag);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let request = request.body(body).map_err(|error| failed(&error))?;
        let sent = async { self.http.ready().await?.call(request).await };
        let response = sent.await.map_err(|error| failed(&*error))?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| failed(&error))?.to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if head.status.is_success() {
            let tag = head.headers.get(ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
            return Ok(Answer { tag, body });
        }
        let why = match text_of(&body, "error_description") {
            "" => "the service refused the request; check the administrator, and its scopes",
            why => why,
        };
        let code = match head.status {
            StatusCode::NOT_FOUND => 3,
            StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => 4,
            StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN | StatusCode::UNPROCESSABLE_ENTITY => 5,
            _ => 1,
        };
        Err(Failure(code, format!("{}: {why}", head.status)))
    }

    async fn read(&mut self, id: &ClientId) -> Result<Answer, Failure> {
        self.send(Method::GET, &path_of(id), None, None).await
    }

    /// Changes the client at the version that is read first.
    async fn change(
        &mut self,
        method: Method,
        id: &ClientId,
        rest: &str,
        body: Option<Value>,
    ) -> Result<Answer, Failure> {
        let tag = self.read(id).await?.tag;
        self.send(method, &format!("{}{rest}", path_of(id)), tag.as_deref(), body).await
    }

    async fn act(&mut self, id: &ClientId, rest: &str) -> Result<(), Failure> {
        self.change(Method::POST, id, rest, None).await.map(drop)
    }

    /// Creates a client. Without an id, the service generates one.
    async fn create(&mut self, mut new: Create, json: bool) -> Result<(), Failure> {
        let is_chosen = new.id.is_some();
        new.id.get_or_insert_with(|| "generated".to_owned());
        let no_secret: StoredSecret = NO_HASH.parse().map_err(crate::invalid)?;
        let client = crate::unregistered(new, no_secret).register().map_err(crate::invalid)?;
        let mut request = request_of(&client)?;
        if let Some(members) = request.as_object_mut().filter(|_| !is_chosen) {
            members.remove("client_id");
        }
        let created = self.send(Method::POST, "", None, Some(request)).await.map_err(|Failure(code, why)| {
            let hint = "; with `clients`, add --administrators, or omit the id";
            Failure(code, if why.contains("a chosen `client_id`") { why + hint } else { why })
        })?;
        let id: ClientId = text_of(&created.body, "client_id").parse().map_err(crate::invalid)?;
        warn_of_useless(&id, &client);
        crate::print_secret_text(&id, "1", secret_in(&created.body)?, json)
    }

    async fn list(&mut self, after: Option<ClientId>, limit: Option<usize>, json: bool) -> Result<(), Failure> {
        let (mut after, mut left) = (after.map(|id| id.to_string()), limit.unwrap_or(usize::MAX));
        while let Some(count) = NonZeroUsize::new(left.min(PAGE)) {
            let count = count.to_string();
            let mut query = vec![("limit", count.as_str())];
            query.extend(after.as_deref().map(|id| ("after", id)));
            let query = serde_urlencoded::to_string(query).map_err(crate::invalid)?;
            let page = self.send(Method::GET, &format!("?{query}"), None, None).await?.body;
            let clients = page.get("clients").and_then(Value::as_array).cloned().unwrap_or_default();
            left = left.saturating_sub(clients.len());
            for client in clients {
                if json {
                    print(client)?;
                    continue;
                }
                let text = |name: &str| crate::store::printable(text_of(&client, name));
                let state = match client.get("enabled").and_then(Value::as_bool) {
                    Some(true) => "",
                    Some(false) => "\tdisabled",
                    None => "\tunreadable: `clients show` at the store says why",
                };
                writeln!(std::io::stdout(), "{}\t{}{state}", text("client_id"), text("scope"))?;
            }
            after = page.get("next").and_then(Value::as_str).map(str::to_owned);
            if after.is_none() {
                break;
            }
        }
        Ok(())
    }

    async fn update(&mut self, update: &Update) -> Result<(), Failure> {
        let Answer { tag, body } = self.read(&update.id).await?;
        let client = changed(&registration_of(body)?, update)?.register().map_err(crate::invalid)?;
        let path = path_of(&update.id);
        self.send(Method::PUT, &path, tag.as_deref(), Some(request_of(&client)?)).await.map(drop)
    }
}

fn text_of<'a>(answer: &'a Value, name: &str) -> &'a str {
    answer.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn secret_in(answer: &Value) -> Result<&str, Failure> {
    match text_of(answer, "client_secret") {
        "" => Err(Failure(1, "the answer of the service has no secret".to_owned())),
        secret => Ok(secret),
    }
}

/// Returns the path of a client, with its id as one segment.
fn path_of(id: &ClientId) -> String {
    let mut path = String::from("/");
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.extend(['%', hex(byte >> 4), hex(byte & 15)]);
        }
    }
    path
}

fn hex(digit: u8) -> char {
    char::from_digit(digit.into(), 16).unwrap_or_default().to_ascii_uppercase()
}

/// Returns the registration in an answer, with placeholders for its secrets.
fn registration_of(shown: Value) -> Result<RegisteredClient, Failure> {
    let Value::Object(mut record) = shown else { return Err(crate::invalid("the answer is not an object")) };
    let grant = record.remove("grant_types").is_some_and(|types| types != json!([]));
    record.insert("grant".to_owned(), grant.into());
    for secret in record.get_mut("client_secrets").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(secret) = secret.as_object_mut() {
            secret.insert("hash".to_owned(), NO_HASH.into());
        }
    }
    serde_json::from_value(record.into()).map_err(crate::invalid)
}

/// Returns the body of a request with this registration.
fn request_of(client: &RegisteredClient) -> Result<Value, Failure> {
    let Value::Object(mut record) = serde_json::to_value(client).map_err(crate::invalid)? else {
        return Ok(Map::new().into());
    };
    for name in ["client_secrets", "version", "must_understand", "enabled", "grant"] {
        record.remove(name);
    }
    let grant_types: &[&str] = if client.may_use_grant() { &["client_credentials"] } else { &[] };
    record.insert("grant_types".to_owned(), grant_types.into());
    Ok(record.into())
}
