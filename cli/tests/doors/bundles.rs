//! Bundles: archives of files, and the manifests that name them.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};
use tidemill_core::limits;
use tidemill_runtime::bundle::archive::{Files, pack};
use xtask::places;

use crate::door::{Door, Row};
use crate::http::Api;

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn good() -> Vec<u8> {
    let files: [(&str, &[u8]); 3] = [("a/b.txt", b"b"), ("c", b""), ("z.json", b"{}")];
    pack(&files.into_iter().map(|(path, bytes)| (path.to_owned(), bytes)).collect::<Files<'_>>()).unwrap()
}

/// An archive of one entry, with whatever head.
fn one(path: &str, change: impl FnOnce(&mut Header)) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o444);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    change(&mut header);
    header.set_cksum();
    let mut builder = Builder::new(Vec::new());
    builder.append(&header, &[][..]).unwrap();
    builder.into_inner().unwrap()
}

fn of_kind(kind: EntryType) -> Vec<u8> {
    one("it", |header| {
        header.set_entry_type(kind);
        header.set_link_name("../../../etc/passwd").unwrap();
    })
}

fn named(path: &str) -> Vec<u8> {
    one(path, |_| {})
}

/// The entries of archives, one behind the other.
fn joined(archives: &[Vec<u8>]) -> Vec<u8> {
    let entries = archives.iter().map(|archive| &archive[..archive.len() - 1_024]);
    [entries.collect::<Vec<_>>().concat(), vec![0; 1_024]].concat()
}

fn archives() -> Vec<Row<Vec<u8>>> {
    let good = good();
    let refused = "422 INVALID_REQUEST [\"bundle\"]";
    let files = |count: usize| (0..count).map(|n| named(&format!("{n:05}"))).collect::<Vec<_>>();
    let mut flipped = good.clone();
    flipped[10] ^= 1;
    let cut = good[..good.len() - 1_025].to_vec();
    vec![
        ("no bytes", vec![], refused),
        ("a text", b"this is no archive".to_vec(), refused),
        ("zeros alone", vec![0; 1_024], "422 INVALID_REQUEST [\"bundle\"] | it holds no file"),
        ("half of it", good[..good.len() / 2].to_vec(), refused),
        ("all but its end", cut, refused),
        ("a flipped bit in a name", flipped, refused),
        ("bytes behind the end", [good.clone(), vec![7; 512]].concat(), refused),
        ("zeros behind the end", [good, vec![0; 512]].concat(), "422 | not as"),
        ("a symbolic link", of_kind(EntryType::Symlink), "422 | \"it\" is a symbolic link"),
        ("a hard link", of_kind(EntryType::Link), "422 | \"it\" is a hard link"),
        ("a device of characters", of_kind(EntryType::Char), "422 | \"it\" is a device"),
        ("a device of blocks", of_kind(EntryType::Block), "422 | \"it\" is a device"),
        ("a pipe", of_kind(EntryType::Fifo), "422 | \"it\" is a pipe"),
        ("a folder", of_kind(EntryType::Directory), "422 | \"it\" is a folder by itself"),
        ("a sparse file", of_kind(EntryType::GNUSparse), refused),
        ("attributes for all", of_kind(EntryType::XGlobalHeader), refused),
        ("attributes for nothing", of_kind(EntryType::XHeader), refused),
        ("a long name for nothing", of_kind(EntryType::GNULongName), refused),
        ("an absolute path", named("/etc/passwd"), "422 | the path \"/etc/passwd\""),
        ("a path upwards", named("../up"), "422 | the path \"../up\": it holds \"..\""),
        ("a path down and upwards", named("a/../../up"), "422 | it holds \"..\""),
        ("a path that stays", named("./a"), "422 | it holds \".\""),
        ("a path with nothing in it", named("a//b"), "422 | empty"),
        ("a path to a folder", named("a/"), refused),
        ("a path with a line's end", named("a\nb"), "422 | control character"),
        ("a path of another system", named("a\\..\\b"), "422 | backslash"),
        (
            "a path that is no UTF-8",
            one("a", |header| header.as_gnu_mut().unwrap().name[0] = 0xff),
            "422 | UTF-8",
        ),
        ("no path", named(""), refused),
        ("a file twice", joined(&[named("a"), named("a")]), "422 | \"a\" is there twice"),
        (
            "a file that is a folder, too",
            joined(&[named("a"), named("a/b")]),
            "422 | \"a\" is a file, and a folder too",
        ),
        ("files in another order", joined(&[named("b"), named("a")]), "422 | in the order of their paths"),
        ("a time", one("a", |header| header.set_mtime(7)), "422 | without times"),
        ("an owner", one("a", |header| header.set_uid(7)), "422 | owners"),
        ("a mode", one("a", |header| header.set_mode(0o4755)), refused),
        ("a file that claims 8 GiB", one("a", |header| header.set_size(8 << 30)), refused),
        ("a file that claims all there is", one("a", |header| header.set_size(u64::MAX)), refused),
        ("4,097 files", joined(&files(limits::BUNDLE_FILES_MAX + 1)), "422 | more than 4096 files"),
        ("4,096 files", joined(&files(limits::BUNDLE_FILES_MAX)), "204"),
    ]
}

