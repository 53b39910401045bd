//! The client's settings: where each comes from, and which wins.
//!
//! A flag beats the environment, the environment beats the file, the file beats what is found on
//! this host. This is the only place that reads the environment, so that `rclaude config list`
//! can show all there is. The token of a server found on this host is sent to that server alone.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use url::Url;

use crate::{exit::Failure, platform, values};

/// Where a server listens unless told otherwise.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7080);

/// One setting that exists.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its name in the file and on the command line.
    pub(crate) name: &'static str,
    /// The environment variable that beats the file.
    pub(crate) variable: &'static str,
    /// What it does.
    pub(crate) description: &'static str,
    /// Not to be shown.
    pub(crate) secret: bool,
    check: fn(&str) -> Result<(), String>,
}

/// Every setting there is.
pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "url",
        variable: "RCLAUDE_URL",
        description: "the server to speak to; one found on this host if absent",
        secret: false,
        check: |text| server_url(text).map(drop),
    },
    Key {
        name: "token",
        variable: "RCLAUDE_TOKEN",
        description: "the API key to send; the local server's own if absent",
        secret: true,
        check: |text| {
            if text.bytes().all(|b| b.is_ascii_graphic()) && !text.is_empty() {
                Ok(())
            } else {
                Err("an API key is one word".to_owned())
            }
        },
    },
    Key {
        name: "data_dir",
        variable: "RCLAUDE_DATA_DIR",
        description: "where a server on this host keeps its state",
        secret: false,
        check: |text| {
            if Path::new(text).is_absolute() { Ok(()) } else { Err("an absolute path".to_owned()) }
        },
    },
    Key {
        name: "listen",
        variable: "RCLAUDE_LISTEN",
        description: "where a server on this host listens; 127.0.0.1:7080 if absent",
        secret: false,
        check: |text| text.parse::<SocketAddr>().map(drop).map_err(|_| "ADDRESS:PORT".to_owned()),
    },
    Key {
        name: "ssh",
        variable: "RCLAUDE_SSH",
        description: "where a server on this host lets SSH clients in; nowhere if absent",
        secret: false,
        check: |text| match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(()),
            Ok(_) => Err("an address of this host alone, such as 127.0.0.1:2222; `rclaude serve \
                          --ssh` takes others"
                .to_owned()),
            Err(_) => Err("ADDRESS:PORT".to_owned()),
        },
    },
    Key {
        name: "snapshots",
        variable: "RCLAUDE_SNAPSHOTS",
        description: "where a server on this host keeps states that outlive its disk",
        secret: false,
        check: |text| {
            if Path::new(text).is_absolute() || text.starts_with("s3://") {
                Ok(())
            } else {
                Err("an absolute path, or s3://BUCKET/PREFIX".to_owned())
            }
        },
    },
    Key {
        name: "model",
        variable: "RCLAUDE_MODEL",
        description: "model of new sessions; the agent's default if absent",
        secret: false,
        check: |text| if text.is_empty() { Err("a model's name".to_owned()) } else { Ok(()) },
    },
    Key {
        name: "permission_mode",
        variable: "RCLAUDE_PERMISSION_MODE",
        description: "what the agent of new sessions may do without asking",
        secret: false,
        check: |text| values::permission_mode(text).map(drop),
    },
    Key {
        name: "cpu",
        variable: "RCLAUDE_CPU",
        description: "CPUs of new sessions (2, 0.5, 1500m)",
        secret: false,
        check: |text| values::cpu(text).map(drop),
    },
    Key {
        name: "memory",
        variable: "RCLAUDE_MEMORY",
        description: "memory of new sessions (512M, 4G)",
        secret: false,
        check: |text| values::memory(text).map(drop),
    },
    Key {
        name: "template",
        variable: "RCLAUDE_TEMPLATE",
        description: "what new sessions' systems are made of; `host` if absent",
        secret: false,
        check: |text| if text.is_empty() { Err("a template's name".to_owned()) } else { Ok(()) },
    },
    Key {
        name: "idle",
        variable: "RCLAUDE_IDLE",
        description: "a server on this host freezes idle sessions after this; 5m if absent",
        secret: false,
        check: |text| values::limit(text).map(drop),
    },
    Key {
        name: "hibernate_after",
        variable: "RCLAUDE_HIBERNATE_AFTER",
        description: "it hibernates what was frozen for this long; 30m if absent",
        secret: false,
        check: |text| values::limit(text).map(drop),
    },
    Key {
        name: "archive_after",
        variable: "RCLAUDE_ARCHIVE_AFTER",
        description: "it archives what was hibernated for this long; 14d if absent",
        secret: false,
        check: |text| values::limit(text).map(drop),
    },
    Key {
        name: "checkpoint_every",
        variable: "RCLAUDE_CHECKPOINT_EVERY",
        description: "it keeps the state of sessions at work so often; 5m if absent",
        secret: false,
        check: |text| values::limit(text).map(drop),
    },
    Key {
        name: "keep_checkpoints",
        variable: "RCLAUDE_KEEP_CHECKPOINTS",
        description: "automatic checkpoints it keeps of each session; 50 if absent",
        secret: false,
        check: count,
    },
    Key {
        name: "max_sessions",
        variable: "RCLAUDE_MAX_SESSIONS",
        description: "sessions it lets there be; 10000 if absent",
        secret: false,
        check: count,
    },
];

