//! The table of every reason to close: code, number, text, and whether the client should come back.
//!
//! A `/ws` connection is closed with the number; a Socket.IO session gets `error {code, message}`, then a DISCONNECT packet where coming back
//! is of no use (the official clients do not reconnect after one) or a plain transport close where it is (they do, and recover).

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub code: &'static str,
    /// WebSocket close code (RFC 6455 section 7.4.2: 4000-4999 are the application's).
    pub number: u16,
    pub message: &'static str,
    /// `{"message":..,"data":{"code":..}}`: the text of a WebSocket close frame, at most 123 bytes.
    pub json: &'static str,
    /// Whether the client should come back by itself.
    pub retry: bool,
}

macro_rules! table {
    ($($(#[$doc:meta])* $name:ident: $code:literal $number:literal $retry:literal $message:literal;)*) => {
        /// Why a session is closed by the server.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Close { $($(#[$doc])* $name,)* }

        impl Close {
            pub const ALL: &'static [Close] = &[$(Close::$name,)*];

            pub const fn row(self) -> Row {
                match self { $(Close::$name => Row { code: $code, number: $number, message: $message,
                    json: concat!("{\"message\":\"", $message, "\",\"data\":{\"code\":\"", $code, "\"}}"), retry: $retry },)* }
            }
        }
    };
}

table! {
    ProtocolError:      "protocol_error"       4400 false "the peer broke the protocol";
    TokenMissing:       "token_missing"        4401 false "no token was sent";
    TokenMalformed:     "token_malformed"      4401 false "the token cannot be read";
    TokenInvalid:       "token_invalid"        4401 false "the token's signature, issuer or audience is wrong";
    TokenExpired:       "token_expired"        4401 false "the token has expired";
    TokenNotYetValid:   "token_not_yet_valid"  4401 false "the token is not valid yet";
    TenantMissing:      "tenant_missing"       4401 false "the token names no tenant or no user";
    Forbidden:          "forbidden"            4403 false "this is not allowed";
    AuthTimeout:        "auth_timeout"         4408 false "no token came in time";
    Replaced:           "replaced"             4409 false "another connection took over this session";
    Kicked:             "kicked"               4410 false "an operator closed this session";
    TooManyConnections: "too_many_connections" 4429 false "too many connections from this address, user or tenant";
    RateLimited:        "rate_limited"         4430 true  "too many events";
    ServerDraining:     "server_draining"      4503 true  "the server is shutting down, come back";
    SlowConsumer:       "slow_consumer"        4508 true  "events were not read fast enough";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_numbers_are_the_applications() {
        for (index, a) in Close::ALL.iter().enumerate() {
            assert!((4000..5000).contains(&a.row().number));
            assert!(a.row().json.len() <= 123, "{}", a.row().json);
            assert!(Close::ALL[index + 1..].iter().all(|b| a.row().code != b.row().code));
        }
    }
}
