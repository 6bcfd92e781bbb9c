//! Tokens of the load's users: HS256, one user a connection (a user may only have 50).

use jsonwebtoken::{Algorithm, EncodingKey, Header};

use crate::scenario::Scenario;

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

    pub fn token(&self, scenario: &Scenario, connection: u32) -> String {
        let claims = Claims {
            sub: &scenario.user_name(connection),
            tenant: &scenario.tenant_name(scenario.tenant_of(connection)),
            permissions: ["publish"],
            exp: self.expires_at,
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.key)
            .expect("an HMAC of four strings and a number cannot fail")
    }
}
