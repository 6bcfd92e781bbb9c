//! Tokens of every algorithm, and every way to refuse one.

//! Tokens made and checked: keys, algorithms, claims, times.

use super::*;
use crate::base::chance::Chance;
use crate::base::limit::TENANT_BYTES_MAX;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/", $name))
    };
}

const SECRET: &[u8] = b"a-shared-secret-of-the-tests-with-at-least-64-bytes-in-it-for-hs512";
const RSA: &str = fixture!("rsa.public.pem");
const EC: &str = fixture!("ec.public.pem");
const ED: &str = fixture!("ed.public.pem");
const JWKS: &str = fixture!("jwks.json");
const NOW: UnixMs = UnixMs(1_700_000_000_000);
const WHO: &str = r#"{"sub":"ann","tenant":"acme"}"#;

#[derive(Clone, Copy)]
enum Signer {
    Secret(&'static [u8]),
    Rsa,
    Ec,
    Ed,
}

impl Signer {
    fn key(self) -> EncodingKey {
        match self {
            Signer::Secret(secret) => EncodingKey::from_secret(secret),
            Signer::Rsa => EncodingKey::from_rsa_pem(fixture!("rsa.private.pem").as_bytes()).unwrap(),
            Signer::Ec => EncodingKey::from_ec_pem(fixture!("ec.private.pem").as_bytes()).unwrap(),
            Signer::Ed => EncodingKey::from_ed_pem(fixture!("ed.private.pem").as_bytes()).unwrap(),
        }
    }
}

fn signed(head: &str, claims: &str, signer: Signer, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims));
    let signature = crypto::sign(message.as_bytes(), &signer.key(), algorithm).unwrap();
    format!("{message}.{signature}")
}

