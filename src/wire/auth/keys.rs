//! The keys a token may be signed with, each bound to its algorithms when it is configured.
//!
//! | configured | algorithms |
//! |---|---|
//! | a secret, or `oct` in a JWKS without `alg` | HS256, HS384, HS512 |
//! | RSA public key, 2048 bits or more | RS256 |
//! | EC public key on P-256 | ES256 |
//! | Ed25519 public key | EdDSA |
//!
//! A set may hold several keys (RFC 7517 section 5). A token with a `kid` is tried with the keys of that id, and with those that have no
//! id at all (a secret or a PEM file has none); without a `kid`, with every key that allows its algorithm. That is how keys rotate.

use super::claims::Head;
use base64::{Engine, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, crypto};
use serde::Deserialize;
use std::fmt;

/// Keys to verify with. Never empty.
#[derive(Clone)]
pub struct Keys {
    keys: Box<[Key]>,
    /// What a JWKS holds besides: keys for encryption or of unsupported kinds, each with its reason.
    skipped: Box<[Box<str>]>,
}

#[derive(Clone)]
pub(super) struct Key {
    pub id: Option<Box<str>>,
    /// Never empty, all of the key's family.
    pub algorithms: &'static [Algorithm],
    pub key: DecodingKey,
}

/// Why a key cannot be used. Names the part that is wrong, never its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("the secret is empty")]
    EmptySecret,
    #[error("not a PEM text with one `PUBLIC KEY` block")]
    NotPem,
    #[error("a private key: give the server the public one (`openssl pkey -in FILE -pubout`)")]
    PrivateKey,
    #[error("a certificate: give the server its public key (`openssl x509 -in FILE -noout -pubkey`)")]
    Certificate,
    #[error("more than one PEM block: several keys go into a JWKS file")]
    SeveralBlocks,
    #[error("neither an RSA, nor an EC P-256, nor an Ed25519 public key")]
    UnknownKind,
    #[error("an RSA key of fewer than 2048 bits")]
    WeakRsa,
    #[error("not a JWK set: {0}")]
    NotJwks(String),
    #[error("key {position}{}: {reason}", id(.kid))]
    Jwk { position: usize, kid: Option<String>, reason: String },
    #[error("no key to verify with{}", reasons(.0))]
    NoKey(Vec<String>),
}

/// What the hash of HS256 has: a shorter secret is easier to guess than the signature is to forge (RFC 7518 section 3.2).
pub const SECRET_BYTES_ADVISED: usize = 32;

const HMAC: &[Algorithm] = &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
/// Bytes of a 2048-bit modulus, the least the signature library verifies with.
const MODULUS_BYTES_MIN: usize = 256;
/// Object identifier of P-256 (`prime256v1`, RFC 5480 section 2.1.1.1) in DER.
const P256_OID: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

impl Keys {
    /// A shared secret, its text taken as bytes.
    pub fn from_secret(secret: &[u8]) -> Result<Keys, KeyError> {
        if secret.is_empty() {
            return Err(KeyError::EmptySecret);
        }
        Ok(Keys::one(HMAC, DecodingKey::from_secret(secret)))
    }

