//! Administers the clients of a store, through the same traits that a server uses:
//!
//! ```text
//! export TCC_STORE=sqlite://clients.db
//! cargo run --example clients --features sqlite -- create billing --scope invoices:read --audience https://api.example.com
//! cargo run --example clients --features sqlite -- rotate-secret billing --keep 86400
//! cargo run --example clients --features sqlite -- update billing --add-scope invoices:write --remove-audience https://old.example.com
//! ```
//!
//! With `--server URL` instead of a store, the same commands work over the administration API of a running service (feature
//! `remote`). The first administrator is created at the store:
//!
//! ```text
//! cargo run --example clients --features sqlite -- create root --may-grant-everything \
//!     --scope clients:read --scope clients:write --scope clients:administrators --audience https://auth.example.com/clients
//! export ADMINISTRATOR_SECRET=…
//! cargo run --example clients --features remote -- --server https://auth.example.com/clients --as root create billing …
//! ```
//!
//! A new secret is printed once, alone on stdout; messages about it go to stderr. With `--json`, stdout has one JSON object per
//! line.

#![allow(clippy::print_stderr)] // its output is for people and for scripts

#[path = "clients/audience_report.rs"]
mod audience_report;
#[path = "clients/credentials.rs"]
mod credentials;
#[path = "clients/doctor.rs"]
mod doctor;
#[path = "clients/hints.rs"]
mod hints;
#[path = "standalone/key_commands.rs"]
mod key_commands;
#[cfg(feature = "remote")]
#[path = "standalone/over_http.rs"]
mod over_http;
#[path = "standalone/store.rs"]
mod store;
#[path = "standalone/wording.rs"]
mod wording;

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tower_client_credentials::clock::Rfc3339;
use tower_client_credentials::registration::{ClientError, MayGrant, RegisteredClient, RegisteredSecret, SpiffeId};
use tower_client_credentials::scope::InvalidScope;
use tower_client_credentials::secret::StoredSecret;
use tower_client_credentials::store::{
    AdminError, ClientAdmin as _, ListedClient, Revocation, RevocationStore as _, SecretRotation, StoreError,
};
use tower_client_credentials::{Audience, Client, ClientAuthMethod, ClientId, ClientSecret, Scope, Scopes};

use self::credentials::CredentialCommand;
use self::doctor::Doctor;
use self::hints::{API_KEYS, FOLLOWERS, NEW_TOKENS, OLD_API_KEY, OTHERS, explain};
use self::key_commands::KeyArguments;
use self::store::{Store, chain, is_printable, printable};
use self::wording::with_commands;

