//! Streams for other rooms.

use futures_util::FutureExt as _;

use super::*;
use crate::gossip::streams::Tag;

/// Says back what it hears, and nothing to an empty question.
struct Echo;

impl Responder for Echo {
    fn answer(&self, peer: NodeName, question: Bytes) -> BoxFuture<'static, Option<Vec<u8>>> {
        let answer = (!question.is_empty()).then(|| [peer.as_str().as_bytes(), &question].concat());
        std::future::ready(answer).boxed()
    }
}

/// Takes questions and never answers.
struct Silent;

impl Responder for Silent {
    fn answer(&self, _: NodeName, _: Bytes) -> BoxFuture<'static, Option<Vec<u8>>> {
        std::future::pending().boxed()
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

#[tokio::test]
async fn a_question_is_answered_by_who_has_registered_for_its_kind() {
    let cluster = default();
    cluster.connected().await;
    cluster.node("b").gossip.respond(StreamKind::Audit, Arc::new(Echo));
    let asks = &cluster.node("a").gossip;
    let answer = asks.ask(&name("b"), StreamKind::Audit, b"?", soon()).await;
    assert_eq!(answer, Ok(Bytes::from_static(b"a?")));
    // As large as a frame may be, and no larger.
    let long = vec![1; StreamKind::Audit.frame_len_max() - 1];
    let answer = asks.ask(&name("b"), StreamKind::Audit, &long, soon()).await;
    assert_eq!(answer.unwrap().len(), long.len() + 1);
    let longer = vec![1; StreamKind::Audit.frame_len_max() + 1];
    let answer = asks.ask(&name("b"), StreamKind::Audit, &longer, soon()).await;
    assert!(matches!(answer, Err(AskError::NotSent(_))));
    let answer = asks.ask(&name("nobody"), StreamKind::Audit, b"?", soon()).await;
    assert!(matches!(answer, Err(AskError::NotSent(_))));
}

#[tokio::test]
async fn a_question_that_nobody_takes_is_refused_and_harms_nobody() {
    let cluster = default();
    cluster.connected().await;
    cluster.node("b").gossip.respond(StreamKind::Audit, Arc::new(Echo));
    let asks = &cluster.node("a").gossip;
    let unknown = asks.ask(&name("b"), StreamKind::QuorumRead, b"?", soon()).await;
    assert!(matches!(unknown, Err(AskError::Refused(_))), "{unknown:?}");
    let senseless = asks.ask(&name("b"), StreamKind::Audit, b"", soon()).await;
    assert!(matches!(senseless, Err(AskError::Refused(_))), "{senseless:?}");
    // A kind of a later version.
    let connection = stranger(&cluster, &cluster.identity("c"), "test").await.unwrap();
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    frame::write(&mut send, &Tag { kind: 1_000 }).await.unwrap();
    let end = receive.read_to_end(10).await.unwrap_err();
    assert!(matches!(end, quinn::ReadToEndError::Read(quinn::ReadError::Reset(_))), "{end}");
    assert!(connection.close_reason().is_none());
    nobody_is_harmed(&cluster).await;
    assert_eq!(cluster.node("b").gossip.stats().misbehaved, 0);
}

#[tokio::test]
async fn questions_that_are_not_answered_keep_no_other_kind_from_being_asked() {
    let cluster = default();
    cluster.connected().await;
    cluster.node("b").gossip.respond(StreamKind::Audit, Arc::new(Echo));
    cluster.node("b").gossip.respond(StreamKind::QuorumPropose, Arc::new(Silent));
    let asks = &cluster.node("a").gossip;
    let deadline = Instant::now() + Duration::from_millis(500);
    let many = (0..100).map(|_| {
        let asks = asks.clone();
        tokio::spawn(async move {
            asks.ask(&name("b"), StreamKind::QuorumPropose, b"?", deadline).await
        })
    });
    let many: Vec<_> = many.collect();
    let answer = asks.ask(&name("b"), StreamKind::Audit, b"?", soon()).await;
    assert!(answer.is_ok());
    let (mut sent, mut unsent) = (0, 0);
    for asked in many {
        match asked.await.unwrap() {
            Err(AskError::Lost(_)) => sent += 1,
            Err(AskError::NotSent(_)) => unsent += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((sent, unsent), (64, 36), "as many as there may be, and the others never left");
    // Their places are free again.
    let deadline = Instant::now() + Duration::from_millis(100);
    let again = asks.ask(&name("b"), StreamKind::QuorumPropose, b"?", deadline).await;
    assert!(matches!(again, Err(AskError::Lost(_))), "{again:?}");
}
