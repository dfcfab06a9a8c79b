//! The decision on a request with an API key.

use std::sync::Arc;

use http::Request;
use http::header::Entry;

use super::{Admission, Guard};
use crate::event::Outcome;
use crate::resource_server::RequestHead;
use crate::resource_server::api_key::{ApiKeyIdentity, ApiKeys, Presented};
use crate::resource_server::authorization_scheme::BearerToken;
use crate::resource_server::error::BearerError;
use crate::verification::InvalidToken;
use crate::{metrics, telemetry};

impl Guard {
    /// Decides on a request with an API key. Returns `None` for a request without one, and for an unknown key behind `Bearer`,
    /// which may be a token.
    #[cold]
    pub(super) fn admit_by_key(self: &Arc<Self>, keys: &ApiKeys, request: RequestHead<'_>) -> Option<Admission> {
        let refused = |error| Some(Admission::without_token(Err(error)));
        let key = match keys.find(request.headers()) {
            Presented::Known(key) => key,
            Presented::Several => return refused(BearerError::InvalidRequest),
            Presented::Unknown if keys.own_header().is_some() => {
                return refused(keys.wrong(BearerError::UnknownApiKey, request, self.verifier.now()));
            }
            Presented::Unknown => return self.refuse_lookalike(keys, request),
            // An outer layer with the same keys may have removed the key.
            Presented::Nothing => {
                let outer = request.extensions().get::<ApiKeyIdentity>();
                match outer.and_then(|identity| keys.key_of(identity)) {
                    Some(key) if BearerToken::read(request.headers()).is_err() => key,
                    _ => return self.refuse_lookalike(keys, request),
                }
            }
        };
        let checked = keys.check_date(&key, self.verifier.now());
        if let Err(error) = checked.and_then(|()| ApiKeys::check_revoked(&key, &self.verifier)) {
            return refused(error);
        }
        let identity = keys.prove(key, self.clone());
        let (granted, method) = (identity.scopes(), request.method());
        let decision = if self.required.are_in(granted, method) {
            keys.judge(&identity, request, !self.policies.is_empty())
        } else {
            let (client_id, granted) = (identity.client_id().clone(), granted.clone());
            Err(BearerError::InsufficientScope { client_id, granted, required: self.required.named(method) })
        };
        Some(Admission { token: None, identity: decision.is_ok().then_some(identity), decision })
    }

    /// Refuses a value in the place of a token that looks like an API key. Verified as a token, it could be sent to an introspection
    /// endpoint, and a wrong key may differ from a valid one by a single character.
    fn refuse_lookalike(&self, keys: &ApiKeys, request: RequestHead<'_>) -> Option<Admission> {
        let text = self.bearer(request.headers(), request.uri()).ok()?;
        if !keys.is_like_a_key(text.as_bytes()) {
            return None;
        }
        let error = keys.wrong(BearerError::UnknownApiKey, request, self.verifier.now());
        Some(Admission::without_token(Err(error)))
    }

    /// Counts a text behind `Bearer` that is neither a key nor a token, and returns its refusal. A text with characters that no
    /// token has is a malformed request, but an API key may have them.
    pub(super) fn counted(&self, error: BearerError, request: RequestHead<'_>) -> BearerError {
        let Some(keys) = self.api_keys.as_ref().filter(|keys| keys.own_header().is_none()) else { return error };
        let is_malformed = match &error {
            BearerError::InvalidToken(refused) => refused.reason() == InvalidToken::Malformed,
            error => *error == BearerError::InvalidRequest,
        };
        if is_malformed && matches!(keys.find(request.headers()), Presented::Unknown) {
            return keys.wrong(error, request, self.verifier.now());
        }
        error
    }

    /// Sets the identity of the request, and hides its API key from the wrapped service.
    #[cold]
    pub(super) fn hand_on_identity<B>(&self, admission: &Admission, request: &mut Request<B>) {
        if let Some(name) = self.api_keys.as_ref().and_then(ApiKeys::own_header) {
            if self.remove_authorization {
                request.headers_mut().remove(name);
            } else if let Entry::Occupied(mut values) = request.headers_mut().entry(name) {
                values.iter_mut().for_each(|value| value.set_sensitive(true));
            }
        } else if admission.identity.is_some() {
            self.cover(request.headers_mut());
        }
        match &admission.identity {
            Some(identity) => drop(request.extensions_mut().insert(identity.clone())),
            None => drop(request.extensions_mut().remove::<ApiKeyIdentity>()),
        }
    }

    /// Reports a request that was admitted with an API key.
    pub(super) fn report_identity(&self, identity: &ApiKeyIdentity, request: RequestHead<'_>) {
        let client_id = identity.client_id();
        metrics::bearer_decided("admitted_by_api_key", "");
        metrics::api_key_used(client_id.as_str());
        telemetry::decided(Some(client_id), None);
        tracing::debug!(oauth.client_id = %client_id, "admitted a request to a protected route by an API key");
        self.send(|| Outcome::AdmittedByApiKey, Some(client_id), request);
    }
}
