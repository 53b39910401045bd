//! The tests themselves.

use std::{collections::BTreeSet, fs, path::Path};

#[test]
fn no_test_file_was_left_out() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let files: BTreeSet<_> = fs::read_dir(&here)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".rs").map(str::to_owned))
        .filter(|name| name != "main")
        .collect();
    let main = fs::read_to_string(here.join("main.rs")).unwrap();
    let declared: BTreeSet<_> = main
        .lines()
        .filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect();
    assert_eq!(files, declared);
}
