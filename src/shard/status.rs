//! What a user says of itself: its status, and of an agent its availability.
//!
//! Invariant: what others are told follows from a [`Standing`] alone, so two equal standings are never told as a change.

use super::wording::Availability;

/// A user's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Online,
    Away,
    Busy,
    /// Connected, but wants to appear offline.
    Offline,
}

impl Status {
    pub const ALL: [Status; 4] = [Status::Online, Status::Away, Status::Busy, Status::Offline];

    pub fn parse(text: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.as_str() == text)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Status::Online => "online",
            Status::Away => "away",
            Status::Busy => "busy",
            Status::Offline => "offline",
        }
    }
}

/// What an agent is available for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    Available,
    Away,
    Busy,
    Offline,
    /// One of the application's own states: its place in [`Availability::states`].
    State(u8),
}

impl Duty {
    const KNOWN: [Duty; 4] = [Duty::Available, Duty::Away, Duty::Busy, Duty::Offline];

    pub fn as_str(self, availability: Option<&Availability>) -> &str {
        match self {
            Duty::Available => "available",
            Duty::Away => "away",
            Duty::Busy => "busy",
            Duty::Offline => "offline",
            Duty::State(nth) => {
                availability.and_then(|known| known.states.get(usize::from(nth))).map_or("", |state| state)
            }
        }
    }
}

/// What an agent has chosen: one byte beside its status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// It is no agent.
    #[default]
    None,
    /// Its availability follows its status.
    Auto,
    Fixed(Duty),
}

impl Choice {
    /// One of the application's states, as a client wrote it.
    pub fn parse(text: &str, availability: &Availability) -> Option<Choice> {
        let nth = availability.states.iter().position(|state| **state == *text)?;
        if text == "auto" {
            return Some(Choice::Auto);
        }
        let known = Duty::KNOWN.into_iter().find(|duty| duty.as_str(None) == text);
        Some(Choice::Fixed(known.unwrap_or(Duty::State(u8::try_from(nth).ok()?))))
    }

    /// What it comes to for a user of this status. Who is away for long (`idle`) or appears offline is not available, whatever was chosen.
    pub fn duty(self, status: Status, idle: bool) -> Option<Duty> {
        Some(match (self, status) {
            (Choice::None, _) => return None,
            (_, Status::Offline) => Duty::Offline,
            (_, Status::Away) if idle => Duty::Offline,
            (Choice::Fixed(duty), _) => duty,
            (Choice::Auto, Status::Online) => Duty::Available,
            (Choice::Auto, Status::Away) => Duty::Away,
            (Choice::Auto, Status::Busy) => Duty::Busy,
        })
    }
}

/// All that others may know of a user who is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub status: Status,
    /// Of an agent.
    pub duty: Option<Duty>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_one_of_the_states() {
        let words = ["available", "busy", "offline", "auto", "lunch"];
        let availability =
            Availability { states: words.map(Into::into).into(), roles: Box::default(), auto_offline: None };
        for (text, want) in [
            ("available", Some(Choice::Fixed(Duty::Available))),
            ("offline", Some(Choice::Fixed(Duty::Offline))),
            ("auto", Some(Choice::Auto)),
            ("lunch", Some(Choice::Fixed(Duty::State(4)))),
            ("away", None),
            ("", None),
        ] {
            assert_eq!(Choice::parse(text, &availability), want, "{text}");
        }
        assert_eq!(Duty::State(4).as_str(Some(&availability)), "lunch");
    }

    #[test]
    fn what_a_choice_comes_to() {
        use Duty::*;
        let lunch = Choice::Fixed(State(4));
        for (choice, status, idle, want) in [
            (Choice::None, Status::Online, false, None),
            (Choice::Auto, Status::Online, false, Some(Available)),
            (Choice::Auto, Status::Busy, false, Some(Busy)),
            (Choice::Auto, Status::Away, false, Some(Away)),
            (Choice::Auto, Status::Away, true, Some(Offline)),
            (Choice::Auto, Status::Offline, false, Some(Offline)),
            (Choice::Fixed(Available), Status::Away, false, Some(Available)),
            (Choice::Fixed(Available), Status::Away, true, Some(Offline)),
            (lunch, Status::Online, false, Some(State(4))),
            (lunch, Status::Offline, false, Some(Offline)),
        ] {
            assert_eq!(choice.duty(status, idle), want, "{choice:?} {status:?} {idle}");
        }
    }
}
