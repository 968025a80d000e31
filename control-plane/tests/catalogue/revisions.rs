//! Revisions without gaps: whoever follows the revision misses nothing, however writers are interleaved.

use std::collections::BTreeSet;
use std::time::Duration;

use control_plane::store::audit::Entry;
use control_plane::store::change::Kind;
use control_plane::store::{Author, Change, Store, catalog};
use serde_json::json;
use uuid::Uuid;

use crate::harness::{On, Plane};
use crate::on_both_engines;
use crate::steps::head;

fn entry(id: Uuid) -> Entry {
    Entry::done("test.touch", "test", id, json!({}))
}

async fn touch(store: &Store, id: Uuid) -> i64 {
    let mut change = Change::begin(store, &Author::system(store.first_organization())).await.unwrap();
    change.put(Kind::ApiKey, id);
    change.commit(entry(id)).await.unwrap().revision
}

on_both_engines! {
    async fn a_second_writer_waits_for_one_that_stalls_before_its_commit(plane: Plane) {
        let store = plane.store().await;
        let before = head(&store).await;
        let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
        let mut stalled = Change::begin(&store, &Author::system(store.first_organization())).await.unwrap();
        stalled.put(Kind::ApiKey, first);
        let later = tokio::spawn({
            let store = store.clone();
            async move { touch(&store, second).await }
        });
        let mut later = std::pin::pin!(later);
        let early = tokio::time::timeout(Duration::from_millis(300), &mut later).await;
        assert!(early.is_err(), "the second writer drew a revision and was visible first");
        // Whoever looks now sees neither, not the second without the first.
        assert_eq!(head(&store).await, before);
        let made = stalled.commit(entry(first)).await.unwrap().revision;
        assert_eq!(made, before + 1);
        assert_eq!(later.await.unwrap(), before + 2);
        let organization = store.first_organization();
        let changes = catalog::changes_since(&store, organization, before, before + 2).await.unwrap().unwrap();
        let expected = [((Kind::ApiKey, first), before + 1), ((Kind::ApiKey, second), before + 2)];
        assert_eq!(changes.touched, expected.into_iter().collect());
    }

    async fn a_follower_of_many_writers_misses_nothing(plane: Plane) {
        const WRITERS: usize = 8;
        const EACH: usize = 12;
        let store = plane.store().await;
        let organization = store.first_organization();
        let start = head(&store).await;
        let follower = tokio::spawn({
            let store = store.clone();
            async move {
                let mut wakes = store.revisions();
                let (mut from, mut seen) = (start, BTreeSet::new());
                while seen.len() < WRITERS * EACH {
                    tokio::time::timeout(Duration::from_secs(30), wakes.changed()).await.expect("a wake-up").unwrap();
                    let to = head(&store).await;
                    let changes = catalog::changes_since(&store, organization, from, to).await.unwrap().unwrap();
                    seen.extend(changes.touched.into_keys().map(|(_, id)| id));
                    from = to;
                }
                (from, seen)
            }
        });
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move {
                    let mut made = Vec::new();
                    for _ in 0..EACH {
                        let id = Uuid::now_v7();
                        made.push((touch(&store, id).await, id));
                    }
                    made
                })
            })
            .collect();
        let mut made = Vec::new();
        for writer in writers {
            made.extend(writer.await.unwrap());
        }
        let (last, seen) = follower.await.unwrap();
        assert_eq!(seen, made.iter().map(|(_, id)| *id).collect());
        let revisions: BTreeSet<i64> = made.iter().map(|(revision, _)| *revision).collect();
        assert_eq!(revisions.len(), WRITERS * EACH, "two writers share a revision");
        assert_eq!((revisions.first().copied(), revisions.last().copied()), (Some(start + 1), Some(last)));
    }

    async fn a_change_that_is_dropped_never_happened(plane: Plane) {
        let store = plane.store().await;
        let before = head(&store).await;
        let mut change = Change::begin(&store, &Author::system(store.first_organization())).await.unwrap();
        change.put(Kind::ApiKey, Uuid::now_v7());
        drop(change);
        assert_eq!(touch(&store, Uuid::now_v7()).await, before + 1);
    }

    async fn a_commit_in_one_control_plane_wakes_the_others(plane: Plane) {
        // The story's own store is another process's, as far as the plane knows.
        let store = plane.store().await;
        if plane.url.is_none() {
            // The embedded store serves one control plane: there are no others.
            return;
        }
        let other = plane.store().await;
        let stop = tokio_util::sync::CancellationToken::new();
        let listening = tokio::spawn(control_plane::store::wake::run(other.clone(), stop.clone()));
        let announcing = tokio::spawn(control_plane::store::wake::run(store.clone(), stop.clone()));
        let mut wakes = other.revisions();
        // The listener's own first wake-up, when it begins to listen.
        tokio::time::timeout(Duration::from_secs(10), wakes.changed()).await.expect("listening").unwrap();
        let made = touch(&store, Uuid::now_v7()).await;
        let seen = tokio::time::timeout(Duration::from_secs(5), async {
            loop {
                wakes.changed().await.unwrap();
                if head(&other).await >= made {
                    return;
                }
            }
        });
        seen.await.expect("the other control plane learned of it");
        stop.cancel();
        listening.await.unwrap();
        announcing.await.unwrap();
    }
}
