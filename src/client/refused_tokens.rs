//! [`RefusedTokens`]: the last tokens that a resource server refused, so that none of them is sent again.

use std::collections::VecDeque;

use super::access_token::AccessToken;
use crate::crypto::sha256;

/// How many are remembered. An issuer that repeats a token repeats the last one.
const MAX_REMEMBERED: usize = 16;

/// Only digests: a token that was refused here may be valid elsewhere.
#[derive(Debug, Default)]
pub(super) struct RefusedTokens(VecDeque<[u8; 32]>);

impl RefusedTokens {
    /// Remembers a token; returns whether it is new.
    pub(super) fn insert(&mut self, token: &AccessToken) -> bool {
        if self.contains(token) {
            return false;
        }
        if self.0.len() == MAX_REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(digest(token));
        true
    }

    pub(super) fn contains(&self, token: &AccessToken) -> bool {
        !self.0.is_empty() && self.0.contains(&digest(token))
    }
}

fn digest(token: &AccessToken) -> [u8; 32] {
    sha256(token.header().as_bytes())
}
