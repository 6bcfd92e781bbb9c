//! Names of a fleet's channels and streams: what a node listens to, where it writes, and what a name says.
//!
//! ```text
//! classic    psubscribe  socket.io#<nsp>#*                   everything for clients; to one room alone: socket.io#<nsp>#<room>#
//!            subscribe   socket.io-request#<nsp>#            counted (PUBSUB NUMSUB): who listens here must answer
//!                        socket.io-response#<nsp>#           answers to anybody
//!                        socket.io-response#<nsp>#<uid>#     answers to this node
//! sharded    ssubscribe  socket.io#<nsp>#                    counted (PUBSUB SHARDNUMSUB)
//!                        socket.io#<nsp>#<uid>#              answers to this node
//!                        socket.io#<nsp>#<room>#             of each room with members here, where the fleet's mode is dynamic
//! streams    xread       socket.io                           or socket.io-<n>, by namespace, with several
//!            subscribe   socket.io#<nsp>#, socket.io#<nsp>#<uid>#      since 0.3; ssubscribe with useShardedPubSub
//! ```
//!
//! Invariant: what is written by one of these functions is read back by the other. A `#` in a namespace makes a name that could be read in
//! two ways; then it is read as of the longest namespace there is, and what it carries must say the same.

use super::Message;
use super::What;
use std::borrow::Cow;

/// The first word of every channel's name (options `key`, `channelPrefix`): `socket.io`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    prefix: Box<str>,
}

/// What to listen to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscriptions {
    /// PSUBSCRIBE.
    pub patterns: Vec<String>,
    /// SUBSCRIBE, or SSUBSCRIBE where the fleet uses sharded pub/sub.
    pub channels: Vec<String>,
}

/// What the name of a classic adapter's channel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classic<'a> {
    Broadcast { nsp: &'a str, room: Option<&'a str> },
    Request { nsp: &'a str },
    Response { nsp: &'a str, to: Option<&'a str> },
}

/// What the name of a sharded or streams adapter's channel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cluster<'a> {
    All {
        nsp: &'a str,
    },
    /// A node's uid or a room: who asks knows its own uid.
    One {
        nsp: &'a str,
        name: &'a str,
    },
}

/// The sharded adapter's `subscriptionMode`; all nodes have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    Static,
    /// Rooms have channels of their own, sockets have none.
    #[default]
    Dynamic,
    DynamicPrivate,
}

impl Default for Names {
    fn default() -> Names {
        Names::new("socket.io")
    }
}

impl Names {
    pub fn new(prefix: &str) -> Names {
        Names { prefix: prefix.into() }
    }

    /// What a node of a classic fleet listens to.
    pub fn classic(&self, namespaces: &[&str], uid: &str) -> Subscriptions {
        let mut all = Subscriptions::default();
        for nsp in namespaces {
            all.patterns.push(format!("{}*", escaped(&self.broadcasts(nsp))));
            all.channels.extend([self.requests(nsp), self.responses(nsp, None), self.responses(nsp, Some(uid))]);
        }
        all
    }

    /// What a node of a sharded fleet listens to, besides the channels of its rooms ([`room`](Self::room)); of a streams fleet since 0.3,
    /// besides the streams.
    pub fn cluster(&self, namespaces: &[&str], uid: &str) -> Subscriptions {
        let channels = namespaces.iter().flat_map(|nsp| [self.broadcasts(nsp), self.broadcast_to(nsp, uid)]);
        Subscriptions { patterns: Vec::new(), channels: channels.collect() }
    }

    /// The channel that a sharded fleet writes to for this one room, where it has one: to listen to while the room, by its name in the fleet, has
    /// members.
    pub fn room(&self, nsp: &str, room: &str, mode: Mode) -> Option<String> {
        let own = match mode {
            Mode::Static => false,
            Mode::Dynamic => !looks_like_a_socket(room),
            Mode::DynamicPrivate => true,
        };
        own.then(|| self.broadcast_to(nsp, room))
    }