fn count(text: &str) -> Result<(), String> {
    match text.parse::<u32>() {
        Ok(1..) => Ok(()),
        _ => Err("a number, 1 or more".to_owned()),
    }
}

/// A setting by name; the failure lists those that exist.
pub(crate) fn key(name: &str) -> Result<&'static Key, Failure> {
    KEYS.iter().find(|key| key.name == name).ok_or_else(|| {
        let known: Vec<_> = KEYS.iter().map(|key| key.name).collect();
        Failure::Usage(format!("there is no setting `{name}`; there are {}", known.join(", ")))
    })
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Typed on the command line.
    Flag,
    /// This environment variable.
    Environment(&'static str),
    /// The settings file.
    File,
    /// A server that wrote down where it is.
    LocalServer,
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Environment(variable) => f.write_str(variable),
            Self::File => f.write_str("file"),
            Self::LocalServer => f.write_str("local server"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The process's environment, taken once; tests bring their own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// This process's. Variables that are not UTF-8 are not ours.
    pub(crate) fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
        )
    }

    /// A variable's value; an empty one counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn home(&self) -> PathBuf {
        PathBuf::from(self.get("HOME").unwrap_or("/"))
    }

    /// A path as typed, with a leading `~/` meaning the home directory.
    pub(crate) fn expand(&self, path: &str) -> PathBuf {
        match path.strip_prefix("~/") {
            Some(rest) => self.home().join(rest),
            None if path == "~" => self.home(),
            None => PathBuf::from(path),
        }
    }

    /// A directory of the XDG base directory specification; relative values are ignored, as it
    /// asks.
    fn xdg(&self, variable: &str, otherwise: &str) -> PathBuf {
        match self.get(variable).map(Path::new) {
            Some(path) if path.is_absolute() => path.to_owned(),
            _ => self.home().join(otherwise),
        }
    }
}

/// All settings, by where they come from.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The environment they were read in.
    pub(crate) environment: Environment,
    /// Where the file is, or would be.
    pub(crate) path: PathBuf,
    flags: BTreeMap<&'static str, String>,
    file: BTreeMap<String, String>,
}

