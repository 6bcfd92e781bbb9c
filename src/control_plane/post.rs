//! One signed POST to an application.
//!
//! ```text
//! POST /hook HTTP/1.1
//! Content-Type: application/json
//! User-Agent: tenantcast/0.1.0
//! Tenantcast-Id: 01KAJ...                        the same for every attempt, so that the receiver can tell a repetition
//! Tenantcast-Signature: t=1700000000,v1=9f86d0.. hex of HMAC-SHA256(secret, "1700000000." + body), t: this attempt, in Unix seconds
//! ```
//!
//! The signature is Stripe's scheme, so its libraries and recipes check it: recompute, compare in constant time, refuse a `t` of more than five
//! minutes ago.
//!
//! Invariants: an attempt ends within its timeout, whatever the other side does; of an answer at most [`BACKEND_ANSWER_BYTES_MAX`] bytes are
//! held; a redirect is an answer, not a way to go; no secret and no body is ever in an error.

use crate::base::{
    limit::BACKEND_ANSWER_BYTES_MAX,
    time::{Duration, UnixMs},
};
use aws_lc_rs::hmac;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Uri,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use std::{error::Error, fmt, io};

/// Bytes of the shortest secret: a shorter one can be guessed from one signature.
const SECRET_BYTES_MIN: usize = 16;
/// How long a connection without a request is kept.
const IDLE: Duration = Duration::from_secs(30);

/// A key of signatures. Shown nowhere.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    pub fn parse(text: &str) -> Result<Secret, BadEndpoint> {
        if text.len() < SECRET_BYTES_MIN { Err(BadEndpoint::Secret) } else { Ok(Secret(text.into())) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEndpoint {
    #[error("the secret has at least {SECRET_BYTES_MIN} bytes")]
    Secret,
    #[error("the URL is http:// or https:// with a host, and without a user or a fragment")]
    Url,
}

/// Where to post, and with which key.
pub struct Endpoint {
    uri: Uri,
    key: hmac::Key,
}

impl Endpoint {
    pub fn new(url: &str, secret: &Secret) -> Result<Endpoint, BadEndpoint> {
        let uri: Uri = url.parse().map_err(|_| BadEndpoint::Url)?;
        let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
        let is_plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@')) && !url.contains('#');
        if !is_web || !is_plain || uri.host().is_none_or(str::is_empty) {
            return Err(BadEndpoint::Url);
        }
        Ok(Endpoint { uri, key: hmac::Key::new(hmac::HMAC_SHA256, secret.0.as_bytes()) })
    }

    pub fn is_secure(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    fn signature(&self, now: UnixMs, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        let seconds = now.seconds();
        context.update(format!("{seconds}.").as_bytes());
        context.update(body);
        let tag = context.sign();
        let mut text = format!("t={seconds},v1=");
        for byte in tag.as_ref() {
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
        text
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    /// In seconds only; a date is as good as none.
    pub retry_after: Option<Duration>,
    /// None: longer than [`BACKEND_ANSWER_BYTES_MAX`], or broken off.
    pub body: Option<Bytes>,
}

/// Why nothing came back.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("no answer in time")]
    Timeout,
    #[error("{0}")]
    Network(String),
}

pub enum Client {
    Plain(legacy::Client<HttpConnector, Full<Bytes>>),
    Secure(legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

impl Client {
    /// `secure`: somebody is asked over https, which needs the machine's certificates.
    pub fn new(secure: bool) -> io::Result<Client> {
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder.pool_idle_timeout(IDLE).pool_timer(TokioTimer::new());
        Ok(if secure {
            let connector = HttpsConnectorBuilder::new().with_native_roots()?.https_or_http().enable_http1().build();
            Client::Secure(builder.build(connector))
        } else {
            Client::Plain(builder.build(HttpConnector::new()))
        })
    }

    /// One attempt. `id` is plain text: an ULID.
    pub async fn post(
        &self,
        endpoint: &Endpoint,
        id: Option<&str>,
        body: Bytes,
        now: UnixMs,
        timeout: Duration,
    ) -> Result<Reply, Fault> {
        let mut request = Request::post(endpoint.uri.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("tenantcast/", env!("CARGO_PKG_VERSION")))
            .header("tenantcast-signature", endpoint.signature(now, &body));
        if let Some(id) = id {
            request = request.header("tenantcast-id", id);
        }
        let request = request.body(Full::new(body)).map_err(|error| Fault::Network(chain(&error)))?;
        let attempt = async {
            let response = match self {
                Client::Plain(client) => client.request(request).await,
                Client::Secure(client) => client.request(request).await,
            };
            let response = response.map_err(|error| Fault::Network(chain(&error)))?;
            let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let retry_after = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
            let status = response.status().as_u16();
            Ok(Reply { status, retry_after, body: read(response.into_body()).await })
        };
        tokio::time::timeout(timeout, attempt).await.unwrap_or(Err(Fault::Timeout))
    }
}

/// The body, if it is short. A longer one is not read, and its connection not used again.
async fn read(body: Incoming) -> Option<Bytes> {
    Some(Limited::new(body, BACKEND_ANSWER_BYTES_MAX).collect().await.ok()?.to_bytes())
}

/// An error with its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let secret = Secret::parse("0123456789abcdef").unwrap();
        assert_eq!(Secret::parse("0123456789abcde").err(), Some(BadEndpoint::Secret));
        assert!(!format!("{secret:?}").contains("0123"));
        for (url, secure) in
            [("http://127.0.0.1:1/a?b=c", false), ("https://example.com", true), ("http://[::1]:8/", false)]
        {
            assert_eq!(Endpoint::new(url, &secret).map(|endpoint| endpoint.is_secure()), Ok(secure), "{url}");
        }
        for url in
            ["", "/a", "example.com", "ftp://a/", "http://", "http://u:p@a/", "http:///a", "http://a/#b", "http://a b/"]
        {
            assert_eq!(Endpoint::new(url, &secret).err(), Some(BadEndpoint::Url), "{url}");
        }
    }

    /// Against values of another implementation: `printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef`.
    #[test]
    fn signatures() {
        let endpoint = Endpoint::new("http://a/", &Secret::parse("0123456789abcdef").unwrap()).unwrap();
        assert_eq!(
            endpoint.signature(UnixMs(1_700_000_000_999), br#"{"a":1}"#),
            "t=1700000000,v1=9eb18f493f8ec135d9eb2dad817c369bb4e9cbfa818657897a7437c1cd8c3a23"
        );
    }

    /// Where the machine has no certificates it says so; it never panics over which cryptography to take.
    #[test]
    fn a_secure_client_is_made_or_refused() {
        assert!(matches!(Client::new(true), Ok(Client::Secure(_)) | Err(_)));
        assert!(matches!(Client::new(false), Ok(Client::Plain(_))));
    }
}
