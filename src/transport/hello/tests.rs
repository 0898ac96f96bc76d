use super::*;
use crate::env::{Entropy, Env, MemoryDisk};
use crate::model::cbor;
use crate::transport::{Authority, Identity, endpoint};
use proptest::prelude::*;

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn topology() -> Topology {
    Topology::of_pairs(&[("ra", "a"), ("rb", "b")])
}

fn hello(node: &str) -> Hello {
    Hello {
        protocol: PROTOCOL,
        protocol_min: PROTOCOL_MIN,
        cluster: "test".into(),
        node: node.into(),
        region: format!("r{node}"),
        origin: Origin([1; 8]),
        instance: 7,
        now: Stamp(1),
        vector: Told::new(),
        announced: None,
        features: None,
        https: None,
    }
}

/// `a` dials `b`; each with the certificate and the hello that the test wants.
struct Meeting {
    authority: Authority,
    entropy: Entropy,
    a: (Identity, Hello),
    b: (Identity, Hello),
}

type Outcome = (Result<Peer, HelloError>, Result<Peer, HelloError>);

fn authority(env: &Env) -> Authority {
    Authority::create(&env.entropy, &*env.clock).unwrap()
}

fn issue(authority: &Authority, node: &str) -> Identity {
    let env = Env::in_memory(MemoryDisk::new(), None);
    authority.issue(&name(node), &env.entropy, &*env.clock).unwrap()
}

impl Meeting {
    fn new() -> Self {
        let authority = authority(&Env::in_memory(MemoryDisk::new(), None));
        let (a, b) = (issue(&authority, "a"), issue(&authority, "b"));
        Self { a: (a, hello("a")), b: (b, hello("b")), entropy: Entropy::system(), authority }
    }

    async fn happens(self) -> Outcome {
        let env = Env { entropy: self.entropy, ..Env::in_memory(MemoryDisk::new(), None) };
        let any = "127.0.0.1:0".parse().unwrap();
        let (topology, at_b) = (topology(), topology());
        let a = endpoint(&env, &name("a"), any, &self.a.0).unwrap();
        let b = endpoint(&env, &name("b"), any, &self.b.0).unwrap();
        let addr = b.local_addr().unwrap();
        let hello = self.b.1;
        let accepting = tokio::spawn(async move {
            let lost = |e: quinn::ConnectionError| HelloError::Frame(FrameError::Io(e.into()));
            let connection = b.accept().await.unwrap().await.map_err(lost)?;
            let peer = accept(&connection, &at_b, &hello, |_| Ok(())).await;
            // Dropping the connection earlier would take the answer back.
            connection.closed().await;
            peer
        });
        let connecting = a.connect(addr, "b").unwrap().await;
        let dialed = match connecting {
            Ok(connection) => {
                let peer = dial(&connection, &topology, &self.a.1, &name("b")).await;
                connection.close(CLOSE_DONE, b"");
                peer
            }
            Err(error) => Err(HelloError::Frame(FrameError::Io(error.into()))),
        };
        (dialed, accepting.await.unwrap())
    }
}

#[tokio::test]
async fn two_nodes_of_one_cluster_learn_who_the_other_is() {
    for entropy in [Entropy::system(), Entropy::seeded(1)] {
        let (dialed, accepted) = Meeting { entropy, ..Meeting::new() }.happens().await;
        assert_eq!(dialed.unwrap().hello, hello("b"));
        let accepted = accepted.unwrap();
        assert_eq!((accepted.node.as_str(), accepted.region.as_str()), ("a", "ra"));
    }
}

#[tokio::test]
async fn certificates_of_yesterday_tomorrow_and_another_authority_are_named_on_both_sides() {
    use crate::env::ManualClock;
    let days = |days: i64| {
        let now = Env::in_memory(MemoryDisk::new(), None).clock.now().0;
        ManualClock::new(Stamp(now.saturating_add_signed(days * 86_400_000_000)))
    };
    for (clock, says) in [
        (Some(days(-400)), "certificate expired"),
        (Some(days(2)), "certificate not valid yet"),
        (None, "UnknownIssuer"),
    ] {
        let mut meeting = Meeting::new();
        let bad = match clock {
            Some(clock) => meeting.authority.issue(&name("a"), &Entropy::system(), &clock).unwrap(),
            None => Identity {
                authorities: meeting.a.0.authorities.clone(),
                ..issue(&authority(&Env::in_memory(MemoryDisk::new(), None)), "a")
            },
        };
        meeting.a.0 = bad;
        let (dialed, accepted) = meeting.happens().await;
        let (dialed, accepted) = (dialed.unwrap_err().to_string(), accepted.unwrap_err());
        assert!(accepted.to_string().contains(says), "{says}, the accepting side: {accepted}");
        assert!(dialed.contains(says), "{says}, the dialing side: {dialed}");
    }
}

