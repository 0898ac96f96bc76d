//! Peers that send a node to whole documents.

use super::*;
use crate::gossip::message::{Answer, Pull};

/// Writes what others have to pull.
fn write_unpushed(node: &Node, count: usize) {
    (0..count).for_each(|_| drop(node.memory.write(10)));
    node.gossip.advanced();
}

#[tokio::test]
async fn who_lacks_what_is_gone_is_sent_to_whole_documents_and_still_gets_the_rest() {
    let cluster = default();
    cluster.connected().await;
    let b = cluster.node("b");
    *locked(&b.memory.trimmed) = Some(Need::Trimmed);
    let mut advice = cluster.node("a").gossip.advice();
    write_unpushed(b, 3);
    advice.changed().await.unwrap();
    let advice = advice.borrow().clone().unwrap();
    assert_eq!(advice, Advice { peer: name("b"), need: Need::Trimmed });
    until("the rest is here", async || {
        let vector = cluster.node("a").memory.vector();
        (vector.get(b.memory.origin) == 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn nothing_is_pulled_while_whole_documents_are_taken() {
    let cluster = default();
    cluster.connected().await;
    let (a, b) = (cluster.node("a"), cluster.node("b"));
    a.gossip.set_taking_documents(true);
    let pulls = a.gossip.stats().pulls;
    write_unpushed(b, 3);
    sleep(Duration::from_millis(1_500)).await;
    assert_eq!(a.gossip.stats().pulls, pulls);
    a.gossip.set_taking_documents(false);
    until("it pulls again", async || (a.memory.vector().get(b.memory.origin) == 3).then_some(()))
        .await;
}

#[tokio::test]
async fn a_program_that_takes_no_documents_is_never_told_of_them() {
    let cluster = default();
    cluster.connected().await;
    let a = cluster.node("a");
    write_unpushed(a, 1);
    for (need, takes, expected) in [
        (Need::Trimmed, None, Answer::Done(false)),
        (Need::Cheaper, Some(false), Answer::Done(false)),
        (Need::Trimmed, Some(true), Answer::Documents(true)),
        (Need::Cheaper, Some(true), Answer::Documents(false)),
    ] {
        *locked(&a.memory.trimmed) = Some(need);
        let connection = stranger(&cluster, &cluster.identity("c"), "test").await.unwrap();
        let (mut send, receive) = connection.open_bi().await.unwrap();
        let pull = Pull { vector: Told::new(), takes_documents: takes };
        frame::write(&mut send, &pull).await.unwrap();
        let mut reader = frame::FrameReader::new(receive, frame::FRAME_LEN_MAX);
        let batch: Answer = reader.message().await.unwrap();
        assert!(matches!(batch, Answer::Batch(_)));
        assert_eq!(reader.message::<Answer>().await.unwrap(), expected);
    }
}