/// Creates and changes the clients of a token service.
#[derive(Parser)]
#[command(
    name = "clients",
    version,
    after_help = "Exit codes: 0 success, 1 the store failed, 2 wrong usage, 3 client or key not found, \
    4 the client id exists already, the client was changed concurrently or it is too early for the step of a key, \
    5 invalid client, key or file."
)]
struct Arguments {
    /// `sqlite://FILE`, `postgres://…`, `redis://…` or `file:FILE`. Defaults to the variable `TCC_STORE`, which hides the
    /// password from other users. A missing SQLite file is created by `create` and `import` only.
    #[arg(long, global = true)]
    store: Option<String>,
    /// Prints one JSON object per line, for programs.
    #[arg(long, global = true)]
    json: bool,
    #[cfg(feature = "remote")]
    #[command(flatten)]
    server: over_http::ServerArguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Adds a client and prints its new secret.
    Create(Create),
    /// Lists the clients ordered by id.
    List {
        /// Starts after this id.
        #[arg(long)]
        after: Option<ClientId>,
        /// The maximum number of clients.
        #[arg(long)]
        limit: Option<usize>,
        /// Includes the stored and the encrypted form of the secrets, so that `import` accepts the output.
        #[arg(long)]
        with_hashes: bool,
    },
    /// Shows one client.
    Show {
        id: ClientId,
        /// Includes the stored and the encrypted form of the secrets, so that `import` accepts the output.
        #[arg(long)]
        with_hashes: bool,
    },
    /// Changes the settings of a client. Existing tokens do not change; `revoke-tokens` revokes them.
    Update(Box<Update>),
    /// Adds a secret and prints it. The existing secrets expire.
    RotateSecret {
        id: ClientId,
        /// How long the existing secrets stay valid, in seconds or as for example 90m, 24h or 7d; 0 removes them immediately.
        #[arg(long, default_value = "24h", value_parser = seconds)]
        keep: u64,
        /// The label of the new secret; by default a number.
        #[arg(long)]
        label: Option<String>,
    },
    /// Marks a client as disabled and its tokens as revoked in the store, for the servers and verifiers that follow it.
    Disable { id: ClientId },
    /// Enables a disabled client. Its old tokens stay revoked.
    Enable { id: ClientId },
    /// Deletes a client, and marks its tokens as revoked in the store, for the servers and verifiers that follow it.
    Delete { id: ClientId },
    /// Lists the clients that may send the URL of the token endpoint as the `aud` of their assertions until a date, with the last
    /// time that they did. They break without this allowance. The server records at most one use an hour.
    AudienceReport,
    /// Lists, adds and removes the credentials of a client.
    #[command(subcommand)]
    Credentials(CredentialCommand),
    /// Checks a client assertion by the rules of the server, and prints every rule with its result. Nothing is recorded.
    Doctor(Box<Doctor>),
    /// Fetches the keys at the `jwks_uri` of a client anew, so that a key that it removed is refused at once.
    RefreshKeys { id: ClientId },
    /// Marks the existing tokens of a client as revoked in the store. The client may request new tokens.
    RevokeTokens { id: ClientId },
    /// Marks one token as revoked in the store. The audit log and the events have its id.
    RevokeToken {
        id: ClientId,
        /// The `jti` of the token.
        token_id: String,
    },
    /// Shows, rotates and distrusts the keys of a token service that keeps them in its store (`rotate_days`).
    Keys(KeyArguments),
    /// Adds the clients of a file with one JSON record per line. Clients whose id exists already are skipped. From the first invalid
    /// line on, no more clients are added, and every invalid line is reported.
    Import {
        /// Reports every invalid line, and adds no client.
        #[arg(long)]
        dry_run: bool,
        /// The file, or - for stdin.
        file: PathBuf,
    },
}

#[derive(Args)]
struct Create {
    /// The id of the client. With --server, a chosen id needs --administrators; without an id, the service generates one.
    id: Option<String>,
    /// A scope that the client may request; repeatable. The tool does not know the scopes of the service: an unknown one is
    /// refused when a token is requested, and the log of the service names it.
    #[arg(long, value_parser = scope)]
    scope: Vec<Scope>,
    /// A scope that is granted when a request names none; repeatable.
    #[arg(long, value_parser = scope)]
    default_scope: Vec<Scope>,
    /// An API that the client's tokens may be for; repeatable. The first one is the default.
    #[arg(long)]
    audience: Vec<Audience>,
    /// An API whose tokens the client may introspect.
    #[arg(long)]
    introspects: Vec<Audience>,
    /// The `sub` claim of the client's tokens; by default the client id.
    #[arg(long)]
    subject: Option<String>,
    /// The lifetime of the client's tokens in seconds.
    #[arg(long)]
    token_lifetime: Option<u64>,
    /// Makes the client authenticate in the body (`client_secret_post`), if it cannot use the header.
    #[arg(long)]
    post: bool,
    /// Grants no tokens to the client, for clients that only introspect.
    #[arg(long)]
    without_grant: bool,
    #[command(flatten)]
    details: Details,
}

/// The options that list what a client may give to other clients.
const MAY_GRANT: [&str; 5] = [
    "may_grant_scope",
    "may_grant_audience",
    "may_grant_spiffe_id",
    "may_grant_platform_subject",
    "may_grant_platform_subject_prefix",
];

