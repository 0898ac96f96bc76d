use super::*;

fn ips(i: usize) -> (Ipv4Addr, Ipv4Addr) {
    (Ipv4Addr::new(10, 0, 0, i as u8), Ipv4Addr::new(198, 18, 0, i as u8))
}

#[test]
fn the_topology_reads_back_with_other_addresses_alone() {
    let text = include_str!("../../../../regions/five-continents.toml");
    let topology = Topology::parse("five", text).unwrap();
    let mut wanted = topology.clone();
    for (i, node) in topology.nodes().iter().enumerate() {
        let (peer, http) = ips(i);
        wanted = wanted.with_addresses(
            &node.name,
            std::net::SocketAddr::from((peer, PEER_PORT)).into(),
            std::net::SocketAddr::from((http, HTTP_PORT)).into(),
        );
    }
    let text = topology_text(&topology, ips).unwrap();
    assert_eq!(Topology::parse("drill", &text).unwrap(), wanted, "{text}");
}

#[test]
fn the_scenarios_settings_stay_beside_the_keys() {
    let key = MintKey::from_seed(&[1; 32]).unwrap();
    let text = settings_text("[access]\n[http]\nlog_reads = true", &key, Path::new("/d")).unwrap();
    let settings = Settings::from_toml(&text).unwrap();
    assert!(settings.http.log_reads);
    assert_eq!(settings.access.keys.len(), 1);
    assert_eq!(settings.secrets.master_keys[1].file, Some("/d/master-2.key".into()));
}

#[test]
fn settings_that_are_none_are_refused_before_anything_starts() {
    let key = MintKey::from_seed(&[1; 32]).unwrap();
    for wrong in ["access = 3", "[http]\nno_such = 1", "x"] {
        assert!(settings_text(wrong, &key, Path::new("/d")).is_err(), "{wrong}");
    }
}

#[test]
fn a_kept_copy_is_what_was_there_and_can_be_put_back_twice() {
    let dir = tempfile::tempdir().unwrap();
    let topology =
        Topology::parse("t", include_str!("../../../../regions/single-region.toml")).unwrap();
    let site = Site::create(dir.path().join("site"), &topology, "", ips).unwrap();
    let node = &topology.nodes()[0].name;
    assert!(site.put_copy_back(node).is_err(), "there is none");
    make_dir(&site.data(node)).unwrap();
    make_dir(&site.data(node).join("sub")).unwrap();
    let file = site.data(node).join("sub/config.redb");
    fs::write(&file, "old").unwrap();
    site.keep_copy(node).unwrap();
    for _ in 0..2 {
        fs::write(&file, "new").unwrap();
        site.put_copy_back(node).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"old");
    }
    fs::write(site.data(node).join("quorum.redb"), [0; 10]).unwrap();
    assert_eq!(site.disk_bytes(node), 10);
    site.wipe(node).unwrap();
    assert_eq!(fs::read_dir(site.data(node)).unwrap().count(), 0);
    let path = dir.path().join("site");
    drop(site);
    assert!(!path.exists());
}