    /// A public key: SubjectPublicKeyInfo (`PUBLIC KEY`) of any kind, or PKCS #1 (`RSA PUBLIC KEY`).
    pub fn from_public_pem(pem: &str) -> Result<Keys, KeyError> {
        let labels: Vec<&str> = pem.lines().filter_map(|line| line.trim().strip_prefix("-----BEGIN ")).collect();
        match labels.as_slice() {
            [] => return Err(KeyError::NotPem),
            [label] if label.contains("PRIVATE KEY") => return Err(KeyError::PrivateKey),
            [label] if label.starts_with("CERTIFICATE") => return Err(KeyError::Certificate),
            ["PUBLIC KEY-----" | "RSA PUBLIC KEY-----"] => {}
            [_] => return Err(KeyError::NotPem),
            // EC parameters before a private key are the usual second block.
            _ if labels.iter().any(|label| label.contains("PRIVATE KEY")) => return Err(KeyError::PrivateKey),
            _ => return Err(KeyError::SeveralBlocks),
        }
        let body: String = pem.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
        let der = STANDARD.decode(body).map_err(|_| KeyError::NotPem)?;
        let bytes = pem.as_bytes();
        if let Ok(key) = DecodingKey::from_rsa_pem(bytes) {
            // The DER of modulus and exponent is the modulus and some 14 bytes.
            let length = key.try_get_as_bytes().map_err(|_| KeyError::UnknownKind)?.len();
            return if length > MODULUS_BYTES_MIN {
                Ok(Keys::one(&[Algorithm::RS256], key))
            } else {
                Err(KeyError::WeakRsa)
            };
        }
        if let Ok(key) = DecodingKey::from_ed_pem(bytes) {
            return Ok(Keys::one(&[Algorithm::EdDSA], key));
        }
        match DecodingKey::from_ec_pem(bytes) {
            Ok(key) if der.windows(P256_OID.len()).any(|window| window == P256_OID) => {
                Ok(Keys::one(&[Algorithm::ES256], key))
            }
            _ => Err(KeyError::UnknownKind),
        }
    }

    /// A JWK set (RFC 7517 section 5). Keys for encryption and of kinds not in the table above are skipped, as the RFC asks, and listed by
    /// [`Keys::skipped`]; a key that is meant for us and broken is an error, and so is a set with nothing to verify with.
    pub fn from_jwks(text: &str) -> Result<Keys, KeyError> {
        let set: JwkSet = serde_json::from_str(text).map_err(|error| KeyError::NotJwks(error.to_string()))?;
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for (index, jwk) in set.keys.into_iter().enumerate() {
            let position = index + 1;
            match jwk.parse() {
                Ok(key) => keys.push(key),
                Err(Unusable::Skip(reason)) => {
                    skipped.push(KeyError::Jwk { position, kid: jwk.kid, reason }.to_string());
                }
                Err(Unusable::Broken(reason)) => return Err(KeyError::Jwk { position, kid: jwk.kid, reason }),
            }
        }
        if keys.is_empty() {
            return Err(KeyError::NoKey(skipped));
        }
        Ok(Keys { keys: keys.into(), skipped: skipped.into_iter().map(Box::from).collect() })
    }

    /// The keys of a JWKS that are not used, each with its reason: worth a line in the log.
    pub fn skipped(&self) -> &[Box<str>] {
        &self.skipped
    }

    /// A shared secret shorter than [`SECRET_BYTES_ADVISED`] is among the keys.
    pub fn has_short_secret(&self) -> bool {
        self.secrets().any(|(_, secret)| secret.len() < SECRET_BYTES_ADVISED)
    }

    /// The keys that can also sign.
    pub(super) fn secrets(&self) -> impl Iterator<Item = (&Key, &[u8])> {
        self.keys
            .iter()
            .filter(|key| key.key.family() == AlgorithmFamily::Hmac)
            .filter_map(|key| Some((key, key.key.try_get_as_bytes().ok()?)))
    }

    /// Whether one of the keys allows the head's algorithm and made the signature.
    pub(super) fn verify(&self, head: Head, message: &str, signature: &str) -> bool {
        let Some(algorithm) = algorithm(&head.alg).filter(|_| head.crit.is_none()) else { return false };
        self.keys
            .iter()
            .filter(|key| key.algorithms.contains(&algorithm))
            .filter(|key| head.kid.is_none() || key.id.is_none() || key.id.as_deref() == head.kid.as_deref())
            .any(|key| matches!(crypto::verify(signature, message.as_bytes(), &key.key, algorithm), Ok(true)))
    }

    fn one(algorithms: &'static [Algorithm], key: DecodingKey) -> Keys {
        Keys { keys: Box::new([Key { id: None, algorithms, key }]), skipped: Box::default() }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| (&key.id, key.algorithms))).finish()
    }
}

