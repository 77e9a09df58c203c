//! Who comes in, and as whom pgweir logs in to the servers: every method on both sides, with real clients and servers.

use pgweir::cli::demo::cluster::Cluster;

use crate::programs::{Output, SOON, cluster, configured, port, psql};

/// One role for each method that a server may ask for; all have the same password.
const METHODS: [(&str, &str); 4] =
    [("scram", "scram-sha-256"), ("hashed", "md5"), ("clear", "password"), ("trusted", "trust")];

/// Servers that ask each role of `METHODS` in another way. The password is `s3cret ü'x`.
async fn servers() -> Cluster {
    let mut builder = cluster().replicas(1);
    for (role, method) in METHODS {
        builder = builder.hba(&format!("host all {role} 127.0.0.1/32 {method}"));
    }
    let cluster = builder.start().await.unwrap();
    for (role, method) in METHODS {
        let encryption = if method == "md5" { "md5" } else { "scram-sha-256" };
        let text = format!(
            "SET password_encryption = '{encryption}'; CREATE ROLE {role} LOGIN PASSWORD 's3cret ü''x'"
        );
        cluster.primary().sql(&text).await.unwrap();
    }
    cluster.wait_replayed(SOON).await.unwrap();
    cluster
}

/// What pg_authid has for a role.
async fn stored(cluster: &Cluster, role: &str) -> String {
    cluster
        .primary()
        .value(&format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'"))
        .await
        .unwrap()
}

const PASSWORD: &str = "s3cret ü'x";

async fn login(port: u16, role: &str, password: &str) -> Output {
    // A read and a write: a connection to each server.
    let script = ["-At", "-c", "SELECT current_user", "-c", "CREATE TEMP TABLE mine AS SELECT 1", "-U", role];
    psql(port, "postgres", &script).env("PGPASSWORD", password).run().await
}

#[track_caller]
fn assert_in(told: Output, role: &str) {
    assert_eq!(told.ok(), format!("{role}\nSELECT 1\n"));
}

#[track_caller]
fn assert_refused(told: &Output, role: &str) {
    let said = format!("FATAL:  password authentication failed for user \"{role}\"");
    assert!(told.code == Some(2) && told.err.contains(&said), "{told:?}");
}

#[tokio::test]
async fn servers_are_logged_in_to_by_every_method() {
    let cluster = servers().await;
    let mut users = String::new();
    for (role, _) in METHODS {
        users.push_str(&format!("[users.{role}]\npassword = \"{PASSWORD}\"\n"));
    }
    for auth_type in ["scram-sha-256", "md5", "trust"] {
        let pgweir = configured(&cluster, &format!("auth_type = \"{auth_type}\""), &users).await;
        for (role, _) in METHODS {
            assert_in(login(port(&pgweir), role, PASSWORD).await, role);
            if auth_type != "trust" {
                assert_refused(&login(port(&pgweir), role, "wrong").await, role);
                assert_refused(&login(port(&pgweir), role, &PASSWORD.to_uppercase()).await, role);
            }
        }
    }
}

#[tokio::test]
async fn clients_prove_themselves_by_every_secret() {
    let cluster = servers().await;
    let verifier = stored(&cluster, "scram").await;
    let hash = stored(&cluster, "hashed").await;
    assert!(verifier.starts_with("SCRAM-SHA-256$") && hash.starts_with("md5"));
    // The servers are logged in to as one role, whoever the client is.
    let rest = format!(
        "[users.scram]\npassword = \"{verifier}\"\n[users.plain]\npassword = \"{PASSWORD}\"\n\
         [databases.postgres]\nservers = SERVERS\nuser = \"clear\"\npassword = \"{PASSWORD}\"\n"
    );
    let with_hash = format!("[users.hashed]\npassword = \"{hash}\"\n{rest}");
    // A hash cannot serve SCRAM: `pgweir check` says so.
    let both = [
        ("scram-sha-256", &rest, &["scram", "plain"][..]),
        ("md5", &with_hash, &["scram", "hashed", "plain"]),
    ];
    for (auth_type, rest, come_in) in both {
        let pgweir = configured(&cluster, &format!("auth_type = \"{auth_type}\""), rest).await;
        let port = port(&pgweir);
        for role in ["scram", "hashed", "plain"] {
            if come_in.contains(&role) {
                assert_in(login(port, role, PASSWORD).await, "clear");
            } else {
                assert_refused(&login(port, role, PASSWORD).await, role);
            }
            assert_refused(&login(port, role, "wrong").await, role);
            assert_refused(&login(port, role, if role == "scram" { &verifier } else { &hash }).await, role);
        }
        // Nothing tells an unknown user from a known one.
        assert_refused(&login(port, "nobody", PASSWORD).await, "nobody");
        let none = login(port, "plain", "").await;
        assert!(none.code == Some(2) && none.err.contains("no password supplied"), "{none:?}");
        // And the next one comes in as if nothing had been.
        assert_in(login(port, "plain", PASSWORD).await, "clear");
    }
}

#[tokio::test]
async fn a_password_that_pgweir_lacks_is_asked_for_clearly() {
    let cluster = servers().await;
    let verifier = stored(&cluster, "scram").await;
    let hash = stored(&cluster, "hashed").await;
    let rest = format!("[users.scram]\npassword = \"{verifier}\"\n[users.clear]\npassword = \"{hash}\"\n");
    let pgweir = configured(&cluster, "auth_type = \"trust\"", &rest).await;
    for (role, asked, known) in [
        ("scram", "SCRAM-SHA-256", "only the SCRAM verifier is configured"),
        ("clear", "a clear-text password", "only the MD5 hash is configured"),
        ("hashed", "MD5", "no password is configured for this user"),
    ] {
        let told = login(port(&pgweir), role, PASSWORD).await;
        assert_eq!(told.code, Some(2), "{told:?}");
        assert!(
            told.err.contains(&format!("the server asks for {asked}")) && told.err.contains(known),
            "{told:?}"
        );
        assert!(
            told.err.contains("HINT:  Give pgweir the user's password: [users.NAME] password"),
            "{told:?}"
        );
    }
    // It is not the server's fault: it is in use for others.
    assert_in(login(port(&pgweir), "trusted", "").await, "trusted");
}

#[tokio::test]
async fn a_forced_login_with_a_wrong_password_is_the_servers_to_refuse() {
    let cluster = servers().await;
    let rest = "[databases.postgres]\nservers = SERVERS\nuser = \"scram\"\npassword = \"wrong\"\n[databases.template1]\nservers = SERVERS\n";
    let pgweir = configured(&cluster, "auth_type = \"trust\"", rest).await;
    let told = login(port(&pgweir), "anybody", "").await;
    assert_refused(&told, "scram");
    let other = psql(port(&pgweir), "template1", &["-Atc", "SELECT 1", "-U", "trusted"]).run().await;
    assert_eq!(other.ok(), "1\n");
}
