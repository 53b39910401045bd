//! Finding and installing agents on this host.
//!
//! Their makers allow use, not redistribution, so nothing of theirs is part of this program:
//! the pinned version is fetched once, through the host's own npm client and whatever registry,
//! proxy and credentials that is set up for, and kept in the data directory. What was fetched is
//! checked against the digest pinned here before a byte of it is unpacked.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::read::GzDecoder;
use sha2::{Digest, Sha512};
use tokio::process::Command;

/// Where an agent's directory appears in a sandbox.
pub const CLAUDE_CODE_IN_SANDBOX: &str = "/opt/rclaude/agents/claude-code";

/// The largest binary that is unpacked. The pinned ones have about 378 MB.
const MAX_BINARY_BYTES: u64 = 1 << 30;

/// One agent's pinned package for this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// The package's name in the registry.
    pub name: &'static str,
    /// The version that this program was tested with.
    pub version: &'static str,
    /// Subresource-Integrity digest of the package's tarball.
    pub integrity: &'static str,
    /// The agent's directory under `agents/`.
    pub directory: &'static str,
    /// The binary's name.
    pub binary: &'static str,
}

/// Where a package comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The registry, by this npm client (`npm` to look it up in `PATH`).
    Registry {
        /// The client.
        npm: PathBuf,
    },
    /// A tarball that was fetched elsewhere (`npm pack`).
    Tarball(PathBuf),
}

/// What an installation is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Fetching about 175 MB.
    Fetching,
    /// Checking the digest.
    Verifying,
    /// Unpacking about 380 MB.
    Unpacking,
}

/// Why an installation failed, in words for the person at the keyboard.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// No pinned package for this host.
    #[error("Claude Code has no pinned package for {0}; supported are Linux on x86-64 and arm64")]
    Unsupported(String),
    /// The client is not there.
    #[error(
        "`{0}` was not found. Install Node.js with npm, or run `npm pack {1}` on another machine \
         and give the tarball with --from"
    )]
    NpmMissing(String, String),
    /// The client could not fetch it.
    #[error(
        "npm could not fetch {package}: {reason}. Check `npm config get registry` and the proxy \
         settings, or give a tarball with --from"
    )]
    Registry {
        /// What was asked for.
        package: String,
        /// The client's own words.
        reason: String,
    },
    /// It is not what was pinned.
    #[error(
        "{file} is not the package that this version of rclaude was tested with: its digest is \
         {found}, wanted is {wanted}. Nothing was installed"
    )]
    Integrity {
        /// The tarball.
        file: String,
        /// Its digest.
        found: String,
        /// The pinned digest.
        wanted: &'static str,
    },
    /// The tarball lacks the binary.
    #[error("the package does not contain {0}")]
    NoBinary(String),
    /// The disk is full.
    #[error("no space left in {0}; about 600 MB are needed")]
    NoSpace(PathBuf),
    /// Another failure of the file system.
    #[error("could not {what} {}", path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: io::Error,
    },
}

impl Package {
    /// Claude Code for this host.
    pub fn claude_code() -> Result<Self, InstallError> {
        let (name, integrity) = match (std::env::consts::OS, std::env::consts::ARCH) {
            ("linux", "x86_64") => (
                "@anthropic-ai/claude-code-linux-x64",
                "sha512-+n4lu1ubYAp02Y0X/MAUnxw9yY6SHHZ77F+IoW+V0wVoFuiI9opdH6gofjf14gXJCEYMTNpks7Gn1i8XZTKAWA==",
            ),
            ("linux", "aarch64") => (
                "@anthropic-ai/claude-code-linux-arm64",
                "sha512-IiG5umFToSCVWqB1lEsxxwIxKgxPXyZ3DRU915v8J4Bz5Q3JpslM0ew1m5yaT+lFXBPvYxmsEgi0XI68XHND0A==",
            ),
            (os, arch) => return Err(InstallError::Unsupported(format!("{os} on {arch}"))),
        };
        Ok(Self { name, version: "2.1.329", integrity, directory: "claude-code", binary: "claude" })
    }

    /// The directory of this version; what a sandbox is shown.
    pub fn home(&self, data_dir: &Path) -> PathBuf {
        data_dir.join("agents").join(self.directory).join(self.version)
    }

    /// The installed binary, if it is there. It only ever appears whole.
    pub fn installed(&self, data_dir: &Path) -> Option<PathBuf> {
        let binary = self.home(data_dir).join(self.binary);
        let about = binary.metadata().ok()?;
        let runs = about.is_file() && about.permissions().mode() & 0o111 != 0;
        runs.then_some(binary)
    }