#[tokio::test]
async fn a_node_of_another_cluster_learns_why_it_is_refused() {
    let mut meeting = Meeting::new();
    meeting.a.1.cluster = "other".into();
    let (dialed, accepted) = meeting.happens().await;
    assert!(matches!(accepted, Err(HelloError::Cluster(cluster)) if cluster == "other"));
    let reason = dialed.unwrap_err().to_string();
    assert!(reason.contains(r#"it belongs to the cluster "other""#), "{reason}");
}

#[tokio::test]
async fn what_the_accepting_side_says_is_checked_too() {
    let mut meeting = Meeting::new();
    meeting.b.1.cluster = "other".into();
    let (dialed, _) = meeting.happens().await;
    assert!(matches!(dialed, Err(HelloError::Cluster(_))));
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_worth_nothing() {
    let foreign = authority(&Env::in_memory(MemoryDisk::new(), None));
    for (a_is_foreign, b_is_foreign) in [(true, false), (false, true)] {
        let mut meeting = Meeting::new();
        // The foreign side believes the cluster's authority, so that only its own name is wrong.
        let forge = |node| Identity {
            authorities: issue(&meeting.authority, node).authorities,
            ..issue(&foreign, node)
        };
        if a_is_foreign {
            meeting.a.0 = forge("a");
        }
        if b_is_foreign {
            meeting.b.0 = forge("b");
        }
        let (dialed, accepted) = meeting.happens().await;
        assert!(matches!(dialed, Err(HelloError::Frame(_))));
        assert!(matches!(accepted, Err(HelloError::Frame(_))));
    }
}

#[tokio::test]
async fn nobody_can_say_to_be_somebody_else() {
    let mut meeting = Meeting::new();
    meeting.a.0 = issue(&meeting.authority, "c");
    let (_, accepted) = meeting.happens().await;
    assert!(matches!(accepted, Err(HelloError::Certificate(node)) if node == "a"));

    // Whoever is dialed is known by its certificate, before it says anything.
    let mut meeting = Meeting::new();
    meeting.b.0 = issue(&meeting.authority, "c");
    let (dialed, _) = meeting.happens().await;
    assert!(matches!(dialed, Err(HelloError::Frame(_))), "{dialed:?}");

    let mut meeting = Meeting::new();
    meeting.a.1.node = "c".into();
    let (_, accepted) = meeting.happens().await;
    assert!(matches!(accepted, Err(HelloError::Unknown { .. })));

    let mut meeting = Meeting::new();
    meeting.a.1.region = "rb".into();
    let (_, accepted) = meeting.happens().await;
    assert!(matches!(accepted, Err(HelloError::Unknown { .. })));

    let mut meeting = Meeting::new();
    meeting.a.1.node = "b".into();
    let (_, accepted) = meeting.happens().await;
    assert!(matches!(accepted, Err(HelloError::OwnName)));
}

#[tokio::test]
async fn a_protocol_that_this_program_does_not_speak_is_refused() {
    for (min, max, is_taken) in [(2, 9, false), (0, 0, false), (1, 9, true), (0, 1, true)] {
        let mut meeting = Meeting::new();
        (meeting.a.1.protocol_min, meeting.a.1.protocol) = (min, max);
        let (_, accepted) = meeting.happens().await;
        assert_eq!(accepted.is_ok(), is_taken, "{min} to {max}");
        assert!(is_taken || matches!(accepted, Err(HelloError::Protocol { .. })));
    }
}

proptest! {
    #[test]
    fn no_bytes_panic_the_decoders(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = cbor::decode::<Hello>(&bytes);
        let _ = cbor::decode::<Answer>(&bytes);
    }

    #[test]
    fn a_damaged_hello_is_refused_or_read(at in 0..100_usize, byte: u8) {
        let mut bytes = cbor::encode(&hello("a"));
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(read) = cbor::decode::<Hello>(&bytes) {
            let _ = check(read, None, &topology(), &hello("b"));
        }
    }
}

#[test]
fn the_format_of_a_hello_does_not_change() {
    let hex: String = cbor::encode(&hello("a")).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(
        hex,
        "a9000101010264746573740361610462726105480101010101010101060707010 8a0".replace(' ', "")
    );
}

/// The hello as it was before nodes joined.
#[derive(minicbor::Decode)]
#[cbor(map)]
struct OldHello {
    #[n(3)]
    node: String,
    #[n(8)]
    vector: Told,
}

#[test]
fn an_old_program_passes_over_what_a_node_that_joins_announces() {
    let (peer, http) = ("10.0.0.1:9100".to_owned(), "10.0.0.1:8080".to_owned());
    let announced = Some(Announced { peer, http, incarnation: 9 });
    let new = Hello { announced, ..hello("a") };
    let old: OldHello = cbor::decode(&cbor::encode(&new)).unwrap();
    assert_eq!((old.node, old.vector), (new.node.clone(), new.vector.clone()));
    assert_eq!(cbor::decode::<Hello>(&cbor::encode(&new)).unwrap(), new);
}
