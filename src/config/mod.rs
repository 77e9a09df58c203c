//! A stub, to be dropped in the merge: just enough of a configuration for `pgweir demo` to be tried.

/// What the stub understands.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) servers: Vec<String>,
}

/// Stub.
pub type Complaints = toml::de::Error;

/// Stub.
///
/// # Errors
/// Not TOML.
pub fn parse(text: &str, _file: &str) -> Result<Config, Complaints> {
    let table: toml::Table = toml::from_str(text)?;
    let servers = table["databases"]["*"]["servers"].as_array().into_iter().flatten();
    Ok(Config { servers: servers.filter_map(|server| server.as_str().map(str::to_owned)).collect() })
}
