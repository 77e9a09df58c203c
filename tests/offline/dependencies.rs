//! What pgweir is built from: a new direct dependency needs a line here with its reason, and of the large ones there is
//! one version only.

use std::collections::BTreeSet;

use toml::Table;

use crate::read;

/// Every direct dependency, and what it is for.
const WANTED: &[(&str, &str)] = &[
    ("ahash", "keyed hash of statements for the judge's memory"),
    ("anyhow", "errors of `pgweir demo`, where nobody handles them one by one"),
    ("arc-swap", "the cluster's snapshot, read without a lock"),
    ("base64", "SCRAM"),
    ("bytes", "pgweir's own messages, written from the front"),
    ("clap", "the command line"),
    ("crc32fast", "the checksums of the journal's records"),
    ("hmac", "SCRAM"),
    ("http-body-util", "bodies for hyper"),
    ("hyper", "/metrics and /healthz"),
    ("hyper-util", "hyper on tokio"),
    ("md-5", "md5 authentication"),
    ("memchr", "the zero byte that ends a text"),
    ("metrics", "recorders"),
    ("metrics-exporter-prometheus", "rendering for Prometheus"),
    ("nix", "signals and users for the demo's servers"),
    ("postgres-protocol", "logging in to servers by SCRAM and MD5"),
    ("quick_cache", "the judge's memory"),
    ("rand", "cancel keys, SCRAM nonces, jitter"),
    ("serde", "JSON of `pgweir route` and of the demo"),
    ("serde_json", "the same"),
    ("sha2", "SCRAM"),
    ("regex", "rules that match a statement's text; linear in it"),
    ("socket2", "listening with options"),
    ("sqlparser", "the second opinion"),
    ("stringprep", "SASLprep of passwords"),
    ("strsim", "the nearest key in a complaint"),
    ("subtle", "comparing secrets in constant time"),
    ("tempfile", "the demo's folder"),
    ("thiserror", "error enums"),
    ("tokio", "the runtime"),
    ("tokio-postgres", "probes and the demo"),
    ("toml", "the configuration"),
    ("tracing", "the log"),
    ("tracing-subscriber", "the log's form"),
];

/// Large, or spoken on both sides: two majors of one of these would be a mistake.
const ONCE: &[&str] = &["bytes", "hyper", "postgres-protocol", "rustls", "tokio", "tokio-postgres"];

#[test]
fn every_direct_dependency_has_a_reason() {
    let manifest: Table = read("Cargo.toml").parse().unwrap();
    let found: BTreeSet<&str> =
        manifest["dependencies"].as_table().unwrap().keys().map(String::as_str).collect();
    let wanted: BTreeSet<&str> = WANTED.iter().map(|(name, _)| *name).collect();
    let new: Vec<_> = found.difference(&wanted).collect();
    assert!(new.is_empty(), "without a reason in tests/offline/dependencies.rs: {new:?}");
    let gone: Vec<_> = wanted.difference(&found).collect();
    assert!(gone.is_empty(), "no longer in Cargo.toml, remove from tests/offline/dependencies.rs: {gone:?}");
}

#[test]
fn nobody_brings_a_second_version_of_the_large_ones() {
    let lock: Table = read("Cargo.lock").parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    for name in ONCE {
        let of_it = packages.iter().filter(|package| package["name"].as_str() == Some(name));
        let versions: Vec<_> = of_it.map(|package| package["version"].as_str().unwrap()).collect();
        assert!(versions.len() <= 1, "{name} is there more than once: {versions:?}; see `cargo tree -d`");
    }
}

#[test]
fn everything_comes_from_the_registry() {
    let lock: Table = read("Cargo.lock").parse().unwrap();
    for package in lock["package"].as_array().unwrap() {
        let source = package.get("source").and_then(|source| source.as_str());
        let name = package["name"].as_str().unwrap();
        assert!(
            name == "pgweir" || source.is_some_and(|source| source.starts_with("registry+")),
            "{name} comes from {source:?}"
        );
    }
}
