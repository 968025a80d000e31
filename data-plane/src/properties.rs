//! What must hold for every sequence of requests and answers, tried on the whole pipeline without a socket: clients
//! and vendors are two ends of memory and one thread runs everything, so a case that fails does so again and shrinks.

mod answer;
mod client;
mod documents;
mod failover;
mod last_words;
mod names;
mod request;
mod stand;
mod streams;
mod vendor;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::answer::{Answer, Framing, Told};
use self::client::{Conduct, Heard, Leaving, Reply};
use self::request::{Ask, Verdict};
use self::stand::{Stand, credential, runtime};
use self::vendor::{Answers, Journal, Seen};
use crate::pipeline::account::{Outcome, Record};

/// A case takes milliseconds; one that takes this long waits for something that never comes.
const STUCK: Duration = Duration::from_secs(8);
/// Numbers of one client's requests begin at a multiple of this.
const MANY: usize = 100;

/// One client: what it asks, what the vendor would answer to each, and how it behaves.
type Party = (Vec<(Ask, Answer)>, Conduct);

fn party() -> impl Strategy<Value = Party> {
    let conduct = (
        any::<bool>(),
        prop_oneof![
            2 => Just(vec![100_000]),
            2 => prop::collection::vec(1..400_usize, 1..6),
            1 => prop::collection::vec(1..4_usize, 1..4),
        ],
        prop::option::weighted(0.2, (0..1000_u16, prop::sample::select(vec![Leaving::Silent, Leaving::Gone]))),
        prop_oneof![3 => Just(64 * 1024), 1 => 1..4096_usize],
    );
    let conduct = conduct.prop_map(|(pipelined, pieces, leaves, buffer)| Conduct { pipelined, pieces, leaves, buffer });
    (prop::collection::vec((Ask::any(), Answer::any()), 1..6), conduct)
}

/// What came of a case.
#[derive(Debug)]
struct Aftermath {
    heard: Vec<Heard>,
    seen: Vec<Seen>,
    wrong: Vec<String>,
    records: Vec<Record>,
    in_flight: u64,
    dials: usize,
}

/// Plays a case to its end: clients have gone, connections have ended, records are written.
async fn play(parties: &[Party]) -> Result<Aftermath, TestCaseError> {
    let stand = Stand::new(runtime(), |_| {});
    let mut answers = Answers::new();
    let mut clients = JoinSet::new();
    for (number, (exchanges, conduct)) in parties.iter().enumerate() {
        let mut requests = Vec::new();
        for (index, (ask, answer)) in exchanges.iter().enumerate() {
            let tag = number * MANY + index;
            requests.push((ask.bytes(tag), ask.method() == "HEAD"));
            answers.insert(tag, vec![answer.clone()]);
        }
        let stream = stand.connect(conduct.buffer);
        let conduct = conduct.clone();
        clients.spawn(async move { (number, client::converse(stream, requests, conduct).await) });
    }
    drive(stand, clients, answers).await
}

/// Lets these clients talk to vendors with these answers until nobody has anything to say.
async fn drive(
    mut stand: Stand,
    mut clients: JoinSet<(usize, Heard)>,
    answers: Answers,
) -> Result<Aftermath, TestCaseError> {
    stand.clients.close();
    let journal = Journal::default();
    let answers = Arc::new(answers);
    let mut vendors = JoinSet::new();
    let mut dials = 0;
    let mut heard = vec![Heard::default(); clients.len()];
    let ended = timeout(STUCK, async {
        let (mut left, mut connections) = (clients.len(), std::pin::pin!(stand.clients.wait()));
        loop {
            tokio::select! {
                biased;
                Some(dialled) = stand.dialled.recv() => {
                    vendors.spawn(vendor::serve(
                        dialled.stream, dialled.address, Arc::clone(&answers), journal.clone(),
                    ));
                    dials += 1;
                }
                Some(joined) = clients.join_next() => {
                    let (number, of_one) = joined.expect("a client does not panic");
                    heard[number] = of_one;
                    left -= 1;
                }
                () = &mut connections, if left == 0 => break,
            }
        }
    });
    prop_assert!(ended.await.is_ok(), "nothing happens any more; heard so far: {:?}", heard);
    // Idle connections and what nobody waits for any more end with the pools.
    let Stand { plane, mut records, .. } = stand;
    let in_flight = plane.metrics.in_flight.value();
    drop(plane);
    let vendors_end = timeout(STUCK, async { while vendors.join_next().await.is_some() {} });
    prop_assert!(vendors_end.await.is_ok(), "a connection to a vendor outlives the gateway");
    let (seen, wrong) = journal.read();
    let mut written = Vec::new();
    while let Ok(record) = records.try_recv() {
        written.push(record);
    }
    Ok(Aftermath { heard, seen, wrong, records: written, in_flight, dials })
}

