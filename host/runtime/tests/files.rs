//! What a guest of WASI can do with the files of its deployment: read them, and nothing else.
#![allow(clippy::disallowed_methods, reason = "tests are a shell: they have files of their own")]

mod workbench;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;
use tidemill_core::limits;
use tidemill_core::plugin::Event;
use tidemill_runtime::bundle::archive::{Files, pack};
use tidemill_runtime::{Bundle, GuestFailure, Mounted, StepInput, StepOutcome};
use workbench::{built, event, input, run};

const LARGE: usize = 100_000;

fn archive() -> Vec<u8> {
    let large = "l".repeat(LARGE);
    let mut files: Files<'_> = [("table.txt", "a table"), ("deep/down.txt", "deeper"), ("large", &large)]
        .into_iter()
        .map(|(path, text)| (path.to_owned(), text.as_bytes()))
        .collect();
    let many: Vec<_> = (0..50).map(|number| format!("many/{:02}", (number * 37) % 50)).collect();
    files.extend(many.iter().map(|path| (path.clone(), path.as_bytes())));
    pack(&files).unwrap()
}

/// A secret, and beside it the folder of a bundle.
fn mounted() -> (TempDir, Arc<[Mounted]>) {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("secret"), "secret").unwrap();
    let bundle = Bundle::unpack(&archive(), &temp.path().join("bundle")).unwrap();
    (temp, [Mounted { at: "/data".to_owned(), bundle }].into())
}

fn orders(orders: &[&str], files: Arc<[Mounted]>) -> StepOutcome {
    let order = |(number, order): (usize, &&str)| Event {
        value: Some(Bytes::copy_from_slice(order.as_bytes())),
        ..event(number as u64)
    };
    let events = orders.iter().enumerate().map(order).collect();
    run(&built("wasi-files"), StepInput { events, files, ..input(0) })
}

/// What comes of orders, each for itself.
fn told(asked: &[&str], files: &Arc<[Mounted]>) -> Vec<String> {
    let effects = orders(asked, files.clone()).result.unwrap();
    let text = |value: Bytes| String::from_utf8(value.to_vec()).unwrap();
    effects.emitted.into_iter().map(|record| text(record.value.unwrap())).collect()
}

fn is_untouched(temp: &Path) {
    assert_eq!(tidemill_runtime::bundle::gather(&temp.join("bundle")).unwrap(), archive());
    assert_eq!(fs::read_to_string(temp.join("secret")).unwrap(), "secret");
}

#[test]
fn files_are_read() {
    let (temp, files) = mounted();
    let told = told(
        &[
            "mounts",
            "read /data table.txt",
            "read /data deep/../deep/./down.txt",
            "pread /data table.txt",
            "list /data deep",
            "list /data .",
            "read /data nothing",
            "read /data deep",
            "list /data table.txt",
            "same /data table.txt",
            "sync /data table.txt",
            "sync /data deep",
            "read /other table.txt",
        ],
        &files,
    );
    assert_eq!(
        told,
        [
            "/data",
            "7: a table",
            "6: deeper",
            "table false",
            "down.txt DescriptorType::RegularFile",
            "deep DescriptorType::Directory, large DescriptorType::RegularFile, many DescriptorType::Directory, \
             table.txt DescriptorType::RegularFile",
            "refused: no-entry",
            "refused: is-directory",
            "refused: not-directory",
            "true",
            "done",
            "done",
            "no such mount",
        ]
    );
    is_untouched(temp.path());
}

#[test]
fn the_sdk_finds_the_same_files_by_whole_paths() {
    let (temp, files) = mounted();
    let told = told(
        &[
            "sdk-read /data/table.txt",
            "sdk-read /data/deep/down.txt",
            "sdk-list /data",
            "sdk-list /data/deep",
            "sdk-read /data/nothing",
            "sdk-read /data",
            "sdk-list /data/table.txt",
            "sdk-read /data/../secret",
            "sdk-read /data//table.txt",
            "sdk-read data/table.txt",
            "sdk-read /database/table.txt",
            "sdk-read /etc/passwd",
        ],
        &files,
    );
    let kind = "it is a folder, or a file where a folder is wanted";
    assert_eq!(told[..4], ["a table", "deeper", "deep/ large many/ table.txt", "down.txt"]);
    assert_eq!(told[4], "/data/nothing: no bundle has it");
    assert_eq!(told[5..7], [format!("/data: {kind}"), format!("/data/table.txt: {kind}")]);
    assert!(told[7..].iter().all(|told| told.ends_with(": no bundle has it")), "{told:?}");
    // More than one call gives.
    let large = orders(&["sdk-read /data/large"], files.clone()).result.unwrap();
    assert_eq!(large.emitted[0].value.as_ref().map(Bytes::len), Some(LARGE));
    // A file of the bundle that somebody replaced by a way out is a fault of the disk, and read by nobody.
    fs::remove_file(temp.path().join("bundle/table.txt")).unwrap();
    std::os::unix::fs::symlink("../secret", temp.path().join("bundle/table.txt")).unwrap();
    let failure = orders(&["sdk-read /data/table.txt"], files).result.unwrap_err();
    assert!(matches!(&failure, GuestFailure::Fault(_)), "{failure}");
}

