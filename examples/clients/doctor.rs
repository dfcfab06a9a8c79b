//! `clients doctor`: checks a client assertion offline, by the rules of the server.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tower_client_credentials::authorization_server::{
    AuthorizationServer, CheckedRule, ClientAssertions, PlatformIssuer, RuleResult, TrustDomain,
};
use tower_client_credentials::keys::KeySet;
use tower_client_credentials::registration::{RegisteredClient, WorkloadKey};
use tower_client_credentials::store::StoreFuture;
use tower_client_credentials::{ClientId, ClientStore, KeyRing};

use crate::credentials::EncryptionKeyArguments;
use crate::store::{Store, chain, printable};
use crate::{Failure, invalid, print};

#[derive(Args)]
pub(crate) struct Doctor {
    /// The file with the assertion, or - for stdin. The output contains neither its signature nor a secret.
    #[arg(long)]
    assertion: PathBuf,
    /// The client that the assertion should be from.
    #[arg(long)]
    client: ClientId,
    /// The issuer identifier of the server.
    #[arg(long)]
    issuer: String,
    /// The URL of the token endpoint; by default the issuer followed by /token.
    #[arg(long)]
    token_endpoint: Option<String>,
    /// How many seconds ahead `exp` may be, as `assertions.max_lifetime_seconds` of the server.
    #[arg(long, default_value_t = 300)]
    max_lifetime: u64,
    /// By how many seconds clocks may differ, as `assertions.clock_skew_seconds` of the server.
    #[arg(long, default_value_t = 10)]
    clock_skew: u64,
    /// A platform that the server trusts, with the file of its JWK Set: ISSUER=FILE; repeatable.
    #[arg(long)]
    platform: Vec<String>,
    /// A SPIFFE trust domain that the server trusts, with the file of its bundle: NAME=FILE; repeatable.
    #[arg(long)]
    trust_domain: Vec<String>,
    #[command(flatten)]
    key: EncryptionKeyArguments,
}

/// Hides whether the store is in memory: the other clients are of no interest here, so they are not checked.
#[derive(Debug)]
struct OneClient(Store);

impl ClientStore for OneClient {
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        self.0.find(id)
    }

    fn find_by_workload<'a>(&'a self, keys: &'a [WorkloadKey]) -> StoreFuture<'a, Option<Vec<ClientId>>> {
        self.0.find_by_workload(keys)
    }
}

pub(crate) async fn run(doctor: Doctor, store: &Store, json: bool) -> Result<(), Failure> {
    let assertion = read(&doctor.assertion)?;
    let server = server(&doctor, store)?;
    let checked = server.diagnose_assertion(assertion.trim(), Some(&doctor.client)).await;
    let checked = checked.map_err(|error| Failure(1, chain(&error)))?;
    let broken = checked.iter().filter(|checked| matches!(checked.result(), RuleResult::Failed(_))).count();
    for checked in &checked {
        show(checked, json)?;
    }
    if broken == 0 {
        return Ok(());
    }
    Err(Failure(5, format!("the server refuses the assertion: it breaks {broken} of {} rules", checked.len())))
}

fn server(doctor: &Doctor, store: &Store) -> Result<AuthorizationServer, Failure> {
    let mut assertions = ClientAssertions::new(store.clone())
        .max_lifetime(Duration::from_secs(doctor.max_lifetime))
        .clock_skew(Duration::from_secs(doctor.clock_skew))
        .client_secret_jwt();
    #[cfg(feature = "remote")]
    {
        assertions = assertions.client_key_urls();
    }
    if let Some(key) = doctor.key.read_if_set()? {
        assertions = assertions.client_secret_jwt_with(key);
    }
    for platform in &doctor.platform {
        let (issuer, file) = pair(platform)?;
        assertions = assertions.platform(PlatformIssuer::new(issuer, KeySet::from_jwks(read(file)?).map_err(invalid)?));
    }
    for domain in &doctor.trust_domain {
        let (name, file) = pair(domain)?;
        assertions = assertions.trust_domain(TrustDomain::new(name, read(file)?).map_err(invalid)?);
    }
    // The signing key is not used.
    let keys = KeyRing::generate().map_err(invalid)?;
    let mut builder = AuthorizationServer::builder(&doctor.issuer, keys, OneClient(store.clone()))
        .client_assertions(assertions)
        .default_audience(&doctor.issuer)
        .dangerous_plain_http();
    if let Some(url) = &doctor.token_endpoint {
        // The builder takes the base URL and the path apart.
        let at = url.find("://").and_then(|scheme| url.get(scheme + 3..)?.find('/').map(|path| scheme + 3 + path));
        let (base, path) = at.and_then(|at| url.split_at_checked(at)).unwrap_or((url, "/"));
        builder = builder.public_url(base).token_path(path);
    }
    builder.build().map_err(|error| Failure(2, chain(&error)))
}

fn pair(text: &str) -> Result<(&str, &Path), Failure> {
    let (name, file) = text.rsplit_once('=').ok_or_else(|| Failure(2, format!("`{text}` is not NAME=FILE")))?;
    Ok((name, Path::new(file)))
}

/// The longest assertion is 16 KiB; a trust bundle may be larger.
const LONGEST: u64 = 1024 * 1024;

fn read(path: &Path) -> Result<String, Failure> {
    let cannot_read = |error: io::Error| Failure(5, format!("{}: {error}", path.display()));
    let mut text = String::new();
    if path == Path::new("-") {
        io::stdin().take(LONGEST).read_to_string(&mut text).map_err(cannot_read)?;
    } else {
        std::fs::File::open(path).map_err(cannot_read)?.take(LONGEST).read_to_string(&mut text).map_err(cannot_read)?;
    }
    Ok(text)
}

fn show(checked: &CheckedRule, json: bool) -> Result<(), Failure> {
    let (result, text) = match checked.result() {
        RuleResult::Passed => ("passed", None),
        RuleResult::Allowed(text) => ("allowed", Some(text.as_str())),
        RuleResult::Failed(text) => ("failed", Some(text.as_str())),
        RuleResult::NotChecked(why) => ("not checked", Some(*why)),
        _ => ("unknown", None),
    };
    let (rule, found) = (checked.rule().name(), checked.found());
    if json {
        return print(json!({ "rule": rule, "result": result, "found": found, "text": text }));
    }
    let found = found.map_or_else(String::new, |found| format!("\t{}", printable(found)));
    let text = text.map_or_else(String::new, |text| format!("\t{}", printable(text)));
    Ok(writeln!(io::stdout(), "{result:11} {rule:14}{found}{text}")?)
}
