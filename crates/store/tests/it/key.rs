//! API keys.

use rclaude_store::{StoreError, key};
use rclaude_types::{ApiKey, KeyId};

use crate::support::{Home, at};

#[tokio::test]
async fn a_key_is_found_by_its_hash_until_it_is_revoked() {
    let home = Home::new().await;
    let made = ApiKey {
        id: KeyId::generate(),
        name: "laptop".to_owned(),
        hint: "rck_ab".to_owned(),
        created_at: at(0),
        last_used_at: None,
        revoked_at: None,
    };
    let (id, new, same_hash) =
        (made.id.clone(), made.clone(), ApiKey { id: KeyId::generate(), ..made.clone() });
    home.write(async move |tx| key::insert(tx, &new, &[7; 32]).await).await;
    let error = home.refused(async move |tx| key::insert(tx, &same_hash, &[7; 32]).await).await;
    assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");

    let mut conn = home.store.read().await.unwrap();
    assert_eq!(key::find_by_hash(&mut conn, &[7; 32]).await.unwrap(), Some(made.clone()));
    assert_eq!(key::find_by_hash(&mut conn, &[8; 32]).await.unwrap(), None);

    let target = id.clone();
    let revoked = home
        .write(async move |tx| {
            key::touch(tx, &target, at(1)).await?;
            key::revoke(tx, &target, at(2)).await?;
            key::revoke(tx, &target, at(3)).await
        })
        .await;
    let wanted = ApiKey { last_used_at: Some(at(1)), revoked_at: Some(at(2)), ..made };
    assert_eq!(revoked, wanted);
    assert_eq!(key::find_by_hash(&mut conn, &[7; 32]).await.unwrap(), None);
    assert_eq!(key::list(&mut conn).await.unwrap(), [wanted]);

    let nobody = KeyId::generate();
    let error = home.refused(async move |tx| key::revoke(tx, &nobody, at(1)).await).await;
    assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}");
}