    /// Where a classic fleet hears a message. `answer_to` is the uid of who asked, where the fleet has `publishOnSpecificResponseChannel`.
    pub fn classic_channel(&self, message: &Message<'_>, answer_to: Option<&str>) -> String {
        let nsp = &message.nsp;
        match &message.what {
            What::Broadcast { request: None, to, .. } => match &to.rooms[..] {
                [room] => self.broadcast_to(nsp, room),
                _ => self.broadcasts(nsp),
            },
            // Nodes answer what servers emit on the channel of all, whatever the option says.
            What::ServerSideEmitted { .. } => self.responses(nsp, None),
            what if what.is_answer() => self.responses(nsp, answer_to),
            _ => self.requests(nsp),
        }
    }

    /// Where a sharded fleet hears a message, or a streams fleet ([`Mode::Static`]) what it does not write to its stream. An answer goes to
    /// who asked.
    pub fn cluster_channel(&self, message: &Message<'_>, mode: Mode, answer_to: &str) -> String {
        let nsp = &message.nsp;
        match &message.what {
            What::Broadcast { request: None, to, .. } => match &to.rooms[..] {
                [room] => self.room(nsp, room, mode).unwrap_or_else(|| self.broadcasts(nsp)),
                _ => self.broadcasts(nsp),
            },
            what if what.is_answer() => self.broadcast_to(nsp, answer_to),
            _ => self.broadcasts(nsp),
        }
    }

    /// What the name of a classic channel says, if it is of one of these namespaces.
    pub fn read_classic<'a>(&self, channel: &'a str, namespaces: &[&str]) -> Option<Classic<'a>> {
        let rest = channel.strip_prefix(&*self.prefix)?;
        if let Some(rest) = rest.strip_prefix("-request#") {
            // An answer may have a name behind the namespace, a request has none.
            return part(rest, namespaces).filter(|(_, name)| name.is_none()).map(|(nsp, _)| Classic::Request { nsp });
        }
        if let Some(rest) = rest.strip_prefix("-response#") {
            return part(rest, namespaces).map(|(nsp, to)| Classic::Response { nsp, to });
        }
        part(rest.strip_prefix('#')?, namespaces).map(|(nsp, room)| Classic::Broadcast { nsp, room })
    }

    /// What the name of a sharded or streams adapter's channel says, if it is of one of these namespaces.
    pub fn read_cluster<'a>(&self, channel: &'a str, namespaces: &[&str]) -> Option<Cluster<'a>> {
        let rest = channel.strip_prefix(&*self.prefix)?.strip_prefix('#')?;
        part(rest, namespaces).map(|(nsp, name)| match name {
            Some(name) => Cluster::One { nsp, name },
            None => Cluster::All { nsp },
        })
    }

    /// The channel whose listeners are counted as the nodes of a sharded fleet, or of a streams fleet since 0.3.
    pub fn broadcasts(&self, nsp: &str) -> String {
        format!("{}#{nsp}#", self.prefix)
    }

    /// The channel whose listeners are counted as the nodes of a classic fleet.
    pub fn requests(&self, nsp: &str) -> String {
        format!("{}-request#{nsp}#", self.prefix)
    }

    fn broadcast_to(&self, nsp: &str, name: &str) -> String {
        format!("{}#{nsp}#{name}#", self.prefix)
    }

    fn responses(&self, nsp: &str, to: Option<&str>) -> String {
        match to {
            Some(uid) => format!("{}-response#{nsp}#{uid}#", self.prefix),
            None => format!("{}-response#{nsp}#", self.prefix),
        }
    }
}

/// Splits `<nsp>#` or `<nsp>#<name>#`.
fn part<'a>(rest: &'a str, namespaces: &[&str]) -> Option<(&'a str, Option<&'a str>)> {
    let mut found: Option<(&str, &str)> = None;
    for nsp in namespaces {
        if let Some(name) = rest.strip_prefix(*nsp).and_then(|name| name.strip_prefix('#'))
            && found.is_none_or(|(longest, _)| longest.len() < nsp.len())
        {
            found = Some((&rest[..nsp.len()], name));
        }
    }
    let (nsp, name) = found?;
    match name {
        "" => Some((nsp, None)),
        _ => Some((nsp, Some(name.strip_suffix('#')?))),
    }
}

