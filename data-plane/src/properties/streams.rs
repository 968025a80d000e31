//! What must hold for the streams of one HTTP/2 connection: each is a request of its own, whatever the others do.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Either, Empty, StreamBody};
use hyper::body::Frame;
use proptest::prelude::*;
use tokio::io::DuplexStream;
use tokio::task::{JoinSet, yield_now};

use super::answer::{Answer, Told};
use super::client::{Conduct, Heard, Reply};
use super::request::{Ask, Place};
use super::stand::{Stand, runtime};
use super::vendor::Answers;
use super::{Aftermath, check_arrival, check_reply, drive};
use crate::upstream::memory;

/// A stream: what it asks, what it is answered, and after how many turns it is given up, if it is.
type Exchange = (Ask, Answer, Option<usize>);

fn exchange() -> impl Strategy<Value = Exchange> {
    let place = prop::sample::select(vec![Place::One, Place::Two, Place::Three]);
    let ask = place.prop_flat_map(Ask::sound_to).prop_map(Ask::for_second);
    (ask, Answer::any(), prop::option::weighted(0.15, 0..40_usize))
}

/// Asks everything at once over one connection. What was given up has no reply of its own.
async fn converse(stream: DuplexStream, exchanges: Vec<Exchange>) -> Heard {
    let (sender, driver) = memory::speak_http2(stream).await;
    let mut tasks = JoinSet::new();
    for (tag, (ask, _, given_up)) in exchanges.iter().enumerate() {
        let (head, pieces) = ask.request(tag);
        let body = match pieces {
            None => Either::Left(Empty::<Bytes>::new()),
            Some(pieces) => {
                let frames = stream::iter(pieces).then(|piece| async move {
                    yield_now().await;
                    Ok::<_, Infallible>(Frame::data(piece))
                });
                Either::Right(StreamBody::new(Box::pin(frames)))
            }
        };
        let request = head.body(body).expect("a request");
        let (mut sender, given_up) = (sender.clone(), *given_up);
        tasks.spawn(async move {
            let asked = async {
                let Ok(response) = sender.send_request(request).await else { return Reply::default() };
                let (head, mut body) = response.into_parts();
                let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
                let fields = head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
                let mut reply = Reply { status: head.status.as_u16(), fields, body: Vec::new(), whole: false };
                loop {
                    match body.frame().await {
                        Some(Ok(frame)) => reply.body.extend(frame.into_data().unwrap_or_default()),
                        Some(Err(_)) => break,
                        None => {
                            reply.whole = true;
                            break;
                        }
                    }
                }
                reply
            };
            let reply = match given_up {
                None => Some(asked.await),
                Some(turns) => tokio::select! {
                    biased;
                    _ = asked => None,
                    () = async { for _ in 0..turns { yield_now().await } } => None,
                },
            };
            (tag, reply)
        });
    }
    drop(sender);
    let mut heard = Heard { replies: vec![Reply::default(); exchanges.len()], ..Heard::default() };
    while let Some(joined) = tasks.join_next().await {
        let (tag, reply) = joined.expect("a stream does not panic");
        heard.replies[tag] = reply.unwrap_or_default();
    }
    let _ = driver.await;
    heard
}

async fn play(exchanges: &[Exchange], buffer: usize) -> Result<Aftermath, TestCaseError> {
    let stand = Stand::new(runtime(), |_| {});
    let answers: Answers = exchanges.iter().map(|(_, answer, _)| vec![answer.clone()]).enumerate().collect();
    let mut clients = JoinSet::new();
    let (stream, of_client) = (stand.connect_second(buffer), exchanges.to_vec());
    clients.spawn(async move { (0, converse(stream, of_client).await) });
    drive(stand, clients, answers).await
}

fn check(exchanges: &[Exchange], buffer: usize, after: &Aftermath) -> Result<(), TestCaseError> {
    prop_assert!(after.wrong.is_empty(), "{:?}", after.wrong);
    prop_assert_eq!(after.in_flight, 0, "requests that never end");
    // Nobody but the streams that are given up leaves.
    let conduct = Conduct { pipelined: true, pieces: Vec::new(), leaves: None, buffer: 0 };
    for seen in &after.seen {
        let tag = seen.tag().expect("what nobody asked for is wrong already");
        check_arrival(&exchanges[tag].0, tag, seen)?;
    }
    for (tag, (ask, answer, given_up)) in exchanges.iter().enumerate() {
        let records = after.records.iter().filter(|record| *record.path == *ask.recorded_path(tag)).count();
        let arrived = after.seen.iter().any(|seen| seen.tag() == Some(tag));
        prop_assert!(records <= 1 && (records == 1 || !arrived), "t{}: {} records", tag, records);
        if given_up.is_none() {
            let reply = &after.heard[0].replies[tag];
            // Who takes little at a time may lose the beginning of an answer to the reset behind it.
            let lost = buffer < 64 * 1024 && (answer.early || matches!(answer.told(ask.method()), Told::Half(_)));
            prop_assert!(reply.status != 0 || lost, "t{}: no answer", tag);
            if reply.status != 0 {
                check_reply(ask, answer, tag, reply, &conduct, after)?;
            }
            prop_assert_eq!(records, 1, "t{}: no record", tag);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn streams_of_one_connection_never_see_each_others_bytes(
        exchanges in prop::collection::vec(exchange(), 1..8), buffer in prop_oneof![Just(64 * 1024), 64..2000_usize],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let after = runtime.block_on(play(&exchanges, buffer))?;
        check(&exchanges, buffer, &after)?;
    }
}