/// Where to send requests, and with what.
#[derive(Clone)]
pub(crate) struct Connection {
    /// The server.
    pub(crate) url: Url,
    /// How we came by it.
    pub(crate) source: Source,
    /// The API key.
    pub(crate) token: Option<String>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("url", &self.url.as_str())
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads the file, if there is one. `flags` are the settings typed on the command line.
    pub(crate) fn load(
        environment: Environment,
        flags: BTreeMap<&'static str, String>,
    ) -> Result<Self, Failure> {
        let path = environment.xdg("XDG_CONFIG_HOME", ".config").join("rclaude/config.toml");
        let file = match fs::read_to_string(&path) {
            Ok(text) => parse(&text)
                .map_err(|why| Failure::Usage(format!("in {}: {why}", path.display())))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                return Err(Failure::Failed(format!("cannot read {}: {error}", path.display())));
            }
        };
        let settings = Self { environment, path, flags, file };
        for key in KEYS {
            if let Some((value, source)) = settings.get(key)
                && let Err(why) = (key.check)(&value)
            {
                return Err(Failure::Usage(format!("{} (from {source}): {why}", key.name)));
            }
        }
        Ok(settings)
    }

    /// A setting's value and where it comes from, if anybody gave one.
    pub(crate) fn get(&self, key: &Key) -> Option<(String, Source)> {
        let flag = self.flags.get(key.name).map(|value| (value.clone(), Source::Flag));
        let variable = || {
            let value = self.environment.get(key.variable)?.to_owned();
            Some((value, Source::Environment(key.variable)))
        };
        let file = || self.file.get(key.name).map(|value| (value.clone(), Source::File));
        flag.or_else(variable).or_else(file)
    }

    /// The same by name; `None` for a name that is not a setting's, too.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        let key = KEYS.iter().find(|key| key.name == name)?;
        self.get(key).map(|(value, _)| value)
    }

    /// Where a server on this host keeps its state.
    pub(crate) fn data_dir(&self) -> PathBuf {
        match self.value("data_dir") {
            Some(path) => self.environment.expand(&path),
            None => self.environment.xdg("XDG_DATA_HOME", ".local/share").join("rclaude"),
        }
    }

    /// Where a server on this host listens, unless it is told otherwise.
    pub(crate) fn listen(&self) -> SocketAddr {
        self.value("listen").and_then(|text| text.parse().ok()).unwrap_or(DEFAULT_LISTEN)
    }

    /// Where a server on this host lets SSH clients in, unless it is told otherwise.
    pub(crate) fn ssh(&self) -> Option<SocketAddr> {
        self.value("ssh").and_then(|text| text.parse().ok())
    }

    /// Where what the user's `ssh` reads of ours is kept.
    pub(crate) fn ssh_dir(&self) -> PathBuf {
        self.path.with_file_name("ssh")
    }

    /// How a server that listens there is called from this host.
    fn default_url(&self) -> Result<Url, Failure> {
        let mut address = self.listen();
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        server_url(&format!("http://{address}")).map_err(Failure::Usage)
    }

    /// The server to speak to.
    pub(crate) fn connection(&self) -> Result<Connection, Failure> {
        let data_dir = self.data_dir();
        let local = platform::local_server(&data_dir);
        let (url, source) = match (self.value("url"), &local) {
            (Some(text), _) => {
                let source = self.get(&KEYS[0]).map_or(Source::Default, |(_, source)| source);
                (server_url(&text).map_err(Failure::Usage)?, source)
            }
            (None, Some(server)) => (server.clone(), Source::LocalServer),
            (None, None) => (self.default_url()?, Source::Default),
        };
        let is_local = match &local {
            Some(server) => same_server(server, &url),
            None => source == Source::Default,
        };
        let local_token = || {
            if is_local {
                fs::read_to_string(data_dir.join("token")).ok().map(|t| t.trim().to_owned())
            } else {
                None
            }
        };
        let token = self.value("token").or_else(local_token);
        Ok(Connection { url, source, token })
    }

    /// Writes a setting into the file.
    pub(crate) fn set(&mut self, key: &Key, value: &str) -> Result<(), Failure> {
        (key.check)(value).map_err(|why| Failure::Usage(format!("{}: {why}", key.name)))?;
        self.file.insert(key.name.to_owned(), value.to_owned());
        self.save()
    }

    /// Takes a setting out of the file; whether it was there.
    pub(crate) fn unset(&mut self, key: &Key) -> Result<bool, Failure> {
        let was = self.file.remove(key.name).is_some();
        self.save()?;
        Ok(was)
    }

    /// Writes the file whole or not at all, for its owner alone: it may hold a token.
    pub(crate) fn save(&self) -> Result<(), Failure> {
        let failed = |error: &dyn fmt::Display| {
            Failure::Failed(format!("cannot write {}: {error}", self.path.display()))
        };
        let text = toml::to_string(&self.file).map_err(|error| failed(&error))?;
        let directory = self.path.parent().unwrap_or_else(|| Path::new("/"));
        let write = || -> io::Result<()> {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            let temporary = self.path.with_extension("toml.new");
            let _ = fs::remove_file(&temporary);
            let mut file =
                fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)
        };
        write().map_err(|error| failed(&error))
    }
}

/// Whether two URLs lead to one server.
fn same_server(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

/// Whether a server runs on this very host, as far as its URL tells.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A server's base URL.
pub(crate) fn server_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("`{text}` is not a URL: {error}"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err(format!("`{text}` is not a server's URL; say http://HOST:PORT or https://HOST")),
    }
}

/// A URL of which the names of previews are subdomains.
pub(crate) fn preview_url(text: &str) -> Result<Url, String> {
    let url = server_url(text)?;
    match url.domain() {
        Some(_) if url.path() == "/" && url.query().is_none() => Ok(url),
        _ => Err(format!("`{text}` has no subdomains; say https://previews.example.org")),
    }
}

