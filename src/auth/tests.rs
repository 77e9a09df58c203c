//! The two sides against each other, and against the client of `postgres-protocol`.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BytesMut};
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use proptest::prelude::*;

use super::verifier::{Verifier, hmac};
use super::*;

const PASSWORD: &str = "pencil \u{2168}";

fn directory(auth_type: AuthType) -> Directory {
    Directory::new(options(auth_type))
}

fn options(auth_type: AuthType) -> Options {
    let scram = postgres_protocol::password::scram_sha_256(PASSWORD.as_bytes());
    let md5 = postgres_protocol::password::md5(PASSWORD.as_bytes(), "md5");
    let users = HashMap::from([
        (Arc::from("plain"), Secret::Plain(PASSWORD.to_owned())),
        (Arc::from("scram"), Secret::Scram(scram)),
        (Arc::from("md5"), Secret::Md5(md5)),
        (Arc::from("empty"), Secret::Plain(String::new())),
        (Arc::from("garbled scram"), Secret::Scram("SCRAM-SHA-256$x".to_owned())),
        (Arc::from("garbled md5"), Secret::Md5("md5x".to_owned())),
    ]);
    Options { auth_type, users }
}

/// Takes the one message off the buffer and gives its body.
fn body(out: &mut BytesMut, tag: u8) -> Vec<u8> {
    assert_eq!(out.get_u8(), tag);
    let length = out.get_u32() as usize - 4;
    assert_eq!(out.len(), length, "one whole message");
    out.split().to_vec()
}

/// Takes an `R` message off the buffer: its code and its data.
fn request(out: &mut BytesMut) -> (u32, Vec<u8>) {
    let body = body(out, b'R');
    (u32::from_be_bytes(body[..4].try_into().unwrap()), body[4..].to_vec())
}

fn initial_response(data: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    message::initial_response(&mut out, "SCRAM-SHA-256", data);
    body(&mut out, b'p')
}

/// A challenge that has been started, by its request.
fn started(directory: &Directory, user: &str, code: u32) -> (Challenge, Vec<u8>) {
    let mut out = BytesMut::new();
    let mut challenge = directory.challenge(user);
    assert_eq!(challenge.start(&mut out), Progress::Continue);
    let (found, data) = request(&mut out);
    assert_eq!(found, code);
    (challenge, data)
}

/// The whole exchange with postgres-protocol's client; `spoil` may change the final message.
fn scram_login(
    challenge: &mut Challenge,
    password: &str,
    binding: ChannelBinding,
    spoil: impl Fn(String) -> String,
) -> Progress {
    let mut out = BytesMut::new();
    let mut client = ScramSha256::new(password.as_bytes(), binding);
    match challenge.answer(&initial_response(client.message()), &mut out) {
        Progress::Continue => {}
        progress => return progress,
    }
    let (code, data) = request(&mut out);
    assert_eq!(code, 11);
    client.update(&data).unwrap();
    let last = spoil(String::from_utf8(client.message().to_vec()).unwrap());
    let progress = challenge.answer(last.as_bytes(), &mut out);
    if progress == Progress::Accepted {
        let (code, data) = request(&mut out);
        assert_eq!(code, 12);
        client.finish(&data).unwrap();
    }
    assert!(out.is_empty(), "nothing is said on rejection");
    progress
}

fn rejected_as(violation: Violation) -> Progress {
    Progress::Rejected(Rejection::Violation(violation))
}

#[test]
fn trust_asks_nothing() {
    let mut out = BytesMut::new();
    let mut challenge = directory(AuthType::Trust).challenge("nobody");
    assert_eq!(challenge.start(&mut out), Progress::Accepted);
    assert!(out.is_empty());
    assert_eq!(challenge.start(&mut out), rejected_as(Violation::OutOfTurn));
    assert_eq!(challenge.answer(b"", &mut out), rejected_as(Violation::OutOfTurn));
}

