//! A vault in an object store.

use std::{
    io::{self, ErrorKind},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use object_store::{
    Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, UpdateVersion,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path,
};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

use super::Store;
use crate::{Result, VaultError, location::S3};

/// Requests under way at once: what they wait for is the way there and back.
const PARALLEL: usize = 16;

/// How long a pruner that died keeps others from pruning. Far longer than any prune takes.
const LEASE: Duration = Duration::from_hours(6);

pub(crate) struct S3Store {
    objects: Arc<AmazonS3>,
    prefix: String,
    runtime: Arc<Machinery>,
}

/// The threads that move bytes: the store's own, because it is called from threads that block,
/// and some of those belong to no runtime.
struct Machinery(Option<Runtime>);

impl Machinery {
    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.as_ref().expect("there until it is dropped").block_on(future)
    }
}

impl Drop for Machinery {
    fn drop(&mut self) {
        // Waiting for its threads would be forbidden where this is dropped by async code.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl S3Store {
    pub(crate) fn new(place: &S3) -> Result<Self> {
        let access = &place.access;
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&place.bucket)
            .with_region(access.region.as_deref().unwrap_or("us-east-1"));
        if let Some(endpoint) = &access.endpoint {
            builder = builder
                .with_endpoint(endpoint.as_str().trim_end_matches('/'))
                .with_allow_http(endpoint.scheme() == "http");
        }
        if let Some(id) = &access.access_key_id {
            builder = builder.with_access_key_id(id);
        }
        if let Some(secret) = &access.secret_access_key {
            builder = builder.with_secret_access_key(secret.expose());
        }
        if let Some(token) = &access.session_token {
            builder = builder.with_token(token.expose());
        }
        let objects = builder.build().map_err(|error| {
            VaultError::Invalid(format!("s3://{} cannot be used: {error}", place.bucket))
        })?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("vault-s3")
            .enable_all()
            .build()
            .map_err(|error| VaultError::Internal(format!("no threads for S3: {error}")))?;
        Ok(Self {
            objects: Arc::new(objects),
            prefix: place.prefix.clone(),
            runtime: Arc::new(Machinery(Some(runtime))),
        })
    }

    fn at(&self, path: &str) -> Path {
        Path::from(format!("{}/{path}", self.prefix))
    }

    /// What is below a folder: names relative to it, and sizes.
    fn below(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        let folder = self.at(folder);
        let listing = async {
            let objects: Vec<_> = self.objects.list(Some(&folder)).try_collect().await?;
            Ok::<_, Error>(objects)
        };
        let objects = self.runtime.wait(listing).map_err(plain)?;
        let named = objects.into_iter().filter_map(|object| {
            let parts: Vec<_> = object.location.prefix_match(&folder)?.collect();
            let name: Vec<_> = parts.iter().map(AsRef::as_ref).collect();
            Some((name.join("/"), object.size))
        });
        Ok(named.collect())
    }
}

impl Store for S3Store {
    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        let mut found = self.below(folder)?;
        for (name, _) in &mut found {
            if let Some(slash) = name.rfind('/') {
                name.drain(..=slash);
            }
        }
        Ok(found)
    }

    fn read(&self, path: &str) -> io::Result<Bytes> {
        let path = self.at(path);
        let reading = async { self.objects.get(&path).await?.bytes().await };
        self.runtime.wait(reading).map_err(plain)
    }

    fn read_range(&self, path: &str, offset: u64, length: usize) -> io::Result<Bytes> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let path = self.at(path);
        let range = offset..offset + length as u64;
        let bytes = self.runtime.wait(self.objects.get_range(&path, range)).map_err(plain)?;
        if bytes.len() == length { Ok(bytes) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }

    fn write(&self, path: &str, parts: Vec<Bytes>) -> io::Result<()> {
        let payload = PutPayload::from_iter(parts);
        self.runtime.wait(self.objects.put(&self.at(path), payload)).map_err(plain)?;
        Ok(())
    }

    fn create(&self, path: &str, content: Bytes) -> io::Result<()> {
        let path = self.at(path);
        let creating = async {
            // Asked first, for the sake of stores that overlook the condition.
            match self.objects.head(&path).await {
                Ok(_) => return Err(io::Error::from(ErrorKind::AlreadyExists)),
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(plain(error)),
            }
            let payload = PutPayload::from(content);
            let create = PutOptions::from(PutMode::Create);
            match self.objects.put_opts(&path, payload.clone(), create).await {
                Err(Error::NotImplemented { .. }) => self.objects.put(&path, payload).await,
                other => other,
            }
            .map_err(plain)
        };
        self.runtime.wait(creating)?;
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        match self.runtime.wait(self.objects.delete(&self.at(path))) {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(plain(error)),
        }
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.below("")?.iter().map(|(_, size)| size).sum())
    }

    fn parallel(&self) -> usize {
        PARALLEL
    }

    /// A lease, written under a condition that lets one writer through.
    fn lock_for_pruning(&self) -> io::Result<Box<dyn Send>> {
        let path = self.at("prune.lock");
        let lease = Lease { until: Timestamp::now() + LEASE, holder: holder() };
        let content = Bytes::from(serde_json::to_vec(&lease)?);
        let taking = async {
            let put = |mode| {
                let payload = PutPayload::from(content.clone());
                self.objects.put_opts(&path, payload, PutOptions::from(mode))
            };
            let busy = || io::Error::from(ErrorKind::WouldBlock);
            let mode = match self.objects.get(&path).await {
                Err(Error::NotFound { .. }) => PutMode::Create,
                Err(error) => return Err(plain(error)),
                Ok(there) => {
                    let version = UpdateVersion {
                        e_tag: there.meta.e_tag.clone(),
                        version: there.meta.version.clone(),
                    };
                    let held = there.bytes().await.map_err(plain)?;
                    match serde_json::from_slice::<Lease>(&held) {
                        Ok(held) if held.until > Timestamp::now() => return Err(busy()),
                        _ => PutMode::Update(version),
                    }
                }
            };
            match put(mode).await {
                Ok(_) => Ok(()),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Err(busy()),
                Err(Error::NotImplemented { .. }) => {
                    put(PutMode::Overwrite).await.map_err(plain)?;
                    Ok(())
                }
                Err(error) => Err(plain(error)),
            }
        };
        self.runtime.wait(taking)?;
        Ok(Box::new(Held {
            objects: Arc::clone(&self.objects),
            runtime: Arc::clone(&self.runtime),
            path,
        }))
    }

    fn sweep(&self, _older_than: Duration) -> io::Result<()> {
        Ok(())
    }
}

/// Who prunes, and until when at most.
#[derive(Serialize, Deserialize)]
struct Lease {
    until: Timestamp,
    holder: String,
}

fn holder() -> String {
    format!("process {} at {}", std::process::id(), Timestamp::now())
}

struct Held {
    objects: Arc<AmazonS3>,
    runtime: Arc<Machinery>,
    path: Path,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Err(error) = self.runtime.wait(self.objects.delete(&self.path)) {
            tracing::warn!(%error, "the lease for pruning could not be given back, it runs out");
        }
    }
}

/// The same in terms that directories know too.
fn plain(error: Error) -> io::Error {
    let kind = match &error {
        Error::NotFound { .. } => ErrorKind::NotFound,
        Error::AlreadyExists { .. } => ErrorKind::AlreadyExists,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            ErrorKind::PermissionDenied
        }
        _ => ErrorKind::Other,
    };
    io::Error::new(kind, error)
}