#[test]
fn what_leads_out_is_refused() {
    let (temp, files) = mounted();
    let bundle = temp.path().join("bundle");
    // No archive brings a link along; these were put there behind the broker's back.
    for (name, to) in [
        ("out", "../secret"),
        ("absolute", "/etc/passwd"),
        ("deep/up", "../../secret"),
        ("folder", ".."),
        ("loop", "loop"),
    ] {
        std::os::unix::fs::symlink(to, bundle.join(name)).unwrap();
    }
    let absolute = temp.path().join("secret").display().to_string();
    let ways: Vec<_> = [
        "../secret",
        "deep/../../secret",
        "..",
        "/etc/passwd",
        &absolute,
        "out",
        "absolute",
        "deep/up",
        "folder/secret",
        "folder",
        "loop",
        "./../secret",
        "deep/../../bundle/../secret",
    ]
    .iter()
    .flat_map(|way| {
        ["read", "pread", "stat", "hash", "list", "create", "unlink", "symlink"]
            .map(|what| format!("{what} /data {way}"))
    })
    .collect();
    let ways: Vec<&str> = ways.iter().map(String::as_str).collect();
    for (way, told) in ways.iter().zip(told(&ways, &files)) {
        assert!(told.starts_with("refused: "), "{way}: {told}");
    }
    // What a link says is in the bundle, and may be read; where it leads is not.
    assert_eq!(
        told(&["readlink /data out", "readlink /data ../secret"], &files),
        ["../secret", "refused: not-permitted"]
    );
    for name in ["out", "absolute", "deep/up", "folder", "loop"] {
        fs::remove_file(bundle.join(name)).unwrap();
    }
    is_untouched(temp.path());
}

#[test]
fn whatever_would_change_a_file_is_refused() {
    let (temp, files) = mounted();
    let ways = [
        "open-write /data table.txt",
        "create /data new",
        "create-to-read /data new",
        "truncate /data table.txt",
        "open-mutable /data deep",
        "write /data table.txt",
        "write-stream /data table.txt",
        "append-stream /data table.txt",
        "set-size /data table.txt",
        "set-times /data table.txt",
        "set-times /data deep",
        "set-times-at /data table.txt",
        "mkdir /data new",
        "rmdir /data deep",
        "unlink /data table.txt",
        "rename /data table.txt",
        "link /data table.txt",
        "symlink /data table.txt",
    ];
    for (way, told) in ways.iter().zip(told(&ways, &files)) {
        assert_eq!(told, "refused: not-permitted", "{way}");
    }
    assert_eq!(told(&["flags /data table.txt"], &files), ["to be read and no more: true"]);
    is_untouched(temp.path());
}

#[test]
fn another_folder_of_the_same_bundle_tells_the_same() {
    let orders: Vec<_> = ["table.txt", "deep", "deep/down.txt", "large", ".", "many", "many/07"]
        .iter()
        .flat_map(|path| ["stat", "hash", "list", "read", "flags"].map(|what| format!("{what} /data {path}")))
        .collect();
    let orders: Vec<&str> = orders.iter().map(String::as_str).collect();
    let (one_folder, one) = mounted();
    // As a disk has it that was used otherwise: other inodes, other times, another order.
    let first = told(&orders, &one);
    for number in 0..20 {
        fs::write(one_folder.path().join(format!("between-{number}")), "x").unwrap();
    }
    let (_two_folder, two) = mounted();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let file = fs::File::open(one_folder.path().join("bundle/table.txt")).unwrap();
    file.set_times(fs::FileTimes::new().set_modified(old).set_accessed(old)).unwrap();
    assert_eq!(told(&orders, &two), first);
    assert_eq!(told(&orders, &one), first);

    let of = |order: &str| &first[orders.iter().position(|other| *other == order).unwrap()];
    assert!(of("stat /data deep").contains("size: 0"), "{}", of("stat /data deep"));
    assert!(of("stat /data table.txt").contains("size: 7"), "{}", of("stat /data table.txt"));
    let many: Vec<_> = of("list /data many").split(", ").map(|entry| &entry[..2]).collect();
    assert!(many.is_sorted() && many.len() == 50, "{many:?}");
    let hashes: std::collections::BTreeSet<_> = orders
        .iter()
        .zip(&first)
        .filter(|(order, _)| order.starts_with("hash"))
        .map(|(_, told)| told)
        .collect();
    assert_eq!(hashes.len(), 7, "each has its own");
    // A stream gives all that is asked for, up to the most that there is at once.
    let (piece, rest) = (limits::GUEST_FILE_READ_BYTES_MAX, LARGE - limits::GUEST_FILE_READ_BYTES_MAX);
    assert!(of("read /data large").starts_with(&format!("{piece}+{rest}: lll")));
}

#[test]
fn who_holds_too_many_open_is_ended_by_that_limits_name() {
    let (_temp, files) = mounted();
    let failure = orders(&["hoard /data table.txt"], files).result.unwrap_err();
    let GuestFailure::Limit { limit, .. } = failure else { panic!("{failure}") };
    assert_eq!((limit.name, limit.value), ("files-open", limits::GUEST_FILES_OPEN_MAX as u64));
}

#[test]
fn without_a_bundle_there_is_nothing_and_a_folder_that_is_gone_is_no_fault_of_the_guest() {
    assert_eq!(told(&["mounts", "read /data table.txt"], &[].into()), ["", "no such mount"]);
    let (temp, files) = mounted();
    fs::remove_dir_all(temp.path().join("bundle")).unwrap();
    let failure = orders(&["mounts"], files).result.unwrap_err();
    assert!(
        matches!(&failure, GuestFailure::Fault(fault) if fault.to_string().contains("bundle")),
        "{failure}"
    );
}
