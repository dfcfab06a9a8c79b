//! [`CheckedRule`]: the result of one rule for an assertion, so that an operator learns why it is refused.
//!
//! The rules are those of the server, from the same functions. The server stops at the first rule that an assertion breaks; here,
//! every rule is checked that can be.

use serde_json::{Map, Value};

use super::AssertionAuthenticator;
use super::claims::{self, Claims, shown};
use super::failure::Failure;
use super::invalid::{AssertionRule, Refusal};
use super::rules::{self, Assertion, Legacy, Parts};
use super::workload::WorkloadClaims;
use crate::authorization_server::error::TokenError;
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::keys::HmacAlgorithm;
use crate::registration::{CredentialKind, RegisteredClient};

/// A rule, and the result of checking an assertion against it; see
/// [`AuthorizationServer::diagnose_assertion`](crate::authorization_server::AuthorizationServer::diagnose_assertion).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedRule {
    rule: AssertionRule,
    found: Option<String>,
    result: RuleResult,
}

/// Whether an assertion follows a rule. The texts are for the operator, and contain no signature and no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuleResult {
    /// It follows the rule.
    Passed,
    /// It is accepted only because of an [allowance](crate::registration::Client::legacy_assertions_until). The text says until when.
    Allowed(String),
    /// It breaks the rule. The text has the value found, the value expected, and how to fix it.
    Failed(String),
    /// The rule could not be checked here. The text says why.
    NotChecked(&'static str),
}

impl CheckedRule {
    /// Returns the rule.
    #[must_use]
    pub fn rule(&self) -> AssertionRule {
        self.rule
    }

    /// Returns the value in the assertion that the rule is about, quoted and bounded. `None` for a rule about several parts.
    #[must_use]
    pub fn found(&self) -> Option<&str> {
        self.found.as_deref()
    }

    /// Returns the result.
    #[must_use]
    pub fn result(&self) -> &RuleResult {
        &self.result
    }
}

const NEEDS_EARLIER: &str = "a part that it needs was refused above";
const NOT_SENT: &str = "it is a parameter of the request";
const WOULD_RECORD: &str = "the log of used assertions is not asked, since asking records the assertion";
const AT_URL: &str = "the keys of the client are at a URL, which is fetched only for a request";

#[derive(Default)]
pub(super) struct Findings {
    pub(super) list: Vec<(AssertionRule, RuleResult)>,
}

impl Findings {
    pub(super) fn pass(&mut self, rules: impl IntoIterator<Item = AssertionRule>) {
        self.list.extend(rules.into_iter().map(|rule| (rule, RuleResult::Passed)));
    }

    pub(super) fn fail(&mut self, refusal: Refusal) {
        let (invalid, text) = refusal.into_parts();
        self.list.push((invalid.rule(), RuleResult::Failed(text)));
    }

    fn not_checked(&mut self, rules: impl IntoIterator<Item = AssertionRule>, why: &'static str) {
        self.list.extend(rules.into_iter().map(|rule| (rule, RuleResult::NotChecked(why))));
    }

    pub(super) fn add<T>(&mut self, rule: AssertionRule, checked: Result<T, Refusal>) -> Option<T> {
        match checked {
            Ok(value) => {
                self.pass([rule]);
                Some(value)
            }
            Err(refusal) => {
                self.fail(refusal);
                None
            }
        }
    }

    fn add_allowed(&mut self, rule: AssertionRule, checked: Result<Option<Legacy>, Refusal>) {
        match checked {
            Ok(Some(Legacy { until, .. })) => {
                let text = format!("accepted only until {} by Client::legacy_assertions_until", until.as_secs());
                self.list.push((rule, RuleResult::Allowed(text)));
            }
            Ok(None) => self.pass([rule]),
            Err(refusal) => self.fail(refusal),
        }
    }

    /// Returns the result of each rule. A failure weighs more than anything else.
    fn finish(self, parts: Option<&Parts<'_>>) -> Vec<CheckedRule> {
        let object = |json: Option<&[u8]>| -> Map<String, Value> {
            json.and_then(|json| serde_json::from_slice(json).ok()).unwrap_or_default()
        };
        let (header, payload) = (object(parts.map(Parts::header)), object(parts.map(Parts::payload)));
        let result_of = |rule: AssertionRule| {
            let of_rule = || self.list.iter().filter(|(own, _)| *own == rule).map(|(_, result)| result);
            let failed = of_rule().find(|result| matches!(result, RuleResult::Failed(_)));
            let result = failed.or_else(|| of_rule().next()).cloned();
            result.unwrap_or(RuleResult::NotChecked(NEEDS_EARLIER))
        };
        let checked = AssertionRule::ALL.iter().copied().map(|rule| {
            let found = match member(rule) {
                Some(Member::Header(name)) => header.get(name),
                Some(Member::Claim(name)) => payload.get(name),
                None => None,
            };
            CheckedRule { rule, found: found.map(|found| shown(Some(found))), result: result_of(rule) }
        });
        checked.collect()
    }
}

