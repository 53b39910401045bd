//! Words about the server.

use rclaude_store::meta;

use crate::support::Home;

#[tokio::test]
async fn a_word_is_kept_and_the_first_may_be_made_to_stay() {
    let home = Home::new().await;
    let words = home
        .write(async |tx| {
            let before = meta::get(tx, "server").await?;
            let first = meta::get_or_set(tx, "server", "one").await?;
            let second = meta::get_or_set(tx, "server", "two").await?;
            meta::set(tx, "server", "three").await?;
            Ok((before, first, second, meta::get(tx, "server").await?))
        })
        .await;
    let word = |word: &str| word.to_owned();
    assert_eq!(words, (None, word("one"), word("one"), Some(word("three"))));
}
