use super::*;
use std::net::SocketAddr;

fn gate(change: impl FnOnce(&mut Settings)) -> Gate {
    let mut settings = Settings::default();
    change(&mut settings);
    Gate::new(&settings)
}

fn from(ip: &str) -> Option<Remote> {
    Some(Remote { address: SocketAddr::new(ip.parse().unwrap(), 1), is_shared: false })
}

#[test]
fn changes_are_shed_early_reads_late_and_questions_about_health_never() {
    let gate = gate(|settings| {
        settings.limits.requests_max = 8;
        settings.limits.writes_max = 3;
    });
    let (read, write) = (Operation::GetKey, Operation::PutKey);
    let idle = || 0;
    let change = || {
        assert!(gate.admit(write, idle).is_ok());
        gate.received(write, Body::empty()).1
    };
    let mut changes: Vec<_> = (0..3).map(|_| change()).collect();
    assert_eq!(gate.admit(write, idle).err(), Some(Shed::LoadWrites), "as many as may be");
    changes.pop();
    assert_eq!(gate.admit(write, || 51).err(), Some(Shed::LoadWrites), "the store is behind");
    assert!(gate.admit(write, || 50).is_ok());
    let mut places: Vec<_> = (0..3).map(|_| gate.admit(read, || 100).ok().unwrap()).collect();
    assert_eq!(gate.admit(write, idle).err(), Some(Shed::LoadWrites), "more than half is taken");
    places.extend((0..3).map(|_| gate.admit(read, || 100).ok().unwrap()));
    assert_eq!(gate.admit(read, idle).err(), Some(Shed::LoadReads));
    for never in
        [Operation::GetHealth, Operation::GetReady, Operation::GetMetrics, Operation::GetCluster]
    {
        assert!(gate.admit(never, || 100).is_ok());
    }
    drop((places, changes));
    assert!(gate.admit(write, idle).is_ok() && gate.admit(read, idle).is_ok());
}

#[test]
fn a_change_without_a_body_takes_its_place_though_one_is_sent_with_it() {
    let gate = gate(|settings| settings.limits.writes_max = 1);
    let unread = || {
        let pending = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        Body::from_stream(pending)
    };
    let (_body, first) = gate.received(Operation::RemoveKey, unread());
    let (_, second) = gate.received(Operation::RemoveKey, unread());
    assert_eq!(first.unwrap().given_up(), None);
    assert_eq!(second.unwrap().given_up(), Some(GivenUp::NoPlace));
    let (_, coming) = gate.received(Operation::PutKey, unread());
    assert_eq!(coming.unwrap().given_up(), None, "who sends slowly keeps others from no place");
}

#[test]
fn strangers_are_told_apart_by_address_and_of_ipv6_by_network() {
    let gate = gate(|settings| settings.rates.strangers_burst = 1);
    let ask = |ip| gate.charge(Operation::IssueToken, None, from(ip), gate.started).is_ok();
    assert!(ask("192.0.2.1") && !ask("192.0.2.1"));
    assert!(!ask("::ffff:192.0.2.1"), "the same address, written otherwise");
    assert!(ask("192.0.2.2"));
    assert!(ask("2001:db8::1") && !ask("2001:db8::ffff"), "one network");
    assert!(ask("2001:db8:0:1::1"));
    assert!(gate.charge(Operation::GetHealth, None, from("192.0.2.1"), gate.started).is_ok());
}

#[test]
fn who_has_used_up_half_is_told_how_it_stands() {
    let gate = gate(|settings| {
        settings.rates.strangers_burst = 4;
        settings.rates.strangers_per_second = 2;
    });
    let ask = |at| gate.charge(Operation::GetKey, None, None, at);
    let (now, mut told) = (gate.started, Vec::new());
    for _ in 0..4 {
        told.push(ask(now).unwrap().map(|quota| (quota.left, quota.full_in_s)));
    }
    assert_eq!(told, [None, None, Some((1, 2)), Some((0, 2))]);
    let refused = ask(now).unwrap_err();
    assert_eq!((refused.retry_after_s, refused.window_s, refused.burst), (1, 2, 4));
    assert!(ask(now + Duration::from_secs(1)).is_ok(), "who waits as told is served");
}

/// What a field says, by a parser of structured fields (RFC 9651) that is not ours: one item, which
/// is a string, and its parameters, which are integers.
fn parsed(headers: &HeaderMap, field: &HeaderName) -> (String, Vec<(String, i64)>) {
    use sfv::{BareItem, List, ListEntry, Parser};
    let list: List = Parser::new(headers[field].as_bytes()).parse().unwrap();
    let [ListEntry::Item(item)] = &list[..] else { panic!("one item: {list:?}") };
    let BareItem::String(name) = &item.bare_item else { panic!("a string: {item:?}") };
    let parameters = item.params.iter().map(|(name, value)| {
        let BareItem::Integer(value) = value else { panic!("an integer: {item:?}") };
        (name.as_str().to_owned(), i64::from(*value))
    });
    (name.as_str().to_owned(), parameters.collect())
}

#[test]
fn the_fields_follow_the_drafts_grammar_and_invite_nobody_to_more_than_the_rate() {
    let mut told = 0;
    for (rate, burst) in [(1, 1), (1, 9), (7, 100), (10_000, 20_000), (3, u32::MAX), (u32::MAX, 2)]
    {
        let gate = gate(|settings| {
            settings.rates.strangers_per_second = rate;
            settings.rates.strangers_burst = burst;
        });
        for _ in 0..burst.min(30_000).saturating_add(2) {
            let charged = gate.charge(Operation::GetKey, None, None, gate.started);
            let (quota, is_refused) = match charged {
                Ok(None) => continue,
                Ok(Some(quota)) => (quota, false),
                Err(quota) => (quota, true),
            };
            told += 1;
            let mut headers = HeaderMap::new();
            quota.headers(&mut headers);
            let (policy, allowed) = parsed(&headers, &RATELIMIT_POLICY);
            let (limit, left) = parsed(&headers, &RATELIMIT);
            assert_eq!((policy.as_str(), limit.as_str()), ("strangers", "strangers"));
            let [(q_name, q), (w_name, w)] = &allowed[..] else { panic!("{allowed:?}") };
            let [(r_name, r), (t_name, t)] = &left[..] else { panic!("{left:?}") };
            assert_eq!([q_name, w_name, r_name, t_name], ["q", "w", "r", "t"]);
            assert!(*q == i64::from(burst) && *w > 0 && (0..*q).contains(r) && *t > 0);
            assert!(r * w <= q * t, "{r} in {t} s is more often than {q} in {w} s");
            let retry_after_s = i64::try_from(quota.retry_after_s).unwrap();
            assert!(!is_refused || (*r == 0 && retry_after_s >= *t), "{quota:?}");
        }
    }
    assert!(told > 100);
}

#[test]
fn small_answers_take_room_beside_others_alone_and_never_those_that_are_never_shed() {
    use Operation as O;
    let small = || Response::new(Body::from(vec![b'x'; 1_000]));
    let large = || Response::new(Body::from(vec![b'x'; 100_000]));
    for operation in [O::GetHealth, O::GetReady, O::GetMetrics, O::GetCluster, O::GetReceipts] {
        assert!(operation.is_never_shed() && !takes_room(operation, true, &small()));
        assert!(takes_room(operation, false, &large()), "it is taken at the least rate");
    }
    assert!(takes_room(O::GetKey, true, &small()) && !takes_room(O::GetKey, false, &small()));
}
