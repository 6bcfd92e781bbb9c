//! Where a run connects to.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result, bail};

/// Where to connect.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    /// For the `Host` header.
    pub authority: String,
}

impl Target {
    /// The server at `host:port`.
    pub fn of(authority: &str) -> Result<Target> {
        let address = authority.to_socket_addrs().ok().and_then(|mut all| all.next());
        let address = address.with_context(|| format!("{authority:?} is no host:port"))?;
        Ok(Target { address, authority: authority.to_owned() })
    }
}

/// `host:port` of an `http://` address; a path is the dialect's business.
pub fn authority(url: &str) -> Result<String> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("ws://"));
    let Some(rest) = rest else { bail!("{url:?} does not start with http:// or ws:// (TLS is not spoken here)") };
    let authority = rest.split('/').next().unwrap_or(rest);
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok(if has_port { authority.to_owned() } else { format!("{authority}:80") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        for (url, expected) in [
            ("http://127.0.0.1:3000", "127.0.0.1:3000"),
            ("ws://host:1/socket.io/?x", "host:1"),
            ("http://host", "host:80"),
            ("http://[::1]:9/", "[::1]:9"),
            ("http://[::1]", "[::1]:80"),
        ] {
            assert_eq!(authority(url).unwrap(), expected);
        }
        assert!(authority("https://host").is_err());
        assert!(authority("host:3000").is_err());
    }
}
