//! A server on this host: finding it, and starting one in the background.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{client::Client, config::Settings, exit::Failure, platform, ui::Ui};

/// How long a new server may take until it answers. It boots in milliseconds; a first start on a
/// slow disk migrates an empty database.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Where a server started in the background writes what it logs.
pub(crate) fn log_file(data_dir: &Path) -> PathBuf {
    data_dir.join("server.log")
}

/// Starts a server that outlives us and waits until it answers.
pub(crate) async fn start(settings: &Settings, ui: &mut Ui) -> Result<Client, Failure> {
    let data_dir = settings.data_dir();
    let mut child = spawn(&data_dir)?;
    let what = format!("starting a server in {}", data_dir.display());
    let client = ui.wait(&what, ready(settings, &data_dir, &mut child)).await?;
    ui.note(&format!(
        "started a server at {} (log: {}; stop it with `kill {}`)",
        client.url(),
        log_file(&data_dir).display(),
        child.id(),
    ));
    Ok(client)
}

fn spawn(data_dir: &Path) -> Result<Child, Failure> {
    let attempt = || {
        fs::create_dir_all(data_dir)?;
        let log = fs::OpenOptions::new().create(true).append(true).open(log_file(data_dir))?;
        Command::new(std::env::current_exe()?)
            .arg("--data-dir")
            .arg(data_dir)
            .args(["serve", "--detached"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
    };
    attempt().map_err(|error: std::io::Error| {
        Failure::Failed(format!("cannot start a server in {}: {error}", data_dir.display()))
    })
}

async fn ready(settings: &Settings, data_dir: &Path, child: &mut Child) -> Result<Client, Failure> {
    let log = log_file(data_dir);
    let started = Instant::now();
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(Failure::Failed(format!(
                "the server ended at once ({status}); its log, {}, ends with:\n{}",
                log.display(),
                last_lines(&log)
            )));
        }
        // The file of a server that crashed may still lie there: only an answer counts.
        if platform::local_server(data_dir).is_some() {
            let client = Client::new(&settings.connection()?)?;
            if client.status().await.is_ok() {
                return Ok(client);
            }
        }
        if started.elapsed() > READY_WITHIN {
            return Err(Failure::Failed(format!(
                "the server (process {}) does not answer after {} s; its log is {}",
                child.id(),
                READY_WITHIN.as_secs(),
                log.display()
            )));
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

fn last_lines(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
