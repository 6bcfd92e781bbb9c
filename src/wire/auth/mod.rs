//! Who a peer is: a token, the configured keys and the time in, an [`Admission`] or a [`Reject`] out.
//!
//! Invariants:
//! - The algorithm comes from the configured key. The token's own `alg` can only select among keys that already allow it, so neither `none`
//!   nor a public key used as an HMAC secret ever verifies (RFC 8725 sections 2.1 and 3.1).
//! - No claim is looked at before the signature holds, so a code such as `token_expired` tells a stranger nothing.
//! - Time is an argument. The JWT library is used for signatures only: its own `exp` and `nbf` checks read the clock.
//! - A token or a key never appears in an error or in Debug output.
//!
//! An [`Admission`] is kept for as long as its connection: 112 bytes and its strings, no map, no JSON.

mod api_key;
mod claims;
mod keys;
mod mint;
mod pattern;

pub use api_key::{ApiAccess, ApiKeyError, ApiKeys};
pub use keys::{KeyError, Keys, SECRET_BYTES_ADVISED};
pub use mint::{Mint, MintError, mint};
pub use pattern::{Pattern, PatternError, glob};

use super::close::Close;
use crate::base::id::TenantId;
use crate::base::limit::TOKEN_BYTES_MAX;
use crate::base::time::{Duration, UnixMs};
use claims::Claims;

/// Claims a user's name is looked for in, in this order (contract: section "Who you are").
pub const USER_CLAIMS: &[&str] = &["sub", "userId", "user_id", "id"];
/// Claims a tenant's name is looked for in, in this order.
pub const TENANT_CLAIMS: &[&str] =
    &["tenant", "tenantId", "tenant_id", "accountId", "organizationId", "orgId", "companyId"];

/// Claims with roles.
pub const ROLE_CLAIMS: &[&str] = &["role", "roles"];

/// What a token must say besides being signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// One of these must be in `aud`. Empty: `aud` is not looked at.
    pub audience: Box<[Box<str>]>,
    /// `iss` must be one of these. Empty: `iss` is not looked at.
    pub issuer: Box<[Box<str>]>,
    /// The first claim of these that is there names the user.
    pub user_claims: Box<[Box<str>]>,
    /// The first claim of these that is there names the tenant.
    pub tenant_claims: Box<[Box<str>]>,
    /// Claims with roles, all of them together.
    pub role_claims: Box<[Box<str>]>,
    /// The one tenant of everybody: no claim is looked at for it.
    pub single_tenant: Option<TenantId>,
    /// How far the clocks of issuer and server may be apart: `exp` counts this much later, `nbf` this much earlier.
    pub leeway: Duration,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            audience: Box::default(),
            issuer: Box::default(),
            user_claims: USER_CLAIMS.iter().map(|&name| name.into()).collect(),
            tenant_claims: TENANT_CLAIMS.iter().map(|&name| name.into()).collect(),
            role_claims: ROLE_CLAIMS.iter().map(|&name| name.into()).collect(),
            single_tenant: None,
            leeway: Duration::ZERO,
        }
    }
}

/// Why a token is refused; each is a row of the close table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reject {
    #[error("no token was sent")]
    Missing,
    /// Not three parts of base64url with JSON objects in them, longer than [`TOKEN_BYTES_MAX`], or a claim of an impossible type.
    #[error("the token cannot be read")]
    Malformed,
    /// Signature, algorithm, key id, issuer or audience.
    #[error("the token's signature, issuer or audience is wrong")]
    Invalid,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
    #[error("the token names no tenant or no user")]
    TenantMissing,
}

