//! How a durable event of ours is written to the fleet's stream: by the script that gives it its place. What is said behind one is written
//! behind it.
//!
//! What clients of other servers get says the event's place, which the script knows first: something stands for it in the data, of this event
//! alone, that no client can have guessed.

use super::tell::STREAM_ROWS_MAX;
use crate::backplane::Settings;
use crate::base::{
    chance::Chance,
    id::{Sid, TenantId},
};
use crate::profile::Profile;
use crate::shard::{foreign::as_sent, history::Epoch};
use crate::wire::{
    adapter::{self, Audience, Flags, Message, Packet, Payload, What, streams},
    envelope::{Body, Place},
};
use redis::Pipeline;
use std::{borrow::Cow, sync::Arc};

pub struct Outward {
    pub stream: Box<str>,
    session_prefix: Box<str>,
    uid: String,
    namespaces: Box<[Box<str>]>,
    profile: Arc<Profile>,
}

impl Outward {
    /// None: events are published, and told to the others after that.
    pub fn of(settings: &Settings) -> Option<Outward> {
        let fleet = settings.fleet.as_ref()?;
        Some(Outward {
            session_prefix: fleet.session_prefix.clone()?,
            stream: fleet.stream.clone(),
            uid: super::uid(settings),
            namespaces: fleet.namespaces.clone(),
            profile: fleet.profile.clone(),
        })
    }

    /// Where a socket is kept for all.
    pub fn session(&self, pid: Sid) -> String {
        format!("{}{pid}", self.session_prefix)
    }

    /// The script's arguments, see append.lua. One that is for some of a room alone is for our nodes: a row without a namespace.
    pub fn row(&self, tenant: &TenantId, body: &[u8], chance: &mut Chance) -> Vec<Vec<u8>> {
        // As long as they come.
        let mut mark = || chance.u64() | 1 << 63;
        let (epoch, offset) = (mark(), mark());
        let data = self.data(tenant, body, &Place { epoch: 0, sequence: 0, room_epoch: epoch, offset });
        let nobody = [Box::from("")];
        let namespaces = if data.is_some() { &self.namespaces[..] } else { &nobody };
        let texts = [STREAM_ROWS_MAX.to_string(), self.uid.clone(), tenant.to_string()];
        let marks = [Epoch(epoch).to_string(), offset.to_string()].map(String::into_bytes);
        let texts = texts.map(String::into_bytes).into_iter().chain(marks);
        let namespaces = namespaces.iter().map(|nsp| nsp.as_bytes().to_vec());
        texts.chain([data.unwrap_or_default()]).chain(namespaces).collect()
    }

    /// A row for our nodes alone: without a namespace.
    pub fn tell(&self, tenant: &TenantId, frame: &[u8], xadd: &mut Pipeline) {
        xadd.arg(&*self.stream).arg("MAXLEN").arg("~").arg(STREAM_ROWS_MAX).arg("*").arg("uid").arg(&self.uid);
        xadd.arg("nsp").arg("").arg("tenant").arg(tenant.as_str()).arg("rows").arg(1).arg("frame").arg(frame);
    }

    fn data(&self, tenant: &TenantId, body: &[u8], place: &Place) -> Option<Vec<u8>> {
        let Ok((_, Body::Post(post))) = Body::decode(body) else { return None };
        let (event, args) = as_sent(&self.profile, &post, Some(place))?;
        let room = adapter::room_name(tenant, post.room, self.profile.claims.single_tenant.as_ref());
        let packet = Packet { event: Cow::Borrowed(&event), args: Payload::json(&*args) };
        let to = Audience { rooms: vec![room], except: Vec::new(), flags: Flags::default() };
        let what = What::Broadcast { packet, to, request: None };
        let message = Message { nsp: Cow::Borrowed("/"), from: None, what };
        let row = streams::encode(&message)?;
        row.into_iter().find(|(name, _)| *name == "data").map(|(_, data)| data)
    }
}
