//! What happens by itself: checkpoints are brought to a store elsewhere, backups are made.
//!
//! A store in a directory of the same disk outlives nothing that the layers themselves do not:
//! there only what is asked for (an archived session, a backup) is brought to it.

use std::time::Duration;

use rclaude_store::checkpoint;
use tokio_util::sync::CancellationToken;

use super::{Snapshots, failure::Failure};

/// How often it is looked for checkpoints to bring away.
const LOOK: Duration = Duration::from_secs(20);
/// At most so many at a time; the next follow at once.
const BATCH: u32 = 16;
/// The pause after a first failure; it doubles.
const PAUSE: Duration = Duration::from_secs(5);
/// The longest pause after a failure.
const LONGEST: Duration = Duration::from_mins(5);

/// Goes on until the server goes down.
pub(crate) async fn run(snapshots: Snapshots, cancel: CancellationToken) {
    let both = async { tokio::join!(bring_away(&snapshots), back_up(&snapshots)) };
    cancel.run_until_cancelled(both).await;
}

async fn bring_away(snapshots: &Snapshots) {
    let mut failures = 0;
    loop {
        let pause = match round(snapshots).await {
            Ok(true) => Duration::ZERO,
            Ok(false) => LOOK,
            Err(failure) => {
                snapshots.0.own.note(&Err::<(), _>(failure));
                pause(failures)
            }
        };
        failures = if pause > LOOK || pause == PAUSE { failures + 1 } else { 0 };
        tokio::time::sleep(pause).await;
    }
}

/// Brings the oldest away that are not; whether there may be more.
async fn round(snapshots: &Snapshots) -> Result<bool, Failure> {
    if !snapshots.available() || !snapshots.is_elsewhere().await? {
        return Ok(false);
    }
    let mut conn = snapshots.0.store.read().await?;
    let unstored = checkpoint::unstored(&mut conn, BATCH).await?;
    drop(conn);
    let (mut stored, found) = (0, unstored.len());
    let mut failed = None;
    for row in unstored {
        match snapshots.store_all(&row).await {
            Ok(()) => {
                snapshots.0.own.note(&Ok::<_, Failure>(()));
                stored += 1;
            }
            // The store as such: the others would fail as well.
            Err(failure @ Failure::Vault(_)) => return Err(failure),
            Err(failure) => {
                tracing::warn!(checkpoint = %row.checkpoint.id, %failure, "not brought away");
                failed = Some(failure);
            }
        }
    }
    match failed {
        Some(failure) if stored == 0 => Err(failure),
        _ => Ok(found == BATCH as usize),
    }
}

async fn back_up(snapshots: &Snapshots) {
    let Some(every) = snapshots.0.options.every(&snapshots.0.data_dir) else { return };
    let mut failures = 0;
    tokio::time::sleep(every.min(Duration::from_secs(30))).await;
    loop {
        let made = snapshots.backup_as_scheduled().await;
        snapshots.0.own.note(&made);
        let wait = match made {
            Ok(_) => {
                failures = 0;
                every
            }
            Err(failure) => {
                if failures == 0 {
                    tracing::warn!(%failure, "a backup was not made; it is tried again");
                }
                failures += 1;
                pause(failures).min(every)
            }
        };
        tokio::time::sleep(wait).await;
    }
}

fn pause(failures: u32) -> Duration {
    (PAUSE * 2_u32.pow(failures.min(10))).min(LONGEST)
}