#[test]
fn scram_with_the_right_password() {
    let directory = directory(AuthType::ScramSha256);
    for user in ["plain", "scram", "plain"] {
        for binding in [ChannelBinding::unsupported(), ChannelBinding::unrequested()] {
            let (mut challenge, offer) = started(&directory, user, 10);
            assert_eq!(offer, b"SCRAM-SHA-256\0\0");
            assert_eq!(scram_login(&mut challenge, PASSWORD, binding, |last| last), Progress::Accepted);
            let again = challenge.answer(b"x", &mut BytesMut::new());
            assert_eq!(again, rejected_as(Violation::OutOfTurn));
        }
    }
}

#[test]
fn scram_without_it() {
    let directory = directory(AuthType::ScramSha256);
    for (user, password, reason) in [
        ("plain", "wrong", Rejection::WrongPassword),
        ("scram", "wrong", Rejection::WrongPassword),
        ("nobody", PASSWORD, Rejection::UnknownUser),
        ("md5", PASSWORD, Rejection::SecretIsMd5),
        ("empty", "", Rejection::SecretUnusable),
        ("garbled scram", PASSWORD, Rejection::SecretUnusable),
    ] {
        let (mut challenge, offer) = started(&directory, user, 10);
        assert_eq!(offer, b"SCRAM-SHA-256\0\0");
        let progress = scram_login(&mut challenge, password, ChannelBinding::unsupported(), |last| last);
        assert_eq!(progress, Progress::Rejected(reason), "{user}");
        assert!(!reason.is_violation());
    }
}

/// A mock exchange must not be won with the keys of nothing: those of an empty password over the salt that is shown.
#[test]
fn scram_that_cannot_succeed_does_not() {
    let directory = directory(AuthType::ScramSha256);
    for user in ["nobody", "empty"] {
        for password in ["", "\0", "mock stored key"] {
            let (mut challenge, _) = started(&directory, user, 10);
            let progress = scram_login(&mut challenge, password, ChannelBinding::unsupported(), |last| last);
            assert!(matches!(progress, Progress::Rejected(_)));
        }
    }
}

#[test]
fn scram_tampered_with() {
    let directory = directory(AuthType::ScramSha256);
    let try_with = |spoil: &dyn Fn(String) -> String| {
        let (mut challenge, _) = started(&directory, "scram", 10);
        scram_login(&mut challenge, PASSWORD, ChannelBinding::unsupported(), spoil)
    };
    let proof_at = |last: &str| last.rfind(",p=").unwrap();
    let other_proof = |last: String| format!("{},p={}", &last[..proof_at(&last)], STANDARD.encode([7; 32]));
    assert_eq!(try_with(&other_proof), Progress::Rejected(Rejection::WrongPassword));
    let with_extension = |last: String| last.replace(",p=", ",x=ignored,p=");
    assert_eq!(
        try_with(&with_extension),
        Progress::Rejected(Rejection::WrongPassword),
        "it is not what was signed"
    );
    for (violation, spoil) in [
        (Violation::Nonce, (|last: String| last.replace("r=", "r=x")) as fn(String) -> String),
        (Violation::Nonce, |last| last.replace(",p=", "x,p=")),
        (Violation::ChannelBinding, |last| last.replace("c=biws", "c=eSws")),
        (Violation::ChannelBinding, |last| last.replace("c=biws", "c=biwsAAAA")),
        (Violation::MalformedScram, |last| last.replace("c=biws,", "")),
        (Violation::MalformedScram, |last| last.replace(",p=", ",q=")),
        (Violation::MalformedScram, |last| last.replace(",p=", ",p=AAAA")),
        (Violation::MalformedScram, |last| last + ",x=y"),
        (Violation::MalformedScram, |last| last + "\0"),
        (Violation::MalformedScram, |_| String::new()),
        (Violation::TooLong, |_| "x".repeat(1025)),
    ] {
        assert_eq!(try_with(&spoil), rejected_as(violation));
    }
}

