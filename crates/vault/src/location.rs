//! Where a vault is.

use std::{fmt, path::PathBuf, str::FromStr};

use url::Url;

use crate::{Secret, VaultError};

/// Where a vault is.
#[derive(Debug, Clone)]
pub enum Location {
    /// A directory on this machine.
    Dir(PathBuf),
    /// A bucket of S3, or of something that speaks its protocol.
    S3(Box<S3>),
}

/// A place in an object store.
#[derive(Debug, Clone)]
pub struct S3 {
    /// The bucket. It has to exist.
    pub bucket: String,
    /// What the names of all objects begin with, without slashes at its ends; may be empty.
    pub prefix: String,
    /// How to reach it, and as whom.
    pub access: S3Access,
}

/// How to reach an object store, and as whom. The fields stand for the environment variables that
/// every S3 tool knows; reading them is the caller's business.
#[derive(Debug, Clone, Default)]
pub struct S3Access {
    /// Where it is reached (`AWS_ENDPOINT_URL`); that of AWS when there is none. `http://` is
    /// allowed.
    pub endpoint: Option<Url>,
    /// `AWS_REGION`; `us-east-1` when there is none.
    pub region: Option<String>,
    /// `AWS_ACCESS_KEY_ID`. Without one, AWS's own ways are tried: a machine's or a pod's role.
    pub access_key_id: Option<String>,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: Option<Secret>,
    /// `AWS_SESSION_TOKEN`.
    pub session_token: Option<Secret>,
}

impl Location {
    /// The same place, reached so; a directory stays as it is.
    #[must_use]
    pub fn with_access(self, access: S3Access) -> Self {
        match self {
            Self::S3(s3) => Self::S3(Box::new(S3 { access, ..*s3 })),
            Self::Dir(path) => Self::Dir(path),
        }
    }
}

impl FromStr for Location {
    type Err = VaultError;

    /// `/path/to/a/directory` or `s3://bucket/prefix`.
    fn from_str(text: &str) -> Result<Self, VaultError> {
        let wrong = |why: &str| {
            VaultError::Invalid(format!(
                "{text:?} is no place for a vault: {why}; give /an/absolute/path or \
                 s3://bucket/prefix"
            ))
        };
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
            if bucket.len() < 3 || !bucket.chars().all(plain) {
                return Err(wrong("the bucket's name is not one"));
            }
            let prefix = prefix.trim_matches('/');
            if prefix.split('/').any(|part| part == "." || part == "..")
                || prefix.contains("//")
                || prefix.contains(char::is_control)
            {
                return Err(wrong("the prefix cannot be kept as it is"));
            }
            return Ok(Self::S3(Box::new(S3 {
                bucket: bucket.to_owned(),
                prefix: prefix.to_owned(),
                access: S3Access::default(),
            })));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(wrong(&format!("{scheme}:// is not known")));
        }
        if !text.starts_with('/') {
            return Err(wrong("the path is not absolute"));
        }
        Ok(Self::Dir(PathBuf::from(text)))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(path) => write!(f, "{}", path.display()),
            Self::S3(s3) if s3.prefix.is_empty() => write!(f, "s3://{}", s3.bucket),
            Self::S3(s3) => write!(f, "s3://{}/{}", s3.bucket, s3.prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Location;

    #[test]
    fn a_location_reads_back_as_it_was_written() {
        for text in ["/var/lib/vault", "s3://bucket", "s3://my-bucket/some/prefix"] {
            assert_eq!(text.parse::<Location>().unwrap().to_string(), text);
        }
        assert_eq!("s3://bucket/a/".parse::<Location>().unwrap().to_string(), "s3://bucket/a");
    }

    #[test]
    fn what_is_no_location_is_refused_with_what_to_give() {
        for text in ["", "relative/path", "ftp://host/x", "s3://", "s3:///x", "s3://bucket/../x"] {
            let error = text.parse::<Location>().unwrap_err().to_string();
            assert!(error.contains("s3://bucket/prefix"), "{text}: {error}");
        }
    }
}
