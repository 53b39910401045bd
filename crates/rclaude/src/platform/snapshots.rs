//! Where states outlive this machine's disk: from flags and the environment to what the server
//! takes.

use rclaude_server::snapshots::{Location, S3Access, Secret, SnapshotOptions};
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