/// The options of `create` and `update` for what does not affect the client's own tokens.
#[derive(Args)]
struct Details {
    /// The name of the client, for people.
    #[arg(long)]
    name: Option<String>,
    /// An entry of the free metadata; repeatable. Replaces all earlier entries.
    #[arg(long, value_name = "KEY=VALUE", value_parser = entry)]
    metadata: Vec<(String, String)>,
    /// A scope that the client may give to other clients, as an administrator; repeatable.
    #[arg(long)]
    may_grant_scope: Vec<Scope>,
    /// An audience that the client may give to other clients, as an administrator; repeatable.
    #[arg(long)]
    may_grant_audience: Vec<Audience>,
    /// A SPIFFE ID for which the client may give credentials to other clients, as an administrator; repeatable. A last segment `*`
    /// covers everything below it.
    #[arg(long, value_name = "ID")]
    may_grant_spiffe_id: Vec<SpiffeId>,
    /// A workload of a platform for which the client may give credentials to other clients, as an administrator: the issuer
    /// and the exact subject of its tokens; repeatable.
    #[arg(long, num_args = 2, value_names = ["ISSUER", "SUBJECT"])]
    may_grant_platform_subject: Vec<String>,
    /// The same for the subjects that begin with a prefix, such as `system:serviceaccount:team-a:`. It ends at a `:` or `/` of the
    /// subject.
    #[arg(long, num_args = 2, value_names = ["ISSUER", "PREFIX"])]
    may_grant_platform_subject_prefix: Vec<String>,
    /// Lets the client give every scope, audience and workload to other clients, for the first administrator.
    #[arg(long, conflicts_with_all = MAY_GRANT)]
    may_grant_everything: bool,
    /// Removes what the client may give to other clients.
    #[arg(long, conflicts_with_all = MAY_GRANT, conflicts_with = "may_grant_everything")]
    may_grant_nothing: bool,
}

/// Parses one scope.
fn scope(text: &str) -> Result<Scope, String> {
    if text.contains(char::is_whitespace) {
        return Err("one scope has no spaces; repeat the option for each scope".to_owned());
    }
    text.parse().map_err(|error: InvalidScope| error.to_string())
}

/// Parses a time in seconds, or with a unit.
fn seconds(text: &str) -> Result<u64, String> {
    let units = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
    let with_unit = units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, *seconds)));
    let (number, unit) = with_unit.unwrap_or((text, 1));
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    seconds.ok_or_else(|| "use a number of seconds, or for example 90m, 24h or 7d".to_owned())
}