#[test]
fn first_messages() {
    let directory = directory(AuthType::ScramSha256);
    for (first, violation) in [
        ("n,,n=,r=abc", None),
        ("y,,n=ignored,r=abc", None),
        ("n,,n=,r=abc,x=y,Z=", None),
        ("p=tls-server-end-point,,n=,r=abc", Some(Violation::ChannelBinding)),
        ("p,,n=,r=abc", Some(Violation::MalformedScram)),
        ("N,,n=,r=abc", Some(Violation::MalformedScram)),
        ("n,a=admin,n=,r=abc", Some(Violation::AuthorizationIdentity)),
        ("n,b=,n=,r=abc", Some(Violation::MalformedScram)),
        ("n,,m=x,n=,r=abc", Some(Violation::MandatoryExtension)),
        ("n,,r=abc,n=", Some(Violation::MalformedScram)),
        ("n,,n=,r=", Some(Violation::MalformedScram)),
        ("n,,n=,r=a b", Some(Violation::MalformedScram)),
        ("n,,n=,r=\u{e9}", Some(Violation::MalformedScram)),
        ("n,,n=,r=abc,", Some(Violation::MalformedScram)),
        ("n,,n=,r=abc,xy=z", Some(Violation::MalformedScram)),
        ("n,", Some(Violation::MalformedScram)),
        ("n", Some(Violation::MalformedScram)),
        ("", Some(Violation::MalformedScram)),
    ] {
        let (mut challenge, _) = started(&directory, "scram", 10);
        let progress = challenge.answer(&initial_response(first.as_bytes()), &mut BytesMut::new());
        assert_eq!(progress, violation.map_or(Progress::Continue, rejected_as), "{first}");
    }
}

#[test]
fn initial_responses() {
    let directory = directory(AuthType::ScramSha256);
    for (body, violation) in [
        (b"SCRAM-SHA-256-PLUS\0\0\0\0\x0bn,,n=,r=abc".as_slice(), Violation::Mechanism),
        (b"\0\0\0\0\x0bn,,n=,r=abc", Violation::Mechanism),
        (b"SCRAM-SHA-256\0\0\0\0\x0cn,,n=,r=abc", Violation::MalformedInitialResponse),
        (b"SCRAM-SHA-256\0\xff\xff\xff\xffx", Violation::MalformedInitialResponse),
        (b"SCRAM-SHA-256\0\xff\xff\xff\xfe", Violation::MalformedInitialResponse),
        (b"SCRAM-SHA-256\0\0\0", Violation::MalformedInitialResponse),
        (b"SCRAM-SHA-256", Violation::MalformedInitialResponse),
        (b"", Violation::MalformedInitialResponse),
    ] {
        let (mut challenge, _) = started(&directory, "scram", 10);
        assert_eq!(challenge.answer(body, &mut BytesMut::new()), rejected_as(violation));
    }
}

#[test]
fn a_client_may_choose_first_and_speak_later() {
    let directory = directory(AuthType::ScramSha256);
    let (mut challenge, _) = started(&directory, "plain", 10);
    let mut out = BytesMut::new();
    assert_eq!(challenge.answer(b"SCRAM-SHA-256\0\xff\xff\xff\xff", &mut out), Progress::Continue);
    assert_eq!(request(&mut out), (11, Vec::new()));
    let mut client = ScramSha256::new(PASSWORD.as_bytes(), ChannelBinding::unsupported());
    assert_eq!(challenge.answer(client.message(), &mut out), Progress::Continue);
    client.update(&request(&mut out).1).unwrap();
    assert_eq!(challenge.answer(client.message(), &mut out), Progress::Accepted);
    client.finish(&request(&mut out).1).unwrap();
}

fn salt_shown(directory: &Directory, user: &str) -> String {
    let (mut challenge, _) = started(directory, user, 10);
    let mut out = BytesMut::new();
    assert_eq!(challenge.answer(&initial_response(b"n,,n=,r=abc"), &mut out), Progress::Continue);
    let first = String::from_utf8(request(&mut out).1).unwrap();
    let (nonce, rest) = first.split_once(",s=").unwrap();
    assert_eq!(nonce.len(), "r=abc".len() + 24);
    let (salt, iterations) = rest.split_once(',').unwrap();
    assert_eq!(iterations, "i=4096");
    assert_eq!(salt.len(), 24);
    salt.to_owned()
}

