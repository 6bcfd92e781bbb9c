//! Plain Redis channels: what other processes publish there as JSON, made into events by what the profile says of the channel.
//!
//! ```text
//! [channels."realtime:projects"]       {"organizationId":"acme","projectId":7,"update":{"type":"task_updated"}}
//! tenant = "{organizationId}"          -> tenant acme
//! room = "project:{projectId}"         -> room project:7
//! type = "project_update"              -> event project_update
//! data = "{update}"                    -> {"type":"task_updated"}
//! ```
//!
//! Invariants: pure; whatever was published is read without a panic and in bounded space. A message that does not say its tenant, and its user
//! or room, reaches nobody; where the profile has a single tenant, no other is reached. The data is valid JSON.

use super::template::{Missing, lookup};
use super::{Profile, Target};
use crate::base::id::TenantId;
use crate::base::limit::FLEET_MESSAGE_BYTES_MAX;
use crate::wire::json;
use std::borrow::Cow;

/// An event that came over a channel; its schema and who may receive it are the catalogue's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard<'a> {
    pub tenant: TenantId,
    pub to: To,
    /// Its type.
    pub kind: &'a str,
    /// JSON.
    pub data: Cow<'a, str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    User(String),
    Room(String),
}

/// Why a message of a channel is no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unheard {
    #[error("it is no JSON, or longer than is read")]
    Syntax,
    #[error("{0}")]
    Missing(#[from] Missing),
    #[error("its tenant is no tenant's name, or not this server's only tenant")]
    Tenant,
}

impl Profile {
    /// Names of the channels to subscribe to.
    pub fn channel_names(&self) -> impl Iterator<Item = &str> {
        self.channels.iter().map(|channel| &*channel.name)
    }

    /// What was published to a channel, as the event it is to be. None: the profile has no such channel.
    pub fn hear<'a>(&'a self, channel: &str, message: &'a [u8]) -> Option<Result<Heard<'a>, Unheard>> {
        let channel = self.channels.iter().find(|known| *known.name == *channel)?;
        Some(self.event_of(channel, message))
    }

    fn event_of<'a>(&'a self, channel: &'a super::Channel, message: &'a [u8]) -> Result<Heard<'a>, Unheard> {
        let text = (message.len() <= FLEET_MESSAGE_BYTES_MAX).then(|| std::str::from_utf8(message).ok()).flatten();
        let text = text.filter(|text| json::validate(text)).ok_or(Unheard::Syntax)?;
        let raw = |path: &str| lookup(text, path).map(Cow::Borrowed);
        let single = self.claims.single_tenant.as_ref();
        let tenant = match (&channel.tenant, single) {
            (Some(template), _) => TenantId::parse(&template.text(&raw)?),
            (None, single) => single.cloned(),
        };
        let tenant = tenant.filter(|tenant| single.is_none_or(|single| single == tenant)).ok_or(Unheard::Tenant)?;
        let to = match &channel.to {
            Target::User(user) => To::User(user.text(&raw)?),
            Target::Room(room) => To::Room(room.text(&raw)?),
        };
        let data = match &channel.data {
            None => Cow::Borrowed(text),
            Some(shape) => {
                let mut out = Vec::new();
                shape.write(&mut out, &raw);
                // What a shape writes is JSON of what is JSON.
                Cow::Owned(String::from_utf8(out).map_err(|_| Unheard::Syntax)?)
            }
        };
        Ok(Heard { tenant, to, kind: &channel.kind, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::builtin;

    fn hear(profile: &Profile, channel: &str, message: &str) -> Option<Result<(String, To, String, String), Unheard>> {
        let heard = profile.hear(channel, message.as_bytes())?;
        Some(
            heard.map(|heard| {
                (heard.tenant.as_str().to_owned(), heard.to, heard.kind.to_owned(), heard.data.into_owned())
            }),
        )
    }

    #[test]
    fn the_three_channels_of_project_hub() {
        let profile = Profile::parse(builtin::text("project-hub").expect("it is built in")).expect("it is right");
        let names: Vec<&str> = profile.channel_names().collect();
        assert_eq!(names, ["realtime:notifications", "realtime:projects", "realtime:users"]);
        let user = |id: &str| To::User(id.into());
        let ok = |to: To, kind: &str, data: &str| Ok(("acme".to_owned(), to, kind.to_owned(), data.to_owned()));
        let table = [
            (
                "realtime:notifications",
                r#"{"organizationId":"acme","userId":"u1","notification":{"type":"TASK_UPDATED","taskId":7}}"#,
                ok(user("u1"), "notification", r#"{"type":"TASK_UPDATED","taskId":7}"#),
            ),
            (
                "realtime:projects",
                r#"{"projectId":7,"update":{"type":"task_updated","update":[1.0]},"organizationId":"acme"}"#,
                ok(To::Room("project:7".into()), "project_update", r#"{"type":"task_updated","update":[1.0]}"#),
            ),
            (
                "realtime:users",
                r#" {"userId":42,"update":null,"organizationId":"acme"} "#,
                ok(user("42"), "user_update", "null"),
            ),
            ("realtime:users", r#"{"userId":"u","organizationId":"acme"}"#, ok(user("u"), "user_update", "null")),
            (
                "realtime:users",
                r#"{"organizationId":"acme","update":1}"#,
                Err(Unheard::Missing(Missing::Absent("userId".into()))),
            ),
            (
                "realtime:users",
                r#"{"userId":"u","update":1}"#,
                Err(Unheard::Missing(Missing::Absent("organizationId".into()))),
            ),
            (
                "realtime:users",
                r#"{"userId":{"a":1},"organizationId":"acme"}"#,
                Err(Unheard::Missing(Missing::Kind("userId".into()))),
            ),
            ("realtime:users", r#"{"userId":"u","organizationId":"a/b"}"#, Err(Unheard::Tenant)),
            ("realtime:users", r#"{"userId":"u""#, Err(Unheard::Syntax)),
            ("realtime:users", "", Err(Unheard::Syntax)),
        ];
        for (channel, message, want) in table {
            assert_eq!(hear(&profile, channel, message), Some(want), "{message}");
        }
        assert_eq!(hear(&profile, "realtime:others", "{}"), None);
        let invalid = profile.hear("realtime:users", b"{\"userId\":\"\xff\"}");
        assert_eq!(invalid, Some(Err(Unheard::Syntax)));
    }

    #[test]
    fn a_single_tenant_is_the_only_one() {
        let text = "name = \"one\"\nabout = \"One.\"\n[claims]\nsingle_tenant = \"main\"\n\
            [channels.a]\nroom = \"r\"\ntype = \"t\"\n[channels.b]\ntenant = \"{t}\"\nuser = \"{u}\"\ntype = \"t\"\n";
        let profile = Profile::parse(text).expect("a right profile");
        let ok = |to: To, data: &str| Some(Ok(("main".to_owned(), to, "t".to_owned(), data.to_owned())));
        assert_eq!(hear(&profile, "a", "[1, 2]"), ok(To::Room("r".into()), "[1, 2]"));
        assert_eq!(hear(&profile, "b", r#"{"t":"main","u":"x"}"#), ok(To::User("x".into()), r#"{"t":"main","u":"x"}"#));
        assert_eq!(hear(&profile, "b", r#"{"t":"other","u":"x"}"#), Some(Err(Unheard::Tenant)));
    }
}
