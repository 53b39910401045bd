//! A new session's setup script: a file, or the script itself.

use std::{fs, path::Path};

use crate::exit::Failure;

/// The script that is meant. A word that can only be a file's name has to be one.
pub(super) fn read(text: &str) -> Result<String, Failure> {
    let path = Path::new(text);
    if !text.contains('\n') && path.is_file() {
        return fs::read_to_string(path).map_err(|error| {
            Failure::Usage(format!("--setup: cannot read {}: {error}", path.display()))
        });
    }
    let one_word = !text.contains(char::is_whitespace);
    let script = path.extension().is_some_and(|extension| extension == "sh");
    if one_word && (text.contains('/') || script) {
        return Err(Failure::Usage(format!("--setup: there is no file {text}")));
    }
    if text.trim().is_empty() {
        return Err(Failure::Usage("--setup: the script is empty".to_owned()));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_a_file_or_itself_and_a_missing_file_is_no_script() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("prepare.sh");
        fs::write(&file, "make deps\n").unwrap();
        assert_eq!(read(file.to_str().unwrap()).unwrap(), "make deps\n");
        assert_eq!(read("npm ci && make").unwrap(), "npm ci && make");
        assert_eq!(read("make").unwrap(), "make");
        for wrong in ["./missing", "missing.sh", "", " \n"] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
