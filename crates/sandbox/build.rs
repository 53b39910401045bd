//! Builds the daemon that runs inside sandboxes and lets the library embed it.
//!
//! It is a program of its own: static, so that it runs on whatever a sandbox's system is, and
//! built for size. Cargo cannot yet embed one package's binary in another (`artifact`
//! dependencies are unstable), so this runs cargo once more, with a target directory of its own.
//! `RCLAUDE_AGENTD_BIN` names a ready-built one instead.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

#[expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts by the environment")]
fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

fn main() {
    emit("rerun-if-env-changed=RCLAUDE_AGENTD_BIN");
    // One that is built here is younger than this script's start: to watch it, too, would have
    // every second build do all of this again.
    let agentd = match variable("RCLAUDE_AGENTD_BIN") {
        Some(given) => {
            emit(&format!("rerun-if-changed={given}"));
            given.into()
        }
        None => build(),
    };
    emit(&format!("rustc-env=RCLAUDE_EMBEDDED_AGENTD={}", agentd.display()));
}

fn emit(instruction: &str) {
    println!("cargo::{instruction}");
}

fn build() -> PathBuf {
    let here = variable("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let workspace = Path::new(&here).ancestors().nth(2).expect("crates/sandbox has two parents");
    let architecture = variable("CARGO_CFG_TARGET_ARCH").expect("cargo sets it");
    let triple = format!("{architecture}-unknown-linux-gnu");
    // Beside the outer target directory's profiles: shared by all of them and cleaned with them.
    let out = PathBuf::from(variable("OUT_DIR").expect("cargo sets it"));
    let target = out
        .ancestors()
        .find(|dir| dir.join("CACHEDIR.TAG").exists())
        .map_or_else(|| out.clone(), Path::to_owned)
        .join("agentd");
    for input in ["crates/agentd", "crates/tree", "crates/types", "Cargo.toml"] {
        emit(&format!("rerun-if-changed={}", workspace.join(input).display()));
    }
    let mut cargo = Command::new(variable("CARGO").expect("cargo sets it"));
    cargo
        .current_dir(workspace)
        .args(["build", "--quiet", "--package", "rclaude-agentd", "--bin", "rclaude-agentd"])
        .args(["--profile", "agentd", "--target", &triple, "--target-dir"])
        .arg(&target)
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static");
    // What the outer build says about itself does not hold for the inner one.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let kept = ["CARGO", "CARGO_HOME"].contains(&name.as_str());
        if !kept && (name.starts_with("CARGO") || name.starts_with("RUSTC")) {
            cargo.env_remove(name);
        }
    }
    let status = cargo.status().expect("cargo can be run");
    assert!(status.success(), "the daemon (crates/agentd) did not build");
    target.join(triple).join("agentd").join("rclaude-agentd")
}
