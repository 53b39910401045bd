//! What the engine says of the host it runs on.

use rclaude_sandbox::local::doctor;
use rclaude_types::HostCheckLevel;

#[test]
fn a_host_on_which_these_tests_pass_lacks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let checks = doctor::checks(&dir.path().join("not/yet/made"));
    for check in &checks {
        println!("{:24} {:?} {} {:?}", check.name, check.level, check.detail, check.fix);
        assert_ne!(check.level, HostCheckLevel::Missing, "{check:?}");
        assert_eq!(check.level == HostCheckLevel::Ok, check.fix.is_none(), "{check:?}");
    }
}
