//! The environment: short names its users already have (`JWT_SECRET`), and `TENANTCAST_SECTION__KEY` for any key of the file.
//!
//! Where both name one key, the long one counts: it cannot be meant for another program. An empty variable counts as not set, as Compose
//! files write them, except for keys that hold or name a key: there an empty one is an error, because starting without it would start
//! something else than what was asked for.
//!
//! Kubernetes puts the addresses of every service of a namespace into every pod: a service called `redis` sets `REDIS_PORT` to
//! `tcp://10.0.0.1:6379`, one called `tenantcast` sets `TENANTCAST_SERVICE_HOST`. Neither was written by whoever configures this server,
//! so both are passed over.

use super::error::{Error, Origin};
use super::key::{self, KEYS, Key};
use super::raw::Raw;
use crate::profile::nearest::nearest;
use std::ffi::OsString;

pub const PREFIX: &str = "TENANTCAST_";
/// The configuration's file, as `--config`.
pub const CONFIG: &str = "TENANTCAST_CONFIG";

/// The variables of a process, read once.
#[derive(Default)]
pub struct Env(Vec<(String, OsString)>);

impl Env {
    /// A name that is not UTF-8 is nobody's and dropped.
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Env {
        let mut variables: Vec<(String, OsString)> =
            variables.into_iter().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect();
        variables.sort();
        Env(variables)
    }

    /// A variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&OsString> {
        self.0.iter().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value)
    }

    /// Lays the environment's values over what is in `raw`.
    pub fn add_to(&self, raw: &mut Raw) -> Result<(), Error> {
        for key in KEYS {
            if let Some(name) = key.env {
                self.add(key, name, raw)?;
            }
        }
        for (name, value) in &self.0 {
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            if name == CONFIG || value.to_str().is_some_and(|value| service_link(name, value)) {
                continue;
            }
            match key::find(&rest.to_ascii_lowercase().replacen("__", ".", 1)).filter(|_| rest.contains("__")) {
                Some(key) => self.add(key, name, raw)?,
                None => {
                    let known: Vec<String> = KEYS.iter().map(variable).collect();
                    let nearest = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
                    return Err(Error::UnknownVariable { origin: Origin::Env(name.clone()), nearest });
                }
            }
        }
        Ok(())
    }

    fn add(&self, key: &Key, name: &str, raw: &mut Raw) -> Result<(), Error> {
        let Some((_, value)) = self.0.iter().find(|(known, _)| known == name) else { return Ok(()) };
        let origin = Origin::Env(name.to_owned());
        let Some(value) = value.to_str() else {
            return Err(Error::Value { origin, key: key.path.into(), reason: "not UTF-8".into() });
        };
        let names_a_key =
            matches!(key.path, "auth.secret" | "auth.public_key_file" | "auth.jwks_file" | "auth.jwks_url");
        let passed_over = !name.starts_with(PREFIX) && name.ends_with("_PORT") && value.starts_with("tcp://");
        if value.is_empty() && !names_a_key || passed_over {
            return Ok(());
        }
        raw.add_text(key, value.to_owned(), origin);
        Ok(())
    }
}

/// `server.admin_port` is `TENANTCAST_SERVER__ADMIN_PORT`.
pub fn variable(key: &Key) -> String {
    format!("{PREFIX}{}", key.path.replacen('.', "__", 1).to_ascii_uppercase())
}

/// Whether Kubernetes set this variable for a service (kubernetes.io, "Discovering services").
fn service_link(name: &str, value: &str) -> bool {
    !name.contains("__")
        && (name.ends_with("_SERVICE_HOST")
            || name.contains("_SERVICE_PORT")
            || name.contains("_PORT_")
            || name.ends_with("_PORT")
                && ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme)))
}
