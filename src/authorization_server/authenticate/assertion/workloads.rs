//! [`Workloads`]: the platforms and trust domains that the server trusts, and the check of their tokens.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::claims::{shown, shown_text};
use super::failure::Failure;
use super::invalid::{AssertionRule, Refusal};
use super::key_format::KeyFormat;
use super::key_place::WorkloadKeys;
use super::platform::PlatformIssuer;
use super::rules::{Parts, Rules};
use super::trust_domain::TrustDomain;
use super::trusted_signature::Signed;
use super::workload::{Times, WorkloadClaims};
use crate::clock::{Clock, UnixTime};
use crate::crypto::Random;
use crate::keys::HmacAlgorithm;
use crate::registration::{
    CredentialKind, MAX_SEGMENTS, PlatformIdentity, RegisteredClient, SpiffeId, WorkloadKey, is_trust_domain,
};
use crate::verification::Unique;

/// The longest time from `iat` to `exp` of a platform's token.
const MAX_PLATFORM_LIFETIME: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
pub(super) struct Workloads {
    platforms: Vec<(Vec<String>, WorkloadKeys)>,
    trust_domains: Vec<(String, WorkloadKeys)>,
}

/// A workload that a trusted issuer vouches for.
pub(super) enum Workload<'a> {
    /// The names of the platform, and the verified claims.
    Platform(&'a [String], WorkloadClaims),
    Spiffe(SpiffeId),
}

impl Workloads {
    pub(super) fn open(
        platforms: Vec<PlatformIssuer>,
        trust_domains: Vec<TrustDomain>,
        clock: &Arc<dyn Clock>,
        random: &Arc<dyn Random>,
    ) -> Result<Self, String> {
        let mut opened = Self { platforms: Vec::new(), trust_domains: Vec::new() };
        for PlatformIssuer { names, place } in platforms {
            if let Some(name) = names.iter().find(|name| name.is_empty() || opened.platform(name).is_some()) {
                return Err(format!("the platform issuer `{name}` is empty or occurs twice; name each platform once"));
            }
            let keys = WorkloadKeys::open(place, KeyFormat::Jwks, clock, random)?;
            opened.platforms.push((names, keys));
        }
        for TrustDomain { name, place } in trust_domains {
            if !is_trust_domain(&name) {
                return Err(format!("invalid trust domain `{name}`; use for example `example.org`"));
            }
            if opened.trust_domain(&name).is_some() {
                return Err(format!("the trust domain `{name}` occurs twice; give it one bundle"));
            }
            let keys = WorkloadKeys::open(place, KeyFormat::SpiffeBundle, clock, random)?;
            opened.trust_domains.push((name, keys));
        }
        Ok(opened)
    }

    pub(super) fn has_trust_domains(&self) -> bool {
        !self.trust_domains.is_empty()
    }

    fn platform(&self, issuer: &str) -> Option<&(Vec<String>, WorkloadKeys)> {
        self.platforms.iter().find(|(names, _)| names.iter().any(|name| name == issuer))
    }

    fn trust_domain(&self, name: &str) -> Option<&WorkloadKeys> {
        self.trust_domains.iter().find(|(own, _)| own == name).map(|(_, keys)| keys)
    }

    /// Returns the claims if the assertion names a trusted platform as its issuer. Otherwise the client signed it itself.
    pub(super) fn claims_of_platform(&self, parts: &Parts<'_>) -> Option<WorkloadClaims> {
        if self.platforms.is_empty() {
            return None;
        }
        let claims = WorkloadClaims::parse(parts.payload()).ok()?;
        let is_platform = claims.issuer().is_some_and(|issuer| self.platform(issuer).is_some());
        is_platform.then_some(claims)
    }

