//! The two JSON texts of a token: its head, which may only choose a key, and its claims, read once the signature holds.
//!
//! Claim names are configurable, so the claims are a map; it lives for one call. A claim that would widen access when ignored (`rooms`,
//! `exp`, `nbf`) must have its type; one that only grants (`roles`, `permissions`, `scope`) grants nothing when it has another.

use super::{Admission, Pattern, Policy, Reject, Rights};
use crate::base::id::TenantId;
use crate::base::limit::TENANT_BYTES_MAX;
use crate::base::time::UnixMs;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// JOSE header (RFC 7515 section 4.1), as far as it is looked at.
#[derive(Deserialize)]
pub(super) struct Head {
    pub alg: String,
    #[serde(default)]
    pub kid: Option<String>,
    /// Extensions that must be understood. None is, so a token that has any is refused (section 4.1.11).
    #[serde(default)]
    pub crit: Option<IgnoredAny>,
}

impl Head {
    pub fn decode(part: &str) -> Result<Head, Reject> {
        serde_json::from_slice(&bytes(part)?).map_err(|_| Reject::Malformed)
    }
}

pub(super) struct Claims(Map<String, Value>);

impl Claims {
    pub fn decode(part: &str) -> Result<Claims, Reject> {
        serde_json::from_slice(&bytes(part)?).map(Claims).map_err(|_| Reject::Malformed)
    }

    pub fn admit(&self, policy: &Policy, now: UnixMs) -> Result<Admission, Reject> {
        let expires_at = self.date("exp")?.map(|exp| exp.saturating_add(policy.leeway.as_millis() as u64));
        let not_before = self.date("nbf")?;
        let names = |claim: &str, wanted: &[Box<str>]| {
            wanted.is_empty()
                || self.strings(claim, |_| false).iter().any(|have| wanted.iter().any(|want| want == have))
        };
        if !names("iss", &policy.issuer) || !names("aud", &policy.audience) {
            return Err(Reject::Invalid);
        }
        if expires_at.is_some_and(|at| now.0 >= at) {
            return Err(Reject::Expired);
        }
        if not_before.is_some_and(|at| now.0.saturating_add(policy.leeway.as_millis() as u64) < at) {
            return Err(Reject::NotYetValid);
        }

        let tenant = match &policy.single_tenant {
            Some(tenant) => tenant.clone(),
            None => TenantId::parse(&self.name(&policy.tenant_claims)?).ok_or(Reject::Malformed)?,
        };
        let user = self.name(&policy.user_claims)?;
        if user.len() > TENANT_BYTES_MAX || user.chars().any(char::is_control) {
            return Err(Reject::Malformed);
        }

        let mut roles: Vec<Box<str>> = Vec::new();
        for role in policy.role_claims.iter().flat_map(|claim| self.strings(claim, |c| c == ',')) {
            if !roles.contains(&role) {
                roles.push(role);
            }
        }
        let spaces_or_commas = |c: char| c == ',' || c.is_whitespace();
        Ok(Admission {
            tenant,
            user: user.into(),
            rights: Rights {
                roles: roles.into(),
                permissions: self.strings("permissions", spaces_or_commas).into(),
                rooms: self.rooms()?,
                scope: self.strings("scope", spaces_or_commas).into(),
            },
            expires_at: expires_at.map(UnixMs),
        })
    }

    /// NumericDate (RFC 7519 section 2) in milliseconds. Fractions of a second are allowed; a date before 1970 counts as 1970.
    fn date(&self, claim: &str) -> Result<Option<u64>, Reject> {
        match self.0.get(claim) {
            None => Ok(None),
            Some(Value::Number(seconds)) => Ok(Some(match seconds.as_u64() {
                Some(seconds) => seconds.saturating_mul(1000),
                // A float cast saturates at both ends.
                None => (seconds.as_f64().ok_or(Reject::Malformed)? * 1000.0) as u64,
            })),
            Some(_) => Err(Reject::Malformed),
        }
    }

    /// The first of `claims` that is there and not empty. A number is its decimal text; a fraction or a number past 64 bits is refused,
    /// because two users could be rounded into one.
    fn name(&self, claims: &[Box<str>]) -> Result<Cow<'_, str>, Reject> {
        for claim in claims {
            match self.0.get(&**claim) {
                None | Some(Value::Null) => {}
                Some(Value::String(text)) if text.is_empty() => {}
                Some(Value::String(text)) => return Ok(Cow::Borrowed(text)),
                Some(Value::Number(number)) if !number.is_f64() => return Ok(Cow::Owned(number.to_string())),
                Some(_) => return Err(Reject::Malformed),
            }
        }
        Err(Reject::TenantMissing)
    }

    /// The strings of a claim that is one string, split where `separator` says, or an array. Anything else holds none.
    fn strings(&self, claim: &str, separator: impl Fn(char) -> bool) -> Vec<Box<str>> {
        match self.0.get(claim) {
            Some(Value::String(text)) => {
                text.split(separator).map(str::trim).filter(|part| !part.is_empty()).map(Box::from).collect()
            }
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(Box::from).collect(),
            _ => Vec::new(),
        }
    }

    /// An array of patterns, or one string with commas (a room's name may hold a space). `null` is not absence: absence opens every room.
    fn rooms(&self) -> Result<Option<Box<[Pattern]>>, Reject> {
        let parse = |text: &str| Pattern::parse(text).map_err(|_| Reject::Malformed);
        match self.0.get("rooms") {
            None => Ok(None),
            Some(Value::String(text)) => text
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(parse)
                .collect::<Result<_, _>>()
                .map(Some),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| parse(item.as_str().ok_or(Reject::Malformed)?))
                .collect::<Result<_, _>>()
                .map(Some),
            Some(_) => Err(Reject::Malformed),
        }
    }
}

fn bytes(part: &str) -> Result<Vec<u8>, Reject> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Reject::Malformed)
}
