//! Tokens that a platform or a SPIFFE trust domain issued for a workload.

use std::fmt;
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

    /// Checks `exp`, `nbf` and `iat`.
    pub(super) fn check_times(&self, times: Times) -> Result<(), Refusal> {
        self.check_expiry(times)?;
        self.check_not_before(times)?;
        self.check_issue_time(times)?;
        self.check_lifetime(times)
    }

    /// Checks that `exp` has not passed, and returns it.
    pub(super) fn check_expiry(&self, times: Times) -> Result<UnixTime, Refusal> {
        let Times { now, skew, .. } = times;
        let expires_at = self.time("exp", AssertionRule::Expiry)?.and_then(NumericDate::rounded_down);
        let wrong = |found: &dyn fmt::Display, expected: &str| {
            Refusal::claim(AssertionRule::Expiry, "exp", found, expected, CURRENT)
        };
        match expires_at {
            None => Err(wrong(&shown(self.all.get("exp")), "a time that has not passed")),
            Some(end) if end.after(skew) <= now => {
                Err(wrong(&end.as_secs(), &format!("a time after {}, which is now", now.as_secs())))
            }
            Some(end) => Ok(end),
        }
    }

    pub(super) fn check_not_before(&self, times: Times) -> Result<(), Refusal> {
        let Some(time) = self.time("nbf", AssertionRule::NotBefore)? else { return Ok(()) };
        not_later("nbf", AssertionRule::NotBefore, time.rounded_up(), times).map(drop)
    }

    /// Checks that `iat` is not in the future, and returns it.
    pub(super) fn check_issue_time(&self, times: Times) -> Result<Option<UnixTime>, Refusal> {
        let Some(time) = self.time("iat", AssertionRule::IssuedAt)? else {
            if !times.needs_issue_time {
                return Ok(None);
            }
            let (expected, fix) = ("the time of issue", "send a token of the platform");
            return Err(Refusal::claim(AssertionRule::IssuedAt, "iat", &"absent", expected, fix));
        };
        not_later("iat", AssertionRule::IssuedAt, time.rounded_down(), times).map(Some)
    }

    /// Checks the time from `iat` to `exp`, or without `iat` how far ahead `exp` is.
    pub(super) fn check_lifetime(&self, times: Times) -> Result<(), Refusal> {
        let Times { now, skew, lifetime, .. } = times;
        let (expires_at, issued_at) = (self.check_expiry(times)?, self.check_issue_time(times)?);
        let end = issued_at.map_or_else(|| now.after(skew).after(lifetime), |issued_at| issued_at.after(lifetime));
        if expires_at <= end {
            return Ok(());
        }
        let found = match issued_at {
            Some(at) => format!("{} seconds after `iat`", expires_at.as_secs().saturating_sub(at.as_secs())),
            None => format!("{} seconds ahead", expires_at.as_secs().saturating_sub(now.as_secs())),
        };
        let (expected, fix) = (format!("at most {}", lifetime.as_secs()), "request tokens with a shorter lifetime");
        Err(Refusal::claim(AssertionRule::Lifetime, "exp", &found, &expected, fix))
    }
}

const CURRENT: &str = "send a current token, and synchronize the clocks";

fn not_later(name: &str, rule: AssertionRule, time: Option<UnixTime>, times: Times) -> Result<UnixTime, Refusal> {
    let Times { now, skew, .. } = times;
    match time {
        Some(time) if time <= now.after(skew) => Ok(time),
        time => {
            let found = time.map_or_else(|| "out of range".to_owned(), |time| time.as_secs().to_string());
            let expected = format!("a time until {}, which is now", now.as_secs());
            Err(Refusal::claim(rule, name, &found, &expected, CURRENT))
        }
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