fn entry(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("use KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Returns the values of an option that takes two at a time.
fn pairs(values: &[String]) -> impl Iterator<Item = &[String; 2]> {
    values.chunks_exact(2).filter_map(|pair| pair.try_into().ok())
}

impl Details {
    fn apply(&self, mut client: Client) -> Client {
        if let Some(name) = &self.name {
            client = client.name(name);
        }
        if !self.metadata.is_empty() {
            client = client.metadata(self.metadata.clone());
        }
        if self.may_grant_everything {
            return client.may_grant(MayGrant::everything());
        }
        if self.may_grant_nothing {
            return client.without_may_grant();
        }
        let may_grant = self.may_grant_scope.iter().fold(MayGrant::new(), MayGrant::scope);
        let may_grant = self.may_grant_audience.iter().cloned().fold(may_grant, MayGrant::audience);
        let mut may_grant = self.may_grant_spiffe_id.iter().cloned().fold(may_grant, MayGrant::workload);
        for [issuer, subject] in pairs(&self.may_grant_platform_subject) {
            may_grant = may_grant.platform_workload(issuer, subject);
        }
        for [issuer, prefix] in pairs(&self.may_grant_platform_subject_prefix) {
            may_grant = may_grant.platform_subject_prefix(issuer, prefix);
        }
        if may_grant == MayGrant::new() { client } else { client.may_grant(may_grant) }
    }
}

/// The options of `update`. Settings without an option do not change.
#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a command line flag")]
struct Update {
    id: ClientId,
    /// Sets the scopes that the client may request; repeatable. "" for none.
    #[arg(long, conflicts_with_all = ["add_scope", "remove_scope"])]
    scope: Vec<String>,
    /// Adds a scope that the client may request.
    #[arg(long, value_parser = scope)]
    add_scope: Vec<Scope>,
    /// Removes a scope, also from the default scopes.
    #[arg(long, value_parser = scope)]
    remove_scope: Vec<Scope>,
    /// Sets the scopes that are granted when a request names none.
    #[arg(long, value_parser = scope)]
    default_scope: Vec<Scope>,
    /// Removes the default scopes, so that the server's defaults apply.
    #[arg(long, conflicts_with = "default_scope")]
    no_default_scope: bool,
    /// Sets the APIs that the client's tokens may be for; repeatable. The first one is the default.
    #[arg(long, conflicts_with_all = ["add_audience", "remove_audience"])]
    audience: Vec<Audience>,
    /// Adds an API that the client's tokens may be for.
    #[arg(long)]
    add_audience: Vec<Audience>,
    /// Removes an API that the client's tokens may be for. The last API can be removed only with `--server-default-audience`,
    /// or if the client gets no tokens.
    #[arg(long)]
    remove_audience: Vec<Audience>,
    /// Removes all APIs, so that the client's tokens are for the server's default audience.
    #[arg(long, conflicts_with_all = ["audience", "add_audience", "default_audience"])]
    server_default_audience: bool,
    /// Sets the API of requests that name none, and adds it if it is missing.
    #[arg(long)]
    default_audience: Option<Audience>,
    /// Adds an API whose tokens the client may introspect.
    #[arg(long)]
    add_introspects: Vec<Audience>,
    /// Removes an API whose tokens the client may introspect.
    #[arg(long)]
    remove_introspects: Vec<Audience>,
    /// Sets the `sub` claim of the client's tokens.
    #[arg(long)]
    subject: Option<String>,
    /// Resets the `sub` claim of the client's tokens to the client id.
    #[arg(long, conflicts_with = "subject")]
    no_subject: bool,
    /// Sets the lifetime of the client's tokens in seconds.
    #[arg(long)]
    token_lifetime: Option<u64>,
    /// Removes the client's token lifetime, so that the server's applies.
    #[arg(long, conflicts_with = "token_lifetime")]
    no_token_lifetime: bool,
    /// Sets the authentication method: `client_secret_basic` or `client_secret_post`.
    #[arg(long)]
    authentication: Option<String>,
    /// Sets whether the client may get tokens: `true` or `false`.
    #[arg(long)]
    grant: Option<bool>,
    #[command(flatten)]
    details: Details,
}

/// The exit code and the message for stderr.
struct Failure(u8, String);

impl Failure {
    /// Names the client that was not found, or exists already.
    fn naming(self, id: Option<&str>) -> Self {
        match (self, id) {
            (Self(4, text), Some(id)) if text == AdminError::Exists.to_string() => Self(
                4,
                format!("client `{id}` already exists; choose another id, or change it with `clients update {id}`"),
            ),
            (Self(3, text), Some(id)) if text == AdminError::NotFound.to_string() => {
                Self(3, format!("client `{id}` not found; `clients list` shows all"))
            }
            (failure, _) => failure,
        }
    }
}

impl Command {
    /// Returns the client that the command is for.
    fn client_id(&self) -> Option<&str> {
        match self {
            Self::Create(new) => new.id.as_deref(),
            Self::Credentials(command) => command.client_id(),
            Self::Show { id, .. }
            | Self::RotateSecret { id, .. }
            | Self::Disable { id }
            | Self::Enable { id }
            | Self::Delete { id }
            | Self::RefreshKeys { id }
            | Self::RevokeTokens { id } => Some(id.as_str()),
            Self::Update(update) => Some(update.id.as_str()),
            _ => None,
        }
    }

    /// Returns the store to open. Only a command that adds clients creates a missing file, and says so: for the others, the path
    /// is a typing mistake.
    fn store_to_open<'a>(&self, url: &'a str, json: bool) -> Result<&'a str, Failure> {
        let Some(path) = store::missing_sqlite_file(url, Path::new("")) else { return Ok(url) };
        match self {
            Self::Import { dry_run: true, .. } => Ok("memory:"),
            Self::Create(_) | Self::Import { .. } => {
                explain(json, &format!("creating the store {}", path.display()));
                Ok(url)
            }
            _ => {
                let why = "does not exist; correct --store or TCC_STORE; `clients create` and `clients import` make a new store";
                Err(Failure(1, format!("the store {} {why}", path.display())))
            }
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self(1, chain(&error))
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        let code = match error {
            AdminError::NotFound => 3,
            AdminError::Exists | AdminError::Conflict => 4,
            AdminError::Invalid(_) | AdminError::Secret(_) => 5,
            _ => 1,
        };
        Self(code, with_commands(&chain(&error)))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // The reader closed the pipe, as in `clients list | head`.
        if error.kind() == ErrorKind::BrokenPipe { Self(0, String::new()) } else { Self(1, error.to_string()) }
    }
}

fn invalid(error: impl std::fmt::Display) -> Failure {
    Failure(5, with_commands(&error.to_string()))
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let id = arguments.command.client_id().map(str::to_owned);
    match run(arguments).await.map_err(|failure| failure.naming(id.as_deref())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, text)) => {
            if !text.is_empty() {
                eprintln!("clients: {}", printable(&text));
            }
            ExitCode::from(code)
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    #[cfg(feature = "remote")]
    if arguments.server.is_set() {
        return over_http::run(arguments.server, arguments.command, arguments.json).await;
    }
    let Arguments { store, json, command, .. } = arguments;
    let url = store.or_else(|| std::env::var("TCC_STORE").ok()).filter(|url| !url.is_empty());
    let url = url.ok_or_else(|| Failure(2, "no store is set; use --store or the variable TCC_STORE".to_owned()))?;
    let url = command.store_to_open(&url, json)?;
    let (store, key_store) = store::open(url, Path::new("")).await.map_err(|why| Failure(1, why))?;
    let done = |id: &ClientId, what: &str| {
        if json {
            print(json!({ "client_id": id, "done": what }))
        } else {
            eprintln!("client `{id}` is {what}");
            Ok(())
        }
    };
    match command {
        Command::Create(new) => create(&store, new, json).await,
        Command::List { after, limit, with_hashes } => list(&store, after, limit, with_hashes, json).await,
        Command::Show { id, with_hashes } => {
            let (client, _) = store.load(&id).await?.ok_or(AdminError::NotFound)?;
            if json { print(record(&client, with_hashes)?) } else { show(&client, with_hashes) }
        }
        Command::Update(update) => {
            let id = update.id.clone();
            store.try_update(&id, |client| changed(client, &update)).await?;
            done(&id, "changed")
        }
        Command::RotateSecret { id, keep, label } => {
            let rotation = SecretRotation::new().keep_old_for(Duration::from_secs(keep));
            let rotation = label.into_iter().fold(rotation, SecretRotation::label);
            let rotated = store.rotate_secret(&id, rotation).await?;
            print_secret(&id, &rotated.label, &rotated.secret, json)?;
            explain(json, OLD_API_KEY);
            Ok(())
        }
        Command::Disable { id } => {
            store.disable(&id).await?;
            done(&id, "disabled")?;
            explain(json, &format!("{FOLLOWERS} refuse it and its tokens within a second; {OTHERS}"));
            explain(json, API_KEYS);
            Ok(())
        }
        Command::Enable { id } => {
            store.enable(&id).await?;
            done(&id, "enabled")
        }
        Command::RefreshKeys { id } => {
            store.update(&id, |client| client.edit().refresh_keys(SystemTime::now())).await?;
            done(&id, "its keys are fetched anew")?;
            explain(json, &format!("{FOLLOWERS} fetch its keys at its next request; {OTHERS}"));
            Ok(())
        }
        Command::Delete { id } => {
            store.delete(&id).await?;
            done(&id, "deleted")?;
            explain(json, &format!("{FOLLOWERS} refuse it and its tokens within a second; {OTHERS}"));
            explain(json, API_KEYS);
            Ok(())
        }
        Command::RevokeTokens { id } => {
            store.load(&id).await?.ok_or(AdminError::NotFound)?;
            let longest = store.longest_token_lifetime();
            store.revoke(Revocation::client(id.clone(), SystemTime::now(), longest)).await?;
            done(&id, "without tokens: its tokens are revoked in the store")?;
            explain(
                json,
                &format!("{FOLLOWERS} refuse them within a second; elsewhere they are valid until they expire"),
            );
            explain(json, NEW_TOKENS);
            explain(json, API_KEYS);
            Ok(())
        }
        Command::RevokeToken { id, token_id } => {
            let (now, longest) = (SystemTime::now(), store.longest_token_lifetime());
            store.revoke(Revocation::token(token_id, id.clone(), now, now + longest)).await?;
            done(&id, "without this token: it is revoked in the store")?;
            explain(json, &format!("{FOLLOWERS} refuse it within a second; elsewhere it is valid until it expires"));
            Ok(())
        }
        Command::AudienceReport => audience_report::run(&store, json).await,
        Command::Credentials(command) => credentials::run(command, &store, json).await,
        Command::Doctor(doctor) => doctor::run(*doctor, &store, json).await,
        Command::Keys(arguments) => {
            key_commands::run(arguments, key_store, json).await.map_err(|(code, why)| Failure(code, why))
        }
        Command::Import { file, dry_run } => import(&store, &file, dry_run, json).await,
    }
}

async fn create(store: &Store, new: Create, json: bool) -> Result<(), Failure> {
    if new.id.is_none() {
        return Err(Failure(2, "the id of the client is missing; only --server generates one".to_owned()));
    }
    let secret = ClientSecret::generate().map_err(invalid)?;
    let kept = RegisteredSecret::new("1", &secret).map_err(invalid)?.created_at(SystemTime::now());
    let stored = kept.stored().clone();
    let client = unregistered(new, stored).replace_secret(kept);
    let client = client.register().map_err(invalid)?;
    let id = client.id().clone();
    store.create(client.clone()).await?;
    hints::warn_of_useless(&id, &client);
    print_secret(&id, "1", &secret, json)
}

/// Returns the client that `create` describes, with this secret.
fn unregistered(new: Create, secret: StoredSecret) -> Client {
    let mut client = Client::new(new.id.unwrap_or_default(), secret).scopes(new.scope);
    if new.post {
        client = client.authentication(ClientAuthMethod::ClientSecretPost);
    }
    if !new.default_scope.is_empty() {
        client = client.default_scopes(new.default_scope.into_iter().collect::<Scopes>());
    }
    if let [first, others @ ..] = new.audience.as_slice() {
        client = others.iter().fold(client.default_audience(first), Client::audience);
    }
    client = new.introspects.iter().fold(client, Client::introspects);
    if let Some(subject) = new.subject {
        client = client.subject(subject);
    }
    if let Some(seconds) = new.token_lifetime {
        client = client.token_lifetime(Duration::from_secs(seconds));
    }
    if new.without_grant {
        client = client.without_grant();
    }
    new.details.apply(client)
}

/// Applies `update` to a client. Removing a scope or an audience that the client does not have is an error, since it may be a
/// typing mistake.
fn changed(client: &RegisteredClient, update: &Update) -> Result<Client, AdminError> {
    let missing = |what: &str, value: &str| {
        Err(AdminError::Invalid(ClientError::new(
            client.id(),
            format!("the client does not have the {what} `{value}`"),
        )))
    };
    let mut edited = client.edit();
    if !update.scope.is_empty() {
        let scopes = update.scope.iter().filter(|scope| !scope.is_empty()).map(|scope| {
            scope
                .parse::<Scope>()
                .map_err(|error| AdminError::Invalid(ClientError::new(client.id(), error.to_string())))
        });
        edited = edited.scopes(scopes.collect::<Result<Vec<_>, _>>()?);
    }
    edited = update.add_scope.iter().cloned().fold(edited, Client::scope);
    for scope in &update.remove_scope {
        if !client.scopes().contains(scope.as_str()) {
            return missing("scope", scope.as_str());
        }
        edited = edited.without_scope(scope);
    }
    if !update.default_scope.is_empty() {
        edited = edited.default_scopes(update.default_scope.iter().cloned().collect::<Scopes>());
    } else if update.no_default_scope {
        edited = edited.without_default_scopes();
    }
    if let [first, ..] = update.audience.as_slice() {
        edited = edited.audiences(&update.audience).default_audience(first);
    }
    edited = update.add_audience.iter().fold(edited, Client::audience);
    for audience in &update.remove_audience {
        if !client.audiences().contains(audience) {
            return missing("audience", audience.as_str());
        }
        edited = edited.without_audience(audience);
    }
    if update.server_default_audience {
        edited = edited.server_default_audience();
    }
    edited = update.default_audience.iter().fold(edited, Client::default_audience);
    edited = update.add_introspects.iter().fold(edited, Client::introspects);
    for audience in &update.remove_introspects {
        if !client.introspects().contains(audience) {
            return missing("audience to introspect", audience.as_str());
        }
        edited = edited.without_introspects(audience);
    }
    if let Some(subject) = &update.subject {
        edited = edited.subject(subject);
    } else if update.no_subject {
        edited = edited.without_subject();
    }
    if let Some(seconds) = update.token_lifetime {
        edited = edited.token_lifetime(Duration::from_secs(seconds));
    } else if update.no_token_lifetime {
        edited = edited.without_token_lifetime();
    }
    if let Some(method) = &update.authentication {
        edited = edited.authentication(match method.as_str() {
            "client_secret_basic" => ClientAuthMethod::ClientSecretBasic,
            "client_secret_post" => ClientAuthMethod::ClientSecretPost,
            other => {
                let why = format!("`{other}` is not supported; use `client_secret_basic` or `client_secret_post`");
                return Err(AdminError::Invalid(ClientError::new(client.id(), why)));
            }
        });
    }
    if let Some(allowed) = update.grant {
        edited = edited.grant(allowed);
    }
    edited = update.details.apply(edited);
    refuse_unnamed_default(client, update)?;
    Ok(edited)
}

/// Rejects updates that the library would also reject, with an error that names the options of this program.
fn refuse_unnamed_default(client: &RegisteredClient, update: &Update) -> Result<(), AdminError> {
    let had_less = !client.audiences().is_empty() || !client.may_use_grant();
    let may_use_grant = update.grant.unwrap_or(client.may_use_grant());
    let kept = client.audiences().iter().filter(|_| update.audience.is_empty()).chain(&update.add_audience);
    let kept = kept.filter(|audience| !update.remove_audience.contains(audience));
    let mut left = kept.chain(&update.audience).chain(&update.default_audience);
    if !had_less || !may_use_grant || update.server_default_audience || left.next().is_some() {
        return Ok(());
    }
    let why = "no audience is left, so the client would get the server's default audience, which it may not have had; \
               add another one with --add-audience, select the server's default with \
               --server-default-audience, or disable tokens with --grant false";
    Err(AdminError::Invalid(ClientError::new(client.id(), why)))
}

async fn list(
    store: &Store,
    mut after: Option<ClientId>,
    limit: Option<usize>,
    with_hashes: bool,
    json: bool,
) -> Result<(), Failure> {
    let mut left = limit.unwrap_or(usize::MAX);
    while let Some(count) = NonZeroUsize::new(left.min(1_000)) {
        let page = store.list_entries(after.as_ref(), count).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.client_id().clone());
        left = left.saturating_sub(page.len());
        for entry in page {
            let client = match entry {
                ListedClient::Client(client) => client,
                ListedClient::Unreadable { client_id, reason } => {
                    show_unreadable(&client_id, &without_values(&reason), json)?;
                    continue;
                }
            };
            if json {
                print(record(&client, with_hashes)?)?;
            } else {
                let state = if client.is_enabled() { "" } else { "\tdisabled" };
                writeln!(io::stdout(), "{}\t{}{state}", client.id(), client.scopes())?;
            }
        }
    }
    Ok(())
}

