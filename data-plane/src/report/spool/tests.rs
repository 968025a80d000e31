//! What a spool gives back after restarts, damage and full disks.

use std::path::Path;

use super::*;

const BOOT: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
const LATER: Uuid = Uuid::from_u128(0x0191_0000_0000_7000_8000_0000_0000_0001);

fn open(directory: &Path, boot: Uuid, bounds: Bounds) -> Spool {
    let starts = Starts::open(directory.join("starts"), boot, 1, false);
    starts.close();
    let _ = fs::remove_dir(directory.join("starts"));
    Spool::open(directory.to_owned(), "node-1".to_owned(), boot, bounds, Arc::new(starts))
}

fn record(status: u32) -> UsageRecord {
    UsageRecord { status, path: "/v1/chat/completions".to_owned(), ..UsageRecord::default() }
}

fn number(boot: Uuid, seq: u64) -> Number {
    Number { boot, seq }
}

fn waiting(spool: &mut Spool) -> Vec<(Uuid, u64, u32)> {
    (0..spool.len())
        .map(|index| {
            let batch = UsageBatch::decode(spool.get(index).unwrap().unwrap()).unwrap();
            (Uuid::from_slice(&batch.boot).unwrap(), batch.seq, batch.records[0].status)
        })
        .collect()
}

#[test]
fn what_was_not_acknowledged_is_there_after_a_restart_under_its_old_number() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = open(directory.path(), BOOT, Bounds::default());
    for status in 1..=3 {
        spool.append(vec![record(status)], vec![]).unwrap();
    }
    assert_eq!(spool.acknowledge(number(BOOT, 1)), Settled { batches: 1, records: 1 });
    drop(spool);
    let mut spool = open(directory.path(), LATER, Bounds::default());
    spool.append(vec![record(9)], vec![]).unwrap();
    // The first is sent again, too: the control plane knows it by its number.
    assert_eq!(waiting(&mut spool), [(BOOT, 1, 1), (BOOT, 2, 2), (BOOT, 3, 3), (LATER, 1, 9)]);
    assert_eq!(spool.acknowledge(number(LATER, 1)), Settled { batches: 4, records: 1 });
    drop(spool);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "acknowledged segments are removed");
}

#[test]
fn a_torn_end_costs_only_the_batch_that_was_being_written() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = open(directory.path(), BOOT, Bounds::default());
    spool.append(vec![record(1)], vec![]).unwrap();
    spool.append(vec![record(2)], vec![]).unwrap();
    drop(spool);
    let path = fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&path).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for length in 0..=whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        seen.insert(open(directory.path(), LATER, Bounds::default()).len());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2]);
    let mut flipped = whole.clone();
    flipped[FRAME_HEAD + 2] ^= 1;
    fs::write(&path, &flipped).unwrap();
    let mut spool = open(directory.path(), LATER, Bounds::default());
    assert_eq!((waiting(&mut spool), spool.damaged()), (vec![(BOOT, 2, 2)], 1), "what is after it is whole");
}

#[test]
fn only_a_full_spool_refuses_and_an_acknowledgement_makes_room() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = open(directory.path(), BOOT, Bounds { disk: 400, segment: 100, memory: 100 });
    let taken = (0..20).take_while(|status| spool.append(vec![record(*status)], vec![]).is_ok()).count() as u64;
    assert!((4..20).contains(&taken), "{taken}");
    assert_eq!(spool.append(vec![record(99)], vec![]), Err(Full));
    assert!(spool.bytes() <= 500);
    assert_eq!(spool.acknowledge(number(BOOT, 3)).batches, 3);
    // What was refused had no number: the next one follows without a gap.
    let kept = spool.append(vec![record(100)], vec![]).unwrap();
    assert_eq!(kept, Kept { number: number(BOOT, taken + 1), on_disk: true });
    let numbers: Vec<_> = waiting(&mut spool).into_iter().map(|(_, seq, _)| seq).collect();
    assert_eq!(numbers, (4..=taken + 1).collect::<Vec<_>>());
}

#[test]
fn without_a_disk_batches_wait_in_memory() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut spool = open(&file.path().join("below-a-file"), BOOT, Bounds::default());
    spool.append(vec![record(1)], vec![]).unwrap();
    assert_eq!(waiting(&mut spool), [(BOOT, 1, 1)]);
    assert_eq!(spool.acknowledge(number(BOOT, 1)), Settled { batches: 1, records: 1 });
    assert_eq!(spool.bytes(), 0);
}

#[test]
fn an_acknowledgement_of_nothing_that_waits_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = open(directory.path(), BOOT, Bounds::default());
    spool.append(vec![record(1)], vec![]).unwrap();
    assert_eq!(spool.acknowledge(number(BOOT, 7)), Settled::default());
    assert_eq!(spool.acknowledge(number(LATER, 1)), Settled::default());
    assert_eq!(spool.len(), 1);
}

#[test]
fn a_damaged_batch_in_the_middle_costs_itself_and_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let mut spool = open(directory.path(), BOOT, Bounds::default());
    for status in 1..=5 {
        // The third batch has three records.
        let records = (0..if status == 3 { 3 } else { 1 }).map(|_| record(status)).collect();
        spool.append(records, vec![]).unwrap();
    }
    drop(spool);
    let path = fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&path).unwrap();
    let mut starts = vec![0];
    while let Some((length, _)) = recover::frame_at(&whole[*starts.last().unwrap()..]) {
        starts.push(starts.last().unwrap() + FRAME_HEAD + length as usize);
    }
    // Length, sum and content: whatever is damaged, the batches after it are found.
    for byte in starts[2]..starts[3] {
        let mut damaged = whole.clone();
        damaged[byte] ^= 0x55;
        fs::write(&path, &damaged).unwrap();
        let mut spool = open(directory.path(), LATER, Bounds::default());
        let seen: Vec<_> = waiting(&mut spool).into_iter().map(|(_, seq, _)| seq).collect();
        assert_eq!((seen, spool.damaged()), (vec![1, 2, 4, 5], 3), "byte {byte}");
    }
    // Two in a row, and the first of all.
    for (range, seen, lost) in [(starts[1]..starts[3], vec![1, 4, 5], 4), (0..starts[1], vec![2, 3, 4, 5], 1)] {
        let mut damaged = whole.clone();
        damaged[range].fill(0);
        fs::write(&path, &damaged).unwrap();
        let mut spool = open(directory.path(), LATER, Bounds::default());
        let left: Vec<_> = waiting(&mut spool).into_iter().map(|(_, seq, _)| seq).collect();
        assert_eq!((left, spool.damaged()), (seen, lost));
    }
}
