//! What Huawei's rules refuse, one change of a sound table each; merging; addresses.

use super::*;

/// Two servers of two devices each, as Huawei's documents show it.
const TWO: &str = r#"{"version":"1.0", "status":"completed", "server_count":"2", "server_list":[
  {"server_id":"node_0", "device":[{"device_id":"0","device_ip":"192.168.1.8","rank_id":"0"},
                                   {"device_id":"1","device_ip":"192.168.1.9","rank_id":"1"}]},
  {"server_id":"node_1", "device":[{"device_id":"0","device_ip":"192.168.2.8","rank_id":"2"},
                                   {"device_id":"1","device_ip":"192.168.2.9","rank_id":"3"}]}]}"#;

fn made(server: &str, devices: &[u32]) -> RankTable {
    let last: u32 = server.rsplit('.').next().unwrap().parse().unwrap();
    let lines = (0..8).map(|i| format!("address_{i}=10.{last}.0.{i}\nnetmask_{i}=255.255.0.0\n")).collect::<String>();
    RankTable::of_server(server.parse().unwrap(), devices, &addresses(&lines).unwrap()).unwrap()
}

/// One change of a sound table, and what is said of it.
fn check(from: &str, to: &str, place: &str, problem: &str, fix: &str) {
    assert!(TWO.contains(from), "{from}");
    let table = RankTable::parse(TWO.replacen(from, to, 1).as_bytes()).unwrap();
    let problems = table.problems();
    let found = problems.iter().any(|one| one.place == place && one.problem.contains(problem) && one.fix.contains(fix));
    assert!(found, "{from} -> {to}: {problems:#?}");
}

#[test]
fn a_sound_table_has_no_problems() {
    assert_eq!(RankTable::parse(TWO.as_bytes()).unwrap().problems(), []);
    for devices in [&[3][..], &[4, 6], &[0, 1, 2, 3], &[0, 1, 2, 3, 4, 5, 6, 7]] {
        let table = made("192.168.0.1", devices);
        assert_eq!((table.problems(), table.notes()), (vec![], vec![]), "{devices:?}");
        assert_eq!(RankTable::parse(table.text().as_bytes()).unwrap(), table);
    }
}

#[test]
fn the_file_is_what_mindformers_writes() {
    let table = made("192.168.0.1", &[4, 5]);
    let json: Value = serde_json::from_str(&table.text()).unwrap();
    let expected = serde_json::json!({"version": "1.0", "server_count": "1", "server_list": [{"server_id": "192.168.0.1",
        "device": [{"device_id": "4", "device_ip": "10.1.0.4", "rank_id": "0"},
                   {"device_id": "5", "device_ip": "10.1.0.5", "rank_id": "1"}],
        "host_nic_ip": "reserve"}], "status": "completed"});
    assert_eq!(json, expected);
    assert_eq!(table.file_name(), "hccl_2p_45_192.168.0.1.json");
}

