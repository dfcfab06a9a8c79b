//! The times of a token (RFC 7519 §4.1.4 to §4.1.6): `exp`, `nbf` and `iat` within the leeway.

use std::time::Duration;

use super::claims::Claims;
use super::{InvalidToken, RefusedToken};
use crate::clock::UnixTime;

/// Checks that a token has begun and has not expired, by a clock that may differ from the issuer's by the leeway.
pub(super) fn in_its_time(claims: &Claims, now: UnixTime, leeway: Duration) -> Result<(), InvalidToken> {
    // In seconds, which saturate more cheaply than times do: this is on the path of every request.
    let (now, leeway) = (now.as_secs(), leeway.as_secs());
    // RFC 7519 §4.1.4: on or after `exp` is too late.
    if now >= claims.expires_at.as_secs().saturating_add(leeway) {
        return Err(InvalidToken::Expired);
    }
    let begin = claims.not_before.map_or(claims.issued_at, |not_before| not_before.max(claims.issued_at));
    if begin.as_secs() > now.saturating_add(leeway) {
        return Err(InvalidToken::NotYetValid);
    }
    Ok(())
}

/// Describes for the operator why a token is not [`in_its_time`]. `setting` names the setting of the leeway.
#[cold]
pub(super) fn out_of_time(
    reason: InvalidToken,
    claims: &Claims,
    now: UnixTime,
    leeway: Duration,
    setting: &str,
) -> RefusedToken {
    let (claim, time) = match (reason, claims.not_before) {
        (InvalidToken::Expired, _) => ("exp", claims.expires_at),
        (_, Some(not_before)) if not_before > claims.issued_at => ("nbf", not_before),
        _ => ("iat", claims.issued_at),
    };
    let (time, now, leeway) = (time.as_secs(), now.as_secs(), leeway.as_secs());
    let (expected, side) = if time <= now { ("less than", "before") } else { ("at most", "after") };
    let detail = format!(
        "`{claim}` is {time}, {} s {side} now ({now}), expected {expected} {leeway} s {side} now; {setting}",
        time.abs_diff(now)
    );
    RefusedToken::because(reason, detail)
}
