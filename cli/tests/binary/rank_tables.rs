//! `ranktable`: which device of which server is which rank.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::refused::refused;
use crate::shown::json;
use crate::{args, call, printed, stderr};

/// The table of server `192.168.0.N`, made by the binary.
fn made(folder: &Path, server: u32) -> PathBuf {
    let addresses = folder.join("hccn.conf");
    let lines = (0..8).map(|i| format!("address_{i}=10.{server}.0.{i}\nnetmask_{i}=255.255.0.0\n"));
    std::fs::write(&addresses, lines.collect::<String>()).unwrap();
    let (output, ip) = (folder.join(format!("hccl_{server}.json")), format!("192.168.0.{server}"));
    let shown = printed(args![
        "ranktable",
        "make",
        "--devices",
        "8",
        "--server-ip",
        &ip,
        "--device-ips",
        &addresses,
        "-o",
        &output
    ]);
    assert!(shown.ends_with("1 server, 8 ranks\n"), "{shown}");
    output
}

#[test]
fn tables_are_made_merged_checked_and_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let [ten, two] = [10, 2].map(|server| made(folder.path(), server));
    let merged = folder.path().join("merged.json");
    let shown = json(args!["ranktable", "merge", &ten, &two, "-o", &merged, "--json"]);
    assert_eq!((&shown["servers"], &shown["ranks"]), (&Value::from(2), &Value::from(16)));
    let file: Value = serde_json::from_slice(&std::fs::read(&merged).unwrap()).unwrap();
    assert_eq!(file, shown["table"]);
    assert_eq!((&file["server_list"][0]["server_id"], &file["server_count"]), (&"192.168.0.2".into(), &"2".into()));
    assert_eq!(file["server_list"][1]["device"][0]["rank_id"], "8");

    assert_eq!(printed(args!["ranktable", "check", &merged]), "sound: 2 servers, 16 ranks\n");
    let checked = json(args!["ranktable", "check", &merged, "--json"]);
    assert_eq!((&checked["sound"], &checked["problems"]), (&Value::from(true), &Value::from(Vec::<Value>::new())));
    // By what it holds, whatever its name.
    let renamed = folder.path().join("table");
    std::fs::copy(&merged, &renamed).unwrap();
    assert_eq!(json(args!["inspect", &renamed, "--json"])["kind"], "rank_table");
    assert!(printed(args!["inspect", &renamed]).contains("  rank 15    device 7     10.10.0.7\n"));

    refused(
        args!["ranktable", "merge", &ten, &merged, "-o", folder.path().join("again").as_path()],
        &["merged.json has 2 servers, so it was merged already", "leave it out"],
    );
    refused(args!["ranktable", "merge", &ten, &two, "-o", &merged], &["is there already", "--force"]);
    printed(args!["ranktable", "merge", &ten, &two, "-o", &merged, "--force"]);
}

#[test]
fn what_910a_does_not_take_is_told_with_its_fix() {
    let folder = tempfile::tempdir().unwrap();
    let table = made(folder.path(), 1);
    let text = std::fs::read_to_string(&table).unwrap();
    std::fs::write(&table, text.replace("10.1.0.7", "10.1.0.1")).unwrap();
    let output = call(args!["ranktable", "check", &table, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("hccl_1.json: 1 problem"), "{}", stderr(&output));
    let checked: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&checked["sound"], checked["problems"].as_array().unwrap().len()), (&Value::from(false), 1));
    assert_eq!(checked["problems"][0]["place"], "server_list[0].device[7].device_ip");
    assert!(checked["problems"][0]["fix"].as_str().unwrap().contains("hccn_tool -i 7"));
    let shown = String::from_utf8(call(args!["ranktable", "check", &table]).stdout).unwrap();
    assert!(shown.contains("10.1.0.1 is that of server_list[0].device[1] already\n  fix: "), "{shown}");
    // What is wrong in one is wrong in all together.
    let merged = folder.path().join("merged.json");
    refused(args!["ranktable", "merge", &table, "-o", &merged], &["10.1.0.1 is that of", "hccn_tool -i 7"]);
    assert!(!merged.exists());

    let (addresses, output) = (folder.path().join("hccn.conf"), folder.path().join("b.json"));
    let make = |devices: &str, parts: &[&str]| {
        let ip = "192.168.0.1";
        let arguments = args![
            "ranktable",
            "make",
            "--devices",
            devices,
            "--server-ip",
            ip,
            "--device-ips",
            &addresses,
            "-o",
            &output
        ];
        refused(arguments, parts);
        assert!(!output.exists());
    };
    make("3", &["3 devices on server 192.168.0.1", "use 1, 2, 4 or 8"]);
    make("3,4", &["both islands", "such as 0, 1"]);
    std::fs::write(&addresses, "10.0.0.1\n").unwrap();
    make("2", &["hccn.conf: device 1 has no address", "address_1="]);
    std::fs::write(&addresses, "10.0.0.1\n10.0.0.1\n").unwrap();
    make("2", &["10.0.0.1 is that of", "hccn_tool -i 1"]);
    let usage = call(args!["ranktable", "make", "--devices", "9", "--server-ip", "192.168.0.1"]);
    assert!(usage.status.code() == Some(2) && stderr(&usage).contains("there is no 8"), "{}", stderr(&usage));
}
