//! What a killed process leaves, and what of it the next one finds.

use super::*;

const BOOT: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);

fn start(worker: usize, id: u128, path: &str) -> Start<'_> {
    Start {
        worker,
        id: Uuid::from_u128(id),
        started_at_us: 7,
        endpoint_id: Uuid::from_u128(1),
        api_key_id: Uuid::from_u128(2),
        provider_id: Uuid::from_u128(3),
        revision: 4,
        method: "POST",
        model: Some("gpt-4o"),
        path,
    }
}

/// Ids of what a killed process leaves open.
fn left(directory: &Path) -> Vec<u128> {
    let found = find(directory);
    let ids = found.iter().flat_map(|found| &found.open);
    let mut ids: Vec<u128> = ids.map(|record| Uuid::from_slice(&record.id).unwrap().as_u128()).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn what_is_open_when_a_process_dies_is_found_with_all_that_was_known() {
    let directory = tempfile::tempdir().unwrap();
    let starts = Starts::open(directory.path().to_owned(), BOOT, 2, false);
    let long = "/v1/ü".repeat(100);
    let entries: Vec<Entry> = (10..16).map(|id| starts.begin(&start(id as usize % 2, id, &long)).unwrap()).collect();
    starts.settle(&entries[..2]);
    // Takes the slot of one that is settled.
    starts.begin(&start(0, 20, "/v1/chat/completions")).unwrap();
    assert!(left(directory.path()).is_empty(), "as long as it is alive nobody else finds it");
    let books = starts.books();
    assert_eq!((books.started, books.settled, books.in_flight, books.unsettled), (7, 2, 5, 0));
    drop(starts);
    assert_eq!(left(directory.path()), [12, 13, 14, 15, 20]);
    let found = find(directory.path());
    let record =
        found.iter().flat_map(|found| &found.open).find(|record| record.path == "/v1/chat/completions").unwrap();
    assert_eq!((record.unsettled, record.admitted, record.started_at_us, record.revision), (true, true, 7, 4));
    assert_eq!((record.method.as_str(), record.requested_model.as_str()), ("POST", "gpt-4o"));
    let ids = [&record.endpoint_id, &record.api_key_id, &record.provider_id];
    assert_eq!(ids.map(|id| Uuid::from_slice(id).unwrap().as_u128()), [1, 2, 3]);
    let cut = found.iter().flat_map(|found| &found.open).find(|record| record.path != "/v1/chat/completions").unwrap();
    assert!(long.starts_with(&cut.path) && cut.path.len() > 100, "{}", cut.path);
    for found in found {
        found.remove();
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn an_entry_that_was_written_in_part_was_never_sent_and_is_nobodys() {
    let directory = tempfile::tempdir().unwrap();
    let starts = Starts::open(directory.path().to_owned(), BOOT, 1, false);
    let first = starts.begin(&start(0, 10, "/v1/first")).unwrap();
    let [path, _] = starts.paths(0);
    let before = fs::read(&path).unwrap();
    starts.settle(&[first]);
    starts.begin(&start(0, 11, "/v1/other")).unwrap();
    drop(starts);
    let after = fs::read(&path).unwrap();
    for torn in 0..after.len() {
        fs::write(&path, [&after[..torn], &before[torn..]].concat()).unwrap();
        assert!(left(directory.path()).is_empty(), "{torn}");
    }
    fs::write(&path, &after).unwrap();
    assert_eq!(left(directory.path()), [11]);
}

#[test]
fn what_is_settled_or_lost_twice_counts_once() {
    let directory = tempfile::tempdir().unwrap();
    let starts = Starts::open(directory.path().to_owned(), BOOT, 1, false);
    let [one, two, three] = [1, 2, 3].map(|id| starts.begin(&start(0, id, "/")).unwrap());
    starts.settle(&[one, one]);
    starts.lose([two, two, one]);
    starts.settle(&[two]);
    let books = starts.books();
    assert_eq!((books.started, books.settled, books.in_flight, books.unsettled), (3, 1, 1, 1));
    starts.close();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "something is open");
    drop(starts);
    assert_eq!(left(directory.path()), [2, 3], "a lost record's request is told by the next process");
    let _ = three;
}

#[test]
fn nothing_is_left_of_a_process_that_ends_well() {
    let directory = tempfile::tempdir().unwrap();
    let starts = Starts::open(directory.path().to_owned(), BOOT, 3, false);
    let entries: Vec<Entry> = (0..3).map(|id| starts.begin(&start(id, id as u128 + 1, "/")).unwrap()).collect();
    starts.settle(&entries);
    starts.keep().unwrap();
    starts.close();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_disk_that_takes_nothing_is_counted_or_stops_the_request() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let below = file.path().join("below-a-file");
    let lenient = Starts::open(below.clone(), BOOT, 1, false);
    let entry = lenient.begin(&start(0, 1, "/")).unwrap();
    let books = lenient.books();
    assert_eq!((books.started, books.in_flight, books.unwritten), (1, 1, 1));
    lenient.settle(&[entry]);
    assert_eq!(lenient.books().settled, 1);
    let strict = Starts::open(below, BOOT, 1, true);
    assert_eq!(strict.begin(&start(0, 1, "/")), Err(NotWritten));
    assert_eq!(strict.books(), Books::default(), "it was not begun");
    // One whose disk is there, but whose records find no room.
    let directory = tempfile::tempdir().unwrap();
    let strict = Starts::open(directory.path().to_owned(), BOOT, 1, true);
    strict.records_wait(true);
    assert_eq!(strict.begin(&start(0, 1, "/")), Err(NotWritten));
    strict.records_wait(false);
    assert!(strict.begin(&start(0, 1, "/")).is_ok());
}
