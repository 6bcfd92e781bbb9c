//! What a client's event does: each operation has what it needs, and nothing it has no use for.

use super::{Check, Checked, boxed};
use crate::profile::file::{self, File, Operation};
use crate::profile::{Act, ClientEvent, DocumentAct};

impl Check<'_> {
    pub(super) fn client_event(
        &self,
        key: &str,
        event: &file::ClientEvent,
        file: &File,
        hooks: &[&str],
    ) -> Checked<ClientEvent> {
        use Operation as O;
        let operation = event.operation;
        // What an operation has use for.
        let of = |operations: &[Operation]| operations.contains(&operation);
        let uses: [(&str, bool, bool); 8] = [
            ("action", event.action.is_some(), of(&[O::Typing, O::Document])),
            (
                "room",
                event.room.is_some(),
                of(&[O::Join, O::Leave, O::Relay, O::Publish, O::History, O::Presence, O::Typing]),
            ),
            ("event", event.event.is_some(), of(&[O::Relay, O::Reply])),
            ("type", event.kind.is_some(), of(&[O::Publish])),
            ("data", event.data.is_some(), of(&[O::Relay, O::Reply, O::Publish, O::Enqueue, O::Webhook])),
            ("queue", event.queue.is_some(), of(&[O::Enqueue])),
            ("job", event.job.is_some(), of(&[O::Enqueue])),
            ("webhook", event.webhook.is_some(), of(&[O::Webhook])),
        ];
        let at = |name: &str| format!("{key}.{name}");
        if let Some((name, ..)) = uses.iter().find(|(_, is_given, is_used)| *is_given && !is_used) {
            return Err(self.error(&at(name), format!("`{}` has no use for it", operation.name())));
        }
        let need = |name: &str, value: &Option<String>| match value {
            Some(value) => Ok(value.clone()),
            None => Err(self.error(key, format!("`{}` needs `{name}`", operation.name()))),
        };
        let room = event.room.as_deref().map(|text| self.template(&at("room"), text)).transpose()?;
        let needed_room =
            || room.clone().ok_or_else(|| self.error(key, format!("`{}` needs `room`, a template", operation.name())));
        let data = self.shape(&at("data"), event.data.as_ref())?;
        if let Some(name) = &event.event {
            self.event_name(&at("event"), name)?;
        }
        let named = event.event.as_deref().map(Box::from);
        let act = match operation {
            O::Subscribe => Act::Subscribe,
            O::Unsubscribe => Act::Unsubscribe,
            O::Join => Act::Join { room: needed_room()? },
            O::Leave => Act::Leave { room: needed_room()? },
            O::Relay => Act::Relay { room: needed_room()?, event: named, data },
            O::Publish => {
                let kind = event.kind.as_deref().map(|text| self.template(&at("type"), text)).transpose()?;
                if kind.is_some() != room.is_some() {
                    return Err(self.error(key, "`publish` has both `room` and `type`, or the client chooses both"));
                }
                Act::Publish { room, kind, data }
            }
            O::History => Act::History { room },
            O::Presence => Act::Presence { room },
            O::Status => Act::Status,
            O::Availability => Act::Availability,
            O::Typing => match need("action", &event.action)?.as_str() {
                "start" => Act::Typing { room, start: true },
                "stop" => Act::Typing { room, start: false },
                other => return Err(self.unknown(&at("action"), "action", other, ["start", "stop"].into_iter())),
            },
            O::Received => Act::Received,
            O::Read => Act::Read,
            O::Document => Act::Document(match need("action", &event.action)?.as_str() {
                "update" => DocumentAct::Update,
                "open" => DocumentAct::Open,
                "get" => DocumentAct::Get,
                "close" => DocumentAct::Close,
                "resolve" => DocumentAct::Resolve,
                other => {
                    let known = ["update", "open", "get", "close", "resolve"];
                    return Err(self.unknown(&at("action"), "action", other, known.into_iter()));
                }
            }),
            O::Authenticate => Act::Authenticate,
            O::Reply => Act::Reply { event: named, data },
            O::Enqueue => {
                let queue = need("queue", &event.queue)?;
                let job = need("job", &event.job)?;
                self.job(&at("queue"), &queue, &at("job"), &job, file)?;
                Act::Enqueue { queue: queue.into(), job: job.into(), data }
            }
            O::Webhook => {
                Act::Webhook { hook: self.hook(&at("webhook"), &need("webhook", &event.webhook)?, hooks)?, data }
            }
        };
        Ok(ClientEvent {
            act,
            reply: self.emit(&at("reply"), event.reply.as_ref())?,
            roles: boxed(&event.roles),
            permissions: boxed(&event.permissions),
            schema: self.schema(&at("schema"), event.schema.as_ref())?,
        })
    }
}
