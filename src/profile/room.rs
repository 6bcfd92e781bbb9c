//! Rooms of an application: which of them everyone has, and who may join the others.
//!
//! Invariants: a room that belongs to one user or one tenant by its name (`user:{user}`, `account:{tenant}`) is joined by its owner; by
//! anybody else only where a pattern of the token's claim `rooms` spells its beginning out, so a bare `*` or an absent claim does not open
//! other people's rooms. What decides about a name is the most specific rule that fits it.

use super::file::{History, Join};
use super::rank::weight;
use crate::base::id::TenantId;
use crate::wire::auth::{Rights, glob};

/// Letters that a room of somebody's own has to begin with, so that others can be kept from it by its name.
pub const OWN_START_MIN: usize = 2;

#[derive(Clone, Debug)]
pub struct RoomRules {
    tenant_room: Affix,
    user_room: Affix,
    rules: Box<[Rule]>,
    /// How names begin that belong to somebody.
    reserved: Box<[Box<str>]>,
}

/// What stands around the one name in a room that everybody has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affix {
    before: Box<str>,
    after: Box<str>,
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub pattern: RoomPattern,
    pub join: Join,
    pub roles: Box<[Box<str>]>,
    pub permissions: Box<[Box<str>]>,
    pub history: Option<History>,
}

/// A pattern of room names, with `{tenant}` and `{user}` for those of whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomPattern(Box<str>);

/// Whether somebody may join a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Granted,
    Denied,
    /// The application's backend decides.
    AskBackend,
}

impl RoomPattern {
    pub fn new(text: &str) -> RoomPattern {
        RoomPattern(text.into())
    }

    /// For one user of a tenant.
    fn matches(&self, tenant: &str, user: &str, room: &str) -> bool {
        if !self.is_personal() {
            return glob(&self.0, room);
        }
        // A name may hold what a pattern takes for a wildcard: it stands for itself only.
        let mut rest = room;
        let mut pattern = &*self.0;
        while let Some(at) = pattern.find("{tenant}").into_iter().chain(pattern.find("{user}")).min() {
            let (before, hole) = pattern.split_at(at);
            let (own, behind) = match hole.strip_prefix("{tenant}") {
                Some(behind) => (tenant, behind),
                None => (user, &hole["{user}".len()..]),
            };
            if before.contains(['*', '?']) || !rest.starts_with(before) {
                return false;
            }
            let Some(after) = rest[before.len()..].strip_prefix(own) else { return false };
            (rest, pattern) = (after, behind);
        }
        glob(pattern, rest)
    }

    /// It names whoever asks.
    pub fn is_personal(&self) -> bool {
        self.0.contains("{tenant}") || self.0.contains("{user}")
    }

    /// What stands before the first name or wildcard.
    pub fn literal_start(&self) -> &str {
        &self.0[..self.0.find(['{', '*', '?']).unwrap_or(self.0.len())]
    }

    /// The pattern for everybody: `account:{tenant}` is `account:*`.
    pub fn for_all(&self) -> String {
        self.0.replace("{tenant}", "*").replace("{user}", "*")
    }
}

impl Affix {
    /// Of a text with exactly one hole, this one, and something before it.
    pub fn parse(text: &str, hole: &str) -> Option<Affix> {
        let (before, after) = text.split_once(hole)?;
        let is_plain = |part: &str| !part.contains(['{', '}', '*', '?']) && !part.chars().any(char::is_control);
        (before.len() >= OWN_START_MIN && is_plain(before) && is_plain(after))
            .then(|| Affix { before: before.into(), after: after.into() })
    }

    fn around(&self, name: &str) -> String {
        [&*self.before, name, &*self.after].concat()
    }

    fn is_around(&self, name: &str, room: &str) -> bool {
        room.strip_prefix(&*self.before).and_then(|rest| rest.strip_suffix(&*self.after)) == Some(name)
    }

    fn is_around_some(&self, room: &str) -> bool {
        room.strip_prefix(&*self.before).is_some_and(|rest| rest.ends_with(&*self.after))
    }
}

impl RoomRules {
    /// `owned`: more templates of rooms that belong to a user or a tenant.
    pub fn new(tenant_room: Affix, user_room: Affix, owned: &[String], rules: Vec<Rule>) -> RoomRules {
        let mut rules = rules;
        rules.sort_by_key(|rule| std::cmp::Reverse((weight(&rule.pattern.for_all()), rule.pattern.is_personal())));
        let personal = rules.iter().map(|rule| &rule.pattern).filter(|pattern| pattern.is_personal());
        let owned = owned.iter().map(|text| RoomPattern::new(text)).filter(RoomPattern::is_personal);
        let mut reserved = vec![tenant_room.before.clone(), user_room.before.clone()];
        reserved.extend(owned.map(|pattern| Box::from(pattern.literal_start())));
        reserved.extend(personal.map(|pattern| Box::from(pattern.literal_start())));
        reserved.sort();
        reserved.dedup();
        RoomRules { tenant_room, user_room, rules: rules.into(), reserved: reserved.into() }
    }

    /// The room of all of a tenant's sockets.
    pub fn tenant_room(&self, tenant: &str) -> String {
        self.tenant_room.around(tenant)
    }

