//! Repositories as people have them: on their disk, and behind a URL.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A repository of the host's user.
pub(super) struct Repo {
    pub(super) dir: PathBuf,
}

impl Repo {
    pub(super) fn new(dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        let repo = Self { dir: dir.to_owned() };
        repo.git(&["init", "-q", "-b", "main"]);
        repo
    }

    pub(super) fn git(&self, args: &[&str]) -> String {
        git_in(&self.dir, args)
    }

    pub(super) fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Commits many files without putting them on the disk here.
    pub(super) fn import(&self, files: usize, content: impl Fn(usize) -> String) {
        let mut stream = String::from("commit refs/heads/main\ncommitter a <a@b> 1 +0000\n");
        stream.push_str("data 4\nbulk\n");
        if git_command(&self.dir)
            .args(["rev-parse", "-q", "--verify", "main"])
            .output()
            .unwrap()
            .status
            .success()
        {
            stream.push_str("from refs/heads/main^0\n");
        }
        for n in 0..files {
            let content = content(n);
            writeln!(stream, "M 644 inline dir{}/file{n}", n % 100).unwrap();
            writeln!(stream, "data {}\n{content}", content.len()).unwrap();
        }
        let mut import = git_command(&self.dir);
        import.args(["fast-import", "--quiet"]).stdin(Stdio::piped());
        let mut import = import.spawn().unwrap();
        import.stdin.take().unwrap().write_all(stream.as_bytes()).unwrap();
        assert!(import.wait().unwrap().success());
        self.git(&["read-tree", "main"]);
    }

    pub(super) fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }
}

pub(super) fn git_in(dir: &Path, args: &[&str]) -> String {
    let out = git_command(dir).args(args).output().unwrap();
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim_end().to_owned()
}

pub(super) fn git_command(dir: &Path) -> Command {
    let mut git = Command::new("git");
    git.current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "a")
        .env("GIT_AUTHOR_EMAIL", "a@example.org")
        .env("GIT_COMMITTER_NAME", "a")
        .env("GIT_COMMITTER_EMAIL", "a@example.org");
    git
}

/// Serves the repositories under `root` by git's own HTTP program, to whoever has the password.
pub(super) async fn forge(root: PathBuf) -> String {
    use axum::{body::Body, extract::Request, response::Response};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move |request: Request| {
        let root = root.clone();
        async move {
            let (head, body) = request.into_parts();
            let header = |name: &str| {
                head.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned()
            };
            // me:p@ss
            if header("authorization") != "Basic bWU6cEBzcw==" {
                let refused = Response::builder().status(401);
                return refused.header("www-authenticate", "Basic").body(Body::empty()).unwrap();
            }
            let mut backend = git_command(&root);
            backend
                .arg("http-backend")
                .env("GIT_PROJECT_ROOT", &root)
                .env("GIT_HTTP_EXPORT_ALL", "1")
                .env("GIT_PROTOCOL", header("git-protocol"))
                .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
                .env("CONTENT_TYPE", header("content-type"))
                .env("REQUEST_METHOD", head.method.as_str())
                .env("PATH_INFO", head.uri.path())
                .env("QUERY_STRING", head.uri.query().unwrap_or(""))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped());
            let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
            let output = tokio::task::spawn_blocking(move || {
                let mut backend = backend.spawn().unwrap();
                backend.stdin.take().unwrap().write_all(&body).unwrap();
                backend.wait_with_output().unwrap().stdout
            });
            let output = output.await.unwrap();
            let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
            let mut response = Response::builder();
            for line in std::str::from_utf8(&output[..end]).unwrap().lines() {
                let (name, value) = line.split_once(": ").unwrap();
                response = match name {
                    "Status" => response.status(value[..3].parse::<u16>().unwrap()),
                    _ => response.header(name, value),
                };
            }
            response.body(Body::from(output[end + 4..].to_vec())).unwrap()
        }
    };
    let app = axum::Router::new().fallback(serve);
    tokio_util::task::TaskTracker::new().spawn(async move { axum::serve(listener, app).await });
    format!("http://me:p%40ss@{address}")
}