fn manifests(digest: &str) -> Vec<Row<Value>> {
    let bundle = |mount: &str| json!({ "path": "data", "mount": mount, "digest": digest });
    let nine: Vec<_> = (0..9).map(|n| bundle(&format!("/{n}"))).collect();
    vec![
        (
            "no digest",
            json!([{ "path": "data", "mount": "/data" }]),
            "422 INVALID_CONFIG [\"bundle[0].digest\"]",
        ),
        (
            "a digest in words",
            json!([{ "path": "d", "mount": "/d", "digest": "latest" }]),
            "400 INVALID_REQUEST [\"manifest.bundle[0].digest\"]",
        ),
        (
            "no mount",
            json!([{ "path": "d", "digest": digest }]),
            "400 INVALID_REQUEST [\"manifest.bundle[0].mount\"]",
        ),
        (
            "a key that is not known",
            json!([{ "path": "d", "mount": "/d", "write": true }]),
            "400 INVALID_REQUEST [\"manifest.bundle[0].write\"]",
        ),
        ("a mount that is no path", json!([bundle("data")]), "422 INVALID_CONFIG [\"bundle[0].mount\"]"),
        ("a mount over everything", json!([bundle("/")]), "422 INVALID_CONFIG [\"bundle[0].mount\"]"),
        ("a mount that leads up", json!([bundle("/a/../b")]), "422 INVALID_CONFIG [\"bundle[0].mount\"]"),
        ("a mount twice", json!([bundle("/a"), bundle("/a")]), "422 INVALID_CONFIG [\"bundle[1].mount\"]"),
        (
            "a mount within another",
            json!([bundle("/a/b"), bundle("/a")]),
            "422 INVALID_CONFIG [\"bundle[1].mount\"]",
        ),
        (
            "a mount of 300 bytes",
            json!([bundle(&format!("/{}", "m".repeat(300)))]),
            "422 INVALID_CONFIG [\"bundle[0].mount\"]",
        ),
        ("nine bundles", json!(nine), "422 INVALID_CONFIG [\"bundle\"]"),
        ("a bundle that is a text", json!("data"), "400 INVALID_REQUEST [\"manifest.bundle\"]"),
        (
            "a bundle that is not here",
            json!([{ "path": "d", "mount": "/d", "digest": "0".repeat(64) }]),
            "404 | there is no bundle | upload it first",
        ),
        ("as it may be", json!([bundle("/data")]), "200"),
    ]
}

#[test]
fn archives_and_bundles_that_are_none() {
    let door = Door::open(&[]);
    let api = Api::of(&door);
    let put = |digest: &str, body: &[u8]| api.request("PUT", &format!("/v1/bundles/{digest}"), "", body);
    let nought = "0".repeat(64);
    door.row("under another's digest", &put(&nought, &good()), "422 INVALID_REQUEST [\"bundle\"] | SHA-256");
    door.row("under a word", &put("latest", &good()), "400 INVALID_REQUEST [\"digest\"]");
    door.row("not there", &api.request("GET", &format!("/v1/bundles/{nought}"), "", b""), "404");
    let claim = format!(
        "PUT /v1/bundles/{nought} HTTP/1.1\r\nHost: a\r\nContent-Length: 67108865\r\nConnection: close\r\n\r\n"
    );
    door.row("64 MiB and a byte", &api.raw(claim.as_bytes()), "413 MESSAGE_TOO_LARGE [\"body\"]");
    door.walk(archives(), |archive| put(&digest(&archive), &archive));
    door.row("whole", &put(&digest(&good()), &good()), "204");

    let component = std::fs::read(places::components().join("pass-through.wasm")).unwrap();
    let uploaded = api.request("PUT", &format!("/v1/components/{}", digest(&component)), "", &component);
    assert!(uploaded.starts_with("204"), "{uploaded}");
    door.walk(manifests(&digest(&good())), |bundle| {
        let manifest = json!({
            "name": "copies", "component": "pass-through.wasm", "bundle": bundle,
            "subscribe": [{ "topic": "orders", "from": "earliest" }],
        });
        let document = json!({ "manifest": manifest, "digest": digest(&component) }).to_string();
        api.document("POST", "/v1/plugins/check", &document)
    });
    assert_eq!(door.broker.json(&["plugin", "list"]).unwrap(), json!([]), "nothing was deployed");
    door.close(50);
}