/// A token with these claims under the tests' secret.
fn token(claims: &str) -> String {
    signed(r#"{"alg":"HS256"}"#, claims, Signer::Secret(SECRET), Algorithm::HS256)
}

fn secret() -> Keys {
    Keys::from_secret(SECRET).unwrap()
}

fn admit(claims: &str) -> Result<Admission, Reject> {
    verify(&token(claims), &secret(), &Policy::default(), NOW)
}

#[test]
fn every_algorithm_verifies_with_its_own_key_and_no_other() {
    let keys = [
        ("secret", secret()),
        ("rsa", Keys::from_public_pem(RSA).unwrap()),
        ("rsa", Keys::from_public_pem(fixture!("rsa.pkcs1.public.pem")).unwrap()),
        ("ec", Keys::from_public_pem(EC).unwrap()),
        ("ed", Keys::from_public_pem(ED).unwrap()),
    ];
    for (name, signer, algorithm, family) in [
        ("HS256", Signer::Secret(SECRET), Algorithm::HS256, "secret"),
        ("HS384", Signer::Secret(SECRET), Algorithm::HS384, "secret"),
        ("HS512", Signer::Secret(SECRET), Algorithm::HS512, "secret"),
        ("RS256", Signer::Rsa, Algorithm::RS256, "rsa"),
        ("ES256", Signer::Ec, Algorithm::ES256, "ec"),
        ("EdDSA", Signer::Ed, Algorithm::EdDSA, "ed"),
    ] {
        let token = signed(&format!(r#"{{"alg":"{name}","typ":"JWT"}}"#), WHO, signer, algorithm);
        for (owner, keys) in &keys {
            let verdict = verify(&token, keys, &Policy::default(), NOW).map(|who| who.user);
            let expected = if *owner == family { Ok("ann".into()) } else { Err(Reject::Invalid) };
            assert_eq!(verdict, expected, "{name} with {owner}");
        }
    }
}

#[test]
fn the_tokens_word_on_its_algorithm_is_not_taken() {
    let rsa = Keys::from_public_pem(RSA).unwrap();
    let jwks = Keys::from_jwks(JWKS).unwrap();
    let with_public_pem = signed(r#"{"alg":"HS256"}"#, WHO, Signer::Secret(RSA.as_bytes()), Algorithm::HS256);
    let with_public_pem_kid =
        signed(r#"{"alg":"HS256","kid":"rsa-1"}"#, WHO, Signer::Secret(RSA.as_bytes()), Algorithm::HS256);
    let unsigned = |head: &str| format!("{}.{}.", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(WHO));
    for (what, token, keys) in [
        ("a public key as a secret", with_public_pem.clone(), &rsa),
        ("a public key as a secret, in a set", with_public_pem, &jwks),
        ("a public key as a secret, by kid", with_public_pem_kid, &jwks),
        ("none", unsigned(r#"{"alg":"none"}"#), &secret()),
        ("nOnE", unsigned(r#"{"alg":"nOnE"}"#), &secret()),
        ("none with a public key", unsigned(r#"{"alg":"none"}"#), &rsa),
        ("an empty signature", unsigned(r#"{"alg":"HS256"}"#), &secret()),
        (
            "a right signature under another name",
            signed(r#"{"alg":"HS512"}"#, WHO, Signer::Secret(SECRET), Algorithm::HS256),
            &secret(),
        ),
        ("RS512 with an RS256 key", signed(r#"{"alg":"RS512"}"#, WHO, Signer::Rsa, Algorithm::RS512), &rsa),
        ("PS256 with an RS256 key", signed(r#"{"alg":"PS256"}"#, WHO, Signer::Rsa, Algorithm::PS256), &rsa),
        (
            "HS256 with a key of HS512",
            signed(r#"{"alg":"HS256","kid":"hs-1"}"#, WHO, Signer::Secret(SECRET), Algorithm::HS256),
            &jwks,
        ),
        ("a wrong secret", signed(r#"{"alg":"HS256"}"#, WHO, Signer::Secret(b"other"), Algorithm::HS256), &secret()),
        (
            "an extension that must be understood",
            signed(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, WHO, Signer::Secret(SECRET), Algorithm::HS256),
            &secret(),
        ),
        (
            "its own key",
            signed(
                r#"{"alg":"HS256","jwk":{"kty":"oct","k":"b3RoZXI"}}"#,
                WHO,
                Signer::Secret(b"other"),
                Algorithm::HS256,
            ),
            &secret(),
        ),
    ] {
        assert_eq!(verify(&token, keys, &Policy::default(), NOW), Err(Reject::Invalid), "{what}");
    }
}

#[test]
fn keys_rotate_by_their_id() {
    let jwks = Keys::from_jwks(JWKS).unwrap();
    let hs512 = Signer::Secret(SECRET);
    for (head, signer, algorithm, ok) in [
        (r#"{"alg":"RS256","kid":"rsa-1"}"#, Signer::Rsa, Algorithm::RS256, true),
        (r#"{"alg":"ES256","kid":"ec-1"}"#, Signer::Ec, Algorithm::ES256, true),
        (r#"{"alg":"EdDSA","kid":"ed-1"}"#, Signer::Ed, Algorithm::EdDSA, true),
        (r#"{"alg":"HS512","kid":"hs-1"}"#, hs512, Algorithm::HS512, true),
        // Without an id, the keys that allow the algorithm are tried.
        (r#"{"alg":"ES256"}"#, Signer::Ec, Algorithm::ES256, true),
        (r#"{"alg":"HS512","kid":null}"#, hs512, Algorithm::HS512, true),
        (r#"{"alg":"RS256","kid":"rsa-2"}"#, Signer::Rsa, Algorithm::RS256, false),
        (r#"{"alg":"RS256","kid":"ec-1"}"#, Signer::Rsa, Algorithm::RS256, false),
        (r#"{"alg":"RS256","kid":"enc-1"}"#, Signer::Rsa, Algorithm::RS256, false),
        (r#"{"alg":"RS256","kid":""}"#, Signer::Rsa, Algorithm::RS256, false),
    ] {
        let verdict = verify(&signed(head, WHO, signer, algorithm), &jwks, &Policy::default(), NOW);
        assert_eq!(verdict.map(|_| ()), if ok { Ok(()) } else { Err(Reject::Invalid) }, "{head}");
    }
    assert_eq!(jwks.skipped().len(), 1);
    assert!(jwks.skipped()[0].contains("enc-1"), "{:?}", jwks.skipped());

    // Two secrets without ids: the old one and the new one both count.
    let both = r#"{"keys":[{"kty":"oct","k":"b2xk"},{"kty":"oct","k":"bmV3"}]}"#;
    let both = Keys::from_jwks(both).unwrap();
    for (secret, ok) in [(&b"old"[..], true), (b"new", true), (b"odd", false)] {
        let token = signed(r#"{"alg":"HS256"}"#, WHO, Signer::Secret(secret), Algorithm::HS256);
        assert_eq!(verify(&token, &both, &Policy::default(), NOW).is_ok(), ok);
    }
    // A configured secret has no id, so a token's id does not matter to it.
    let token = signed(r#"{"alg":"HS256","kid":"2026-11"}"#, WHO, Signer::Secret(SECRET), Algorithm::HS256);
    assert!(verify(&token, &secret(), &Policy::default(), NOW).is_ok());
}

#[test]
fn every_rejection() {
    let policy =
        Policy { audience: Box::new(["rt".into()]), issuer: Box::new(["https://id".into()]), ..Policy::default() };
    let ok = r#"{"sub":"ann","tenant":"acme","aud":["web","rt"],"iss":"https://id"}"#;
    assert!(verify(&token(ok), &secret(), &policy, NOW).is_ok());
    assert!(verify(&token(&ok.replace(r#"["web","rt"]"#, r#""rt""#)), &secret(), &policy, NOW).is_ok());

    let long = "x".repeat(TENANT_BYTES_MAX + 1);
    let claims = |with: &str| token(&format!(r#"{{"aud":"rt","iss":"https://id",{with}}}"#));
    let who = |with: &str| claims(&format!(r#""sub":"ann","tenant":"acme",{with}"#));
    for (what, token, reject) in [
        ("nothing", String::new(), Reject::Missing),
        ("a word", "token".into(), Reject::Malformed),
        ("two parts", "e30.e30".into(), Reject::Malformed),
        ("four parts", format!("{}.e30", token(ok)), Reject::Malformed),
        ("no base64", "a!.e30.e30".into(), Reject::Malformed),
        ("padding", "e30=.e30.e30".into(), Reject::Malformed),
        ("a head that is no JSON", format!("{}.e30.e30", URL_SAFE_NO_PAD.encode("{")), Reject::Malformed),
        ("a head without an algorithm", "e30.e30.e30".into(), Reject::Malformed),
        ("a head that is an array", format!("{}.e30.e30", URL_SAFE_NO_PAD.encode("[]")), Reject::Malformed),
        ("too long", token(&format!(r#"{{"x":"{}"}}"#, "x".repeat(TOKEN_BYTES_MAX))), Reject::Malformed),
        ("claims that are no object", token("[1]"), Reject::Malformed),
        ("claims that are no JSON", token("sub=ann"), Reject::Malformed),
        ("claims too deep", token(&"[".repeat(1000)), Reject::Malformed),
        ("a date in words", who(r#""exp":"tomorrow""#), Reject::Malformed),
        ("no date", who(r#""nbf":null"#), Reject::Malformed),
        ("no audience", token(r#"{"sub":"ann","tenant":"acme","iss":"https://id"}"#), Reject::Invalid),
        ("another audience", token(&ok.replace("rt", "other")), Reject::Invalid),
        ("no issuer", token(r#"{"sub":"ann","tenant":"acme","aud":"rt"}"#), Reject::Invalid),
        ("another issuer", token(&ok.replace("https://id", "https://id/")), Reject::Invalid),
        ("expired", who(r#""exp":1600000000"#), Reject::Expired),
        ("expired before 1970", who(r#""exp":-5"#), Reject::Expired),
        ("not yet valid", who(r#""nbf":1800000000"#), Reject::NotYetValid),
        ("no tenant", claims(r#""sub":"ann""#), Reject::TenantMissing),
        ("an empty tenant", claims(r#""sub":"ann","tenant":"""#), Reject::TenantMissing),
        ("a null tenant", claims(r#""sub":"ann","tenant":null"#), Reject::TenantMissing),
        ("no user", claims(r#""tenant":"acme""#), Reject::TenantMissing),
        ("a long tenant", claims(&format!(r#""sub":"ann","tenant":"{long}""#)), Reject::Malformed),
        ("a tenant with a slash", claims(r#""sub":"ann","tenant":"a/b""#), Reject::Malformed),
        ("a tenant that is a list", claims(r#""sub":"ann","tenant":["acme"]"#), Reject::Malformed),
        ("a long user", claims(&format!(r#""sub":"{long}","tenant":"acme""#)), Reject::Malformed),
        ("a user with a line break", claims(r#""sub":"a\nb","tenant":"acme""#), Reject::Malformed),
        ("a user that is a fraction", claims(r#""sub":1.5,"tenant":"acme""#), Reject::Malformed),
        ("a user past 64 bits", claims(r#""sub":18446744073709551616,"tenant":"acme""#), Reject::Malformed),
        ("rooms that are null", who(r#""rooms":null"#), Reject::Malformed),
        ("rooms that are numbers", who(r#""rooms":[1]"#), Reject::Malformed),
        ("a room without a name", who(r#""rooms":[""]"#), Reject::Malformed),
    ] {
        assert_eq!(verify(&token, &secret(), &policy, NOW), Err(reject), "{what}");
    }
    let rows: Vec<&str> = Reject::ALL.iter().map(|reject| reject.close().row().code).collect();
    let codes =
        ["token_missing", "token_malformed", "token_invalid", "token_expired", "token_not_yet_valid", "tenant_missing"];
    assert_eq!(rows, codes);
    for reject in Reject::ALL {
        assert_eq!(reject.to_string(), reject.close().row().message);
    }
}

#[test]
fn the_edges_of_time() {
    let s = NOW.seconds();
    for (claims, leeway_ms, at, expected) in [
        (format!(r#""exp":{s}"#), 0, NOW.0 - 1, Ok(Some(NOW.0))),
        (format!(r#""exp":{s}"#), 0, NOW.0, Err(Reject::Expired)),
        (format!(r#""exp":{s}"#), 1000, NOW.0 + 999, Ok(Some(NOW.0 + 1000))),
        (format!(r#""exp":{s}"#), 1000, NOW.0 + 1000, Err(Reject::Expired)),
        (format!(r#""exp":{s}.25"#), 0, NOW.0 + 249, Ok(Some(NOW.0 + 250))),
        (format!(r#""exp":{s}.25"#), 0, NOW.0 + 250, Err(Reject::Expired)),
        (format!(r#""nbf":{s}"#), 0, NOW.0, Ok(None)),
        (format!(r#""nbf":{s}"#), 0, NOW.0 - 1, Err(Reject::NotYetValid)),
        (format!(r#""nbf":{s}"#), 1000, NOW.0 - 1000, Ok(None)),
        (format!(r#""nbf":{s}"#), 1000, NOW.0 - 1001, Err(Reject::NotYetValid)),
        (format!(r#""nbf":{s},"exp":{s}"#), 0, NOW.0, Err(Reject::Expired)),
        (r#""exp":18446744073709551615"#.into(), 1000, NOW.0, Ok(Some(u64::MAX))),
        (r#""exp":1e300"#.into(), 1000, NOW.0, Ok(Some(u64::MAX))),
        (r#""iat":99999999999"#.into(), 0, NOW.0, Ok(None)),
    ] {
        let policy = Policy { leeway: Duration::from_millis(leeway_ms), ..Policy::default() };
        let token = token(&format!(r#"{{"sub":"ann","tenant":"acme",{claims}}}"#));
        let verdict = verify(&token, &secret(), &policy, UnixMs(at)).map(|who| who.expires_at.map(|at| at.0));
        assert_eq!(verdict, expected, "{claims} leeway {leeway_ms} at {at}");
    }
}

#[test]
fn who_a_token_names() {
    for (claims, tenant, user) in [
        (r#"{"sub":"ann","tenant":"acme"}"#, "acme", "ann"),
        (r#"{"userId":7,"tenantId":42}"#, "42", "7"),
        (r#"{"user_id":"u","tenant_id":"t"}"#, "t", "u"),
        (r#"{"id":-1,"accountId":"t"}"#, "t", "-1"),
        (r#"{"sub":"u","organizationId":18446744073709551615}"#, "18446744073709551615", "u"),
        (r#"{"sub":"u","orgId":"t"}"#, "t", "u"),
        (r#"{"sub":"auth0|5/6","companyId":"t"}"#, "t", "auth0|5/6"),
        // The order of the list decides, not the token's.
        (r#"{"id":"second","sub":"first","companyId":"second","tenant":"first"}"#, "first", "first"),
        (r#"{"sub":"","id":"u","tenant":null,"orgId":"t"}"#, "t", "u"),
    ] {
        let who = admit(claims).unwrap();
        assert_eq!((who.tenant.as_str(), &*who.user), (tenant, user), "{claims}");
    }
    let policy = Policy {
        user_claims: Box::new(["https://acme/user".into()]),
        tenant_claims: Box::new(["workspace".into()]),
        ..Policy::default()
    };
    let claims = r#"{"sub":"no","tenant":"no","https://acme/user":"u","workspace":"t"}"#;
    let who = verify(&token(claims), &secret(), &policy, NOW).unwrap();
    assert_eq!((who.tenant.as_str(), &*who.user), ("t", "u"));
    assert_eq!(verify(&token(WHO), &secret(), &policy, NOW), Err(Reject::TenantMissing));
}

#[test]
fn lists_come_in_many_shapes() {
    type Lists<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str]);
    let table: &[(&str, Lists<'_>)] = &[
        (r#""role":"admin""#, (&["admin"], &[], &[])),
        (r#""role":"admin","roles":["editor","admin"]"#, (&["admin", "editor"], &[], &[])),
        (r#""roles":"site manager, editor""#, (&["site manager", "editor"], &[], &[])),
        (r#""permissions":"publish read,write""#, (&[], &["publish", "read", "write"], &[])),
        (r#""permissions":["publish:project:*"]"#, (&[], &["publish:project:*"], &[])),
        (r#""scope":"publish openid""#, (&[], &[], &["publish", "openid"])),
        (r#""scope":["publish"]"#, (&[], &[], &["publish"])),
        // What grants nothing.
        (r#""roles":[{"name":"admin"},7,"a"],"permissions":{"publish":true},"scope":7"#, (&["a"], &[], &[])),
        (r#""roles":null,"permissions":"","scope":[]"#, (&[], &[], &[])),
    ];
    for (claims, (roles, permissions, scope)) in table {
        let who = admit(&format!(r#"{{"sub":"ann","tenant":"acme",{claims}}}"#)).unwrap();
        let texts = |list: &[Box<str>]| list.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        assert_eq!(texts(&who.roles), *roles, "{claims}");
        assert_eq!(texts(&who.permissions), *permissions, "{claims}");
        assert_eq!(texts(&who.scope), *scope, "{claims}");
    }
}

#[test]
fn who_may_publish_where() {
    for (permissions, yes, no) in [
        ("[]", &[][..], &["project:7"][..]),
        (r#"["publish"]"#, &["project:7", "user:bob", "tenant:acme", ""], &[]),
        (r#"["publish:project:*","publish:lobby"]"#, &["project:7", "lobby"], &["projects", "lobby2", "user:ann"]),
        (r#"["publish:*"]"#, &["project:7"], &[]),
        (r#"["publisher","publish ","xpublish","*","PUBLISH"]"#, &[], &["project:7", "er"]),
        (r#"["publish:"]"#, &[""], &["project:7"]),
    ] {
        let who = admit(&format!(r#"{{"sub":"ann","tenant":"acme","permissions":{permissions}}}"#)).unwrap();
        yes.iter().for_each(|room| assert!(who.may_publish(room), "{permissions} {room}"));
        no.iter().for_each(|room| assert!(!who.may_publish(room), "{permissions} {room}"));
    }
    assert!(admit(r#"{"sub":"a","tenant":"t","scope":"publish"}"#).unwrap().has_scope("publish"));
    assert!(
        !admit(r#"{"sub":"a","tenant":"t","scope":"publisher","permissions":"publish"}"#).unwrap().has_scope("publish")
    );
}

#[test]
fn a_minted_token_is_admitted() {
    let lists = |items: &[&str]| items.iter().map(|item| item.to_string()).collect::<Vec<_>>();
    let (roles, permissions, rooms, scope) =
        (lists(&["admin"]), lists(&["publish"]), lists(&["project:*"]), lists(&["publish", "read"]));
    let claims = Mint {
        tenant: "acme",
        user: "ann",
        roles: &roles,
        permissions: &permissions,
        rooms: &rooms,
        scope: &scope,
        ttl: Some(Duration::from_secs(60)),
    };
    let policy = Policy {
        audience: Box::new(["rt".into(), "web".into()]),
        issuer: Box::new(["me".into()]),
        tenant_claims: Box::new(["workspace".into()]),
        ..Policy::default()
    };
    for keys in [secret(), Keys::from_jwks(JWKS).unwrap()] {
        let token = mint(&claims, &keys, &policy, NOW).unwrap();
        let who = verify(&token, &keys, &policy, NOW).unwrap();
        assert_eq!((who.tenant.as_str(), &*who.user, who.expires_at), ("acme", "ann", Some(UnixMs(NOW.0 + 60_000))));
        assert!(who.has_role("admin") && who.has_permission("publish") && who.has_scope("read"));
        assert!(who.opens_room("project:1") && !who.opens_room("lobby"));
        assert_eq!(verify(&token, &keys, &policy, UnixMs(NOW.0 + 60_000)), Err(Reject::Expired));
    }
    let bare =
        mint(&Mint { tenant: "acme", user: "ann", ..Mint::default() }, &secret(), &Policy::default(), NOW).unwrap();
    let who = verify(&bare, &secret(), &Policy::default(), NOW).unwrap();
    assert_eq!((&who.rooms, who.expires_at), (&None, None));
    for public in [RSA, EC, ED] {
        let keys = Keys::from_public_pem(public).unwrap();
        assert_eq!(mint(&claims, &keys, &policy, NOW), Err(MintError::NoSecret));
    }
}

#[test]
fn keys_that_are_wrong_say_why() {
    let two = format!("{RSA}{EC}");
    for (pem, error) in [
        ("", KeyError::NotPem),
        ("-----BEGIN PUBLIC KEY-----\n!!\n-----END PUBLIC KEY-----\n", KeyError::NotPem),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", KeyError::UnknownKind),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", KeyError::Certificate),
        (fixture!("rsa.private.pem"), KeyError::PrivateKey),
        (fixture!("ed.private.pem"), KeyError::PrivateKey),
        (&two, KeyError::SeveralBlocks),
        (fixture!("rsa1024.public.pem"), KeyError::WeakRsa),
        (fixture!("p384.public.pem"), KeyError::UnknownKind),
        (fixture!("k256.public.pem"), KeyError::UnknownKind),
    ] {
        assert_eq!(Keys::from_public_pem(pem).unwrap_err(), error, "{pem}");
    }
    assert_eq!(Keys::from_secret(b"").unwrap_err(), KeyError::EmptySecret);
    assert!(Keys::from_secret(b"short").unwrap().has_short_secret() && !secret().has_short_secret());

    for (text, says) in [
        ("", "not a JWK set: EOF"),
        ("{}", "missing field `keys`"),
        (r#"{"keys":[{}]}"#, "missing field `kty`"),
        (r#"{"keys":[]}"#, "no key to verify with"),
        (
            r#"{"keys":[{"kty":"RSA","kid":"a","n":"AQAB","e":"AQAB"}]}"#,
            "key 1 (kid \"a\"): an RSA key of fewer than 2048 bits",
        ),
        (r#"{"keys":[{"kty":"RSA","kid":"a","e":"AQAB"}]}"#, "key 1 (kid \"a\"): `n` is missing"),
        (r#"{"keys":[{"kty":"oct","k":"b2xk"},{"kty":"oct","k":"b2xk="}]}"#, "key 2: `k` is not base64url"),
        (r#"{"keys":[{"kty":"oct","k":""}]}"#, "key 1: `k` is too short"),
        (r#"{"keys":[{"kty":"EC","x":"AA","y":"AA"}]}"#, "key 1: `crv` is missing"),
        (r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}"#, "key 1: `x` is too short"),
        (
            r#"{"keys":[{"kty":"OKP","crv":"Ed448","x":"AA"}]}"#,
            "no key to verify with: key 1: kind OKP on Ed448 is not supported",
        ),
        (r#"{"keys":[{"kty":"RSA","alg":"RS512"}]}"#, "algorithm RS512 is not supported for kind RSA"),
        (r#"{"keys":[{"kty":"oct","alg":"RS256","k":"b2xk"}]}"#, "algorithm RS256 is not supported for kind oct"),
        (r#"{"keys":[{"kty":"oct","use":"enc","k":"b2xk"}]}"#, "not for signatures"),
        (r#"{"keys":[{"kty":"oct","key_ops":["sign"],"k":"b2xk"}]}"#, "not for verifying"),
    ] {
        let error = Keys::from_jwks(text).unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
}

/// Bits flipped, bytes replaced, parts cut, doubled and swapped: nothing panics, and nothing but the token itself verifies.
#[test]
fn a_token_that_was_touched_never_verifies() {
    let mut chance = Chance::new([11; 32]);
    let jwks = Keys::from_jwks(JWKS).unwrap();
    let claims = r#"{"sub":"ann","tenant":"acme","roles":["a"],"rooms":["x:*"],"exp":1800000000}"#;
    let originals = [
        signed(r#"{"alg":"HS512","kid":"hs-1"}"#, claims, Signer::Secret(SECRET), Algorithm::HS512),
        signed(r#"{"alg":"ES256","kid":"ec-1"}"#, claims, Signer::Ec, Algorithm::ES256),
        signed(r#"{"alg":"EdDSA"}"#, claims, Signer::Ed, Algorithm::EdDSA),
        signed(r#"{"alg":"RS256","kid":"rsa-1"}"#, claims, Signer::Rsa, Algorithm::RS256),
    ];
    for original in &originals {
        assert!(verify(original, &jwks, &Policy::default(), NOW).is_ok());
        for round in 0..3000 {
            let mut bytes = original.clone().into_bytes();
            for _ in 0..=chance.below(3) {
                let at = chance.below(bytes.len() as u64) as usize;
                match chance.below(6) {
                    0 => bytes[at] ^= 1 << chance.below(7),
                    1 => bytes[at] = b"ABCabc019-_.=+/\0"[chance.below(16) as usize],
                    2 => bytes.truncate(at.max(1)),
                    3 => bytes.insert(at, b"A._"[chance.below(3) as usize]),
                    4 if bytes.len() > 1 => drop(bytes.remove(at)),
                    _ => {
                        let other = chance.below(bytes.len() as u64) as usize;
                        bytes.swap(at, other);
                    }
                }
            }
            let Ok(touched) = String::from_utf8(bytes) else { continue };
            if touched != *original {
                let verdict = verify(&touched, &jwks, &Policy::default(), NOW);
                assert!(
                    matches!(verdict, Err(Reject::Malformed | Reject::Invalid | Reject::Missing)),
                    "round {round}: {touched} {verdict:?}"
                );
            }
        }
    }
}

/// Claims of any shape under a right signature: an answer, never a panic.
#[test]
fn any_claims_have_an_answer() {
    let mut chance = Chance::new([12; 32]);
    let names =
        ["sub", "id", "tenant", "orgId", "role", "roles", "permissions", "rooms", "scope", "exp", "nbf", "iss", "aud"];
    let values = [
        "null",
        "true",
        "0",
        "-1",
        "1.5",
        "1e400",
        "\"\"",
        "\"a\"",
        "\"*,?\"",
        "[]",
        "[\"a\",null]",
        "{}",
        "[[{}]]",
        "\"\\ud800\"",
        "\"ü\\u0000\"",
    ];
    for _ in 0..2000 {
        let members: Vec<String> = (0..chance.below(8))
            .map(|_| format!(r#""{}":{}"#, names[chance.below(13) as usize], values[chance.below(15) as usize]))
            .collect();
        let claims = format!("{{{}}}", members.join(","));
        if let Ok(who) = admit(&claims) {
            assert!(!who.user.is_empty(), "{claims}");
        }
    }
}

#[test]
fn debug_output_holds_no_secret() {
    let keys = Keys::from_jwks(JWKS).unwrap();
    let text = format!("{keys:?} {:?}", secret());
    assert!(text.contains("rsa-1") && !text.contains("shared") && !text.contains("97, 45"), "{text}");
}
