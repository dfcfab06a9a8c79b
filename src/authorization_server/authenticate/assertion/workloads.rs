//! [`Workloads`]: the platforms and trust domains that the server trusts, and the check of their tokens.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::claims::{shown, shown_text};
use super::failure::Failure;
use super::header::Header;
use super::invalid::{AssertionRule, Refusal};
use super::key_place::{KeyFormat, WorkloadKeys};
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
    pub(super) trust_domains: Vec<(String, WorkloadKeys)>,
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

    /// Returns the names and the keys of the platform that issued a token.
    pub(super) fn platform_of(&self, claims: &WorkloadClaims) -> Result<&(Vec<String>, WorkloadKeys), Refusal> {
        let issuer = claims.issuer().unwrap_or_default();
        self.platform(issuer).ok_or_else(|| {
            let fix = "add it with ClientAssertions::platform";
            Refusal::claim(AssertionRule::Issuer, "iss", &shown_text(issuer), "a trusted platform", fix)
        })
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
        check_platform_algorithm(rules, &header)?;
        let (names, keys) = self.platform_of(&claims)?;
        check_platform_subject(&claims)?;
        let kid = header.kid.as_deref().unwrap_or_default();
        verify_signature(parts, kid, &header.alg, &claims, rules, keys).await?;
        check_platform_audience(&claims, rules)?;
        // A fetch of keys takes seconds, in which the token may expire.
        claims.check_times(platform_times(rules, clock))?;
        Ok(Workload::Platform(names, claims))
    }

    /// Returns the SPIFFE ID of a JWT-SVID, and the keys of its trust domain.
    pub(super) fn id_of(&self, claims: &WorkloadClaims) -> Result<(SpiffeId, &WorkloadKeys), Refusal> {
        let id: SpiffeId = claims.subject.parse().map_err(|_| not_an_id(&claims.subject))?;
        if id.is_pattern() {
            return Err(not_an_id(&claims.subject));
        }
        let keys = self.trust_domain(id.trust_domain()).ok_or_else(|| {
            let (expected, fix) = ("a SPIFFE ID of a trusted domain", "add it with ClientAssertions::trust_domain");
            Refusal::claim(AssertionRule::Subject, "sub", &shown_text(&claims.subject), expected, fix)
        })?;
        Ok((id, keys))
    }

    /// Verifies a JWT-SVID (draft-ietf-oauth-spiffe-client-auth §3.1, SPIFFE JWT-SVID §3 to §5).
    pub(super) async fn verify_svid(
        &self,
        parts: &Parts<'_>,
        rules: &Rules,
        clock: &dyn Clock,
    ) -> Result<Workload<'_>, Failure> {
        let header = SvidHeader::parse(parts.header())?;
        header.check_type()?;
        let (alg, kid) = (header.algorithm(rules)?, header.key_id()?);
        let claims = WorkloadClaims::parse(parts.payload())?;
        let (id, keys) = self.id_of(&claims)?;
        verify_signature(parts, kid, alg, &claims, rules, keys).await?;
        check_svid_audience(&claims, rules)?;
        claims.check_times(svid_times(rules, clock))?;
        Ok(Workload::Spiffe(id))
    }
}

pub(super) fn check_platform_algorithm(rules: &Rules, header: &Header<'_>) -> Result<(), Refusal> {
    rules.check_algorithm(header)?;
    if HmacAlgorithm::from_name(&header.alg).is_some() {
        return Err(rules.other_algorithm(&header.alg, false));
    }
    Ok(())
}

/// Refuses an SVID, which proves a SPIFFE ID only under the rules of SPIFFE.
pub(super) fn check_platform_subject(claims: &WorkloadClaims) -> Result<(), Refusal> {
    if !claims.subject.starts_with("spiffe://") {
        return Ok(());
    }
    let (expected, fix) = ("a subject of the platform", "send a JWT-SVID with the `client_assertion_type` jwt-spiffe");
    Err(Refusal::claim(AssertionRule::Subject, "sub", &shown_text(&claims.subject), expected, fix))
}

pub(super) fn check_platform_audience(claims: &WorkloadClaims, rules: &Rules) -> Result<(), Refusal> {
    claims.check_audience(
        &rules.issuer,
        "request the token for this audience; in Kubernetes, project a token with `serviceAccountToken.audience` set to it",
    )
}