impl Reject {
    pub const ALL: &'static [Reject] = &[
        Reject::Missing,
        Reject::Malformed,
        Reject::Invalid,
        Reject::Expired,
        Reject::NotYetValid,
        Reject::TenantMissing,
    ];

    pub const fn close(self) -> Close {
        match self {
            Reject::Missing => Close::TokenMissing,
            Reject::Malformed => Close::TokenMalformed,
            Reject::Invalid => Close::TokenInvalid,
            Reject::Expired => Close::TokenExpired,
            Reject::NotYetValid => Close::TokenNotYetValid,
            Reject::TenantMissing => Close::TenantMissing,
        }
    }
}

/// What a verified token says of its bearer. Tenant and user never change during a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    pub tenant: TenantId,
    /// 1 to `TENANT_BYTES_MAX` bytes, no control characters.
    pub user: Box<str>,
    pub rights: Rights,
    /// When the token stops counting: its `exp` plus the leeway. `None`: never.
    pub expires_at: Option<UnixMs>,
}

/// What a token lets its bearer do, whoever that is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// `role` and `roles` together, each once, in the token's order.
    pub roles: Box<[Box<str>]>,
    pub permissions: Box<[Box<str>]>,
    /// Rooms the bearer may join. `None`: the claim is absent, every room of the tenant. Empty: none.
    pub rooms: Option<Box<[Pattern]>>,
    /// OAuth scopes of a service's token (RFC 8693 section 4.2).
    pub scope: Box<[Box<str>]>,
}

impl std::ops::Deref for Admission {
    type Target = Rights;

    fn deref(&self) -> &Rights {
        &self.rights
    }
}

impl Rights {
    /// Whether the bearer may publish to `room` of its tenant: permission `publish` (every room) or `publish:<pattern>`.
    pub fn may_publish(&self, room: &str) -> bool {
        self.permissions.iter().any(|permission| match permission.strip_prefix("publish") {
            Some("") => true,
            Some(rest) => rest.strip_prefix(':').is_some_and(|pattern| glob(pattern, room)),
            None => false,
        })
    }

    /// Whether the claim `rooms` opens a room that belongs to nobody: by one of its patterns; every room where it is absent.
    pub fn opens_room(&self, room: &str) -> bool {
        self.rooms.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(room)))
    }

    /// Whether the claim `rooms` opens somebody else's room: only by a pattern that spells out how such names begin, as `user:*` does. A bare
    /// `*`, `us?r:*` or an absent claim does not reach them.
    pub fn names_room(&self, start: &str, room: &str) -> bool {
        let patterns = self.rooms.iter().flatten();
        patterns.into_iter().any(|pattern| pattern.as_str().starts_with(start) && pattern.matches(room))
    }

    pub fn has_scope(&self, name: &str) -> bool {
        self.scope.iter().any(|scope| &**scope == name)
    }

    pub fn has_role(&self, name: &str) -> bool {
        self.roles.iter().any(|role| &**role == name)
    }

    pub fn has_permission(&self, name: &str) -> bool {
        self.permissions.iter().any(|permission| &**permission == name)
    }
}

/// Checks a token (JWS compact serialization, RFC 7515 section 7.1; claims of RFC 7519) and reads its bearer from it.
///
/// Errors, in the order they are looked for: `Missing` (empty), `Malformed` (length, shape), `Invalid` (algorithm, key id, signature),
/// `Malformed` (claims), `Invalid` (issuer, audience), `Expired` (`now` is at or after `exp` + leeway), `NotYetValid` (`now` + leeway is
/// before `nbf`), `TenantMissing`.
pub fn verify(token: &str, keys: &Keys, policy: &Policy, now: UnixMs) -> Result<Admission, Reject> {
    if token.is_empty() {
        return Err(Reject::Missing);
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Reject::Malformed);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(Reject::Malformed)?;
    let (head, payload) = message.split_once('.').ok_or(Reject::Malformed)?;
    if payload.contains('.') {
        return Err(Reject::Malformed);
    }
    if !keys.verify(claims::Head::decode(head)?, message, signature) {
        return Err(Reject::Invalid);
    }
    Claims::decode(payload)?.admit(policy, now)
}

#[cfg(test)]
mod tests;