    /// Installs it, replacing what is there, and answers with the binary's path. Interrupted at
    /// any point it leaves what was there before.
    pub async fn install(
        &self,
        data_dir: &Path,
        source: &Source,
        mut progress: impl FnMut(Step) + Send,
    ) -> Result<PathBuf, InstallError> {
        let home = self.home(data_dir);
        std::fs::create_dir_all(&home).map_err(|error| failed("create", &home, error))?;
        // Beside the target, so that the last step is a rename; removed whatever happens.
        let scratch = tempfile::Builder::new()
            .prefix(".install-")
            .tempdir_in(&home)
            .map_err(|error| failed("write to", &home, error))?;

        let tarball = match source {
            Source::Tarball(path) => path.clone(),
            Source::Registry { npm } => {
                progress(Step::Fetching);
                self.fetch(npm, scratch.path()).await?
            }
        };
        progress(Step::Verifying);
        let (wanted, path) = (self.integrity, tarball.clone());
        let file = blocking(move || verified(&path, wanted)).await?;
        progress(Step::Unpacking);
        let (name, unpacked) = (self.binary, scratch.path().join(self.binary));
        let target = home.join(self.binary);
        blocking(move || {
            unpack(file, &tarball, name, &unpacked)?;
            std::fs::rename(&unpacked, &target)
                .map_err(|error| failed("move into place", &target, error))?;
            Ok(target)
        })
        .await
    }

    /// Has the client put the tarball into `scratch`.
    async fn fetch(&self, npm: &Path, scratch: &Path) -> Result<PathBuf, InstallError> {
        let package = format!("{}@{}", self.name, self.version);
        let output = Command::new(npm)
            .args(["pack", &package, "--pack-destination", "."])
            .current_dir(scratch)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    InstallError::NpmMissing(npm.display().to_string(), package.clone())
                }
                _ => failed("run", npm, error),
            })?;
        let found = std::fs::read_dir(scratch)
            .map_err(|error| failed("read", scratch, error))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "tgz"));
        match found {
            Some(tarball) if output.status.success() => Ok(tarball),
            _ => Err(refused(&package, &String::from_utf8_lossy(&output.stderr), scratch)),
        }
    }
}

/// The client's complaint, without its decoration.
fn refused(package: &str, stderr: &str, scratch: &Path) -> InstallError {
    if stderr.contains("ENOSPC") {
        return InstallError::NoSpace(scratch.parent().unwrap_or(scratch).to_owned());
    }
    let complaints: Vec<&str> = stderr
        .lines()
        .filter_map(|line| line.strip_prefix("npm error "))
        .filter(|line| !line.starts_with("A complete log") && !line.trim().is_empty())
        .take(4)
        .collect();
    let reason =
        if complaints.is_empty() { stderr.trim().to_owned() } else { complaints.join("; ") };
    InstallError::Registry { package: package.to_owned(), reason }
}

/// Opens the tarball if its digest is the pinned one.
fn verified(path: &Path, wanted: &'static str) -> Result<File, InstallError> {
    let read = |error| failed("read", path, error);
    let mut file = File::open(path).map_err(read)?;
    let mut digest = Sha512::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(read)? {
            0 => break,
            count => digest.update(&buffer[..count]),
        }
    }
    let found = format!("sha512-{}", STANDARD.encode(digest.finalize()));
    if found != wanted {
        return Err(InstallError::Integrity { file: path.display().to_string(), found, wanted });
    }
    file.seek(SeekFrom::Start(0)).map_err(read)?;
    Ok(file)
}

/// Unpacks the binary alone.
fn unpack(file: File, tarball: &Path, binary: &str, into: &Path) -> Result<(), InstallError> {
    let wanted = Path::new("package").join(binary);
    let read = |error| failed("unpack", tarball, error);
    let mut archive = tar::Archive::new(GzDecoder::new(io::BufReader::new(file)));
    for entry in archive.entries().map_err(read)? {
        let entry = entry.map_err(read)?;
        if entry.path().map_err(read)? != wanted {
            continue;
        }
        let write = |error| failed("write", into, error);
        let mut out = File::create(into).map_err(write)?;
        io::copy(&mut entry.take(MAX_BINARY_BYTES), &mut out).map_err(write)?;
        out.set_permissions(std::fs::Permissions::from_mode(0o755)).map_err(write)?;
        return out.sync_all().map_err(write);
    }
    Err(InstallError::NoBinary(wanted.display().to_string()))
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> InstallError {
    if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return InstallError::NoSpace(path.parent().unwrap_or(path).to_owned());
    }
    InstallError::Io { what, path: path.to_owned(), source }
}

