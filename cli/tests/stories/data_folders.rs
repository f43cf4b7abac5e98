//! Data folders that brokers of each format version wrote, as they are kept in the repository: one of today opens them.

use xtask::data_folder;
use xtask::process::Broker;

use crate::lifecycle::PATIENCE;
use crate::{consume, produce};

#[test]
fn a_folder_of_each_version_is_opened_says_what_it_said_and_goes_on() {
    for version in 1..=data_folder::VERSION {
        let (packed, told) = data_folder::kept(version);
        let folder = tempfile::tempdir().unwrap();
        data_folder::unpack(&packed, &folder.path().join("data")).unwrap();
        let tcp = format!("listen.tcp=127.0.0.1:{}", xtask::ports::lasting());
        let program = std::path::Path::new(env!("CARGO_BIN_EXE_tidemill"));
        let mut broker = Broker::start(program, folder.path(), &[&tcp]).unwrap();
        let expected = std::fs::read_to_string(&told).unwrap();
        let same = |broker: &Broker| {
            let found = data_folder::report(broker).unwrap();
            let mut lines = found.lines().zip(expected.lines());
            if let Some((found, expected)) = lines.find(|(found, expected)| found != expected) {
                panic!("version {version} says\n{found}\ninstead of\n{expected}");
            }
            assert_eq!(found.lines().count(), expected.lines().count(), "version {version}");
        };
        same(&broker);
        // Also after it was closed as it should be, and opened once more.
        assert!(broker.stop().unwrap().success());
        broker.restart().unwrap();
        same(&broker);

        let before = consume(&broker, "out").len();
        broker.run(&["plugin", "resume", "counting"]).unwrap();
        produce(&broker, &["in", "--key", "k"], "{\"k\":\"k1\"}\n");
        produce(&broker, &["asks"], data_folder::ASKS);
        broker.settle(PATIENCE).unwrap();
        // What waited for the paused plugin, of the new record a count and a copy, and what was read from a file.
        let out = consume(&broker, "out");
        assert_eq!(out.len(), before + 5 + 2 + 1);
        assert_eq!(out.iter().filter(|record| record["value"] == "20: of the first version").count(), 2);
        assert_eq!(broker.json(&["plugin", "verify"]).unwrap()["holds"], true);
        broker.run(&["topic", "create", "new"]).unwrap();
        produce(&broker, &["new"], "it goes on\n");
        assert_eq!(consume(&broker, "new")[0]["value"], "it goes on");
    }
}
