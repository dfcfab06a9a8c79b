//! Tokens that a platform or a SPIFFE trust domain issued for a workload.

use std::time::Duration;

use serde_json::{Map, Value};

use super::claims::{shown, shown_text};
use super::invalid::{AssertionRule, Refusal};
use crate::clock::UnixTime;
use crate::issuer::Issuer;
use crate::numeric_date::NumericDate;
use crate::verification::Unique;

/// The claims of such a token, parsed but not verified.
pub(super) struct WorkloadClaims {
    pub(super) all: Map<String, Value>,
    pub(super) subject: String,
}

impl WorkloadClaims {
    pub(super) fn parse(json: &[u8]) -> Result<Self, Refusal> {
        let Unique(all) = serde_json::from_slice(json).map_err(|_| {
            let text = "the payload is not a JSON object with unique names (RFC 7519 §4)";
            Refusal::new(AssertionRule::Payload, text)
        })?;
        let subject = match all.get("sub") {
            Some(Value::String(subject)) if !subject.is_empty() => subject.clone(),
            found => {
                let fix = "send a token of the workload";
                return Err(Refusal::claim(AssertionRule::Subject, "sub", &shown(found), "a name", fix));
            }
        };
        Ok(Self { all, subject })
    }

    /// Returns `iss`, if it is present. Unauthenticated: it only selects the keys.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.all.get("iss").and_then(Value::as_str)
    }

    fn time(&self, name: &str, rule: AssertionRule) -> Result<Option<NumericDate>, Refusal> {
        let Some(value) = self.all.get(name) else { return Ok(None) };
        let time = value.as_number().and_then(NumericDate::from_json);
        let wrong = || {
            let expected = "a number of seconds since 1970 (RFC 7519 §2)";
            Refusal::claim(rule, name, &shown(Some(value)), expected, "send a token of the workload")
        };
        time.map(Some).ok_or_else(wrong)
    }

    /// Returns the time of issue that the token claims, for a decision to refuse only.
    pub(super) fn issued_at(&self) -> Option<UnixTime> {
        self.time("iat", AssertionRule::IssuedAt).ok().flatten()?.rounded_up()
    }

    /// Checks `aud`: the issuer identifier of this server as the only value.
    pub(super) fn check_audience(&self, issuer: &Issuer, how_to_fix: &str) -> Result<(), Refusal> {
        let found = self.all.get("aud");
        let only = match found {
            Some(Value::String(only)) => Some(only),
            Some(Value::Array(list)) => match list.as_slice() {
                [Value::String(only)] => Some(only),
                _ => None,
            },
            _ => None,
        };
        if only.is_some_and(|only| only == issuer.as_str()) {
            return Ok(());
        }
        let expected = format!("{}, this server's issuer identifier, as the only value", shown_text(issuer.as_str()));
        Err(Refusal::claim(AssertionRule::Audience, "aud", &shown(found), &expected, how_to_fix))
    }

    /// Checks `exp`, `nbf` and `iat`. `lifetime` limits the time from `iat` to `exp`.
    pub(super) fn check_times(&self, times: Times) -> Result<(), Refusal> {
        use AssertionRule::{Expiry, IssuedAt, Lifetime, NotBefore};
        const FIX: &str = "send a current token, and synchronize the clocks";
        let Times { now, skew, lifetime, needs_issue_time } = times;
        let latest = now.after(skew);
        let not_later = |name: &str, rule, time: Option<UnixTime>| match time {
            Some(time) if time <= latest => Ok(time),
            time => {
                let found = time.map_or_else(|| "out of range".to_owned(), |time| time.as_secs().to_string());
                let expected = format!("a time until {}, which is now", now.as_secs());
                Err(Refusal::claim(rule, name, &found, &expected, FIX))
            }
        };
        let expires_at = self.time("exp", Expiry)?.and_then(NumericDate::rounded_down);
        let Some(expires_at) = expires_at else {
            return Err(Refusal::claim(Expiry, "exp", &shown(self.all.get("exp")), "a time that has not passed", FIX));
        };
        if expires_at.after(skew) <= now {
            let expected = format!("a time after {}, which is now", now.as_secs());
            return Err(Refusal::claim(Expiry, "exp", &expires_at.as_secs(), &expected, FIX));
        }
        if let Some(time) = self.time("nbf", NotBefore)? {
            not_later("nbf", NotBefore, time.rounded_up())?;
        }
        let issued_at = self.time("iat", IssuedAt)?;
        let issued_at = issued_at.map(|time| not_later("iat", IssuedAt, time.rounded_down())).transpose()?;
        if issued_at.is_none() && needs_issue_time {
            return Err(Refusal::claim(
                IssuedAt,
                "iat",
                &"absent",
                "the time of issue",
                "send a token of the platform",
            ));
        }
        let end = issued_at.map_or_else(|| latest.after(lifetime), |issued_at| issued_at.after(lifetime));
        if expires_at > end {
            let found = match issued_at {
                Some(at) => format!("{} seconds after `iat`", expires_at.as_secs().saturating_sub(at.as_secs())),
                None => format!("{} seconds ahead", expires_at.as_secs().saturating_sub(now.as_secs())),
            };
            let (expected, fix) = (format!("at most {}", lifetime.as_secs()), "request tokens with a shorter lifetime");
            return Err(Refusal::claim(Lifetime, "exp", &found, &expected, fix));
        }
        Ok(())
    }
}

/// What the times of a token are compared with.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) now: UnixTime,
    pub(super) skew: Duration,
    pub(super) lifetime: Duration,
    /// Whether `iat` is required.
    pub(super) needs_issue_time: bool,
}
