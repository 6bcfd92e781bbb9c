//! Which web pages may call this server (the Fetch standard's CORS protocol), from a list of origins.

use super::Response;

/// Seconds a browser may keep the answer to a preflight.
const PREFLIGHT_MAX_AGE_S: &str = "600";
/// Allowed request headers where a preflight names none.
const HEADERS: &str = "Authorization, Content-Type, Last-Event-ID";

/// The origins that are let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cors {
    /// Pages of other origins are not let in.
    #[default]
    Off,
    /// Every origin, without credentials.
    Any,
    /// These, in lower case and without a default port, with credentials.
    List(Vec<String>),
}

/// A configured origin that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an origin: expected scheme://host[:port] or *")]
pub struct BadOrigin(pub String);

/// What a response tells a page of another origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsHeaders {
    /// The origin as it was sent, allowed with credentials; `None` for every origin without them.
    origin: Option<Box<str>>,
}

impl Cors {
    /// Reads a comma-separated list of origins: `*` anywhere is [`Cors::Any`], nothing is [`Cors::Off`]; one slash at the end is tolerated.
    ///
    /// # Errors
    /// [`BadOrigin`] for an entry without a scheme or with a path.
    pub fn parse(list: &str) -> Result<Cors, BadOrigin> {
        let mut origins = Vec::new();
        let mut any = false;
        for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            if entry == "*" {
                any = true;
                continue;
            }
            let origin = normal(entry.strip_suffix('/').unwrap_or(entry));
            let host = origin.split_once("://").map_or("", |(_, host)| host);
            let is_origin = !host.is_empty() && !host.contains(['/', '?', '#', '@', '*', ' ']);
            if !is_origin && origin != "null" {
                return Err(BadOrigin(entry.to_owned()));
            }
            origins.push(origin);
        }
        Ok(if any {
            Cors::Any
        } else if origins.is_empty() {
            Cors::Off
        } else {
            Cors::List(origins)
        })
    }

    /// What to tell a page of `origin`; `None` if it is not let in or the request came from no page.
    pub fn headers(&self, origin: Option<&str>) -> Option<CorsHeaders> {
        let origin = origin?;
        match self {
            Cors::Off => None,
            Cors::Any => Some(CorsHeaders { origin: None }),
            Cors::List(list) => {
                let wanted = normal(origin);
                list.contains(&wanted).then(|| CorsHeaders { origin: Some(origin.into()) })
            }
        }
    }

    /// The answer to an OPTIONS with `Access-Control-Request-Method`; `requested` is its `Access-Control-Request-Headers`. Encode it with
    /// [`Cors::headers`] like any other answer. A page that is not let in gets a bare 204, which its browser takes as a refusal.
    pub fn preflight(&self, origin: Option<&str>, requested: Option<&str>) -> Response {
        let mut response = Response::empty(204);
        if self.headers(origin).is_some() {
            // The headers are echoed: `*` would leave Authorization out.
            let headers = requested.filter(|text| text.bytes().all(is_header_list_byte)).unwrap_or(HEADERS);
            response.extra.extend([
                ("Access-Control-Allow-Methods", super::request::METHODS.to_owned()),
                ("Access-Control-Allow-Headers", headers.to_owned()),
                ("Access-Control-Max-Age", PREFLIGHT_MAX_AGE_S.to_owned()),
                ("Vary", "Access-Control-Request-Headers".to_owned()),
            ]);
        }
        response
    }
}

impl CorsHeaders {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match &self.origin {
            None => out.extend_from_slice(b"Access-Control-Allow-Origin: *\r\n"),
            Some(origin) => {
                out.extend_from_slice(b"Access-Control-Allow-Origin: ");
                super::response::push_value(origin, out);
                out.extend_from_slice(b"\r\nAccess-Control-Allow-Credentials: true\r\nVary: Origin\r\n");
            }
        }
    }
}

/// Scheme and host are case-insensitive and a default port may be left out (RFC 6454 section 4).
fn normal(origin: &str) -> String {
    let mut origin = origin.to_ascii_lowercase();
    for (scheme, port) in [("http://", ":80"), ("https://", ":443")] {
        if origin.starts_with(scheme) && origin.ends_with(port) {
            origin.truncate(origin.len() - port.len());
        }
    }
    origin
}

fn is_header_list_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_, ".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        let list = "https://App.example.com/, http://localhost:5173,https://b:443";
        for (configured, origin, expected) in [
            ("", Some("https://a"), None),
            (" , ", Some("https://a"), None),
            ("*", Some("https://a"), Some("*")),
            ("https://a, *", Some("https://b"), Some("*")),
            ("*", None, None),
            (list, Some("https://app.example.com"), Some("https://app.example.com")),
            (list, Some("HTTPS://app.example.com"), Some("HTTPS://app.example.com")),
            (list, Some("http://localhost:5173"), Some("http://localhost:5173")),
            (list, Some("http://localhost"), None),
            (list, Some("https://b"), Some("https://b")),
            (list, Some("http://app.example.com"), None),
            (list, Some("https://app.example.com.evil.org"), None),
            (list, Some("https://app.example.com/"), None),
            (list, Some("null"), None),
            (list, Some(""), None),
            (list, None, None),
            ("null", Some("null"), Some("null")),
        ] {
            let headers = Cors::parse(configured).unwrap().headers(origin);
            let allowed = headers.as_ref().map(|headers| headers.origin.as_deref().unwrap_or("*"));
            assert_eq!(allowed, expected, "{configured} {origin:?}");
        }
        for bad in ["example.com", "https://", "https://a/b", "https://*.a", "https://u@a", "https://a,b"] {
            assert!(Cors::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn headers_on_the_wire() {
        let encode = |headers: CorsHeaders| {
            let mut out = Vec::new();
            headers.encode(&mut out);
            String::from_utf8(out).unwrap()
        };
        let list = Cors::parse("https://a").unwrap();
        assert_eq!(
            encode(list.headers(Some("https://a")).unwrap()),
            "Access-Control-Allow-Origin: https://a\r\nAccess-Control-Allow-Credentials: true\r\nVary: Origin\r\n"
        );
        assert_eq!(encode(Cors::Any.headers(Some("x")).unwrap()), "Access-Control-Allow-Origin: *\r\n");
    }

    #[test]
    fn preflights() {
        let cors = Cors::parse("https://a").unwrap();
        let allowed = |origin, requested| {
            let response = cors.preflight(origin, requested);
            assert_eq!(response.status, 204);
            response
                .extra
                .iter()
                .find(|(name, _)| *name == "Access-Control-Allow-Headers")
                .map(|(_, value)| value.clone())
        };
        assert_eq!(allowed(Some("https://a"), Some("authorization,x-y")).as_deref(), Some("authorization,x-y"));
        assert_eq!(allowed(Some("https://a"), None).as_deref(), Some(HEADERS));
        assert_eq!(allowed(Some("https://a"), Some("x\r\nSet-Cookie: y")).as_deref(), Some(HEADERS));
        assert_eq!(allowed(Some("https://b"), Some("x")), None);
        assert_eq!(allowed(None, Some("x")), None);
    }
}