pub(super) fn check_svid_audience(claims: &WorkloadClaims, rules: &Rules) -> Result<(), Refusal> {
    claims.check_audience(&rules.issuer, "fetch the JWT-SVID for this audience")
}

pub(super) fn platform_times(rules: &Rules, clock: &dyn Clock) -> Times {
    let now = UnixTime::now(clock);
    Times { now, skew: rules.clock_skew, lifetime: MAX_PLATFORM_LIFETIME, needs_issue_time: true }
}

pub(super) fn svid_times(rules: &Rules, clock: &dyn Clock) -> Times {
    let now = UnixTime::now(clock);
    Times { now, skew: rules.clock_skew, lifetime: rules.max_lifetime, needs_issue_time: false }
}

/// Checks the signature with the keys of a platform or of a trust domain.
pub(super) async fn verify_signature(
    parts: &Parts<'_>,
    kid: &str,
    alg: &str,
    claims: &WorkloadClaims,
    rules: &Rules,
    keys: &WorkloadKeys,
) -> Result<(), Failure> {
    let issued_by = claims.issued_at().map(|time| time.after(rules.clock_skew));
    Signed { jws: parts.jws(), kid, alg, issued_by }.verify(keys.keys()).await
}

fn not_an_id(found: &str) -> Refusal {
    Refusal::claim(AssertionRule::Subject, "sub", &shown_text(found), "a SPIFFE ID with a path", "send a JWT-SVID")
}

/// The header of a JWT-SVID, which has no other members than `alg`, `kid` and `typ` (SPIFFE JWT-SVID §2).
pub(super) struct SvidHeader(Map<String, Value>);

/// The algorithms of a JWT-SVID (SPIFFE JWT-SVID §2.1) that are supported.
const SVID_ALGORITHMS: [&str; 6] = ["RS256", "RS384", "RS512", "ES256", "ES384", "PS256"];

impl SvidHeader {
    pub(super) fn parse(json: &[u8]) -> Result<Self, Refusal> {
        let Unique(header) = serde_json::from_slice(json).map_err(|_| malformed_svid_header())?;
        let header: Map<String, Value> = header;
        if let Some(name) = header.keys().find(|name| !["alg", "kid", "typ"].contains(&name.as_str())) {
            let text = format!(
                "the header of the JWT-SVID has {}, and only `alg`, `kid` and `typ` are allowed",
                shown_text(name)
            );
            return Err(Refusal::new(AssertionRule::Header, text));
        }
        Ok(Self(header))
    }

    fn string(&self, name: &str) -> Result<&str, Refusal> {
        let text = self.0.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        text.ok_or_else(malformed_svid_header)
    }

    pub(super) fn key_id(&self) -> Result<&str, Refusal> {
        self.string("kid")
    }

    pub(super) fn check_type(&self) -> Result<(), Refusal> {
        match self.0.get("typ") {
            None => Ok(()),
            Some(Value::String(typ)) if typ == "JWT" || typ == "JOSE" => Ok(()),
            found => {
                let (expected, fix) = ("`JWT`, `JOSE` or none", "send a JWT-SVID");
                Err(Refusal::claim(AssertionRule::Type, "typ", &shown(found), expected, fix))
            }
        }
    }

    /// Returns `alg`, which must be one of SPIFFE and one that the server accepts.
    pub(super) fn algorithm(&self, rules: &Rules) -> Result<&str, Refusal> {
        let alg = self.string("alg")?;
        let is_accepted = |name: &str| rules.algorithms.iter().any(|algorithm| algorithm.is_named(name));
        let mut accepted = SVID_ALGORITHMS.into_iter().filter(|name| is_accepted(name));
        if accepted.clone().any(|name| name == alg) {
            return Ok(alg);
        }
        let first = accepted.next().map(str::to_owned);
        let expected = accepted.fold(first.unwrap_or_else(|| "none".to_owned()), |all, name| all + ", " + name);
        let fix = "let the SPIFFE server sign with one of them; see ClientAssertions::algorithms";
        Err(Refusal::claim(AssertionRule::Algorithm, "alg", &shown_text(alg), &expected, fix))
    }
}

fn malformed_svid_header() -> Refusal {
    let text =
        "the header of the JWT-SVID is not a JSON object with the strings `alg` and `kid`, and an optional `typ`";
    Refusal::new(AssertionRule::Header, text)
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
