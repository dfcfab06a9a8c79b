//! Administration of clients, over the same traits that a server uses:
//!
//! ```text
//! export TCC_STORE=sqlite://clients.db
//! cargo run --example clients --features sqlite -- create billing --scope invoices:read --audience https://api.example.com
//! cargo run --example clients --features sqlite -- rotate-secret billing --keep 86400
//! cargo run --example clients --features sqlite -- update billing --add-scope invoices:write --remove-audience https://old.example.com
//! ```
//!
//! A secret is printed once, when it is made, alone on stdout; all that is said about it goes to stderr. With `--json` stdout
//! has one JSON object a line.

#![allow(clippy::print_stderr)] // it talks to a person, and to scripts

#[path = "standalone/store.rs"]
mod store;

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tower_client_credentials::store::SecretRotation;
use tower_client_credentials::{
    AdminError, Audience, Client, ClientAdmin as _, ClientAuthMethod, ClientError, ClientId, ClientSecret,
    RegisteredClient, RegisteredSecret, Revocation, RevocationStore as _, Scope, Scopes, StoreError,
};

use self::store::{Store, chain, is_printable, printable};

/// Creates and changes the clients of a token service.
#[derive(Parser)]
#[command(
    name = "clients",
    after_help = "Exit codes: 0 done, 1 the store could not do it, 2 wrong usage, 3 there is no such \
    client, 4 there is one of this id already, or somebody else changed it, 5 the client or the file is wrong."
)]
struct Arguments {
    /// `sqlite://FILE`, `postgres://…`, `redis://…` or `file:FILE`; by default what `TCC_STORE` says, where no other user sees
    /// its password.
    #[arg(long, global = true)]
    store: Option<String>,
    /// One JSON object a line, for programs.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Adds a client, and prints its new secret.
    Create(Create),
    /// Lists the clients in the order of their ids.
    List {
        /// Begins after this id.
        #[arg(long)]
        after: Option<ClientId>,
        /// At most so many.
        #[arg(long)]
        limit: Option<usize>,
        /// With what is kept of the secrets, so that `import` takes it.
        #[arg(long)]
        with_hashes: bool,
    },
    /// Shows one client.
    Show {
        id: ClientId,
        /// With what is kept of the secrets, so that `import` takes it.
        #[arg(long)]
        with_hashes: bool,
    },
    /// Changes what a client may get. Tokens that it has keep what they say; `revoke-tokens` ends them.
    Update(Box<Update>),
    /// Adds a secret and prints it; those that there were end.
    RotateSecret {
        id: ClientId,
        /// For how many seconds the secrets that there were still work; with 0 they are removed.
        #[arg(long, default_value_t = 86_400)]
        keep: u64,
        /// The label of the new one; by default a number.
        #[arg(long)]
        label: Option<String>,
    },
    /// Marks a client as disabled and its tokens as revoked in the store, for the servers and verifiers that follow it.
    Disable { id: ClientId },
    /// Lets a client in again. Its old tokens stay revoked.
    Enable { id: ClientId },
    /// Deletes a client, and marks its tokens as revoked in the store, for the servers and verifiers that follow it.
    Delete { id: ClientId },
    /// Marks the tokens that a client has as revoked in the store; it may ask for new ones.
    RevokeTokens { id: ClientId },
    /// Adds the clients of a file with one JSON record a line. Those whose id is taken are passed over.
    Import {
        /// The file, or - for stdin.
        file: PathBuf,
    },
}

#[derive(Args)]
struct Create {
    id: String,
    /// A scope that it may get; several times for several.
    #[arg(long)]
    scope: Vec<Scope>,
    /// A scope that a request without any gets.
    #[arg(long)]
    default_scope: Vec<Scope>,
    /// An API that its tokens may be for; several times for several, the first is the default.
    #[arg(long)]
    audience: Vec<Audience>,
    /// An API whose tokens it may introspect.
    #[arg(long)]
    introspects: Vec<Audience>,
    /// What its tokens say as `sub`, by default its id.
    #[arg(long)]
    subject: Option<String>,
    /// How many seconds its tokens live.
    #[arg(long)]
    token_lifetime: Option<u64>,
    /// Authenticates in the body (`client_secret_post`), for clients that cannot do it in the header.
    #[arg(long)]
    post: bool,
    /// Gets no tokens; for a client that only introspects.
    #[arg(long)]
    without_grant: bool,
}

