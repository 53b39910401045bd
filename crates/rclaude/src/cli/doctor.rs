//! `rclaude doctor`: what is missing here.

use std::path::Path;

use clap::Args;
use rclaude_types::{HostCheck, HostCheckLevel};

use super::{Context, Done};
use crate::{
    client::Client,
    exit::{Exit, Failure},
    platform,
    ui::{Paint, clean_line},
};

/// Look at this host and at the way to the server, and say what to do about what is amiss
///
/// Ends with 1 if something is missing without which sessions cannot run. With --json: one check a
/// line.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {}

pub(crate) async fn run(_: DoctorArgs, cx: &mut Context) -> Done {
    let data_dir = cx.settings.data_dir();
    let mut checks = platform::host_checks(&data_dir);
    checks.push(agent(&data_dir));
    checks.push(git());
    checks.push(server(cx).await?);
    let paint = cx.ui.out();
    for check in &checks {
        if cx.json {
            cx.ui.json(check)?;
        } else {
            let text = render(paint, check);
            cx.ui.print(&text)?;
        }
    }
    let missing = checks.iter().any(|check| check.level == HostCheckLevel::Missing);
    Ok(if missing { Exit::FAILED } else { Exit::OK })
}

/// A check with what was found, and what to do where it is not as it should be.
pub(super) fn render(paint: Paint, check: &HostCheck) -> String {
    let mark = match check.level {
        HostCheckLevel::Ok => paint.green("✔"),
        HostCheckLevel::Weaker => paint.yellow("!"),
        HostCheckLevel::Missing => paint.red("✘"),
    };
    let head = format!("{mark} {}: {}", clean_line(&check.name), clean_line(&check.detail));
    match &check.fix {
        Some(fix) if check.level != HostCheckLevel::Ok => {
            format!("{head}\n    {} {}", paint.dim("fix:"), clean_line(fix))
        }
        _ => head,
    }
}

fn agent(data_dir: &Path) -> HostCheck {
    let (level, detail, fix) = match platform::agent(data_dir) {
        Ok((version, true)) => (HostCheckLevel::Ok, format!("Claude Code {version}"), None),
        Ok((version, false)) => (
            HostCheckLevel::Missing,
            format!("Claude Code {version} is not installed in {}", data_dir.display()),
            Some("`rclaude init` installs it".to_owned()),
        ),
        Err(failure) => (HostCheckLevel::Missing, failure.to_string(), None),
    };
    HostCheck { name: "agent".to_owned(), level, detail, fix }
}

/// `--repo` with a directory asks git where its tree begins.
fn git() -> HostCheck {
    let version = std::process::Command::new("git").arg("--version").output();
    let (level, detail, fix) = match version {
        Ok(output) if output.status.success() => {
            (HostCheckLevel::Ok, String::from_utf8_lossy(&output.stdout).trim().to_owned(), None)
        }
        _ => (
            HostCheckLevel::Missing,
            "not found".to_owned(),
            Some("install git, such as with `apt install git`".to_owned()),
        ),
    };
    HostCheck { name: "git".to_owned(), level, detail, fix }
}

async fn server(cx: &mut Context) -> Result<HostCheck, Failure> {
    let client = Client::new(&cx.settings.connection()?)?;
    let asked = cx.ui.wait("asking the server", client.status()).await;
    let ours = env!("CARGO_PKG_VERSION");
    let (level, detail, fix) = match asked {
        Ok(status) if status.version.starts_with(ours) => {
            (HostCheckLevel::Ok, format!("answers at {}, version {ours}", client.url()), None)
        }
        Ok(status) => (
            HostCheckLevel::Weaker,
            format!("{} has version {}, this is {ours}", client.url(), status.version),
            Some("use the same version on both sides".to_owned()),
        ),
        // Not having one is no illness: `run` starts it.
        Err(failure @ Failure::Unreachable { .. }) => (
            HostCheckLevel::Weaker,
            failure.to_string(),
            Some("`rclaude serve` starts one".to_owned()),
        ),
        Err(failure) => {
            (HostCheckLevel::Missing, failure.to_string(), failure.hint().map(str::to_owned))
        }
    };
    Ok(HostCheck { name: "server".to_owned(), level, detail, fix })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fix_is_shown_where_there_is_something_to_mend() {
        let check = |level| HostCheck {
            name: "user namespaces".to_owned(),
            level,
            detail: "switched off".to_owned(),
            fix: Some("sysctl x=1".to_owned()),
        };
        let plain = Paint::new(false);
        assert_eq!(render(plain, &check(HostCheckLevel::Ok)), "✔ user namespaces: switched off");
        assert_eq!(
            render(plain, &check(HostCheckLevel::Missing)),
            "✘ user namespaces: switched off\n    fix: sysctl x=1"
        );
    }
}