/// The algorithms of the table above by name; every other name, `none` among them, is no algorithm.
fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "HS256" => Algorithm::HS256,
        "HS384" => Algorithm::HS384,
        "HS512" => Algorithm::HS512,
        "RS256" => Algorithm::RS256,
        "ES256" => Algorithm::ES256,
        "EdDSA" => Algorithm::EdDSA,
        _ => return None,
    })
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

/// One key of a set (RFC 7517 section 4, RFC 7518 section 6, RFC 8037 section 2).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

enum Unusable {
    Skip(String),
    Broken(String),
}

impl Jwk {
    fn parse(&self) -> Result<Key, Unusable> {
        if self.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return Err(Unusable::Skip("not for signatures (`use`)".into()));
        }
        if self.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify")) {
            return Err(Unusable::Skip("not for verifying (`key_ops`)".into()));
        }
        let curve = self.crv.as_deref();
        let of_kind: &'static [Algorithm] = match self.kty.as_str() {
            "oct" => HMAC,
            "RSA" => &[Algorithm::RS256],
            "EC" if curve == Some("P-256") => &[Algorithm::ES256],
            "OKP" if curve == Some("Ed25519") => &[Algorithm::EdDSA],
            "EC" | "OKP" if curve.is_none() => return Err(Unusable::Broken("`crv` is missing".into())),
            kind => {
                let curve = curve.map(|curve| format!(" on {curve}")).unwrap_or_default();
                return Err(Unusable::Skip(format!("kind {kind}{curve} is not supported")));
            }
        };
        let algorithms = match &self.alg {
            None => of_kind,
            Some(name) => match of_kind.iter().position(|&allowed| algorithm(name) == Some(allowed)) {
                Some(at) => &of_kind[at..=at],
                None => return Err(Unusable::Skip(format!("algorithm {name} is not supported for kind {}", self.kty))),
            },
        };
        let key = match self.kty.as_str() {
            "oct" => DecodingKey::from_secret(&octets("k", &self.k, 1)?),
            "RSA" => {
                let modulus = octets("n", &self.n, 1)?;
                // The library refuses leading zeros, which some issuers write.
                let zeros = modulus.iter().take_while(|&&byte| byte == 0).count();
                if modulus.len() - zeros < MODULUS_BYTES_MIN {
                    return Err(Unusable::Broken(KeyError::WeakRsa.to_string()));
                }
                DecodingKey::from_rsa_raw_components(&modulus[zeros..], &octets("e", &self.e, 1)?)
            }
            "EC" => {
                let (x, y) = (octets("x", &self.x, 32)?, octets("y", &self.y, 32)?);
                if x.len() != 32 || y.len() != 32 {
                    return Err(Unusable::Broken("`x` and `y` have 32 bytes each on P-256".into()));
                }
                // An uncompressed point (SEC 1 section 2.3.3).
                DecodingKey::from_ec_der(&[&[4][..], &x, &y].concat())
            }
            _ => match octets("x", &self.x, 32)? {
                x if x.len() == 32 => DecodingKey::from_ed_der(&x),
                _ => return Err(Unusable::Broken("`x` has 32 bytes on Ed25519".into())),
            },
        };
        Ok(Key { id: self.kid.as_deref().map(Box::from), algorithms, key })
    }
}

fn octets(name: &str, value: &Option<String>, least: usize) -> Result<Vec<u8>, Unusable> {
    let value = value.as_deref().ok_or_else(|| Unusable::Broken(format!("`{name}` is missing")))?;
    match URL_SAFE_NO_PAD.decode(value) {
        Ok(bytes) if bytes.len() >= least => Ok(bytes),
        Ok(_) => Err(Unusable::Broken(format!("`{name}` is too short"))),
        Err(_) => Err(Unusable::Broken(format!("`{name}` is not base64url without padding"))),
    }
}

fn id(kid: &Option<String>) -> String {
    kid.as_ref().map(|kid| format!(" (kid {kid:?})")).unwrap_or_default()
}

fn reasons(skipped: &[String]) -> String {
    if skipped.is_empty() { String::new() } else { format!(": {}", skipped.join("; ")) }
}
