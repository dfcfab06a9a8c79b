//! [`Endpoint`]: the address of a Workload API (SPIFFE Workload Endpoint §4).

use std::env::VarError;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::quoted::quoted;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// The address of a Workload API is invalid. The text contains it, and says how to fix it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidEndpoint(String);

impl InvalidEndpoint {
    fn new(address: &str, what: &str) -> Self {
        Self(format!("invalid address {} of a Workload API: {what}", quoted(address)))
    }

    pub(super) fn variable(name: &str, error: &VarError) -> Self {
        let what = match error {
            VarError::NotPresent => "not set",
            VarError::NotUnicode(_) => "not UTF-8",
        };
        Self(format!("the environment variable `{name}` is {what}; set it to the address of the Workload API"))
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(address: &str) -> Result<Self, InvalidEndpoint> {
        const EXPECTED: &str = "use for example `unix:///run/spire/agent.sock`";
        let invalid = |what| InvalidEndpoint::new(address, what);
        if address.chars().any(|character| character.is_control() || matches!(character, '?' | '#')) {
            return Err(invalid("it has a query, a fragment or a control character"));
        }
        // `unix:/path` and `tcp:IP:port` have the same meaning, and are in use.
        if let Some(rest) = address.strip_prefix("unix:") {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            if !path.starts_with('/') || path.ends_with('/') {
                return Err(invalid(
                    "the path of a socket is absolute; use for example `unix:///run/spire/agent.sock`",
                ));
            }
            return if cfg!(unix) {
                Ok(Self::Unix(path.into()))
            } else {
                Err(invalid("this system has no Unix domain sockets; use for example `tcp://127.0.0.1:8081`"))
            };
        }
        let rest = address.strip_prefix("tcp:").ok_or_else(|| invalid(EXPECTED))?;
        let socket = rest.strip_prefix("//").unwrap_or(rest).parse::<SocketAddr>();
        let socket =
            socket.map_err(|_| invalid("use an IP address with a port, for example `tcp://127.0.0.1:8081`"))?;
        if !socket.ip().is_loopback() {
            return Err(invalid(
                "SVIDs would cross the network unencrypted; use a Unix domain socket or a loopback address",
            ));
        }
        Ok(Self::Tcp(socket))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Endpoint;

    #[test]
    fn an_address_is_a_unix_socket_or_a_loopback_address() {
        for (address, shown) in [
            ("unix:///run/spire/agent.sock", "unix:///run/spire/agent.sock"),
            ("unix:/tmp/a b.sock", "unix:///tmp/a b.sock"),
            ("tcp://127.0.0.1:8081", "tcp://127.0.0.1:8081"),
            ("tcp:[::1]:8081", "tcp://[::1]:8081"),
        ] {
            assert_eq!(address.parse::<Endpoint>().unwrap().to_string(), shown);
        }
        for (address, says) in [
            ("", "unix:///run/"),
            ("/run/spire/agent.sock", "unix:///run/"),
            ("http://127.0.0.1:8081", "unix:///run/"),
            ("unix://", "absolute"),
            ("unix:///", "absolute"),
            ("unix://run/agent.sock", "absolute"),
            ("unix:run/agent.sock", "absolute"),
            ("unix:///run/agent.sock?a", "query"),
            ("unix:///run/agent.sock\n", "control"),
            ("tcp://127.0.0.1", "with a port"),
            ("tcp://localhost:8081", "IP address"),
            ("tcp://127.0.0.1:8081/x", "IP address"),
            ("tcp://10.0.0.1:8081", "unencrypted"),
        ] {
            let error = address.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
