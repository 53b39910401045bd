//! Sessions.

use rclaude_store::session;

use crate::support::Home;

#[tokio::test]
async fn a_session_reads_back_by_id_name_and_prefix() {
    let home = Home::new().await;
    let id = home.session().await;
    let mut conn = home.store.read().await.unwrap();
    let row = session::get(&mut conn, &id).await.unwrap();
    for reference in [id.as_str(), &row.name, &id.as_str()[..20]] {
        let found = session::find_by_reference(&mut conn, reference).await.unwrap();
        assert_eq!(found, row, "{reference}");
    }
}
