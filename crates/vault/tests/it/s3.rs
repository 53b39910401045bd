//! The same over the network: against `s3s`, an S3 server that checks signatures, keeping objects
//! as files.

use std::{fs, path::PathBuf, time::Duration};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use rclaude_vault::{Location, S3Access, Secret, Vault, VaultError, digest};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use tokio::{net::TcpListener, task::JoinSet};

use crate::support::{KEY, Rig, everything, noise, write};

/// A server with a bucket, for as long as this is there.
struct Server {
    rig: Rig,
    endpoint: String,
    _serving: JoinSet<()>,
}

impl Server {
    async fn start() -> Self {
        let rig = Rig::new();
        fs::create_dir_all(rig.path("s3/bucket")).unwrap();
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(rig.path("s3")).unwrap());
        service.set_auth(SimpleAuth::from_single("an-id", "a-secret"));
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = service.clone();
                connections.spawn(async move {
                    let server = Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { rig, endpoint, _serving: serving }
    }

    fn location(&self, place: &str, secret: &str) -> Location {
        place.parse::<Location>().unwrap().with_access(S3Access {
            endpoint: Some(self.endpoint.parse().unwrap()),
            access_key_id: Some("an-id".to_owned()),
            secret_access_key: Some(Secret::new(secret)),
            ..S3Access::default()
        })
    }

    fn place(&self) -> Location {
        self.location("s3://bucket/some/prefix", "a-secret")
    }

    /// The vault's objects of a kind, as the server keeps them.
    fn objects(&self, kind: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut todo = vec![self.rig.path("s3/bucket/some/prefix").join(kind)];
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { todo.push(path) } else { found.push(path) }
            }
        }
        found
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_in_a_bucket_does_what_one_in_a_directory_does() {
    let server = Server::start().await;
    let (tree, back) = (server.rig.path("tree"), server.rig.path("back"));
    everything(&tree);
    let vault = Vault::open_or_create(&server.place(), &KEY).await.unwrap();
    assert_eq!(vault.location(), "s3://bucket/some/prefix");
    let first = vault.save(&tree, "layer").await.unwrap();
    write(&tree.join("new"), noise(9, 100_000));
    let second = Vault::open(&server.place(), &KEY).await.unwrap().save(&tree, "layer").await;
    let second = second.unwrap();
    assert!((100_000..200_000).contains(&second.added_bytes), "{second:?}");
    vault.restore(&second.id, &back).await.unwrap();
    assert_eq!(digest(&back).unwrap(), digest(&tree).unwrap());
    vault.put("manifest", "{}").await.unwrap();
    assert_eq!(vault.get("manifest").await.unwrap().unwrap(), b"{}");
    assert_eq!(vault.list().await.unwrap().len(), 2);

    let size = vault.size().await.unwrap();
    vault.forget(&[first.id, second.id]).await.unwrap();
    let marked = vault.prune(Duration::ZERO).await.unwrap();
    assert!(marked.marked_bytes > 3_000_000, "{marked:?}");
    let deleted = vault.prune(Duration::ZERO).await.unwrap();
    assert!(deleted.bytes > 3_000_000, "{deleted:?}");
    assert!(vault.size().await.unwrap() < size / 10);
    assert!(vault.verify(true).await.unwrap().is_sound());
    assert_eq!(vault.get("manifest").await.unwrap().unwrap(), b"{}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_a_bucket_is_named() {
    let server = Server::start().await;
    let tree = server.rig.path("tree");
    write(&tree.join("dir/file"), noise(1, 300_000));
    let vault = Vault::open_or_create(&server.place(), &KEY).await.unwrap();
    let saved = vault.save(&tree, "layer").await.unwrap();
    let packs = server.objects("data");
    let pack = packs.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let sound = fs::read(pack).unwrap();
    let mut flipped = sound.clone();
    flipped[1000] ^= 1;
    for content in [Some(&flipped[..]), Some(&sound[..1000]), None] {
        match content {
            Some(content) => fs::write(pack, content).unwrap(),
            None => fs::remove_file(pack).unwrap(),
        }
        let found = vault.verify(true).await.unwrap();
        let name = format!("/{}", found.damaged[0].path);
        assert!(pack.to_str().unwrap().ends_with(&name), "{found:?}");
        assert_eq!(found.lost[0].entries, [PathBuf::from("dir/file")]);
        let back = tempfile::tempdir().unwrap();
        let refused = vault.restore(&saved.id, back.path()).await.unwrap_err();
        assert!(matches!(refused, VaultError::Damaged { .. }), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_make_a_vault_in_a_bucket_at_once_make_one() {
    let server = Server::start().await;
    let makers = (0..4).map(|number| {
        let place = server.place();
        async move {
            let vault = Vault::open_or_create(&place, &KEY).await.unwrap();
            vault.put(&format!("maker {number}"), "was here").await.unwrap();
        }
    });
    futures::future::join_all(makers).await;
    let vault = Vault::open(&server.place(), &KEY).await.unwrap();
    assert_eq!(vault.documents("maker ").await.unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_told_so_and_what_is_not_there_too() {
    let server = Server::start().await;
    let wrong = server.location("s3://bucket/some/prefix", "a guess");
    let refused = Vault::open_or_create(&wrong, &KEY).await.unwrap_err();
    assert!(matches!(refused, VaultError::Storage { .. }), "{refused}");
    let absent = Vault::open(&server.place(), &KEY).await.unwrap_err();
    assert!(matches!(absent, VaultError::NotAVault { .. }), "{absent}");
    Vault::open_or_create(&server.place(), &KEY).await.unwrap();
    let other = server.location("s3://bucket/some/prefix/below", "a-secret");
    let absent = Vault::open(&other, &KEY).await.unwrap_err();
    assert!(matches!(absent, VaultError::NotAVault { .. }), "{absent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_prunes_a_bucket_at_a_time_and_one_that_died_keeps_nobody_for_ever() {
    let server = Server::start().await;
    let vault = Vault::open_or_create(&server.place(), &KEY).await.unwrap();
    let lease = server.rig.path("s3/bucket/some/prefix/prune.lock");
    write(&lease, r#"{"until":"9999-01-01T00:00:00Z","holder":"somebody"}"#);
    let refused = vault.prune(Duration::ZERO).await.unwrap_err();
    assert!(matches!(refused, VaultError::Busy { .. }), "{refused}");
    write(&lease, r#"{"until":"2001-01-01T00:00:00Z","holder":"somebody who died"}"#);
    vault.prune(Duration::ZERO).await.unwrap();
    assert!(!lease.exists(), "the lease is given back");
}
