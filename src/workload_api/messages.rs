//! The messages of the Workload API that are used (SPIFFE Workload API §6, `workloadapi.proto`).

use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct JwtBundlesRequest {}

/// The JWK Sets of the trust domains, by their SPIFFE IDs.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct JwtBundlesResponse {
    #[prost(map = "string, bytes", tag = "1")]
    pub(super) bundles: HashMap<String, Bytes>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct JwtSvidRequest {
    #[prost(string, repeated, tag = "1")]
    pub(super) audience: Vec<String>,
    /// Empty for all identities of the workload.
    #[prost(string, tag = "2")]
    pub(super) spiffe_id: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct JwtSvidResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) svids: Vec<JwtSvid>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub(super) struct JwtSvid {
    #[prost(string, tag = "1")]
    pub(super) spiffe_id: String,
    /// The token, which is a credential.
    #[prost(string, tag = "2")]
    pub(super) svid: String,
}

impl fmt::Debug for JwtSvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtSvid").field("spiffe_id", &self.spiffe_id).finish_non_exhaustive()
    }
}
