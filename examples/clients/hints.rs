//! What the tool says on stderr in addition to its result: what a change reaches, what it does not reach, and what will not work.

use tower_client_credentials::ClientId;
use tower_client_credentials::registration::RegisteredClient;

/// The processes that a change in the store reaches.
pub(crate) const FOLLOWERS: &str = "servers and verifiers that follow the revocations of this store";

/// The processes that it reaches later.
pub(crate) const OTHERS: &str = "a server without revocations may issue tokens to it for another minute, and its tokens are valid \
                                 until they expire where revocations are not followed";

/// For a client that was disabled or deleted, or whose tokens were revoked.
pub(crate) const API_KEYS: &str = "an API that accepts API keys and follows the revocations of this store refuses those of this \
                                   client as well, until it restarts; remove them from its list of keys";

/// For a client whose tokens were revoked.
pub(crate) const NEW_TOKENS: &str =
    "the client gets new tokens after about three seconds; until then it gets 503 with `Retry-After`";

/// For a secret that was replaced or removed.
pub(crate) const OLD_API_KEY: &str = "if an API accepts an old secret as an API key, it does so until it restarts without it; \
                                      `clients revoke-tokens` refuses it there at once, if it follows the revocations of this store";

/// Prints a hint for people on stderr. With `--json`, prints nothing.
pub(crate) fn explain(json: bool, text: &str) {
    if !json {
        eprintln!("{text}");
    }
}

/// Warns of a new client whose tokens are of no use, also with `--json`. A service may have defaults that this tool does not know,
/// so it is no error.
pub(crate) fn warn_of_useless(id: &ClientId, client: &RegisteredClient) {
    if client.may_use_grant() && client.audiences().is_empty() {
        eprintln!(
            "warning: client `{id}` has no audience, so it gets a token only if the token service has a default audience; add one \
             with `clients update {id} --add-audience https://api.example.com`"
        );
    }
    if client.may_use_grant() && client.scopes().is_empty() {
        eprintln!(
            "warning: client `{id}` has no scope, so its tokens are refused wherever a scope is required; add one with `clients \
             update {id} --add-scope SCOPE`"
        );
    }
}