fn show_unreadable(id: &ClientId, reason: &str, json: bool) -> Result<(), Failure> {
    if json {
        return print(json!({ "client_id": id, "is_unreadable": true, "reason": reason }));
    }
    Ok(writeln!(io::stdout(), "{id}\tunreadable: {}", printable(reason))?)
}

/// The number of clients per store call and per update of the progress bar.
const BATCH: usize = 5_000;

/// The maximum number of invalid lines that are shown.
const MAX_REPORTED: usize = 100;

async fn import(store: &Store, file: &Path, dry_run: bool, json: bool) -> Result<(), Failure> {
    let cannot_read = |error: io::Error| Failure(5, format!("{}: {error}", file.display()));
    let (input, length): (Box<dyn BufRead>, _) = if file == Path::new("-") {
        (Box::new(BufReader::new(io::stdin())), None)
    } else {
        let opened = File::open(file).map_err(cannot_read)?;
        let length = opened.metadata().map_err(cannot_read)?.len();
        (Box::new(BufReader::new(opened)), Some(length))
    };
    let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent}%  {msg} clients  {elapsed}, {eta} left") {
        bar.set_style(style);
    }
    let (mut batch, mut read, mut created, mut wrong) = (Vec::with_capacity(BATCH), 0, 0, 0);
    for (number, line) in input.lines().enumerate() {
        let at = |why: String| format!("{}:{}: {why}", file.display(), number + 1);
        let line = line.map_err(|error| Failure(5, at(format!("{error}; {created} clients were added"))))?;
        bar.inc(line.len() as u64 + 1);
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str::<RegisteredClient>(&line) {
            Ok(client) => batch.push(client),
            Err(error) => {
                wrong += 1;
                if wrong <= MAX_REPORTED {
                    bar.suspend(|| eprintln!("{}", printable(&at(without_values(&error.to_string())))));
                }
            }
        }
        read += 1;
        if wrong > 0 || dry_run {
            batch.clear();
        } else if batch.len() == BATCH {
            created += store.create_all(std::mem::take(&mut batch)).await?;
            bar.set_message(created.to_string());
        }
    }
    bar.finish_and_clear();
    if wrong > 0 {
        let why = "correct them and repeat the import, which skips the clients that exist";
        return Err(Failure(
            5,
            format!("{}: {wrong} invalid lines; {created} clients were added; {why}", file.display()),
        ));
    }
    if dry_run && json {
        return print(json!({ "valid": read }));
    }
    if dry_run {
        eprintln!("{read} valid lines; no client was added");
        return Ok(());
    }
    created += store.create_all(batch).await?;
    if json {
        return print(json!({ "created": created, "passed_over": read - created }));
    }
    eprintln!("{created} clients were added, {} existed already", read - created);
    Ok(())
}

