//! A watch as a stream.

use axum::{
    extract::Request,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tokio::time::Instant;

use super::{Happened, Watch, Watched};
use crate::api::e2b::{
    connect::{self, Code, Error, Result, Sender, at_once, incoming},
    envd::{guest::Guest, process::follow::Wishes},
};

/// A message of the stream.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Told<'a> {
    Start {},
    Filesystem(&'a Happened),
    Keepalive {},
}

/// `WatchDir`.
pub(super) async fn watch(guest: Guest, request: Request) -> Response {
    let wishes = Wishes::of(request.headers());
    let messages = match incoming(request) {
        Ok(messages) => messages,
        Err(refused) => return refused,
    };
    let begun = async {
        let watched: Watched = messages.only().await?;
        Watch::begin(&guest, &watched).await
    };
    match begun.await {
        Ok(watch) => connect::respond(&guest.api, |sender| tell(watch, wishes, sender)),
        Err(error) => at_once(Err::<&(), _>(error)).into_response(),
    }
}

async fn tell(mut watch: Watch, wishes: Wishes, sender: Sender) -> Result<()> {
    let deadline = wishes.limit.map(|limit| Instant::now() + limit);
    let time_up = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    let mut time_up = std::pin::pin!(time_up);
    if !sender.send(&Told::Start {}).await {
        return Ok(());
    }
    loop {
        tokio::select! {
            happened = watch.next() => {
                let Some(happened) = happened else { return Ok(()) };
                for event in happened? {
                    if !sender.send(&Told::Filesystem(&event)).await {
                        return Ok(());
                    }
                }
            }
            () = &mut time_up => {
                return Err(Error::new(Code::DeadlineExceeded, "the time for the watch is up"));
            }
            () = sender.closed() => return Ok(()),
            () = tokio::time::sleep(wishes.keep_alive) => {
                if !sender.send(&Told::Keepalive {}).await {
                    return Ok(());
                }
            }
        }
    }
}
