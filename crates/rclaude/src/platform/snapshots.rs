//! Where states outlive this machine's disk: from flags and the environment to what the server
//! takes.

use std::path::{Path, PathBuf};

use rclaude_server::snapshots::{
    KEYRING, Location, Progress, RestoreKey, RestoreOptions, Restored, S3Access, Secret,
    SnapshotOptions, read_key_file,
};
use tokio::sync::watch;
use url::Url;

use crate::{cli::serve::ServeArgs, config::Settings, exit::Failure};

/// The variable with the passphrase that stores are locked with in place of the keyring.
pub(crate) const PASSPHRASE: &str = "RCLAUDE_SNAPSHOT_PASSPHRASE";

/// What `rclaude serve` was told of snapshots and backups.
pub(super) fn options(args: &ServeArgs, settings: &Settings) -> Result<SnapshotOptions, Failure> {
    let access = access(settings)?;
    let place =
        |text: &Option<String>| text.as_deref().map(|text| location(text, &access)).transpose();
    Ok(SnapshotOptions {
        location: match &args.snapshots {
            Some(_) => place(&args.snapshots)?,
            None => place(&settings.value("snapshots"))?,
        },
        backup_to: place(&args.backup_to)?,
        backup_every: args.backup_every,
        import_limit: args.import_limit.map(|mebibytes| u64::from(mebibytes) << 20),
        passphrase: settings.environment.get(PASSPHRASE).map(Secret::new),
        access,
    })
}

/// A place by its name: an absolute path, or `s3://bucket/prefix`.
pub(crate) fn location(text: &str, access: &S3Access) -> Result<Location, Failure> {
    let parsed: Result<Location, _> = text.parse();
    parsed.map(|place| place.with_access(access.clone())).map_err(|e| Failure::Usage(e.to_string()))
}

/// How S3 is reached, from the variables that all its tools know.
pub(crate) fn access(settings: &Settings) -> Result<S3Access, Failure> {
    let env = |name: &str| settings.environment.get(name);
    let endpoint = env("AWS_ENDPOINT_URL_S3").or_else(|| env("AWS_ENDPOINT_URL"));
    let endpoint = endpoint
        .map(Url::parse)
        .transpose()
        .map_err(|error| Failure::Usage(format!("AWS_ENDPOINT_URL is not a URL: {error}")))?;
    Ok(S3Access {
        endpoint,
        region: env("AWS_REGION").or_else(|| env("AWS_DEFAULT_REGION")).map(str::to_owned),
        access_key_id: env("AWS_ACCESS_KEY_ID").map(str::to_owned),
        secret_access_key: env("AWS_SECRET_ACCESS_KEY").map(Secret::new),
        session_token: env("AWS_SESSION_TOKEN").map(Secret::new),
    })
}

/// The keyring of a server on this host: its file, and the key in hexadecimal.
pub(crate) fn keyring(data_dir: &Path) -> Result<(PathBuf, String), Failure> {
    let file = data_dir.join(KEYRING);
    if !file.exists() {
        return Err(Failure::Failed(format!(
            "there is no {}: a server makes it when it first keeps something",
            file.display()
        )));
    }
    let key = read_key_file(&file).map_err(|error| Failure::Failed(error.to_string()))?;
    Ok((file, key.iter().map(|byte| format!("{byte:02x}")).collect()))
}

/// What opens a backup.
#[derive(Debug)]
pub(crate) enum Opener {
    /// The lost server's key, in a file.
    KeyFile(PathBuf),
    /// The passphrase it was given.
    Passphrase(String),
}

/// Makes the settings' data directory of a backup.
pub(crate) async fn restore(
    settings: &Settings,
    place: &str,
    backup: Option<String>,
    opener: Opener,
    lazy: bool,
    step: watch::Sender<&'static str>,
) -> Result<Restored, Failure> {
    let key = match opener {
        Opener::KeyFile(file) => RestoreKey::Keyring(
            read_key_file(&file).map_err(|error| Failure::Usage(error.to_string()))?,
        ),
        Opener::Passphrase(passphrase) => RestoreKey::Passphrase(Secret::new(passphrase)),
    };
    let options = RestoreOptions {
        data_dir: settings.data_dir(),
        from: location(place, &access(settings)?)?,
        backup,
        key,
        lazy,
        supervisor: vec![std::env::current_exe()?.into(), super::SUPERVISOR.into()],
    };
    let mut tell = |at| {
        step.send_replace(match at {
            Progress::Repositories => "bringing back repositories",
            Progress::Database => "bringing back the database",
            Progress::Layers(..) => "bringing back files",
        });
    };
    Ok(rclaude_server::snapshots::restore(options, &mut tell).await?)
}