/// The error quotes an unexpected string, which may have been a secret.
fn without_values(text: &str) -> String {
    match (text.find('"'), text.rfind('"')) {
        (Some(start), Some(end)) if start < end => format!("{}…{}", &text[..=start], &text[end..]),
        _ => text.to_owned(),
    }
}

/// JSON escapes the ASCII control characters. This escapes the other ones.
fn print(value: Value) -> Result<(), Failure> {
    let mut text = String::new();
    for character in value.to_string().chars() {
        if is_printable(character) {
            text.push(character);
        } else {
            text.extend(character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    Ok(writeln!(io::stdout(), "{text}")?)
}

fn print_secret(id: &ClientId, label: &str, secret: &ClientSecret, json: bool) -> Result<(), Failure> {
    print_secret_text(id, label, secret.expose(), json)
}

fn print_secret_text(id: &ClientId, label: &str, secret: &str, json: bool) -> Result<(), Failure> {
    if json {
        return print(json!({ "client_id": id, "label": label, "client_secret": secret }));
    }
    eprintln!("secret `{}` of client `{id}` (not shown again):", printable(label));
    Ok(writeln!(io::stdout(), "{secret}")?)
}

fn record(client: &RegisteredClient, with_hashes: bool) -> Result<Value, Failure> {
    let mut record = serde_json::to_value(client).map_err(invalid)?;
    if !with_hashes {
        let secrets = record.get_mut("client_secrets").and_then(Value::as_array_mut);
        for secret in secrets.into_iter().flatten().filter_map(Value::as_object_mut) {
            secret.remove("hash");
        }
        let others = record.get_mut("credentials").and_then(Value::as_array_mut);
        for credential in others.into_iter().flatten().filter_map(Value::as_object_mut) {
            credential.remove("encrypted_secret");
        }
    }
    Ok(record)
}

/// Returns the value with RFC 3339 in place of the seconds of each time.
fn with_dates(value: Value) -> Value {
    match value {
        Value::Array(values) => values.into_iter().map(with_dates).collect(),
        Value::Object(members) => {
            let dated = |(name, value): (String, Value)| match value.as_u64() {
                Some(seconds) if name.ends_with("_at") => {
                    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
                    (name, time.map_or(value, |time| Rfc3339(time).to_string().into()))
                }
                _ => (name, with_dates(value)),
            };
            Value::Object(members.into_iter().map(dated).collect())
        }
        value => value,
    }
}

fn show(client: &RegisteredClient, with_hashes: bool) -> Result<(), Failure> {
    show_members(record(client, with_hashes)?)
}

fn show_members(record: Value) -> Result<(), Failure> {
    let Value::Object(members) = record else { return Ok(()) };
    for (name, value) in members {
        let value = value.as_str().map_or_else(|| with_dates(value.clone()).to_string(), str::to_owned);
        writeln!(io::stdout(), "{name:27} {}", printable(&value))?;
    }
    Ok(())
}