    /// Verifies the token of a platform.
    pub(super) async fn verify_platform(
        &self,
        parts: &Parts<'_>,
        claims: WorkloadClaims,
        rules: &Rules,
        clock: &dyn Clock,
    ) -> Result<Workload<'_>, Failure> {
        let header = rules.header(parts.header())?;
        if HmacAlgorithm::from_name(&header.alg).is_some() {
            return Err(rules.other_algorithm(&header.alg, false).into());
        }
        let issuer = claims.issuer().unwrap_or_default();
        let (names, keys) = self.platform(issuer).ok_or_else(|| {
            let fix = "add it with ClientAssertions::platform";
            Refusal::claim(AssertionRule::Issuer, "iss", &shown_text(issuer), "a trusted platform", fix)
        })?;
        // An SVID proves a SPIFFE ID only under the rules of SPIFFE.
        if claims.subject.starts_with("spiffe://") {
            let fix = "send a JWT-SVID with the `client_assertion_type` jwt-spiffe";
            let expected = "a subject of the platform";
            return Err(
                Refusal::claim(AssertionRule::Subject, "sub", &shown_text(&claims.subject), expected, fix).into()
            );
        }
        let kid = header.kid.as_deref().unwrap_or_default();
        let issued_by = claims.issued_at().map(|time| time.after(rules.clock_skew));
        Signed { jws: parts.jws(), kid, alg: &header.alg, issued_by }.verify(keys.keys()).await?;
        claims.check_audience(
            &rules.issuer,
            "request the token for this audience; in Kubernetes, project a token with `serviceAccountToken.audience` set to it",
        )?;
        // A fetch of keys takes seconds, in which the token may expire.
        let now = UnixTime::now(clock);
        let times = Times { now, skew: rules.clock_skew, lifetime: MAX_PLATFORM_LIFETIME, needs_issue_time: true };
        claims.check_times(times)?;
        Ok(Workload::Platform(names, claims))
    }

    /// Verifies a JWT-SVID (draft-ietf-oauth-spiffe-client-auth §3.1, SPIFFE JWT-SVID §3 to §5).
    pub(super) async fn verify_svid(
        &self,
        parts: &Parts<'_>,
        rules: &Rules,
        clock: &dyn Clock,
    ) -> Result<Workload<'_>, Failure> {
        let header = svid_header(parts.header())?;
        let claims = WorkloadClaims::parse(parts.payload())?;
        let id: SpiffeId = claims.subject.parse().map_err(|_| not_an_id(&claims.subject))?;
        if id.is_pattern() {
            return Err(not_an_id(&claims.subject).into());
        }
        let keys = self.trust_domain(id.trust_domain()).ok_or_else(|| {
            let (expected, fix) = ("a SPIFFE ID of a trusted domain", "add it with ClientAssertions::trust_domain");
            Refusal::claim(AssertionRule::Subject, "sub", &shown_text(&claims.subject), expected, fix)
        })?;
        let issued_by = claims.issued_at().map(|time| time.after(rules.clock_skew));
        let signed = Signed { jws: parts.jws(), kid: &header.kid, alg: &header.alg, issued_by };
        signed.verify(keys.keys()).await?;
        claims.check_audience(&rules.issuer, "fetch the JWT-SVID for this audience")?;
        let now = UnixTime::now(clock);
        let times = Times { now, skew: rules.clock_skew, lifetime: rules.max_lifetime, needs_issue_time: false };
        claims.check_times(times)?;
        Ok(Workload::Spiffe(id))
    }
}

fn not_an_id(found: &str) -> Refusal {
    Refusal::claim(AssertionRule::Subject, "sub", &shown_text(found), "a SPIFFE ID with a path", "send a JWT-SVID")
}

/// The header of a JWT-SVID, which has no other members (SPIFFE JWT-SVID §2).
struct SvidHeader {
    alg: String,
    kid: String,
}

/// The algorithms of a JWT-SVID (SPIFFE JWT-SVID §2.1) that are supported.
const SVID_ALGORITHMS: [&str; 6] = ["RS256", "RS384", "RS512", "ES256", "ES384", "PS256"];

