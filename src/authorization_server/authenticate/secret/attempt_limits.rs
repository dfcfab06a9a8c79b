//! [`AttemptLimits`]: how many wrong secrets the server accepts per minute.

/// The maximum number of failed attempts per minute at a client's secret. Further attempts get 429.
///
/// ```
/// use tower_client_credentials::authorization_server::AttemptLimits;
///
/// let limits = AttemptLimits::default().chosen_by_client(1_000);
/// assert_eq!(limits.chosen_by_address, 10);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "the limits are not used until a server has them"]
pub struct AttemptLimits {
    /// Wrong secrets for one client id from one address, if the client's secrets are random or the client is unknown.
    /// The default is 100. The right secret passes beyond this limit, too.
    pub generated_by_address: u32,
    /// Wrong secrets for one client from one address, if the client's secrets were chosen by people. The default is 10.
    /// Beyond this limit, even the right secret is refused until the next minute.
    pub chosen_by_address: u32,
    /// Wrong secrets for one client from all addresses together, if its secrets were chosen by people. The default is
    /// 100.
    pub chosen_by_client: u32,
}

impl Default for AttemptLimits {
    fn default() -> Self {
        Self { generated_by_address: 100, chosen_by_address: 10, chosen_by_client: 100 }
    }
}

impl AttemptLimits {
    /// Sets [`generated_by_address`](Self#structfield.generated_by_address).
    pub const fn generated_by_address(self, attempts: u32) -> Self {
        Self { generated_by_address: attempts, ..self }
    }

    /// Sets [`chosen_by_address`](Self#structfield.chosen_by_address).
    pub const fn chosen_by_address(self, attempts: u32) -> Self {
        Self { chosen_by_address: attempts, ..self }
    }

    /// Sets [`chosen_by_client`](Self#structfield.chosen_by_client).
    pub const fn chosen_by_client(self, attempts: u32) -> Self {
        Self { chosen_by_client: attempts, ..self }
    }
}