enum Member {
    Header(&'static str),
    Claim(&'static str),
}

/// Returns the member that the rule is about.
fn member(rule: AssertionRule) -> Option<Member> {
    Some(match rule {
        AssertionRule::Type => Member::Header("typ"),
        AssertionRule::Critical => Member::Header("crit"),
        AssertionRule::Algorithm => Member::Header("alg"),
        AssertionRule::Key => Member::Header("kid"),
        AssertionRule::Issuer => Member::Claim("iss"),
        AssertionRule::Subject => Member::Claim("sub"),
        AssertionRule::Audience => Member::Claim("aud"),
        AssertionRule::Expiry | AssertionRule::Lifetime => Member::Claim("exp"),
        AssertionRule::NotBefore => Member::Claim("nbf"),
        AssertionRule::IssuedAt => Member::Claim("iat"),
        AssertionRule::TokenId | AssertionRule::Replay => Member::Claim("jti"),
        _ => return None,
    })
}

impl AssertionAuthenticator {
    /// Checks an assertion without recording it. `named` is the client that it should be from.
    pub(crate) async fn diagnose(&self, text: &str, named: Option<&ClientId>) -> Result<Vec<CheckedRule>, TokenError> {
        let mut findings = Findings::default();
        findings.not_checked([AssertionRule::AssertionType], NOT_SENT);
        findings.not_checked([AssertionRule::Replay], WOULD_RECORD);
        let parts = Parts::decode(text);
        let Some(parts) = findings.add(AssertionRule::Form, parts) else { return Ok(findings.finish(None)) };
        match WorkloadClaims::parse(parts.payload()) {
            Ok(claims) if claims.subject.starts_with("spiffe://") => {
                self.diagnose_svid(&mut findings, &parts, &claims, named).await?;
            }
            Ok(claims) if self.workloads.platform_of(&claims).is_ok() => {
                self.diagnose_platform(&mut findings, &parts, claims, named).await?;
            }
            _ => self.diagnose_own(&mut findings, &parts, named).await?,
        }
        Ok(findings.finish(Some(&parts)))
    }

    /// Diagnoses an assertion that the client signed itself.
    async fn diagnose_own(
        &self,
        findings: &mut Findings,
        parts: &Parts<'_>,
        named: Option<&ClientId>,
    ) -> Result<(), TokenError> {
        let header = findings.add(AssertionRule::Header, rules::header(parts.header()));
        if let Some(header) = &header {
            findings.add(AssertionRule::Type, rules::check_type(header));
            findings.add(AssertionRule::Critical, rules::check_critical(header));
            findings.add(AssertionRule::ForeignKey, rules::check_foreign_key(header));
            findings.add(AssertionRule::Algorithm, self.rules.check_algorithm(header));
        }
        let claims = Claims::parse(parts.payload()).ok();
        if claims.is_none() {
            for mistake in claims::mistakes(parts.payload()) {
                findings.fail(mistake);
            }
        }
        // It is overruled by the mistake, if there is one.
        findings.pass([AssertionRule::Payload]);
        let mut id = None;
        if let Some(claims) = &claims {
            findings.add(AssertionRule::Issuer, rules::check_issuer(claims));
            id = findings.add(AssertionRule::Subject, rules::subject(claims));
            findings.add(AssertionRule::TokenId, rules::check_token_id(claims));
        }
        if let Some(id) = &id {
            findings.add(AssertionRule::ClientId, rules::check_parameter(id, named.map(ClientId::as_str)));
        }
        let Some(id) = named.or(id.as_ref()) else { return Ok(()) };
        let Some(client) = self.client_for(findings, id).await? else { return Ok(()) };
        let now = UnixTime::now(&*self.clock);
        if let Some(claims) = &claims {
            let allowance = client.legacy_until().filter(|until| now < *until);
            findings.add_allowed(AssertionRule::Audience, self.rules.audience(claims, allowance));
            findings.add(AssertionRule::Expiry, self.rules.check_expiry(claims, now));
            findings.add(AssertionRule::NotBefore, self.rules.check_not_before(claims, now));
            findings.add(AssertionRule::IssuedAt, self.rules.check_issue_time(claims, now));
            findings.add_allowed(AssertionRule::Lifetime, self.rules.lifetime(claims, allowance, now));
        }
        if let (Some(header), Some(claims)) = (header, claims) {
            let hmac = HmacAlgorithm::from_name(&header.alg);
            let assertion = Assertion { jws: parts.jws(), header, claims, hmac, client_id: id.clone() };
            self.diagnose_signature(findings, &assertion, &client, now);
        }
        Ok(())
    }

    fn diagnose_signature(
        &self,
        findings: &mut Findings,
        assertion: &Assertion<'_>,
        client: &RegisteredClient,
        now: UnixTime,
    ) {
        use AssertionRule::{Credential, Key, Signature};
        let has_url = || {
            let mut live = client.credentials().iter().filter(|credential| credential.is_live(now));
            live.any(|credential| matches!(credential.kind(), CredentialKind::KeysUrl(_)))
        };
        match self.verify_registered(assertion, Some(client), now) {
            Ok(_) => findings.pass([Credential, Key, Signature]),
            Err(Failure::Refused(_)) if assertion.hmac.is_none() && has_url() => {
                findings.not_checked([Credential, Key, Signature], AT_URL);
            }
            Err(Failure::Refused(refusal)) => {
                let (invalid, text) = refusal.into_parts();
                // The rules before the one that is broken.
                let before = [Credential, Key].into_iter().take_while(|rule| *rule != invalid.rule());
                if matches!(invalid.rule(), Credential | Key | Signature) {
                    findings.pass(before);
                }
                findings.list.push((invalid.rule(), RuleResult::Failed(text)));
            }
            Err(Failure::Unavailable(error)) => {
                findings.list.push((Credential, RuleResult::Failed(error.to_string())));
            }
        }
    }

    /// Returns the client, and reports whether it is registered and enabled.
    pub(super) async fn client_for(
        &self,
        findings: &mut Findings,
        id: &ClientId,
    ) -> Result<Option<std::sync::Arc<RegisteredClient>>, TokenError> {
        let found = self.clients.find_lately(id).await?.client;
        match &found {
            None => findings.fail(Refusal::unknown_client()),
            Some(client) if !client.is_enabled() => findings.fail(Refusal::disabled_client()),
            Some(_) => findings.pass([AssertionRule::Client]),
        }
        Ok(found)
    }
}