#[test]
fn an_unknown_user_looks_like_a_known_one() {
    let directory = directory(AuthType::ScramSha256);
    let renewed = directory.renewed(options(AuthType::ScramSha256));
    for user in ["plain", "nobody", "md5", "empty"] {
        let salt = salt_shown(&directory, user);
        assert_eq!(salt, salt_shown(&directory, user), "stable from login to login");
        assert_eq!(salt, salt_shown(&renewed, user), "and through a reload");
        assert_ne!(
            salt,
            salt_shown(&self::directory(AuthType::ScramSha256), user),
            "but not known elsewhere"
        );
    }
    assert_ne!(salt_shown(&directory, "nobody"), salt_shown(&directory, "nobody else"));
}

#[test]
fn a_reload_takes_the_new_passwords() {
    let old = directory(AuthType::ScramSha256);
    let log_in = |directory: &Directory, password| {
        let (mut challenge, _) = started(directory, "plain", 10);
        scram_login(&mut challenge, password, ChannelBinding::unsupported(), |last| last)
    };
    assert_eq!(log_in(&old, PASSWORD), Progress::Accepted);
    let mut options = options(AuthType::ScramSha256);
    options.users.insert(Arc::from("plain"), Secret::Plain("new".to_owned()));
    let new = old.renewed(options);
    assert_eq!(log_in(&new, "new"), Progress::Accepted);
    assert_eq!(log_in(&new, PASSWORD), Progress::Rejected(Rejection::WrongPassword));
}

fn md5_login(challenge: &mut Challenge, salt: &[u8], user: &str, password: &str) -> Progress {
    let salt = salt.try_into().unwrap();
    let hash = postgres_protocol::authentication::md5_hash(user.as_bytes(), password.as_bytes(), salt);
    challenge.answer(format!("{hash}\0").as_bytes(), &mut BytesMut::new())
}

#[test]
fn md5_logins() {
    let directory = directory(AuthType::Md5);
    for (user, password, progress) in [
        ("plain", PASSWORD, Progress::Accepted),
        ("md5", PASSWORD, Progress::Accepted),
        ("plain", "wrong", Progress::Rejected(Rejection::WrongPassword)),
        ("md5", "wrong", Progress::Rejected(Rejection::WrongPassword)),
        ("nobody", "", Progress::Rejected(Rejection::UnknownUser)),
        ("empty", "", Progress::Rejected(Rejection::SecretUnusable)),
        ("garbled md5", "", Progress::Rejected(Rejection::SecretUnusable)),
    ] {
        let (mut challenge, salt) = started(&directory, user, 5);
        assert_eq!(md5_login(&mut challenge, &salt, user, password), progress, "{user}");
        assert_eq!(md5_login(&mut challenge, &salt, user, password), rejected_as(Violation::OutOfTurn));
    }
    // A verifier cannot be asked for by MD5.
    let (mut challenge, _) = started(&directory, "scram", 10);
    let progress = scram_login(&mut challenge, PASSWORD, ChannelBinding::unsupported(), |last| last);
    assert_eq!(progress, Progress::Accepted);
}

#[test]
fn md5_messages_out_of_form() {
    let directory = directory(AuthType::Md5);
    let malformed = rejected_as(Violation::MalformedPassword);
    for (body, progress) in [
        (b"\0".as_slice(), Progress::Rejected(Rejection::EmptyPassword)),
        (b"", malformed),
        (b"md5", malformed),
        (b"md5\0md5\0", malformed),
        (&[0x80, 0], Progress::Rejected(Rejection::WrongPassword)),
        (&[b'x'; 2000], rejected_as(Violation::TooLong)),
    ] {
        let (mut challenge, _) = started(&directory, "plain", 5);
        assert_eq!(challenge.answer(body, &mut BytesMut::new()), progress);
    }
    // An empty MD5 mock must not be won with the hash of nothing.
    let (mut challenge, salt) = started(&directory, "nobody", 5);
    let hash = md5::response("", salt.try_into().unwrap());
    let progress = challenge.answer(format!("{hash}\0").as_bytes(), &mut BytesMut::new());
    assert_eq!(progress, Progress::Rejected(Rejection::UnknownUser));
}

