//! Public keys for SSH.

use rclaude_store::{StoreError, ssh_key};
use rclaude_types::{SshKey, SshKeyId};

use crate::support::{Home, at};

#[tokio::test]
async fn a_public_key_is_kept_once_found_by_its_fingerprint_and_gone_when_removed() {
    let home = Home::new().await;
    let made = SshKey {
        id: SshKeyId::generate(),
        name: "laptop".to_owned(),
        public_key: "ssh-ed25519 AAAA".to_owned(),
        fingerprint: "SHA256:one".to_owned(),
        created_at: at(0),
        last_used_at: None,
    };
    let again = SshKey { id: SshKeyId::generate(), created_at: at(1), ..made.clone() };
    for key in [made.clone(), again] {
        let kept = home.write(async move |tx| ssh_key::insert_or_adopt(tx, &key).await).await;
        assert_eq!(kept, made);
    }

    let id = made.id.clone();
    home.write(async move |tx| ssh_key::touch(tx, &id, at(2)).await).await;
    let mut conn = home.store.read().await.unwrap();
    let used = SshKey { last_used_at: Some(at(2)), ..made.clone() };
    assert_eq!(ssh_key::find(&mut conn, "SHA256:one").await.unwrap(), Some(used.clone()));
    assert_eq!(ssh_key::find(&mut conn, "SHA256:two").await.unwrap(), None);
    assert_eq!(ssh_key::list(&mut conn).await.unwrap(), [used]);

    let id = made.id.clone();
    home.write(async move |tx| ssh_key::remove(tx, &id).await).await;
    assert_eq!(ssh_key::find(&mut conn, "SHA256:one").await.unwrap(), None);
    let error = home.refused(async move |tx| ssh_key::remove(tx, &made.id).await).await;
    assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}");
}