fn check(parties: &[Party], after: &Aftermath) -> Result<(), TestCaseError> {
    prop_assert!(after.wrong.is_empty(), "{:?}", after.wrong);
    prop_assert_eq!(after.in_flight, 0, "requests that never end");
    prop_assert!(after.dials <= after.seen.len() + 2 * parties.len(), "connections nobody needs");
    for seen in &after.seen {
        let tag = seen.tag().expect("what nobody asked for is wrong already");
        let (ask, _) = &parties[tag / MANY].0[tag % MANY];
        check_arrival(ask, tag, seen)?;
        let twice = after.seen.iter().filter(|other| other.tag() == Some(tag)).count();
        // One that has no effect may be said again on a fresh connection, where the idle one had gone.
        prop_assert!(twice == 1 || matches!(ask.method(), "GET" | "HEAD" | "OPTIONS"), "{} came twice", seen.target);
    }
    for (number, ((exchanges, conduct), heard)) in parties.iter().zip(&after.heard).enumerate() {
        check_told(number, exchanges, conduct, heard, after)?;
    }
    check_records(parties, after)
}

/// What a vendor got is what was authorised, and nothing that must not leave.
fn check_arrival(ask: &Ask, tag: usize, seen: &Seen) -> Result<(), TestCaseError> {
    let verdict = ask.verdict();
    prop_assert!(!matches!(verdict, Verdict::Refused { .. }), "{:?} was not authorised: {:?}", seen.target, verdict);
    let vendor = seen.vendor();
    prop_assert!([0, vendor].contains(&ask.place.vendor()), "another's address: {}", vendor);
    prop_assert_eq!(&seen.method, ask.method());
    prop_assert_eq!(&seen.target, &ask.target(tag, vendor), "what matched is not what came");
    let content = ask.content();
    if seen.complete {
        prop_assert!(verdict != Verdict::Broken, "the end of a body that has none: {}", seen.target);
        prop_assert_eq!(&seen.body, &content, "another body: {}", seen.target);
    } else {
        let prefix = content.starts_with(&seen.body) || (verdict == Verdict::Broken && seen.body.starts_with(&content));
        prop_assert!(prefix, "no part of the body: {}", seen.target);
    }
    let authority = format!("10.0.0.{vendor}");
    prop_assert_eq!(seen.values("host"), vec![authority.as_bytes()]);
    let expected = format!("Bearer {}", credential(vendor));
    prop_assert_eq!(seen.values("authorization"), vec![expected.as_bytes()]);
    let raw = seen.raw_head.to_ascii_lowercase();
    prop_assert!(!raw.windows(4).any(|four| four == b"lgk_"), "a gateway key: {}", String::from_utf8_lossy(&raw));
    let ours = ["host", "authorization", "content-length", "transfer-encoding", "accept-encoding"];
    let theirs: Vec<_> = seen.fields.iter().filter(|(name, _)| !ours.contains(&name.as_str())).cloned().collect();
    let mut expected = ask.passing();
    // Values of one name stay in their order; that one name comes before another means nothing.
    let mut theirs = theirs;
    theirs.sort_by(|one, other| one.0.cmp(&other.0));
    expected.sort_by(|one, other| one.0.cmp(&other.0));
    prop_assert_eq!(theirs, expected, "headers of {}", seen.target);
    Ok(())
}