/// Our two sides talk until one of them has an end.
fn converse(challenge: &mut Challenge, answer: &mut Answer) -> Result<Progress, AnswerError> {
    let (mut to_client, mut to_server) = (BytesMut::new(), BytesMut::new());
    let mut progress = challenge.start(&mut to_client);
    loop {
        if let Progress::Rejected(_) = progress {
            return Ok(progress);
        }
        if !to_client.is_empty() {
            assert_eq!(answer.reply(&body(&mut to_client, b'R'), &mut to_server)?, Done::More);
        }
        if progress == Progress::Accepted {
            assert!(to_server.is_empty());
            assert_eq!(answer.reply(&0u32.to_be_bytes(), &mut to_server)?, Done::Ok);
            return Ok(progress);
        }
        progress = challenge.answer(&body(&mut to_server, b'p'), &mut to_client);
    }
}

#[test]
fn our_answer_to_our_challenge() {
    let plain = Secret::Plain(PASSWORD.to_owned());
    for auth_type in [AuthType::Trust, AuthType::Md5, AuthType::ScramSha256] {
        let directory = directory(auth_type);
        for user in ["plain", "scram", "md5"] {
            let mut answer = Answer::new(user, Some(&plain));
            let expected = match (auth_type, user) {
                (AuthType::ScramSha256, "md5") => Progress::Rejected(Rejection::SecretIsMd5),
                _ => Progress::Accepted,
            };
            assert_eq!(
                converse(&mut directory.challenge(user), &mut answer),
                Ok(expected),
                "{auth_type:?} {user}"
            );
        }
    }
    let directory = directory(AuthType::Md5);
    let hash = directory.secret("md5").cloned();
    let login = converse(&mut directory.challenge("md5"), &mut Answer::new("md5", hash.as_ref()));
    assert_eq!(login, Ok(Progress::Accepted));
}

#[test]
fn secrets_that_cannot_answer() {
    let scram = Secret::Scram("SCRAM-SHA-256$4096:..".to_owned());
    let md5 = Secret::Md5(postgres_protocol::password::md5(b"x", "u"));
    let garbled = Secret::Md5("md5".to_owned());
    let zero = Secret::Plain("a\0b".to_owned());
    let sasl = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0".as_slice();
    for (secret, body, error) in [
        (None, b"\0\0\0\x03".as_slice(), AnswerError::NoSecret(Method::Cleartext)),
        (None, b"\0\0\0\x05salt", AnswerError::NoSecret(Method::Md5)),
        (None, sasl, AnswerError::NoSecret(Method::ScramSha256)),
        (Some(&scram), b"\0\0\0\x05salt", AnswerError::SecretIsScram(Method::Md5)),
        (Some(&scram), sasl, AnswerError::SecretIsScram(Method::ScramSha256)),
        (Some(&md5), b"\0\0\0\x03", AnswerError::SecretIsMd5(Method::Cleartext)),
        (Some(&md5), sasl, AnswerError::SecretIsMd5(Method::ScramSha256)),
        (Some(&garbled), b"\0\0\0\x05salt", AnswerError::SecretUnusable),
        (Some(&zero), b"\0\0\0\x03", AnswerError::SecretUnusable),
    ] {
        let mut out = BytesMut::new();
        assert_eq!(Answer::new("u", secret).reply(body, &mut out), Err(error));
        assert!(out.is_empty());
    }
}

