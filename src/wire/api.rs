//! The HTTP API: requests as values.

use super::http::Response;

/// One call under `/api/v1/tenants/{tenant}`, authorised and checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// `POST events`: all or nothing is checked, then published in order.
    Publish(Vec<Publish>),
    /// `GET rooms`
    Rooms,
    /// `GET rooms/{room}/history?limit=&epoch=&offset=`
    History { room: Box<str>, since: Option<(Box<str>, u64)>, limit: usize },
    /// `GET rooms/{room}/presence`
    Presence { room: Box<str> },
    /// `GET users/{user}`
    User { user: Box<str> },
    /// `DELETE users/{user}`: closes all its sessions with `kicked`.
    Kick { user: Box<str> },
    /// `GET stats`
    Stats,
}

/// One event to publish.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Publish {
    pub id: Option<Box<str>>,
    /// The event's type: its name at the client.
    pub event: Box<str>,
    /// `room`, or `user:{user}` for `user`; absent for an event addressed to an entity or to the tenant.
    pub room: Option<Box<str>>,
    /// `entity: {type, id}`
    pub entity: Option<(Box<str>, Box<str>)>,
    /// JSON, validated; `null` when absent.
    pub data: Box<str>,
    pub ephemeral: bool,
    /// Only members with one of these roles; empty: any.
    pub to_roles: Vec<Box<str>>,
    /// Only members with one of these permissions; empty: any.
    pub to_permissions: Vec<Box<str>>,
}

#[doc(hidden)]
pub type Placeholder = Response;