    /// The user whose sockets' room this is: the other way round.
    pub fn user_of<'a>(&self, room: &'a str) -> Option<&'a str> {
        let Affix { before, after } = &self.user_room;
        room.strip_prefix(&**before)?.strip_suffix(&**after).filter(|user| !user.is_empty())
    }

    /// The room of all of a user's sockets.
    pub fn user_room(&self, user: &str) -> String {
        self.user_room.around(user)
    }

    /// Whether a room is some user's own.
    pub fn is_user_room(&self, room: &str) -> bool {
        self.user_room.is_around_some(room)
    }

    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// Whether `user` of `tenant` may join its `room`.
    pub fn access(&self, tenant: &TenantId, user: &str, rights: &Rights, room: &str) -> Access {
        let tenant = tenant.as_str();
        if self.user_room.is_around(user, room) || self.tenant_room.is_around(tenant, room) {
            return Access::Granted;
        }
        let rule = self.rules.iter().find(|rule| rule.pattern.matches(tenant, user, room));
        let is_own = rule.is_some_and(|rule| rule.pattern.is_personal());
        let reserved = self.reserved.iter().find(|start| room.starts_with(&***start)).filter(|_| !is_own);
        if let Some(start) = reserved {
            return if rights.names_room(start, room) { Access::Granted } else { Access::Denied };
        }
        let Some(rule) = rule else {
            return if rights.opens_room(room) { Access::Granted } else { Access::Denied };
        };
        let has_role = rule.roles.is_empty() || rule.roles.iter().any(|role| rights.has_role(role));
        let has_permission =
            rule.permissions.is_empty() || rule.permissions.iter().any(|permission| rights.has_permission(permission));
        if !has_role || !has_permission {
            return Access::Denied;
        }
        match rule.join {
            Join::Anyone => Access::Granted,
            Join::Nobody => Access::Denied,
            Join::Backend => Access::AskBackend,
            Join::Claims if is_own || rights.opens_room(room) => Access::Granted,
            Join::Claims => Access::Denied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::auth::Pattern;

    fn rights(rooms: Option<&[&str]>, roles: &[&str]) -> Rights {
        let pattern = |text: &&str| Pattern::parse(text).unwrap();
        Rights {
            rooms: rooms.map(|rooms| rooms.iter().map(pattern).collect()),
            roles: roles.iter().map(|&role| role.into()).collect(),
            ..Rights::default()
        }
    }

    fn affix(text: &str, hole: &str) -> Affix {
        Affix::parse(text, hole).unwrap()
    }

    #[test]
    fn who_may_join_what_without_rules() {
        let rules =
            RoomRules::new(affix("tenant:{tenant}", "{tenant}"), affix("user:{user}", "{user}"), &[], Vec::new());
        let acme = TenantId::parse("acme").unwrap();
        let own = ["user:ann", "tenant:acme"];
        let reserved = ["user:bob", "user:", "user:anna", "tenant:globex", "tenant:", "tenant:ann", "user:acme"];
        for (rooms, yes, no) in [
            (None, &["project:7", "users", "tenants:x", "user"][..], &reserved[..]),
            (Some(&[][..]), &[], &["project:7", "user:bob"]),
            (Some(&["*"]), &["project:7", "user"], &reserved),
            (Some(&["project:*", "lobby"]), &["project:7", "lobby"], &["lobby2", "user:bob"]),
            (Some(&["user:*"]), &["user:bob", "user:"], &["tenant:globex", "project:7"]),
            (Some(&["user:b*", "tenant:?"]), &["user:bob", "tenant:x"], &["user:carl", "tenant:globex"]),
            (Some(&["us*", "?ser:*", "user*", "*:*"]), &["us", "users"], &["user:bob", "tenant:globex"]),
        ] {
            let rights = rights(rooms, &[]);
            let access = |room: &str| rules.access(&acme, "ann", &rights, room);
            own.iter().chain(yes).for_each(|room| assert_eq!(access(room), Access::Granted, "{rooms:?} {room}"));
            no.iter().for_each(|room| assert_eq!(access(room), Access::Denied, "{rooms:?} {room}"));
        }
    }

    #[test]
    fn the_most_specific_rule_decides() {
        use Access::{AskBackend, Denied, Granted};
        let rule = |pattern: &str, join: Join, roles: &[&str]| Rule {
            pattern: RoomPattern::new(pattern),
            join,
            roles: roles.iter().map(|&role| role.into()).collect(),
            permissions: Box::default(),
            history: None,
        };
        let rules = RoomRules::new(
            affix("company_{tenant}", "{tenant}"),
            affix("user_{user}", "{user}"),
            &["inbox-{user}".to_owned()],
            vec![
                rule("*", Join::Nobody, &[]),
                rule("team:*", Join::Anyone, &[]),
                rule("team:secret*", Join::Claims, &["admin"]),
                rule("board:{tenant}:*", Join::Anyone, &[]),
                rule("project:*", Join::Backend, &[]),
            ],
        );
        let acme = TenantId::parse("acme").unwrap();
        for (roles, rooms, room, access) in [
            (&[][..], None, "company_acme", Granted),
            (&[], None, "company_globex", Denied),
            (&[], None, "user_ann", Granted),
            (&[], None, "user_bob", Denied),
            (&[], Some(&["user_*"][..]), "user_bob", Granted),
            (&[], None, "inbox-bob", Denied),
            (&[], None, "other", Denied),
            (&[], None, "team:a", Granted),
            (&[], Some(&[]), "team:a", Granted),
            (&[], None, "team:secret", Denied),
            (&["admin"], None, "team:secret", Granted),
            (&["admin"], Some(&[]), "team:secret", Denied),
            (&[], None, "board:acme:1", Granted),
            (&[], None, "board:globex:1", Denied),
            (&[], None, "project:1", AskBackend),
        ] {
            assert_eq!(rules.access(&acme, "ann", &rights(rooms, roles), room), access, "{roles:?} {rooms:?} {room}");
        }
    }
}
