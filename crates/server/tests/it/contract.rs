//! The golden contract, `openapi/rclaude.json`.

use std::{env, fs, path::Path};

use rclaude_server::api::openapi;

#[test]
fn the_contract_in_the_repository_is_what_the_handlers_say() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi/rclaude.json");
    if env::var_os("UPDATE_OPENAPI").is_some() {
        fs::write(&golden, openapi::json()).unwrap();
    }
    let kept = fs::read_to_string(&golden).unwrap_or_default();
    assert!(
        kept == openapi::json(),
        "openapi/rclaude.json is out of date; run this test with UPDATE_OPENAPI=1 and review the \
         difference"
    );
}
