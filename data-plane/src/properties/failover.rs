//! What must hold where a request may be sent again: each time as it was authorised, never twice to one vendor that may
//! have acted on it, and never once an answer has begun.

use proptest::prelude::*;
use tokio::task::JoinSet;

use super::answer::{Answer, Told};
use super::client::{self, Conduct, Leaving};
use super::request::{Ask, Place};
use super::stand::{Stand, runtime};
use super::vendor::{Answers, Seen};
use super::{Aftermath, check_arrival, drive};

/// Targets of `/several`; one attempt at each, if nothing else is said.
const TARGETS: usize = 3;

/// Requests, and what is answered each time one comes.
type Exchanges = Vec<(Ask, Vec<Answer>)>;

fn exchanges() -> impl Strategy<Value = Exchanges> {
    let answers = prop::collection::vec(Answer::troubled(), TARGETS + 1);
    prop::collection::vec((Ask::sound_to(Place::Several), answers), 1..5)
}

fn conduct() -> impl Strategy<Value = Conduct> {
    let pieces = prop_oneof![Just(vec![100_000]), prop::collection::vec(1..400_usize, 1..6)];
    let leaves = prop::option::weighted(0.15, (0..1000_u16, Just(Leaving::Gone)));
    (pieces, leaves).prop_map(|(pieces, leaves)| Conduct { pipelined: false, pieces, leaves, buffer: 64 * 1024 })
}

async fn play(exchanges: &Exchanges, conduct: &Conduct) -> Result<Aftermath, TestCaseError> {
    let stand = Stand::new(runtime(), |_| {});
    let (mut clients, mut answers, mut requests) = (JoinSet::new(), Answers::new(), Vec::new());
    for (tag, (ask, of_it)) in exchanges.iter().enumerate() {
        requests.push((ask.bytes(tag), ask.method() == "HEAD"));
        answers.insert(tag, of_it.clone());
    }
    let (stream, conduct) = (stand.connect(conduct.buffer), conduct.clone());
    clients.spawn(async move { (0, client::converse(stream, requests, conduct).await) });
    drive(stand, clients, answers).await
}

/// Whether a vendor may be asked the same twice.
fn is_harmless(ask: &Ask) -> bool {
    ask.has_no_body() && matches!(ask.method(), "GET" | "HEAD" | "OPTIONS")
}

fn check(exchanges: &Exchanges, conduct: &Conduct, after: &Aftermath) -> Result<(), TestCaseError> {
    prop_assert!(after.wrong.is_empty(), "{:?}", after.wrong);
    prop_assert_eq!(after.in_flight, 0, "requests that never end");
    for (tag, (ask, answers)) in exchanges.iter().enumerate() {
        let arrivals: Vec<&Seen> = after.seen.iter().filter(|seen| seen.tag() == Some(tag)).collect();
        for (nth, seen) in arrivals.iter().enumerate() {
            check_arrival(ask, tag, seen)?;
            let before = arrivals[..nth].iter().filter(|other| other.vendor() == seen.vendor()).count();
            prop_assert!(before == 0 || is_harmless(ask), "t{}: twice at vendor {}", tag, seen.vendor());
            if nth + 1 < arrivals.len() {
                let ended = &answers[nth.min(TARGETS)];
                prop_assert!(ended.is_trouble(ask.method()), "t{}: after a {}", tag, ended.status);
            }
        }
        // One that has no effect may find that an idle connection is gone, and is said again at once.
        let most = if is_harmless(ask) { 2 * TARGETS } else { TARGETS };
        prop_assert!(arrivals.len() <= most, "t{}: {} attempts", tag, arrivals.len());
        let records = after.records.iter().filter(|record| *record.path == *ask.recorded_path(tag)).count();
        prop_assert!(records <= 1 && (records == 1 || arrivals.is_empty()), "t{}: {} records", tag, records);
        if conduct.leaves.is_none() {
            check_told(exchanges, tag, &arrivals, after)?;
        }
    }
    Ok(())
}

/// The answer is that of the last attempt, and says what came of each.
fn check_told(exchanges: &Exchanges, tag: usize, arrivals: &[&Seen], after: &Aftermath) -> Result<(), TestCaseError> {
    let (ask, answers) = &exchanges[tag];
    // Whoever is cut off in an answer hears nothing of what follows.
    let Some(reply) = after.heard[0].replies.get(tag) else { return Ok(()) };
    let given = |nth: usize| &answers[nth.min(TARGETS)];
    let early = (0..arrivals.len()).any(|nth| given(nth).early);
    let Some(last) = arrivals.len().checked_sub(1).map(given) else {
        prop_assert!(false, "t{}: {} without an attempt", tag, reply.status);
        return Ok(());
    };
    let text = String::from_utf8_lossy(&reply.body);
    let told = last.told(ask.method());
    let expected = if told == Told::Nothing || last.status == 401 { 502 } else { last.status };
    // An answer that does not wait for the request may break the connection that the request is written to.
    prop_assert!(reply.status == expected || (early && reply.status == 502), "t{}: {} {}", tag, reply.status, text);
    let attempts = reply.value("x-lockgate-attempts").map_or(0, |attempts| attempts.split(", ").count());
    prop_assert!(attempts == arrivals.len() || is_harmless(ask), "t{}: {} attempts are told", tag, attempts);
    if let Told::Whole(body) = &told
        && reply.status == last.status
        && !early
    {
        prop_assert!(reply.whole && reply.body == *body, "t{}: {}", tag, text);
    }
    // Nothing is known of any target yet: as long as there is another, trouble goes on to it.
    if tag == 0 && !early && !is_harmless(ask) {
        let troubles = (0..TARGETS).take_while(|nth| given(*nth).is_trouble(ask.method())).count();
        prop_assert_eq!(arrivals.len(), (troubles + 1).min(TARGETS), "t{}: attempts", tag);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_attempt_is_the_request_that_was_authorised_and_none_is_one_too_many(
        exchanges in exchanges(), conduct in conduct(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let after = runtime.block_on(play(&exchanges, &conduct))?;
        check(&exchanges, &conduct, &after)?;
    }
}
