//! Why a request of a client or a backend is refused: a code for programs, a sentence for people. Nothing is closed by it.

use crate::base::time::Duration;
use crate::wire::json;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The argument is not what the event takes; says what it takes.
    InvalidArgument(&'static str),
    /// As `InvalidArgument`; says what is wrong with it.
    BadArgument(Box<str>),
    /// It does not fit its JSON Schema: where, and why.
    InvalidData {
        pointer: Box<str>,
        why: Box<str>,
    },
    /// The application's catalogue has no event of this type.
    UnknownType,
    UnknownEvent,
    Forbidden,
    /// The socket is not in the room.
    NotMember,
    RoomNameInvalid,
    RoomNameTooLong,
    TooManyRooms,
    TooManyItems,
    RateLimited(Duration),
    /// Of an event that is to be acknowledged.
    TooManyReceivers,
    TooManyDeliveries,
    TooManyConnections,
    /// The token does not belong to this session's tenant and user.
    IdentityChanged,
    Token(crate::wire::auth::Reject),
    /// The application's backend says no.
    Denied,
    /// The application's backend did not answer in time, or nobody can ask it now.
    BackendUnavailable,
    UnknownDocument,
    TooManyDocuments,
    DocumentTooLarge,
    /// The version an update is based on never was, or was in another life of the document.
    VersionUnknown,
    /// The version an update is based on is not kept any more.
    VersionTooOld,
    TooManyConflicts,
    /// No open conflict is about a field that is to be decided.
    UnknownConflict,
    /// Too many write to the document at once, here or on other nodes.
    DocumentBusy,
    /// What the nodes share is away, and as much waits for it as may.
    BackplaneUnavailable,
    /// Needs Redis or a later part of the server.
    Unavailable(&'static str),
}

impl Refusal {
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::InvalidArgument(_) | Refusal::BadArgument(_) => "invalid_argument",
            Refusal::InvalidData { .. } => "invalid_data",
            Refusal::UnknownType => "unknown_type",
            Refusal::UnknownEvent => "unknown_event",
            Refusal::Forbidden | Refusal::IdentityChanged | Refusal::Denied => "forbidden",
            Refusal::NotMember => "not_member",
            Refusal::RoomNameInvalid => "room_name_invalid",
            Refusal::RoomNameTooLong => "room_name_too_long",
            Refusal::TooManyRooms => "too_many_rooms",
            Refusal::TooManyItems => "too_many_items",
            Refusal::RateLimited(_) => "rate_limited",
            Refusal::TooManyReceivers => "too_many_receivers",
            Refusal::TooManyDeliveries => "too_many_deliveries",
            Refusal::TooManyConnections => "too_many_connections",
            Refusal::Token(reject) => reject.close().row().code,
            Refusal::BackendUnavailable => "backend_unavailable",
            Refusal::UnknownDocument => "unknown_document",
            Refusal::TooManyDocuments => "too_many_documents",
            Refusal::DocumentTooLarge => "document_too_large",
            Refusal::VersionUnknown => "version_unknown",
            Refusal::VersionTooOld => "version_too_old",
            Refusal::TooManyConflicts => "too_many_conflicts",
            Refusal::UnknownConflict => "unknown_conflict",
            Refusal::DocumentBusy => "document_busy",
            Refusal::BackplaneUnavailable => "backplane_unavailable",
            Refusal::Unavailable(code) => code,
        }
    }

    pub fn message(&self) -> &str {
        match self {
            Refusal::InvalidArgument(takes) => takes,
            Refusal::BadArgument(why) | Refusal::InvalidData { why, .. } => why,
            Refusal::UnknownType => "the application has no event of this type",
            Refusal::UnknownEvent => "no such event",
            Refusal::Forbidden => "the token does not permit this",
            Refusal::NotMember => "join the room first",
            Refusal::RoomNameInvalid => "a room's name is 1 or more characters without control characters",
            Refusal::RoomNameTooLong => "the room's name is longer than limits.room_name_bytes",
            Refusal::TooManyRooms => "more rooms than limits.rooms_per_session",
            Refusal::TooManyItems => "too many items in one request",
            Refusal::RateLimited(_) => "too many events, slow down",
            Refusal::TooManyReceivers => "too many are in the room to wait for their acknowledgements",
            Refusal::TooManyDeliveries => "too many events wait for their acknowledgements, try again",
            Refusal::TooManyConnections => crate::wire::close::Close::TooManyConnections.row().message,
            Refusal::IdentityChanged => "tenant and user never change during a connection",
            Refusal::Token(reject) => reject.close().row().message,
            Refusal::Denied => "the application does not permit this",
            Refusal::BackendUnavailable => "the application did not say whether this is permitted, try again later",
            Refusal::UnknownDocument => {
                "nothing is known of this document; write to it with baseVersion 0, or open it as you have it"
            }
            Refusal::TooManyDocuments => "the tenant has as many documents as it may",
            Refusal::DocumentTooLarge => "the document would have too many fields or bytes",
            Refusal::VersionUnknown => "the document never had this version; take it as it is now, and write again",
            Refusal::VersionTooOld => {
                "this version is not kept any more; take the document as it is now, and write again"
            }
            Refusal::TooManyConflicts => "the document has too many open conflicts; decide them first",
            Refusal::UnknownConflict => "no open conflict is about this field",
            Refusal::DocumentBusy => "too many write to this document at once, try again",
            Refusal::BackplaneUnavailable => "what the servers share is away; nothing was done, try again",
            Refusal::Unavailable(_) => "this server is not configured for it",
        }
    }

    /// `{"ok":false,"code":"...","message":"..."}`, with `retryAfterMs` where waiting helps.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"ok\":false,");
        self.write_members(out);
        out.push(b'}');
    }

    pub fn write_members(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"code\":");
        json::write_string(out, self.code());
        out.extend_from_slice(b",\"message\":");
        json::write_string(out, self.message());
        if let Refusal::InvalidData { pointer, .. } = self {
            out.extend_from_slice(b",\"pointer\":");
            json::write_string(out, pointer);
        }
        if let Refusal::RateLimited(wait) = self {
            out.extend_from_slice(format!(",\"retryAfterMs\":{}", wait.as_millis()).as_bytes());
        }
    }
}