/// A setting without an option does not change.
#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
struct Update {
    id: ClientId,
    /// Sets the scopes that it may get; several times for several. "" for none.
    #[arg(long, conflicts_with_all = ["add_scope", "remove_scope"])]
    scope: Vec<String>,
    /// Adds a scope that it may get.
    #[arg(long)]
    add_scope: Vec<Scope>,
    /// Removes a scope, from the default scopes too.
    #[arg(long)]
    remove_scope: Vec<Scope>,
    /// Sets the scopes that a request without any gets.
    #[arg(long)]
    default_scope: Vec<Scope>,
    /// Leaves the default scopes to the server.
    #[arg(long, conflicts_with = "default_scope")]
    no_default_scope: bool,
    /// Sets the APIs that its tokens may be for; several times for several, the first is the default.
    #[arg(long, conflicts_with_all = ["add_audience", "remove_audience"])]
    audience: Vec<Audience>,
    /// Adds an API that its tokens may be for.
    #[arg(long)]
    add_audience: Vec<Audience>,
    /// Removes an API that its tokens may be for. The last one can be removed only with `--server-default-audience`, or from a
    /// client that gets no tokens.
    #[arg(long)]
    remove_audience: Vec<Audience>,
    /// Removes all APIs that its tokens may be for: they are for the server's default audience.
    #[arg(long, conflicts_with_all = ["audience", "add_audience", "default_audience"])]
    server_default_audience: bool,
    /// Sets the API of a request that names none, and adds it if it is not there.
    #[arg(long)]
    default_audience: Option<Audience>,
    /// Adds an API whose tokens it may introspect.
    #[arg(long)]
    add_introspects: Vec<Audience>,
    /// Removes an API whose tokens it may introspect.
    #[arg(long)]
    remove_introspects: Vec<Audience>,
    /// Sets what its tokens say as `sub`.
    #[arg(long)]
    subject: Option<String>,
    /// Lets its tokens say its id as `sub`.
    #[arg(long, conflicts_with = "subject")]
    no_subject: bool,
    /// Sets how many seconds its tokens live.
    #[arg(long)]
    token_lifetime: Option<u64>,
    /// Leaves the lifetime of its tokens to the server.
    #[arg(long, conflicts_with = "token_lifetime")]
    no_token_lifetime: bool,
    /// Sets how it authenticates: `client_secret_basic` or `client_secret_post`.
    #[arg(long)]
    authentication: Option<String>,
    /// Sets whether it may get tokens: `true` or `false`.
    #[arg(long)]
    grant: Option<bool>,
}

/// What is said on stderr, and the exit code.
struct Failure(u8, String);

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
        Self(code, chain(&error))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // Whoever reads has seen enough, as in `clients list | head`.
        if error.kind() == ErrorKind::BrokenPipe { Self(0, String::new()) } else { Self(1, error.to_string()) }
    }
}

fn invalid(error: impl std::fmt::Display) -> Failure {
    Failure(5, error.to_string())
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, text)) => {
            if !text.is_empty() {
                eprintln!("clients: {}", printable(&text));
            }
            ExitCode::from(code)
        }
    }
}

async fn run(Arguments { store, json, command }: Arguments) -> Result<(), Failure> {
    let url = store.or_else(|| std::env::var("TCC_STORE").ok()).filter(|url| !url.is_empty());
    let url = url.ok_or_else(|| Failure(2, "there is no store; give one by --store or by TCC_STORE".to_owned()))?;
    let store = Store::open(&url, Path::new("")).await.map_err(|why| Failure(1, why))?;
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
            print_secret(&id, &rotated.label, &rotated.secret, json)
        }
        Command::Disable { id } => {
            store.disable(&id).await?;
            done(&id, "disabled")?;
            explain(json, &format!("{FOLLOWERS} refuse it and its tokens within a second; {OTHERS}"));
            Ok(())
        }
        Command::Enable { id } => {
            store.enable(&id).await?;
            done(&id, "enabled")
        }
        Command::Delete { id } => {
            store.delete(&id).await?;
            done(&id, "deleted")?;
            explain(json, &format!("{FOLLOWERS} refuse it and its tokens within a second; {OTHERS}"));
            Ok(())
        }
        Command::RevokeTokens { id } => {
            store.load(&id).await?.ok_or(AdminError::NotFound)?;
            let longest = store.longest_token_lifetime();
            store.revoke(Revocation::client(id.clone(), SystemTime::now(), longest)).await?;
            done(&id, "without its tokens: they are revoked in the store")?;
            explain(json, &format!("{FOLLOWERS} refuse them within a second; elsewhere they work until they expire"));
            Ok(())
        }
        Command::Import { file } => import(&store, &file, json).await,
    }
}

async fn create(store: &Store, new: Create, json: bool) -> Result<(), Failure> {
    let secret = ClientSecret::generate().map_err(invalid)?;
    let kept = RegisteredSecret::new("1", &secret).map_err(invalid)?.created_at(SystemTime::now());
    let mut client = Client::new(new.id, &secret).replace_secret(kept).scopes(new.scope);
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
    let client = client.register().map_err(invalid)?;
    let id = client.id().clone();
    store.create(client).await?;
    print_secret(&id, "1", &secret, json)
}