/// The file's settings. Numbers and truth values are taken as the words they are written in.
fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    table
        .into_iter()
        .map(|(name, value)| {
            key(&name).map_err(|failure| failure.to_string())?;
            match value {
                toml::Value::String(text) => Ok((name, text)),
                toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => {
                    Ok((name, value.to_string()))
                }
                _ => Err(format!("`{name}` wants a single value")),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(
        home: &Path,
        variables: &[(&str, &str)],
        flags: &[(&'static str, &str)],
    ) -> Result<Settings, Failure> {
        let mut environment = Environment::default();
        environment.0.insert("HOME".to_owned(), home.display().to_string());
        for (name, value) in variables {
            environment.0.insert((*name).to_owned(), (*value).to_owned());
        }
        Settings::load(environment, flags.iter().map(|(n, v)| (*n, (*v).to_owned())).collect())
    }

    fn write(home: &Path, text: &str) {
        fs::create_dir_all(home.join(".config/rclaude")).unwrap();
        fs::write(home.join(".config/rclaude/config.toml"), text).unwrap();
    }

    fn local_server(home: &Path, url: &str) {
        let data = home.join(".local/share/rclaude");
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("server.json"), format!(r#"{{"url":"{url}","pid":1}}"#)).unwrap();
        fs::write(data.join("token"), "rck_local\n").unwrap();
    }

    #[test]
    fn a_flag_beats_the_environment_which_beats_the_file_which_beats_a_local_server() {
        let home = tempfile::tempdir().unwrap();
        let url = |variables: &[_], flags: &[_]| {
            let found = settings(home.path(), variables, flags).unwrap().connection().unwrap();
            (found.url.to_string(), found.source)
        };
        assert_eq!(url(&[], &[]), ("http://127.0.0.1:7080/".to_owned(), Source::Default));
        local_server(home.path(), "http://127.0.0.1:7999/");
        assert_eq!(url(&[], &[]), ("http://127.0.0.1:7999/".to_owned(), Source::LocalServer));
        write(home.path(), "url = \"http://file\"");
        assert_eq!(url(&[], &[]), ("http://file/".to_owned(), Source::File));
        let env = [("RCLAUDE_URL", "http://env")];
        assert_eq!(url(&env, &[]), ("http://env/".to_owned(), Source::Environment("RCLAUDE_URL")));
        assert_eq!(url(&env, &[("url", "http://flag")]), ("http://flag/".to_owned(), Source::Flag));
    }

    #[test]
    fn the_local_servers_token_goes_to_the_local_server_alone() {
        let home = tempfile::tempdir().unwrap();
        local_server(home.path(), "http://127.0.0.1:7999/");
        let token =
            |flags: &[_]| settings(home.path(), &[], flags).unwrap().connection().unwrap().token;
        assert_eq!(token(&[]).as_deref(), Some("rck_local"));
        assert_eq!(token(&[("url", "http://127.0.0.1:7999")]).as_deref(), Some("rck_local"));
        assert_eq!(token(&[("url", "https://elsewhere.example")]), None);
        assert_eq!(token(&[("url", "http://127.0.0.1:8000")]), None);
    }

    #[test]
    fn a_setting_is_kept_for_its_owner_alone_and_read_back() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let mut first = settings(home.path(), &[], &[]).unwrap();
        first.set(key("model").unwrap(), "opus").unwrap();
        first.set(key("cpu").unwrap(), "0.5").unwrap();
        let again = settings(home.path(), &[], &[]).unwrap();
        assert_eq!(again.get(key("model").unwrap()), Some(("opus".to_owned(), Source::File)));
        assert_eq!(fs::metadata(&again.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(first.unset(key("model").unwrap()).unwrap());
        assert_eq!(settings(home.path(), &[], &[]).unwrap().value("model"), None);
    }

    #[test]
    fn wrong_values_are_refused_with_where_they_came_from() {
        let home = tempfile::tempdir().unwrap();
        let error = settings(home.path(), &[("RCLAUDE_MEMORY", "lots")], &[]).unwrap_err();
        assert!(error.to_string().starts_with("memory (from RCLAUDE_MEMORY)"), "{error}");
        write(home.path(), "colour = 3");
        let error = settings(home.path(), &[], &[]).unwrap_err();
        assert!(error.to_string().contains("no setting `colour`"), "{error}");
    }

    #[test]
    fn numbers_in_the_file_need_no_quotes() {
        let home = tempfile::tempdir().unwrap();
        write(home.path(), "cpu = 4\nmemory = '8G'");
        assert_eq!(settings(home.path(), &[], &[]).unwrap().value("cpu").as_deref(), Some("4"));
    }
}