/// Runs work on files off the async threads. A panic in it is a bug and goes on here.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tarball like the real one, with a package that pins it.
    fn small_package(dir: &Path, contents: &[(&str, &str)]) -> (PathBuf, Package) {
        let tarball = dir.join("agent-1.0.0.tgz");
        let gzip = flate2::write::GzEncoder::new(
            File::create(&tarball).unwrap(),
            flate2::Compression::fast(),
        );
        let mut archive = tar::Builder::new(gzip);
        for (path, content) in contents {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap();
        let digest = Sha512::digest(std::fs::read(&tarball).unwrap());
        let integrity = format!("sha512-{}", STANDARD.encode(digest));
        let package = Package {
            name: "agent",
            version: "1.0.0",
            integrity: integrity.leak(),
            directory: "agent",
            binary: "agent",
        };
        (tarball, package)
    }

    /// A client that does what a shell script says.
    fn client(dir: &Path, script: &str) -> Source {
        let npm = dir.join("npm");
        std::fs::write(&npm, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&npm, std::fs::Permissions::from_mode(0o755)).unwrap();
        Source::Registry { npm }
    }

    const CONTENTS: &[(&str, &str)] =
        &[("package/README.md", "read me"), ("package/agent", "#!/bin/sh\necho 1.0.0\n")];

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_tarball_is_verified_and_its_binary_alone_is_installed() {
        let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (tarball, package) = small_package(dir.path(), CONTENTS);
        assert_eq!(package.installed(data.path()), None);
        let source = Source::Tarball(tarball);
        let path = package.install(data.path(), &source, |_| {}).await.unwrap();
        assert_eq!(package.installed(data.path()), Some(path.clone()));
        assert_eq!(std::process::Command::new(path).output().unwrap().stdout, b"1.0.0\n");
        assert_eq!(names(&package.home(data.path())), ["agent"]);
    }

    #[tokio::test]
    async fn the_client_fetches_and_its_tarball_is_removed() {
        let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (tarball, package) = small_package(dir.path(), CONTENTS);
        let source = client(
            dir.path(),
            &format!("[ \"$1 $2\" = 'pack agent@1.0.0' ] && cp {} .", tarball.display()),
        );
        let mut steps = Vec::new();
        package.install(data.path(), &source, |step| steps.push(step)).await.unwrap();
        assert_eq!(steps, [Step::Fetching, Step::Verifying, Step::Unpacking]);
        assert_eq!(names(&package.home(data.path())), ["agent"]);
    }

    #[tokio::test]
    async fn what_is_not_pinned_is_not_installed() {
        let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (tarball, package) = small_package(dir.path(), CONTENTS);
        let mut bytes = std::fs::read(&tarball).unwrap();
        bytes.push(0);
        std::fs::write(&tarball, bytes).unwrap();
        let error = package.install(data.path(), &Source::Tarball(tarball), |_| {}).await;
        assert!(matches!(error, Err(InstallError::Integrity { .. })), "{error:?}");
        assert_eq!(package.installed(data.path()), None);
        assert!(names(&package.home(data.path())).is_empty());
    }

    #[tokio::test]
    async fn every_failure_says_what_to_do() {
        let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (_, package) = small_package(dir.path(), CONTENTS);
        let failure = async |package: &Package, source: Source| {
            package.install(data.path(), &source, |_| {}).await.unwrap_err().to_string()
        };
        let none = Source::Registry { npm: "/nowhere/npm".into() };
        let said = failure(&package, none).await;
        assert!(said.contains("Install Node.js") && said.contains("--from"), "{said}");

        let script = "echo 'npm error code E404' >&2; echo 'npm error 404 Not Found' >&2; exit 1";
        let said = failure(&package, client(dir.path(), script)).await;
        assert!(said.contains("E404; 404 Not Found."), "{said}");

        let script = "echo 'npm error code ENOSPC' >&2; exit 1";
        let said = failure(&package, client(dir.path(), script)).await;
        assert!(said.contains("no space left"), "{said}");

        let said = failure(&package, Source::Tarball("/nowhere/agent.tgz".into())).await;
        assert_eq!(said, "could not read /nowhere/agent.tgz");

        let (tarball, package) = small_package(dir.path(), &CONTENTS[..1]);
        let said = failure(&package, Source::Tarball(tarball)).await;
        assert_eq!(said, "the package does not contain package/agent");
    }
}
