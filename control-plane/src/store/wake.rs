//! Waking across control planes: what this one commits is announced to the others on the same Postgres, what they
//! commit wakes us. On SQLite there are no others, and a commit wakes its own process directly.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Store;

/// Announcements of many commits within this time are one: a notification costs the database more than a commit.
const COALESCE: Duration = Duration::from_millis(20);
/// Followers look at least this often, whatever was lost.
const FLOOR: Duration = Duration::from_secs(1);
/// Between attempts to listen again.
const RETRY: Duration = Duration::from_secs(1);

/// Runs until stopped. Spawned once by whoever owns the store.
pub async fn run(store: Store, stop: CancellationToken) {
    let announce = announce(&store, &stop);
    let listen = listen(&store, &stop);
    tokio::join!(announce, listen);
}

async fn announce(store: &Store, stop: &CancellationToken) {
    let mut commits = store.0.commits.subscribe();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = commits.changed() => if changed.is_err() { return },
        }
        tokio::time::sleep(COALESCE).await;
        commits.mark_unchanged();
        if let Err(error) = store.engine().announce().await {
            // The others still look once a second.
            tracing::warn!(?error, "a new revision could not be announced");
        }
    }
}

async fn listen(store: &Store, stop: &CancellationToken) {
    loop {
        let mut announcements = match store.engine().announcements().await {
            Ok(Some(announcements)) => announcements,
            Ok(None) => return stop.cancelled().await,
            Err(error) => {
                tracing::warn!(?error, "cannot listen for new revisions, looking once a second");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(RETRY) => { store.wake(); continue }
                }
            }
        };
        // Whatever was announced while nobody listened.
        store.wake();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(FLOOR) => store.wake(),
                next = announcements.next() => match next {
                    Ok(()) => store.wake(),
                    Err(error) => {
                        tracing::warn!(?error, "the store stopped announcing revisions, listening again");
                        break;
                    }
                },
            }
        }
    }
}