#[test]
fn each_rule_has_its_message_and_fix() {
    check(r#""version":"1.0""#, r#""version":"1.2""#, "version", "super-pods", "make a table of version 1.0");
    check(r#""version":"1.0""#, r#""version":"2""#, "version", "\"2\"", "write \"1.0\"");
    check("completed", "initializing", "status", "not usable yet", "wait");
    check("completed", "done", "status", "\"done\"", "write \"completed\"");
    check(
        r#""server_count":"2""#,
        r#""server_count":"3""#,
        "server_count",
        "\"3\", and server_list has 2",
        "write \"2\"",
    );
    check("node_1", "node_0", "server_list[1].server_id", "server_list[0] already", "name of its own");
    check("node_0", &"n".repeat(65), "server_list[0].server_id", "65 characters", "1 to 64");
    check(
        "192.168.2.9",
        "192.168.1.8",
        "server_list[1].device[1].device_ip",
        "that of server_list[0].device[0]",
        "hccn_tool -i 1",
    );
    check("192.168.2.9", "192.168.2.300", "server_list[1].device[1].device_ip", "no address", "hccn_tool -i 1");
    check(r#""device_ip":"192.168.1.9","#, "", "server_list[0].device[1].device_ip", "none", "hccn_tool -i 1");
    check(
        r#""rank_id":"3""#,
        r#""rank_id":"2""#,
        "server_list[1].device[1].rank_id",
        "rank 2 is server_list[1].device[0] already",
        "number the ranks",
    );
    check(
        r#""rank_id":"3""#,
        r#""rank_id":"4""#,
        "server_list[1].device[1].rank_id",
        "no rank of 4, which are 0 to 3",
        "number the ranks",
    );
    check(r#""device_id":"1""#, r#""device_id":"8""#, "server_list[0].device[1].device_id", "no device", "0 to 7");
    check(
        r#""device_id":"1""#,
        r#""device_id":"0""#,
        "server_list[0].device[1].device_id",
        "device[0] already",
        "once",
    );
    check(
        r#""device_id":"1""#,
        r#""device_id":"4""#,
        "server_list[0].device",
        "0, 4 lie on both islands",
        "such as 0, 1",
    );
    let (one, two) =
        (r#"9","rank_id":"1"}"#, r#"9","rank_id":"1"},{"device_id":"2","device_ip":"192.168.1.10","rank_id":"4"}"#);
    check(one, two, "server_list[0].device", "3 devices on server node_0", "1, 2, 4 or 8");
    check(one, two, "server_list[1].device", "2 devices on server node_1, and 3 on server node_0", "as many of each");
    check(one, two, "server_list[0].device", "between 0 and 4", "number the ranks");
}

#[test]
fn four_devices_across_islands_and_three_servers_are_told() {
    let problems = made("192.168.0.1", &[2, 3, 4, 5]).problems();
    assert!(matches!(&problems[..], [one] if one.fix.ends_with("0, 1, 2, 3")), "{problems:?}");
    let tables = (1..4).map(|i| (PathBuf::from(format!("{i}")), made(&format!("192.168.0.{i}"), &[0, 1])));
    let merged = merge(tables.collect()).unwrap();
    assert_eq!(merged.problems(), []);
    assert!(merged.notes()[0].contains("3 servers work"));
}

#[test]
fn servers_are_merged_in_the_order_of_their_numbers() {
    let table = |i: u32| (PathBuf::from(format!("hccl_{i}.json")), made(&format!("192.168.0.{i}"), &[0, 1, 2, 3]));
    let merged = merge([10, 2, 1, 11].map(table).into()).unwrap();
    let servers: Vec<&str> = merged.server_list.iter().map(|server| &*server.server_id).collect();
    assert_eq!(servers, ["192.168.0.1", "192.168.0.2", "192.168.0.10", "192.168.0.11"]);
    assert_eq!((merged.problems(), merged.file_name()), (vec![], "hccl_4s_16p.json".to_owned()));
    assert_eq!(merged.server_list[3].device[3].rank_id, "15");

    let again = merge(vec![table(1), ("hccl_4s_16p.json".into(), merged)]).unwrap_err().to_string();
    assert!(again.contains("hccl_4s_16p.json has 4 servers, so it was merged already"), "{again}");
    let twice = merge(vec![table(1), table(2), ("b".into(), made("192.168.0.1", &[0]))]).unwrap_err().to_string();
    assert!(twice.contains("server 192.168.0.1 is in hccl_1.json and in b"), "{twice}");
    assert!(matches!(merge(vec![]), Err(RankTableProblem::Nothing)));
}

#[test]
fn ranks_of_a_server_keep_their_order() {
    let mut table = made("192.168.0.1", &[0, 1]);
    table.server_list[0].device.reverse();
    let merged = merge(vec![("a".into(), table.clone())]).unwrap();
    assert_eq!(merged, made("192.168.0.1", &[0, 1]));
    table.server_list[0].device[0].rank_id = "x".into();
    let error = merge(vec![("a".into(), table)]).unwrap_err().to_string();
    assert!(error.contains("a: device 1 has rank_id \"x\""), "{error}");
}

#[test]
fn addresses_are_read_in_several_forms() {
    let expected = BTreeMap::from([(0, "10.0.0.1".parse().unwrap()), (1, "10.0.0.2".parse().unwrap())]);
    for text in [
        "10.0.0.1\n10.0.0.2\n",
        "1 10.0.0.2\n0: 10.0.0.1",
        "# cards\n\naddress_0=10.0.0.1\nnetmask_0=255.0.0.0\naddress_1 = 10.0.0.2",
    ] {
        assert_eq!(addresses(text).unwrap(), expected, "{text}");
    }
    let error = addresses("10.0.0.1\nten\n").unwrap_err().to_string();
    assert!(error.contains("line 2, \"ten\""), "{error}");
    let error = addresses("0 10.0.0.1\n0 10.0.0.2\n").unwrap_err().to_string();
    assert!(error.contains("device 0 has two addresses, 10.0.0.1 and 10.0.0.2"), "{error}");
    let error = RankTable::of_server("10.0.0.9".parse().unwrap(), &[0, 5], &expected).unwrap_err().to_string();
    assert!(error.contains("device 5 has no address") && error.contains("those of 0, 1"), "{error}");
}

#[test]
fn what_is_no_table_is_refused() {
    let number =
        RankTable::parse(TWO.replacen("\"rank_id\":\"0\"", "\"rank_id\":0", 1).as_bytes()).unwrap_err().to_string();
    assert!(number.contains("all values are strings") && number.contains("line 2"), "{number}");
    assert!(RankTable::parse(b"{}").unwrap_err().to_string().contains("server_list"));
    assert!(RankTable::parse(&TWO.as_bytes()[..100]).is_err());
}
