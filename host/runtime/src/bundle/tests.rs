use std::fs;

use tar::{Builder, EntryType, Header};
use tidemill_core::limits;

use super::archive::{ArchiveError, Files, pack, read};
use super::{Bundle, GatherError, gather};

fn files() -> Files<'static> {
    let all: [(&str, &[u8]); 4] = [("b.txt", b"b"), ("a/x", b""), ("a/y/z", &[7; 1_000]), ("a.b", b"dot")];
    all.into_iter().map(|(path, bytes)| (path.to_owned(), bytes)).collect()
}

/// An archive of one entry, as no `pack` makes it.
fn odd(kind: EntryType, path: &str) -> Vec<u8> {
    let mut header = Header::new_gnu();
    let name = &mut header.as_gnu_mut().unwrap().name;
    name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o444);
    header.set_size(0);
    header.set_link_name("b.txt").unwrap();
    header.set_cksum();
    let archive = pack(&files()).unwrap();
    let mut builder = Builder::new(archive[..archive.len() - 1_024].to_vec());
    builder.append(&header, &[][..]).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn what_is_packed_is_read_and_there_is_one_way_to_pack_it() {
    let long = "l/".repeat(100) + &"n".repeat(55);
    let mut all = files();
    all.insert(long, b"long");
    let archive = pack(&all).unwrap();
    assert_eq!(read(&archive).unwrap(), all);
    assert_eq!(pack(&all).unwrap(), archive);
    for at in [0, 1, 100, 136, 150, 156, 512, archive.len() - 1] {
        let mut other = archive.clone();
        other[at] ^= 1;
        assert!(read(&other).is_err() || read(&other).unwrap() != all, "byte {at}");
    }
    for cut in [0, 1, 511, 512, 1_024, archive.len() - 1_024, archive.len() - 1] {
        assert!(read(&archive[..cut]).is_err(), "cut at {cut}");
    }
    let behind = [&archive[..], &[0; 512]].concat();
    assert_eq!(read(&behind), Err(ArchiveError::Other));
}

#[test]
fn whatever_is_no_regular_file_is_refused_by_name() {
    for (kind, what) in [
        (EntryType::Symlink, "a symbolic link"),
        (EntryType::Link, "a hard link"),
        (EntryType::Directory, "a folder by itself"),
        (EntryType::Char, "a device"),
        (EntryType::Block, "a device"),
        (EntryType::Fifo, "a pipe"),
        (EntryType::Continuous, "of a kind that bundles do not have"),
    ] {
        let refused = read(&odd(kind, "odd")).unwrap_err();
        assert_eq!(refused, ArchiveError::Kind { path: "odd".into(), what }, "{kind:?}");
    }
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    for path in ["/etc/passwd", "../up", "a/../../up", "./a", "a//b", "..", ".", "back\\slash", "line\nbreak"]
    {
        let refused = read(&odd(EntryType::Regular, path)).unwrap_err();
        assert!(matches!(&refused, ArchiveError::Path { path: named, .. } if named == path), "{refused}");
        let files = Files::from([(path.to_owned(), &b""[..])]);
        assert!(matches!(pack(&files), Err(ArchiveError::Path { .. })), "{path}");
    }
    assert_eq!(read(&odd(EntryType::Regular, "a.b")), Err(ArchiveError::Twice("a.b".into())));
    assert_eq!(read(&odd(EntryType::Regular, "a.b/c")), Err(ArchiveError::Both("a.b".into())));
    // In another order than that of their paths.
    assert_eq!(read(&odd(EntryType::Regular, "0")), Err(ArchiveError::Other));
}

#[test]
fn more_than_may_be_is_refused() {
    assert_eq!(pack(&Files::new()), Err(ArchiveError::Empty));
    let large = vec![0; limits::BUNDLE_BYTES_MAX];
    assert!(matches!(pack(&Files::from([("a".to_owned(), &large[..])])), Err(ArchiveError::TooLarge(_))));
    assert!(matches!(read(&vec![0; limits::BUNDLE_BYTES_MAX + 1]), Err(ArchiveError::TooLarge(_))));
    let many = (0..=limits::BUNDLE_FILES_MAX).map(|number| (format!("{number}"), &b""[..])).collect();
    assert_eq!(pack(&many), Err(ArchiveError::TooMany));
}

#[test]
fn a_folder_is_gathered_alike_wherever_it_lies_and_links_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    for (place, order) in [("one", ["a/y", "b", "a/x"]), ("two", ["b", "a/x", "a/y"])] {
        for name in order {
            let path = temp.path().join(place).join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
    }
    fs::create_dir(temp.path().join("two/empty")).unwrap();
    let one = gather(&temp.path().join("one")).unwrap();
    assert_eq!(gather(&temp.path().join("two")).unwrap(), one);
    assert_eq!(read(&one).unwrap().keys().collect::<Vec<_>>(), ["a/x", "a/y", "b"]);

    for to in ["b", "../two/b", "/etc/passwd", "a"] {
        let link = temp.path().join("one/a/link");
        std::os::unix::fs::symlink(to, &link).unwrap();
        let refused = gather(&temp.path().join("one")).unwrap_err();
        assert!(matches!(&refused, GatherError::Kind { what: "a symbolic link", .. }), "{refused}");
        assert!(refused.to_string().contains("one/a/link"), "{refused}");
        fs::remove_file(link).unwrap();
    }
}

#[test]
fn a_folder_is_made_anew_and_holds_what_was_packed() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("made/it");
    fs::create_dir_all(folder.join("a")).unwrap();
    fs::write(folder.join("a/stranger"), "x").unwrap();
    let archive = pack(&files()).unwrap();
    for _ in 0..2 {
        let bundle = Bundle::unpack(&archive, &folder).unwrap();
        assert_eq!(gather(&folder).unwrap(), archive);
        let numbers: Vec<_> = bundle.0.nodes.values().map(|node| node.number).collect();
        assert_eq!(numbers.len(), 7, "four files and three folders");
    }
    // The link that somebody put there is not followed to what it points at.
    let outside = temp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "x").unwrap();
    std::os::unix::fs::symlink(&outside, folder.join("a/out")).unwrap();
    Bundle::unpack(&archive, &folder).unwrap();
    assert!(outside.join("kept").exists());
    assert_eq!(gather(&folder).unwrap(), archive);
}

#[test]
fn a_file_is_read_from_any_offset() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = Bundle::unpack(&pack(&files()).unwrap(), &folder.path().join("unpacked")).unwrap();
    let read = |offset, most| String::from_utf8(bundle.read("a.b", 3, offset, most).unwrap()).unwrap();
    assert_eq!([read(0, 2), read(1, 9), read(3, 9), read(0, 0)], ["do", "ot", "", ""]);
    assert_eq!([read(u64::MAX, 1), read(i64::MAX as u64 + 1, u64::MAX)], ["", ""]);
}
