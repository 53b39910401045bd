//! How a session's files differ from the commit they began at: committed or not, tracked or not.
//!
//! A session's git directory belongs to whoever works in the sandbox, and git does what it says
//! (filters, monitors, hooks). So the diff is made by a script that runs *inside* the sandbox, as
//! the agent, and only its output comes out: bytes to be distrusted, bounded, and read here.
//!
//! The script works on a copy of the session's index in which every new file that is not ignored
//! stands as an empty one, so that git shows it as added, and compares it with the base. The
//! session's own index is not touched. Output: `git diff --numstat -z`, a NUL, the patch.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rclaude_types::{DiffFormat, DiffStat, DiffStatFile, SessionDiff};

/// The largest patch that is handed out, in bytes.
pub const PATCH_LIMIT: usize = 32 << 20;

/// The most files a diff lists.
const FILES_LIMIT: usize = 100_000;

/// Arguments: base commit (or `empty`), bytes of patch at most (0: none wanted).
const SCRIPT: &str = r#"
set -eu
cd /workspace
export LC_ALL=C GIT_OPTIONAL_LOCKS=0 GIT_TERMINAL_PROMPT=0
export GIT_CONFIG_COUNT=2 GIT_CONFIG_KEY_0=core.fsmonitor GIT_CONFIG_VALUE_0=false
export GIT_CONFIG_KEY_1=diff.suppressBlankEmpty GIT_CONFIG_VALUE_1=false
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_EXTERNAL_DIFF GIT_DIFF_OPTS
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
index=$(git rev-parse --git-path index)
if [ -f "$index" ]; then cp "$index" "$work/index"; fi
export GIT_INDEX_FILE="$work/index"
git ls-files -z --others --exclude-standard >"$work/new"
blob=$(git hash-object -t blob --stdin </dev/null)
sed -z -e '/\/$/d' -e "s/^/100644 $blob 0	/" <"$work/new" |
    git update-index -z --add --replace --index-info
base=$1
if [ "$base" = empty ]; then base=$(git hash-object -t tree --stdin </dev/null); fi
compare() {
    git diff --no-color --no-ext-diff --no-textconv --no-relative --find-renames \
        --ignore-submodules=dirty --submodule=short "$@" "$base" --
}
compare --numstat -z
printf '\000'
if [ "$2" = 0 ]; then exit 0; fi
{
    compare --patch --binary --full-index --unified=3 --inter-hunk-context=0 \
        --src-prefix=a/ --dst-prefix=b/ || echo $? >"$work/failed"
} | head -c "$2"
if [ -f "$work/failed" ] && [ "$(cat "$work/failed")" != 141 ]; then exit 3; fi
"#;

/// Output of the script that cannot be what it prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sandbox answered with something that is not a diff")]
pub struct NotADiff;

/// The command that makes the diff against `base` (none: against nothing), to be run in the
/// sandbox as the agent. It exits with 0; otherwise its standard error says why, most likely that
/// the session's git directory is gone.
pub fn command(base: Option<&str>, format: DiffFormat) -> Vec<String> {
    // One byte more than wanted tells a patch that was cut.
    let limit = match format {
        DiffFormat::Full => PATCH_LIMIT + 1,
        DiffFormat::Stat => 0,
    };
    let base = base.unwrap_or("empty").to_owned();
    vec!["sh".into(), "-c".into(), SCRIPT.into(), "diff".into(), base, limit.to_string()]
}

/// Reads what the command printed on its standard output. A patch over [`PATCH_LIMIT`] is left
/// out: half of one applies nowhere.
pub fn parse(
    output: &[u8],
    base: Option<&str>,
    format: DiffFormat,
) -> Result<SessionDiff, NotADiff> {
    let (stat, patch) = parse_stat(output)?;
    let mut diff =
        SessionDiff { base_commit: base.map(str::to_owned), stat, patch: None, patch_base64: None };
    if format == DiffFormat::Full && patch.len() <= PATCH_LIMIT {
        match std::str::from_utf8(patch) {
            Ok(text) => diff.patch = Some(text.to_owned()),
            Err(_) => diff.patch_base64 = Some(BASE64_STANDARD.encode(patch)),
        }
    }
    Ok(diff)
}

/// Reads `--numstat -z` up to the empty record, and returns what follows.
fn parse_stat(mut rest: &[u8]) -> Result<(DiffStat, &[u8]), NotADiff> {
    let mut stat = DiffStat::default();
    loop {
        let record = until(&mut rest, 0)?;
        if record.is_empty() {
            return Ok((stat, rest));
        }
        let mut fields = record.splitn(3, |byte| *byte == b'\t');
        let mut count = || match fields.next() {
            Some(b"-") => Ok(None),
            Some(digits) => std::str::from_utf8(digits)
                .ok()
                .and_then(|digits| digits.parse::<u64>().ok())
                .map(Some)
                .ok_or(NotADiff),
            None => Err(NotADiff),
        };
        let (insertions, deletions) = (count()?, count()?);
        let mut path = fields.next().ok_or(NotADiff)?;
        if path.is_empty() {
            // A rename: the old path and the new one follow as records.
            until(&mut rest, 0)?;
            path = until(&mut rest, 0)?;
        }
        stat.insertions = stat.insertions.saturating_add(insertions.unwrap_or(0));
        stat.deletions = stat.deletions.saturating_add(deletions.unwrap_or(0));
        if stat.files.len() < FILES_LIMIT {
            let path = String::from_utf8_lossy(path).into_owned();
            stat.files.push(DiffStatFile { path, insertions, deletions });
        }
    }
}

/// Takes what comes before `end`, and `end`, off the front.
fn until<'a>(rest: &mut &'a [u8], end: u8) -> Result<&'a [u8], NotADiff> {
    let at = rest.iter().position(|byte| *byte == end).ok_or(NotADiff)?;
    let (before, after) = rest.split_at(at);
    *rest = &after[1..];
    Ok(before)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts_binaries_and_renames_are_read_and_the_patch_is_the_rest() {
        let output =
            b"3\t1\tsrc/a b\n.rs\0-\t-\timage\xff.png\x000\t0\t\0old\0new\0\0diff --git\0x";
        let diff = parse(output, Some("abc"), DiffFormat::Full).unwrap();
        let file = |path: &str, insertions, deletions| DiffStatFile {
            path: path.to_owned(),
            insertions,
            deletions,
        };
        assert_eq!(
            diff,
            SessionDiff {
                base_commit: Some("abc".to_owned()),
                stat: DiffStat {
                    files: vec![
                        file("src/a b\n.rs", Some(3), Some(1)),
                        file("image\u{fffd}.png", None, None),
                        file("new", Some(0), Some(0)),
                    ],
                    insertions: 3,
                    deletions: 1,
                },
                patch: Some("diff --git\0x".to_owned()),
                patch_base64: None,
            }
        );
    }

    proptest! {
        #[test]
        fn whatever_a_sandbox_prints_is_read_or_refused(output: Vec<u8>) {
            let _ = parse(&output, None, DiffFormat::Full);
        }
    }
}