#[test]
fn requests_that_have_no_answer() {
    let secret = Secret::Plain("x".to_owned());
    for (body, error) in [
        (b"".as_slice(), AnswerError::Malformed),
        (b"\0\0\0\0x", AnswerError::Malformed),
        (b"\0\0\0\x03x", AnswerError::Malformed),
        (b"\0\0\0\x05sal", AnswerError::Malformed),
        (b"\0\0\0\x0aSCRAM-SHA-256", AnswerError::Malformed),
        (b"\0\0\0\x02", AnswerError::Unsupported(Method::KerberosV5)),
        (b"\0\0\0\x06", AnswerError::Unsupported(Method::Scm)),
        (b"\0\0\0\x07", AnswerError::Unsupported(Method::Gss)),
        (b"\0\0\0\x09", AnswerError::Unsupported(Method::Sspi)),
        (b"\0\0\0\x63", AnswerError::Unsupported(Method::Unknown(99))),
        (b"\0\0\0\x0bx", AnswerError::OutOfTurn(11)),
        (b"\0\0\0\x0aOAUTHBEARER\0X\0\0", AnswerError::Mechanisms("OAUTHBEARER, X".to_owned())),
    ] {
        assert_eq!(Answer::new("u", Some(&secret)).reply(body, &mut BytesMut::new()), Err(error));
    }
    let text = AnswerError::Unsupported(Method::Gss).to_string();
    assert_eq!(text, "the server asks for GSSAPI, which pgweir does not support");
}

#[test]
fn a_clear_text_password_is_sent_once() {
    let mut out = BytesMut::new();
    let mut answer = Answer::new("u", Some(&Secret::Plain("secret".to_owned())));
    assert_eq!(answer.reply(b"\0\0\0\x03", &mut out), Ok(Done::More));
    assert_eq!(body(&mut out, b'p'), b"secret\0");
    assert_eq!(answer.reply(b"\0\0\0\x03", &mut out), Err(AnswerError::OutOfTurn(3)));
    assert_eq!(answer.reply(b"\0\0\0\0", &mut out), Err(AnswerError::OutOfTurn(0)));
    assert!(out.is_empty());
}

/// The server-first-message to what our side has said, over the salt `salt` and two rounds.
fn server_first(answer: &mut Answer) -> (String, String) {
    let mut out = BytesMut::new();
    assert_eq!(answer.reply(b"\0\0\0\x0aSCRAM-SHA-256\0\0", &mut out), Ok(Done::More));
    let body = body(&mut out, b'p');
    let (_, data) = message::split_initial_response(&body).unwrap();
    let bare = std::str::from_utf8(data.unwrap()).unwrap().strip_prefix("n,,").unwrap().to_owned();
    let nonce = bare.split_once("r=").unwrap().1;
    (format!("r={nonce}server,s={},i=4096", STANDARD.encode("salt")), bare)
}

fn coded(code: u32, data: &str) -> Vec<u8> {
    [code.to_be_bytes().as_slice(), data.as_bytes()].concat()
}

#[test]
fn a_server_has_to_prove_itself() {
    let secret = Secret::Plain(PASSWORD.to_owned());
    let mut out = BytesMut::new();
    let ok = coded(0, "");
    let begun = |out: &mut BytesMut| {
        let mut answer = Answer::new("u", Some(&secret));
        let (first, bare) = server_first(&mut answer);
        assert_eq!(answer.reply(&coded(11, &first), out), Ok(Done::More));
        let last = String::from_utf8(body(out, b'p')).unwrap();
        let message = format!("{bare},{first},{}", last.rsplit_once(",p=").unwrap().0);
        let signature = Verifier::derive(PASSWORD, b"salt").signature(message.as_bytes());
        (answer, signature)
    };

    let (mut answer, signature) = begun(&mut out);
    let proof = coded(12, &format!("v={}", STANDARD.encode(signature)));
    assert_eq!(answer.reply(&proof, &mut out), Ok(Done::More));
    assert_eq!(answer.reply(&ok, &mut out), Ok(Done::Ok));

    let (mut answer, _) = begun(&mut out);
    assert_eq!(answer.reply(&ok, &mut out), Err(AnswerError::ServerUnproven));

    let (mut answer, signature) = begun(&mut out);
    let forged = coded(12, &format!("v={}", STANDARD.encode(hmac(&signature, b""))));
    assert!(matches!(answer.reply(&forged, &mut out), Err(AnswerError::Scram(_))));
    assert_eq!(answer.reply(&ok, &mut out), Err(AnswerError::OutOfTurn(0)));

    let (mut answer, _) = begun(&mut out);
    assert!(matches!(answer.reply(&coded(12, "e=other-error"), &mut out), Err(AnswerError::Scram(_))));

    let mut answer = Answer::new("u", Some(&secret));
    server_first(&mut answer);
    assert_eq!(answer.reply(&ok, &mut out), Err(AnswerError::ServerUnproven));

    let mut answer = Answer::new("u", Some(&secret));
    let (first, _) = server_first(&mut answer);
    let foreign = coded(11, &first.replace("r=", "r=x"));
    assert!(matches!(answer.reply(&foreign, &mut out), Err(AnswerError::Scram(_))));
    assert!(out.is_empty());
}

