//! API keys of backends that publish over HTTP: a list of `KEY` (every tenant) and `TENANT=KEY`.
//!
//! Only the SHA-256 of a key is kept, and only digests are compared: how long a comparison takes then depends on bits an attacker cannot
//! steer towards a key. A key may be configured as `sha256:<64 hex digits>`, so that no file holds it.

use crate::base::id::TenantId;
use sha2::{Digest, Sha256};
use std::fmt;

#[derive(Clone, Default)]
pub struct ApiKeys(Box<[ApiKey]>);

#[derive(Clone)]
struct ApiKey {
    /// `None`: every tenant.
    tenant: Option<TenantId>,
    digest: [u8; 32],
}

/// What a bearer may do with a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiAccess {
    Granted,
    /// The key is another tenant's: `403`.
    WrongTenant,
    /// Not a configured key (it may be a service's token): `401` if it is nothing else either.
    Unknown,
}

/// Entries are named by their position, from 1: their text is a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiKeyError {
    #[error("entry {0} has no key")]
    Empty(usize),
    #[error("entry {0} names a tenant that cannot be one (1 to 256 bytes, no control characters, no `/`)")]
    Tenant(usize),
    #[error("entry {0}: `sha256:` is followed by 64 hexadecimal digits")]
    Digest(usize),
}

impl ApiKeys {
    /// Keys from the entries of the configured list. Empty entries at the end of a comma list are the caller's to drop.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<ApiKeys, ApiKeyError> {
        entries.into_iter().enumerate().map(|(index, entry)| ApiKey::parse(entry.trim(), index + 1)).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the bearer is a key for every tenant.
    pub fn opens_all(&self, bearer: &str) -> bool {
        let digest = digest(bearer);
        let mut opens = false;
        for key in self.0.iter().filter(|key| key.tenant.is_none()) {
            opens |= key.digest.iter().zip(&digest).fold(0, |bits, (a, b)| bits | (a ^ b)) == 0;
        }
        opens
    }

    pub fn check(&self, bearer: &str, tenant: &TenantId) -> ApiAccess {
        let digest = digest(bearer);
        let mut access = ApiAccess::Unknown;
        for key in &self.0 {
            let differing = key.digest.iter().zip(&digest).fold(0, |bits, (a, b)| bits | (a ^ b));
            if differing == 0 {
                if key.tenant.as_ref().is_none_or(|own| own == tenant) {
                    access = ApiAccess::Granted;
                } else if access == ApiAccess::Unknown {
                    access = ApiAccess::WrongTenant;
                }
            }
        }
        access
    }
}

impl FromIterator<ApiKey> for ApiKeys {
    fn from_iter<I: IntoIterator<Item = ApiKey>>(keys: I) -> ApiKeys {
        ApiKeys(keys.into_iter().collect())
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({})", self.0.len())
    }
}

impl ApiKey {
    fn parse(entry: &str, position: usize) -> Result<ApiKey, ApiKeyError> {
        let (tenant, key) = match entry.split_once('=') {
            Some((tenant, key)) if !is_padded(entry) => (Some(tenant.trim()), key.trim()),
            _ => (None, entry),
        };
        if key.trim_matches('=').is_empty() {
            return Err(ApiKeyError::Empty(position));
        }
        let tenant = tenant.map(|tenant| TenantId::parse(tenant).ok_or(ApiKeyError::Tenant(position))).transpose()?;
        let digest = match key.strip_prefix("sha256:") {
            Some(hex) => unhex(hex).ok_or(ApiKeyError::Digest(position))?,
            None => digest(key),
        };
        Ok(ApiKey { tenant, digest })
    }
}

/// Whether an entry is a whole key in base64 with its padding, as `openssl rand -base64 32` prints, and not a tenant with an empty key:
/// `acme=` comes from `acme=$KEY` with the variable unset, and must not become a key that everybody can guess.
fn is_padded(entry: &str) -> bool {
    let digits = entry.trim_end_matches('=');
    entry.len() >= 24
        && entry.len().is_multiple_of(4)
        && entry.len() - digits.len() <= 2
        && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte))
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

fn unhex(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if hex.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        let digit = |at: u8| char::from(at).to_digit(16);
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gets_in() {
        // printf hashed | sha256sum
        let hashed = "acme=sha256:1a06df824ed741b53c785079a6347f00eec5af82f9850775409ca69dff4068a6";
        let keys = ["everywhere", "acme=one", "globex=one", "acme=two=", "2q8cEwXZ2G5Qk0p1l8mZtA==", hashed];
        let keys = ApiKeys::parse(keys).unwrap();
        for (bearer, tenant, access) in [
            ("everywhere", "acme", ApiAccess::Granted),
            ("everywhere", "initech", ApiAccess::Granted),
            ("one", "acme", ApiAccess::Granted),
            ("one", "globex", ApiAccess::Granted),
            ("one", "initech", ApiAccess::WrongTenant),
            ("two=", "acme", ApiAccess::Granted),
            ("two", "acme", ApiAccess::Unknown),
            ("2q8cEwXZ2G5Qk0p1l8mZtA==", "initech", ApiAccess::Granted),
            ("hashed", "acme", ApiAccess::Granted),
            ("hashed", "globex", ApiAccess::WrongTenant),
            ("acme=one", "acme", ApiAccess::Unknown),
            (hashed, "acme", ApiAccess::Unknown),
            ("", "acme", ApiAccess::Unknown),
        ] {
            assert_eq!(keys.check(bearer, &TenantId::parse(tenant).unwrap()), access, "{bearer} {tenant}");
        }
        assert_eq!(ApiKeys::default().check("", &TenantId::parse("acme").unwrap()), ApiAccess::Unknown);
        assert_eq!(format!("{keys:?}"), "ApiKeys(6)");
    }

    #[test]
    fn entries_that_are_wrong_are_named_by_position() {
        for (entries, error) in [
            (&["", "a"][..], ApiKeyError::Empty(1)),
            (&["a", "=="], ApiKeyError::Empty(2)),
            (&["acme="], ApiKeyError::Empty(1)),
            (&["64-f0a1b2c3d4e5f6a7b8c9=="], ApiKeyError::Empty(1)),
            (&["=key"], ApiKeyError::Tenant(1)),
            (&["a/b=key"], ApiKeyError::Tenant(1)),
            (&["a", "b", "sha256:12"], ApiKeyError::Digest(3)),
            (&["acme=sha256:zz06df824ed741b53c785079a6347f00eec5af82f9850775409ca69dff4068a6"], ApiKeyError::Digest(1)),
        ] {
            assert_eq!(ApiKeys::parse(entries.iter().copied()).unwrap_err(), error, "{entries:?}");
        }
    }
}