fn svid_header(json: &[u8]) -> Result<SvidHeader, Refusal> {
    let text =
        "the header of the JWT-SVID is not a JSON object with the strings `alg` and `kid`, and an optional `typ`";
    let malformed = || Refusal::new(AssertionRule::Header, text);
    let Unique(header) = serde_json::from_slice(json).map_err(|_| malformed())?;
    let header: Map<String, Value> = header;
    if let Some(name) = header.keys().find(|name| !["alg", "kid", "typ"].contains(&name.as_str())) {
        let text =
            format!("the header of the JWT-SVID has {}, and only `alg`, `kid` and `typ` are allowed", shown_text(name));
        return Err(Refusal::new(AssertionRule::Header, text));
    }
    let string = |name: &str| header.get(name).and_then(Value::as_str);
    match header.get("typ") {
        None => {}
        Some(Value::String(typ)) if typ == "JWT" || typ == "JOSE" => {}
        Some(found) => {
            let (expected, fix) = ("`JWT`, `JOSE` or none", "send a JWT-SVID");
            let found = shown(Some(found));
            return Err(Refusal::claim(AssertionRule::Type, "typ", &found, expected, fix));
        }
    }
    let (Some(alg), Some(kid)) = (string("alg"), string("kid").filter(|kid| !kid.is_empty())) else {
        return Err(malformed());
    };
    if !SVID_ALGORITHMS.contains(&alg) {
        let (expected, fix) = (SVID_ALGORITHMS.join(", "), "let the SPIFFE server sign with one of them");
        return Err(Refusal::claim(AssertionRule::Algorithm, "alg", &shown_text(alg), &expected, fix));
    }
    Ok(SvidHeader { alg: alg.to_owned(), kid: kid.to_owned() })
}

impl Workload<'_> {
    /// Returns the position of the client's credential for this workload.
    pub(super) fn credential_of(&self, client: &RegisteredClient, now: UnixTime) -> Result<usize, Refusal> {
        let live = client.credentials().iter().enumerate().filter(|(_, credential)| credential.is_live(now));
        let mut missing = None;
        let found = live.into_iter().find(|(_, credential)| match (self, credential.kind()) {
            (Self::Spiffe(id), CredentialKind::Spiffe(pattern)) => pattern.matches(id),
            (Self::Platform(names, claims), CredentialKind::Platform(identity)) => {
                let is_named = names.iter().any(|name| name == identity.issuer());
                let is_same = is_named && identity.subject() == claims.subject;
                let lacks = identity.first_missing(&claims.all);
                if let Some(name) = lacks.filter(|_| is_same) {
                    missing = Some(name.to_owned());
                }
                is_same && lacks.is_none()
            }
            _ => false,
        });
        found.map(|(at, _)| at).ok_or_else(|| self.without_credential(missing.as_deref()))
    }

    /// Returns the refusal of a client without a credential for the workload. `missing` is a claim that differs.
    #[cold]
    fn without_credential(&self, missing: Option<&str>) -> Refusal {
        if let (Some(name), Self::Platform(_, claims)) = (missing, self) {
            let found = shown(claims.all.get(name));
            let fix = "correct the `claims` of the credential, or use the workload that it means";
            return Refusal::claim(AssertionRule::Credential, name, &found, "the value in the credential", fix);
        }
        let text = format!(
            "the client has no current credential for the workload {}; add one, or name another client by `client_id`",
            shown_text(self.name())
        );
        Refusal::new(AssertionRule::Credential, text)
    }

    /// Returns the keys under which the store may have clients for the workload. The first one is that of no other workload.
    pub(super) fn keys(&self) -> Result<Vec<WorkloadKey>, Refusal> {
        match self {
            Self::Platform(names, claims) => {
                Ok(names.iter().map(|name| WorkloadKey::platform(name, &claims.subject)).collect())
            }
            Self::Spiffe(id) => WorkloadKey::matching(id).ok_or_else(|| {
                let why = format!("clients are looked up for SPIFFE IDs of at most {MAX_SEGMENTS} segments, and not");
                Refusal::needs_client_id(id.as_str(), &why)
            }),
        }
    }

    /// Returns the subject.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Platform(_, claims) => &claims.subject,
            Self::Spiffe(id) => id.as_str(),
        }
    }

    /// Returns whether the credential is for the account that every pod without another has.
    pub(super) fn is_default_account(credential: &CredentialKind) -> bool {
        matches!(credential, CredentialKind::Platform(identity) if PlatformIdentity::is_default_account(identity))
    }
}