/// Answers come in the order of the requests, each the one that belongs to its request.
fn check_told(
    number: usize,
    exchanges: &[(Ask, Answer)],
    conduct: &Conduct,
    heard: &Heard,
    after: &Aftermath,
) -> Result<(), TestCaseError> {
    if conduct.leaves.is_some_and(|(_, how)| how == Leaving::Gone) {
        return Ok(());
    }
    let mut may_end = conduct.leaves.is_some();
    for (index, ((ask, answer), reply)) in exchanges.iter().zip(&heard.replies).enumerate() {
        let tag = number * MANY + index;
        check_reply(ask, answer, tag, reply, conduct, after)?;
        may_end |= ends(ask, answer, reply);
    }
    if !may_end {
        prop_assert_eq!(heard.replies.len(), exchanges.len(), "an answer is missing: {:?}", heard.replies.last());
        prop_assert!(heard.wrote, "a request was not taken");
    }
    let told_in_full = heard.replies.last().is_none_or(|reply| reply.whole);
    prop_assert!(
        heard.rest.is_empty() || !told_in_full || conduct.leaves.is_some(),
        "bytes that belong to no answer: {:?}",
        String::from_utf8_lossy(&heard.rest)
    );
    Ok(())
}

/// Whether the client's connection may end behind this exchange.
fn ends(ask: &Ask, answer: &Answer, reply: &Reply) -> bool {
    ask.is_last()
        || ask.verdict() != Verdict::Forwarded
        || !reply.whole
        || answer.early
        || reply.value("connection") == Some("close")
}

fn check_reply(
    ask: &Ask,
    answer: &Answer,
    tag: usize,
    reply: &Reply,
    conduct: &Conduct,
    after: &Aftermath,
) -> Result<(), TestCaseError> {
    let text = String::from_utf8_lossy(&reply.body);
    for name in ["set-cookie", "x-poison", "x-hint"] {
        prop_assert_eq!(reply.value(name), None, "{} of the vendor's came through", name);
    }
    prop_assert!(!text.contains("sk-vendor") && !text.contains("10.0.0."), "{}", text);
    let vendors = reply.value("x-vendor").is_some();
    let head = ask.method() == "HEAD";
    match ask.verdict() {
        Verdict::Refused { status, label, .. } => {
            prop_assert!(!vendors, "t{}: a vendor's answer to what was refused", tag);
            prop_assert_eq!(reply.status, status, "t{}: {}", tag, text);
            prop_assert!(head || text.contains(label), "t{}: {} is not {}", tag, text, label);
        }
        Verdict::Broken => prop_assert!(vendors || reply.status >= 400, "t{}: {}", tag, reply.status),
        Verdict::Either if !vendors => prop_assert!(reply.status >= 400, "t{}: {}", tag, reply.status),
        Verdict::Forwarded | Verdict::Either => {
            // Whose sentence breaks off is told so; the vendor may have answered before.
            let broke_off = conduct.leaves.is_some() && !vendors;
            let unlucky = answer.early && !vendors;
            if broke_off || unlucky {
                prop_assert!([400, 502].contains(&reply.status), "t{}: {} {}", tag, reply.status, text);
                return Ok(());
            }
            check_vendors_answer(ask, answer, tag, reply, conduct)?;
            let reached = after.seen.iter().any(|seen| seen.tag() == Some(tag));
            prop_assert!(reached, "t{}: answered, and the vendor knows nothing of it", tag);
        }
    }
    Ok(())
}

/// What of an answer's body is the vendor's: an error event of the gateway's own may follow.
fn relayed<'a>(answer: &Answer, reply: &'a Reply) -> &'a [u8] {
    const EVENT: &[u8] = b"data: {\"error\"";
    let body = reply.body.as_slice();
    let at = body.windows(EVENT.len()).position(|window| window == EVENT);
    let Some(at) = at.filter(|_| answer.events && body.ends_with(b"}\n\n")) else { return body };
    // It begins with the end of the event that broke off, if one did.
    body[..at].strip_suffix(b"\n\n").unwrap_or(&body[..at])
}