/// Redis reads patterns: what would be one stands for itself.
fn escaped(name: &str) -> Cow<'_, str> {
    let special = |c: char| matches!(c, '*' | '?' | '[' | ']' | '\\' | '^');
    if !name.contains(special) {
        return Cow::Borrowed(name);
    }
    name.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect::<String>().into()
}

/// How a sharded fleet's writers tell a socket from a room: 20 characters, as JavaScript counts them.
fn looks_like_a_socket(room: &str) -> bool {
    room.encode_utf16().take(21).count() == 20
}

impl What<'_> {
    /// Whether it goes to one who asked.
    pub fn is_answer(&self) -> bool {
        match self {
            What::ClientCount { .. }
            | What::Ack { .. }
            | What::Done { .. }
            | What::Fetched { .. }
            | What::ServerSideEmitted { .. }
            | What::SidsFound { .. }
            | What::RoomsFound { .. } => true,
            What::Broadcast { .. }
            | What::Join { .. }
            | What::Leave { .. }
            | What::Disconnect { .. }
            | What::Fetch { .. }
            | What::ServerSideEmit { .. }
            | What::Sids { .. }
            | What::Rooms { .. }
            | What::Greeting
            | What::Heartbeat
            | What::Close => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let (names, namespaces) = (Names::default(), ["/", "/chat", "/chat#x"]);
        let classic = [
            ("socket.io#/#", Some(Classic::Broadcast { nsp: "/", room: None })),
            ("socket.io#/#acme/a#b#", Some(Classic::Broadcast { nsp: "/", room: Some("acme/a#b") })),
            ("socket.io#/chat#r#", Some(Classic::Broadcast { nsp: "/chat", room: Some("r") })),
            ("socket.io#/chat#x#", Some(Classic::Broadcast { nsp: "/chat#x", room: None })),
            ("socket.io#/##", Some(Classic::Broadcast { nsp: "/", room: Some("") })),
            ("socket.io-request#/#", Some(Classic::Request { nsp: "/" })),
            ("socket.io-request#/#x#", None),
            ("socket.io-response#/chat#", Some(Classic::Response { nsp: "/chat", to: None })),
            ("socket.io-response#/#ab12cd#", Some(Classic::Response { nsp: "/", to: Some("ab12cd") })),
            ("socket.io#/other#", None),
            ("socket.io#/", None),
            ("socket.io#/#room", None),
            ("other#/#", None),
            ("socket.io", None),
            ("", None),
        ];
        for (name, want) in classic {
            assert_eq!(names.read_classic(name, &namespaces), want, "{name}");
        }
        assert_eq!(names.read_cluster("socket.io#/#", &namespaces), Some(Cluster::All { nsp: "/" }));
        let one = Cluster::One { nsp: "/chat", name: "acme/a" };
        assert_eq!(names.read_cluster("socket.io#/chat#acme/a#", &namespaces), Some(one));
        assert_eq!(names.read_cluster("socket.io-request#/#", &namespaces), None);
    }

    #[test]
    fn what_is_listened_to() {
        let names = Names::new("app");
        let classic = names.classic(&["/", "/a*[b]"], "ab12cd");
        assert_eq!(classic.patterns, ["app#/#*", "app#/a\\*\\[b\\]#*"]);
        assert_eq!(classic.channels[..3], ["app-request#/#", "app-response#/#", "app-response#/#ab12cd#"]);
        assert_eq!(names.cluster(&["/", "/a"], "u").channels, ["app#/#", "app#/#u#", "app#/a#", "app#/a#u#"]);
        let sid = "abcdefghijklmnopqrst";
        for (room, mode, want) in [
            ("acme/a", Mode::Static, None),
            ("acme/a", Mode::Dynamic, Some("app#/#acme/a#")),
            (sid, Mode::Dynamic, None),
            // Twenty of JavaScript's characters: each of these is two.
            ("😀😀😀😀😀😀😀😀😀😀", Mode::Dynamic, None),
            ("abcdefghijklmnopqrsé", Mode::Dynamic, None),
            (sid, Mode::DynamicPrivate, Some("app#/#abcdefghijklmnopqrst#")),
        ] {
            assert_eq!(names.room("/", room, mode).as_deref(), want, "{room} {mode:?}");
        }
    }
}
