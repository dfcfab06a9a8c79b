//! The diagnosis of the tokens of workloads: each rule is checked, also after another one was broken.

use super::AssertionAuthenticator;
use super::diagnosis::{Findings, RuleResult};
use super::failure::Failure;
use super::invalid::AssertionRule::{
    Algorithm, Audience, ClientId as Parameter, Credential, Critical, Expiry, ForeignKey, Header, IssuedAt, Issuer,
    Key, Lifetime, NotBefore, Payload, Signature, Subject, TokenId, Type,
};
use super::key_place::WorkloadKeys;
use super::rules::{self, Parts};
use super::workload::{Times, WorkloadClaims};
use super::workloads::{
    SvidHeader, Workload, check_platform_algorithm, check_platform_audience, check_platform_subject,
    check_svid_audience, platform_times, svid_times, verify_signature,
};
use crate::authorization_server::error::TokenError;
use crate::client_id::ClientId;
use crate::clock::UnixTime;

impl AssertionAuthenticator {
    /// Diagnoses the token of a platform.
    pub(super) async fn diagnose_platform(
        &self,
        findings: &mut Findings,
        parts: &Parts<'_>,
        claims: WorkloadClaims,
        named: Option<&ClientId>,
    ) -> Result<(), TokenError> {
        let platform = findings.add(Issuer, self.workloads.platform_of(&claims));
        let Some((issuers, keys)) = platform else { return Ok(()) };
        // The payload is an object with a subject, and its `jti` is not used.
        findings.pass([Payload, TokenId]);
        let header = findings.add(Header, rules::header(parts.header()));
        let mut signed = None;
        if let Some(header) = &header {
            findings.add(Type, rules::check_type(header));
            findings.add(Critical, rules::check_critical(header));
            findings.add(ForeignKey, rules::check_foreign_key(header));
            let algorithm = findings.add(Algorithm, check_platform_algorithm(&self.rules, header));
            signed = algorithm.map(|()| (header.kid.as_deref().unwrap_or_default(), &*header.alg));
        }
        findings.add(Subject, check_platform_subject(&claims));
        findings.add(Audience, check_platform_audience(&claims, &self.rules));
        self.diagnose_signature_of(findings, parts, signed, &claims, keys).await;
        add_times(findings, &claims, platform_times(&self.rules, &*self.clock));
        self.diagnose_client(findings, &Workload::Platform(issuers, claims), named).await
    }

    /// Diagnoses a JWT-SVID.
    pub(super) async fn diagnose_svid(
        &self,
        findings: &mut Findings,
        parts: &Parts<'_>,
        claims: &WorkloadClaims,
        named: Option<&ClientId>,
    ) -> Result<(), TokenError> {
        let header = findings.add(Header, SvidHeader::parse(parts.header()));
        let mut signed = None;
        if let Some(header) = &header {
            // Such a member is refused by the rule for the header.
            findings.pass([Critical, ForeignKey]);
            findings.add(Type, header.check_type());
            let algorithm = findings.add(Algorithm, header.algorithm(&self.rules));
            let kid = findings.add(Header, header.key_id());
            signed = kid.zip(algorithm);
        }
        // The payload is an object with a subject, and its `iss` and `jti` are not used.
        findings.pass([Payload, Issuer, TokenId]);
        let found = findings.add(Subject, self.workloads.id_of(claims));
        findings.add(Audience, check_svid_audience(claims, &self.rules));
        add_times(findings, claims, svid_times(&self.rules, &*self.clock));
        let Some((id, keys)) = found else { return Ok(()) };
        self.diagnose_signature_of(findings, parts, signed, claims, keys).await;
        self.diagnose_client(findings, &Workload::Spiffe(id), named).await
    }

    /// Checks the signature if the header says how, with its `kid` and `alg`.
    async fn diagnose_signature_of(
        &self,
        findings: &mut Findings,
        parts: &Parts<'_>,
        signed: Option<(&str, &str)>,
        claims: &WorkloadClaims,
        keys: &WorkloadKeys,
    ) {
        let Some((kid, alg)) = signed else { return };
        match verify_signature(parts, kid, alg, claims, &self.rules, keys).await {
            Ok(()) => findings.pass([Key, Signature]),
            Err(Failure::Refused(refusal)) => {
                if refusal.rule() == Signature {
                    findings.pass([Key]);
                }
                findings.fail(refusal);
            }
            Err(Failure::Unavailable(error)) => findings.list.push((Key, RuleResult::Failed(error.to_string()))),
        }
    }

    /// Checks whether the client, or the only client of the workload, is registered for it.
    async fn diagnose_client(
        &self,
        findings: &mut Findings,
        workload: &Workload<'_>,
        named: Option<&ClientId>,
    ) -> Result<(), TokenError> {
        let id = match named {
            Some(id) => Ok(id.clone()),
            None => self.client_of(workload).await?,
        };
        let Some(id) = findings.add(Parameter, id) else { return Ok(()) };
        let Some(client) = self.client_for(findings, &id).await? else { return Ok(()) };
        findings.add(Credential, workload.credential_of(&client, UnixTime::now(&*self.clock)));
        Ok(())
    }
}

fn add_times(findings: &mut Findings, claims: &WorkloadClaims, times: Times) {
    findings.add(Expiry, claims.check_expiry(times));
    findings.add(NotBefore, claims.check_not_before(times));
    findings.add(IssuedAt, claims.check_issue_time(times));
    if claims.check_expiry(times).is_ok() && claims.check_issue_time(times).is_ok() {
        findings.add(Lifetime, claims.check_lifetime(times));
    }
}
