//! The time constants that several modules rely on together, each with the argument for its value.

use std::time::Duration;

/// How far apart the clocks of replicas may be. A revocation of a client's tokens is dated that far ahead, so that it reaches
/// a token that another replica issued just before.
pub(crate) const CLOCK_SKEW: Duration = Duration::from_secs(5);

/// How far ahead of its clock a server dates a token, so that the token is not among those that were just revoked. It is less
/// than the leeway of a verifier, which therefore accepts the token at once.
pub(crate) const MAX_DATED_AHEAD: Duration = Duration::from_secs(3);

/// The longest wait for a new token that is usual after a client's tokens were revoked: a revocation is dated [`CLOCK_SKEW`]
/// ahead, by a clock that may itself be ahead as much. A client that has to wait for longer waits for a wall clock that was set
/// back, which the operator must know of.
pub(crate) const MAX_USUAL_WAIT: Duration = Duration::from_secs(10);

/// The maximum age of the client store's answer about a client when its token is dated, including everything that the request
/// waited for. So a revocation that is dated by the time of that store also reaches requests in progress.
pub(crate) const MAX_CLIENT_ANSWER_AGE: Duration = Duration::from_secs(5);

/// The leeway of a verifier by default: how far the issuer's clock may differ. Synchronized clocks differ by much
/// less.
pub(crate) const DEFAULT_LEEWAY: Duration = Duration::from_secs(5);

/// The greatest leeway of a verifier. A clock that differs by more is wrong, and a larger leeway would be a longer life for
/// every token.
pub(crate) const MAX_LEEWAY: Duration = Duration::from_secs(300);

/// How long a revocation outlives its token: a verifier with the greatest leeway may accept the token for that long.
pub(crate) const REVOCATION_GRACE: Duration = MAX_LEEWAY;

/// The minimum time for which a store reports that a client changed. A cache must not use an answer for longer: a replica that
/// was cut off from the feed in the meantime would never learn of the change.
pub(crate) const CLIENT_CHANGE_RETENTION: Duration = Duration::from_secs(10 * 60);

/// The maximum lag of the feed at which a cached client is used without asking the store.
pub(crate) const MAX_FEED_LAG: Duration = Duration::from_secs(2);

/// The longest token lifetime that a store assumes by default: revocations of clients are kept for that long.
pub(crate) const DEFAULT_LONGEST_TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