fn check_vendors_answer(
    ask: &Ask,
    answer: &Answer,
    tag: usize,
    reply: &Reply,
    conduct: &Conduct,
) -> Result<(), TestCaseError> {
    let (head, text) = (ask.method() == "HEAD", String::from_utf8_lossy(&reply.body));
    let told = answer.told(ask.method());
    if told == Told::Nothing {
        prop_assert_eq!(reply.status, 502, "t{}: {}", tag, text);
        prop_assert!(head || text.contains("upstream_broken"), "t{}: {}", tag, text);
        return Ok(());
    }
    if answer.status == 401 {
        prop_assert_eq!(reply.status, 502, "t{}: {}", tag, text);
        prop_assert!(head || text.contains("upstream_auth"), "t{}: {}", tag, text);
        return Ok(());
    }
    prop_assert_eq!(reply.status, answer.status, "t{}: {}", tag, text);
    match told {
        Told::Nothing => {}
        Told::Whole(body) => {
            // Nor is one that its client has turned away from.
            let may_be_cut = answer.early || conduct.leaves.is_some();
            prop_assert!(reply.whole || may_be_cut, "t{}: cut: {}", tag, text);
            // An answer that did not wait for the request may be cut when the rest of it finds nobody.
            // Who speaks HTTP/1.0 cannot tell.
            let cut = (!reply.whole || (may_be_cut && ask.is_old())) && body.starts_with(relayed(answer, reply));
            prop_assert!(reply.body == body || cut, "t{}: {}", tag, text);
        }
        Told::Half(body) => {
            // Who speaks HTTP/1.0 learns of an end by the connection's alone.
            prop_assert!(!reply.whole || ask.is_old(), "t{}: a clean end to half an answer: {}", tag, text);
            if answer.early || conduct.leaves.is_some() {
                let cut = body.starts_with(relayed(answer, reply));
                prop_assert!(cut, "t{}: {} is no part of the answer", tag, text);
                return Ok(());
            }
            let rest = reply.body.strip_prefix(&*body);
            let Some(rest) = rest else {
                prop_assert!(false, "t{tag}: not all that was said: {text}");
                return Ok(());
            };
            if answer.events && answer.framing == Framing::Chunked {
                let event = rest.strip_prefix(b"\n\n").unwrap_or(rest);
                let told = event.starts_with(b"data: {\"error\"") && event.ends_with(b"}\n\n");
                prop_assert!(told, "t{}: the end is not told: {}", tag, text);
            } else {
                prop_assert!(rest.is_empty(), "t{}: {}", tag, text);
            }
        }
    }
    Ok(())
}

/// One record for every request with a valid key that came as far as that, and none for the others.
fn check_records(parties: &[Party], after: &Aftermath) -> Result<(), TestCaseError> {
    let mut of: BTreeMap<usize, Vec<&Record>> = BTreeMap::new();
    for record in &after.records {
        let number = record.path.strip_prefix("/t").map(|rest| rest.split('/').next().unwrap_or_default());
        let tag: Option<usize> = number.and_then(|number| number.parse().ok());
        let Some(tag) = tag else {
            return Err(TestCaseError::fail(format!("a record of what nobody asked for: {}", record.path)));
        };
        of.entry(tag).or_default().push(record);
    }
    for (number, (exchanges, _)) in parties.iter().enumerate() {
        for (index, (ask, answer)) in exchanges.iter().enumerate() {
            let tag = number * MANY + index;
            let records = of.remove(&tag).unwrap_or_default();
            let reply = after.heard[number].replies.get(index);
            let seen = after.seen.iter().rfind(|seen| seen.tag() == Some(tag));
            let must_be_none = matches!(ask.verdict(), Verdict::Refused { recorded: false, .. });
            let vendors = reply.is_some_and(|reply| reply.value("x-vendor").is_some());
            let must_be_one = seen.is_some()
                || vendors
                || (reply.is_some() && matches!(ask.verdict(), Verdict::Refused { recorded: true, .. }));
            prop_assert!(records.len() <= 1 && !(must_be_none && records.len() == 1), "t{}: {:?}", tag, records);
            prop_assert!(!must_be_one || records.len() == 1, "t{}: no record", tag);
            if let [record] = records[..] {
                check_record(ask, answer, tag, record, seen, reply)?;
            }
        }
    }
    prop_assert!(of.is_empty(), "records of what nobody asked for: {:?}", of.keys());
    Ok(())
}