#[test]
fn secrets_stay_out_of_the_log() {
    let options = options(AuthType::ScramSha256);
    assert!(!format!("{options:?}").contains("pencil"));
}

/// Bytes that look like the protocol often enough to get somewhere.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let scram = "[nyp],(a=x)?,n=,r=[a-z]{0,8}(,[a-z]=[a-z]{0,3}){0,2}";
    let last = "c=(biws|eSws),r=[a-z]{0,30},p=[A-Za-z0-9+/]{43}=";
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        scram.prop_map(|text| initial_response(text.as_bytes())),
        last.prop_map(String::into_bytes),
        "(md5)?[0-9a-f]{32}\0".prop_map(String::into_bytes),
        (0u32..13, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(code, data)| {
            let mut body = code.to_be_bytes().to_vec();
            body.extend(data);
            body
        }),
        "(SCRAM-SHA-256(-PLUS)?\0){0,2}\0".prop_map(|list| coded(10, &list)),
        "r=[a-z]{0,8},s=[A-Za-z0-9]{4},i=[0-9]{1,3}(,x=y)?".prop_map(|text| coded(11, &text)),
        "[ve]=[A-Za-z0-9+/]{0,12}=?".prop_map(|text| coded(12, &text)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn no_bytes_are_let_in(
        bodies in prop::collection::vec(bytes(), 1..5),
        user in prop::sample::select(vec!["scram", "md5", "nobody", "empty"]),
        auth_type in prop::sample::select(vec![AuthType::Md5, AuthType::ScramSha256]),
    ) {
        let mut out = BytesMut::new();
        let mut challenge = directory_of_tests(auth_type).challenge(user);
        prop_assert_eq!(challenge.start(&mut out), Progress::Continue);
        for body in bodies {
            prop_assert_ne!(challenge.answer(&body, &mut out), Progress::Accepted);
        }
    }

    #[test]
    fn no_bytes_upset_an_answer(
        bodies in prop::collection::vec(bytes(), 1..5),
        secret in prop::sample::select(vec![None, Some(Secret::Plain("x".to_owned())), Some(Secret::Md5("md5".to_owned()))]),
    ) {
        let mut out = BytesMut::new();
        let mut answer = Answer::new("u", secret.as_ref());
        let mut asked = false;
        for body in bodies {
            match answer.reply(&body, &mut out) {
                // By these bytes no server has proven itself: an Ok is one that asked nothing, or asked without SCRAM.
                Ok(Done::Ok) => prop_assert!(!asked),
                Ok(Done::More) => asked |= body.get(3) == Some(&10),
                Err(_) => {}
            }
        }
    }
}

/// One directory for all cases: making the verifier of a test is slow without optimization.
fn directory_of_tests(auth_type: AuthType) -> &'static Directory {
    static MD5: std::sync::LazyLock<Directory> = std::sync::LazyLock::new(|| directory(AuthType::Md5));
    static SCRAM: std::sync::LazyLock<Directory> =
        std::sync::LazyLock::new(|| directory(AuthType::ScramSha256));
    match auth_type {
        AuthType::Md5 => &MD5,
        AuthType::Trust | AuthType::ScramSha256 => &SCRAM,
    }
}
