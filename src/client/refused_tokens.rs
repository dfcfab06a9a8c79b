//! [`RefusedTokens`]: the last tokens that a resource server refused.

use std::collections::VecDeque;

use super::access_token::AccessToken;
use super::refusal::Refusal;
use crate::crypto::sha256;

/// How many are remembered. An issuer that repeats a token repeats the last one.
const MAX_REMEMBERED: usize = 16;

/// Only digests: a token that was refused here may be valid elsewhere.
#[derive(Debug, Default)]
pub(super) struct RefusedTokens(VecDeque<([u8; 32], Refusal)>);

impl RefusedTokens {
    /// Remembers a token; returns whether it is new.
    pub(super) fn insert(&mut self, token: &AccessToken, refusal: Refusal) -> bool {
        if self.contains(token) {
            return false;
        }
        if self.0.len() == MAX_REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((digest(token), refusal));
        true
    }

    pub(super) fn contains(&self, token: &AccessToken) -> bool {
        self.refusal(token).is_some()
    }

    /// Returns what the resource server said about a token, if it refused it.
    pub(super) fn refusal(&self, token: &AccessToken) -> Option<Refusal> {
        if self.0.is_empty() {
            return None;
        }
        let digest = digest(token);
        self.0.iter().find(|(own, _)| *own == digest).map(|(_, refusal)| *refusal)
    }

    /// Forgets a token that was refused without an explanation, since there is no other one. Returns whether it may be used again.
    pub(super) fn forgive(&mut self, token: &AccessToken) -> bool {
        let refusal = self.refusal(token);
        if refusal == Some(Refusal::Unexplained) {
            let digest = digest(token);
            self.0.retain(|(own, _)| *own != digest);
        }
        refusal != Some(Refusal::InvalidToken)
    }
}

fn digest(token: &AccessToken) -> [u8; 32] {
    sha256(token.header().as_bytes())
}
