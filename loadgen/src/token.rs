//! Tokens of the load's users: HS256, one user a connection (a user may only have 50).

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use jsonwebtoken::{Algorithm, EncodingKey, Header};

/// Longer than any run; the server under test must not close its sessions for age.
const VALID_SECONDS: u64 = 24 * 3600;

#[derive(serde::Serialize)]
struct Claims<'a> {
    sub: &'a str,
    tenant: &'a str,
    permissions: [&'a str; 1],
    exp: u64,
}

pub struct Mint {
    key: EncodingKey,
    expires_at: u64,
}

impl Mint {
    /// `now` is in seconds of Unix time.
    pub fn new(secret: &str, now: u64) -> Mint {
        Mint { key: EncodingKey::from_secret(secret.as_bytes()), expires_at: now + VALID_SECONDS }
    }

    pub fn token(&self, user: &str, tenant: &str) -> String {
        let claims = Claims { sub: user, tenant, permissions: ["publish"], exp: self.expires_at };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.key)
            .expect("an HMAC of four strings and a number cannot fail")
    }
}

/// A name, or a key, that no other run has.
pub fn random_hex(bytes: usize) -> Result<String> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

pub fn unix_seconds() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs())
}
