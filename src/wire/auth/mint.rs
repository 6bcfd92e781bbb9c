//! Making tokens: for `tenantcast token`, the demo page and the tests. Only a shared secret can; a server holds no private key.

use super::{Keys, Policy};
use crate::base::time::{Duration, UnixMs};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, crypto};
use serde_json::{Map, Value, json};

/// What a new token says. Empty lists are left out; an absent `rooms` claim opens every room of the tenant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mint<'a> {
    pub tenant: &'a str,
    pub user: &'a str,
    pub roles: &'a [String],
    pub permissions: &'a [String],
    pub rooms: &'a [String],
    pub scope: &'a [String],
    /// Whole seconds from now. `None`: the token does not expire.
    pub ttl: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    #[error("the configured key is public: only the holder of its private key can make tokens")]
    NoSecret,
    #[error("the signature could not be made")]
    Sign,
}

/// A token that [`verify`](super::verify) admits under the same keys and policy, signed with the first shared secret.
/// Names are not checked here: verify the token to know that they are within their bounds.
pub fn mint(claims: &Mint<'_>, keys: &Keys, policy: &Policy, now: UnixMs) -> Result<String, MintError> {
    let (key, secret) = keys.secrets().next().ok_or(MintError::NoSecret)?;
    let algorithm = *key.algorithms.first().ok_or(MintError::NoSecret)?;
    let mut head = json!({ "alg": algorithm, "typ": "JWT" });
    if let Some(id) = &key.id {
        head["kid"] = json!(id);
    }
    let message = format!("{}.{}", part(&head), part(&Value::Object(body(claims, policy, now))));
    let signature = crypto::sign(message.as_bytes(), &EncodingKey::from_secret(secret), algorithm);
    Ok(format!("{message}.{}", signature.map_err(|_| MintError::Sign)?))
}

fn body(claims: &Mint<'_>, policy: &Policy, now: UnixMs) -> Map<String, Value> {
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
    put(policy.user_claims.first().map_or("sub", |name| name), json!(claims.user));
    put(policy.tenant_claims.first().map_or("tenant", |name| name), json!(claims.tenant));
    for (name, list) in [("roles", claims.roles), ("permissions", claims.permissions), ("rooms", claims.rooms)] {
        if !list.is_empty() {
            put(name, json!(list));
        }
    }
    if !claims.scope.is_empty() {
        put("scope", json!(claims.scope.join(" ")));
    }
    for (name, list) in [("iss", &policy.issuer), ("aud", &policy.audience)] {
        if let Some(first) = list.first() {
            put(name, json!(first));
        }
    }
    put("iat", json!(now.seconds()));
    if let Some(ttl) = claims.ttl {
        put("exp", json!(now.seconds().saturating_add(ttl.as_secs())));
    }
    body
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}