fn check_record(
    ask: &Ask,
    answer: &Answer,
    tag: usize,
    record: &Record,
    seen: Option<&Seen>,
    reply: Option<&Reply>,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(record.method.as_str(), ask.method());
    prop_assert_eq!(&*record.path, ask.recorded_path(tag));
    if let Some(seen) = seen.filter(|seen| seen.complete) {
        prop_assert_eq!(record.request_bytes, seen.body.len() as u64, "t{}: bytes up", tag);
    }
    if let (Some(reply), Verdict::Forwarded) = (reply, ask.verdict())
        && !answer.early
        && matches!(answer.told(ask.method()), Told::Whole(_))
        && reply.whole
        && reply.value("x-vendor").is_some()
    {
        let outcome = if reply.status >= 400 { Outcome::VendorError } else { Outcome::Answered };
        prop_assert_eq!(record.outcome, outcome, "t{}", tag);
        prop_assert_eq!(record.status, Some(answer.status), "t{}", tag);
        prop_assert_eq!(record.response_bytes, reply.body.len() as u64, "t{}: bytes down", tag);
    }
    Ok(())
}

fn try_out(parties: &[Party]) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let after = runtime.block_on(play(parties))?;
    check(parties, &after)
}

/// The first is refused with its body unread, and its answer is taken in small pieces.
#[tokio::test]
async fn a_request_behind_an_answer_that_is_slowly_taken_has_its_turn() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let request = |path: &str, length: usize| {
        let (key, body) = (stand::key(1), "b".repeat(length));
        let head = format!("POST {path} HTTP/1.1\r\nHost: gw\r\nX-API-Key: {key}\r\nContent-Length: {length}\r\n\r\n");
        (format!("{head}{body}").into_bytes(), false)
    };
    for buffer in 100..150 {
        // No timer is what it owes its turn to.
        let mut stand = Stand::new(runtime(), |config| {
            let hour = Duration::from_hours(1);
            let deadlines = &mut config.deadlines;
            (deadlines.first_byte, deadlines.head, deadlines.keep_alive) = (hour, hour, hour);
            deadlines.client_idle = hour;
        });
        let conduct = Conduct { pipelined: true, pieces: vec![1000], leaves: None, buffer };
        let requests = vec![request("/one/t0/%2E%2e/x?path=/../%2e%2e/", 110), request("/one/t1", 300)];
        let client = tokio::spawn(client::converse(stand.connect(buffer), requests, conduct));
        let vendor = tokio::spawn(async move {
            let mut dialled = stand.dialled.recv().await.expect("the stand is there");
            let mut bytes = Vec::new();
            while !bytes.ends_with(&[b'b'; 300]) {
                dialled.stream.read_buf(&mut bytes).await.expect("the rest of the request");
            }
            dialled.stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.expect("a reader");
            std::future::pending::<()>().await;
        });
        let heard = timeout(STUCK, client).await.expect("an end").expect("a client does not panic");
        let told: Vec<_> = heard.replies.iter().map(|reply| reply.status).collect();
        assert_eq!(told, [400, 200], "with a buffer of {buffer}");
        vendor.abort();
    }
}

proptest! {
    // A case that fails is shown; it is written down as a plain test of its own.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_clients_requests_reach_the_vendor_exactly_as_authorised(party in party()) {
        try_out(&[party])?;
    }

    #[test]
    fn exchanges_of_several_clients_never_touch(parties in prop::collection::vec(party(), 2..4)) {
        try_out(&parties)?;
    }
}