/// What `update` makes of a client. A scope or an audience to remove that the client does not have is an error, since it may be
/// a typing error.
fn changed(client: &RegisteredClient, update: &Update) -> Result<Client, AdminError> {
    let missing = |what: &str, value: &str| {
        Err(AdminError::Invalid(ClientError::new(client.id(), format!("it does not have the {what} `{value}`"))))
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
                let why = format!("`{other}` is not a method; use `client_secret_basic` or `client_secret_post`");
                return Err(AdminError::Invalid(ClientError::new(client.id(), why)));
            }
        });
    }
    if let Some(allowed) = update.grant {
        edited = edited.grant(allowed);
    }
    refuse_unnamed_default(client, update)?;
    Ok(edited)
}

/// Refuses what the library would refuse as well, in the words of this program.
fn refuse_unnamed_default(client: &RegisteredClient, update: &Update) -> Result<(), AdminError> {
    let had_less = !client.audiences().is_empty() || !client.may_use_grant();
    let may_use_grant = update.grant.unwrap_or(client.may_use_grant());
    let kept = client.audiences().iter().filter(|_| update.audience.is_empty()).chain(&update.add_audience);
    let kept = kept.filter(|audience| !update.remove_audience.contains(audience));
    let mut left = kept.chain(&update.audience).chain(&update.default_audience);
    if !had_less || !may_use_grant || update.server_default_audience || left.next().is_some() {
        return Ok(());
    }
    let why = "no audience is left, and without any it would get the server's default audience, which it may not have had; \
               name another one with --add-audience, or say that it gets the server's default with \
               --server-default-audience, or that it gets no tokens with --grant false";
    Err(AdminError::Invalid(ClientError::new(client.id(), why)))
}

/// Whom a change in the store reaches.
const FOLLOWERS: &str = "servers and verifiers that follow the revocations of this store";
const OTHERS: &str = "a server without revocations may issue tokens to it for a minute more, and its tokens work until they \
                      expire where no revocations are followed";

/// Says more to a person; a program gets one JSON object.
fn explain(json: bool, text: &str) {
    if !json {
        eprintln!("{text}");
    }
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
        let page = store.list(after.as_ref(), count).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id().clone());
        left = left.saturating_sub(page.len());
        for client in page {
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

/// A batch is one call to the store, and a progress of the bar.
const BATCH: usize = 5_000;

async fn import(store: &Store, file: &Path, json: bool) -> Result<(), Failure> {
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
    let (mut batch, mut read, mut created) = (Vec::with_capacity(BATCH), 0, 0);
    for (number, line) in input.lines().enumerate() {
        let wrong =
            |why: String| Failure(5, format!("{}:{}: {why}; {created} clients were added", file.display(), number + 1));
        let line = line.map_err(|error| wrong(error.to_string()))?;
        bar.inc(line.len() as u64 + 1);
        if line.trim().is_empty() {
            continue;
        }
        batch.push(serde_json::from_str::<RegisteredClient>(&line).map_err(|error| wrong(without_values(&error)))?);
        read += 1;
        if batch.len() == BATCH {
            created += store.create_all(std::mem::take(&mut batch)).await?;
            bar.set_message(created.to_string());
        }
    }
    created += store.create_all(batch).await?;
    bar.finish_and_clear();
    if json {
        return print(json!({ "created": created, "passed_over": read - created }));
    }
    eprintln!("{created} clients were added, {} were there already", read - created);
    Ok(())
}

/// The error quotes a string that it did not expect, and that may have been a secret.
fn without_values(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match (text.find('"'), text.rfind('"')) {
        (Some(start), Some(end)) if start < end => format!("{}…{}", &text[..=start], &text[end..]),
        _ => text,
    }
}

/// JSON escapes the controls of ASCII; here are those that it leaves as they are.
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
    if json {
        return print(json!({ "client_id": id, "label": label, "client_secret": secret.expose() }));
    }
    eprintln!("the secret `{}` of client `{id}`, which is not shown again:", printable(label));
    Ok(writeln!(io::stdout(), "{}", secret.expose())?)
}

fn record(client: &RegisteredClient, with_hashes: bool) -> Result<Value, Failure> {
    let mut record = serde_json::to_value(client).map_err(invalid)?;
    if !with_hashes {
        let secrets = record.get_mut("client_secrets").and_then(Value::as_array_mut);
        for secret in secrets.into_iter().flatten().filter_map(Value::as_object_mut) {
            secret.remove("hash");
        }
    }
    Ok(record)
}

fn show(client: &RegisteredClient, with_hashes: bool) -> Result<(), Failure> {
    let Value::Object(members) = record(client, with_hashes)? else { return Ok(()) };
    for (name, value) in members {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        writeln!(io::stdout(), "{name:27} {}", printable(&value))?;
    }
    Ok(())
}
