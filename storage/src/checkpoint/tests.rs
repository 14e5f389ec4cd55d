//! The texts as Kafka writes them, and damaged ones.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

#[test]
fn offsets_are_kafkas_text() {
    let offsets = Offsets::from([(("a-b.c".to_owned(), 3), 17), (("z".to_owned(), 0), 0)]);
    let text = offsets_to_text(&offsets);
    assert_eq!(text, "0\n2\na-b.c 3 17\nz 0 0\n");
    assert_eq!(offsets_from_text(&text), Ok(offsets));
}

#[test]
fn an_empty_checkpoint_has_no_offsets_and_a_damaged_one_is_refused() {
    assert_eq!(offsets_from_text(""), Ok(Offsets::new()));
    assert_eq!(offsets_from_text("0\n0\n"), Ok(Offsets::new()));
    for bad in ["1\n0\n", "0\n1\n", "0\n-1\n", "0\n1\na 0\n", "0\n1\na b 0\n", "0\n1\na 0 0 0\n", "0\n0\na 0 0\n"] {
        assert!(offsets_from_text(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn partition_metadata_is_kafkas_text() {
    let id = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
    let text = partition_metadata_to_text(id);
    assert_eq!(text, "version: 0\ntopic_id: AQIDBAUGBwgJCgsMDQ4PEA\n");
    assert_eq!(partition_metadata_from_text(&text), Ok(id));
    for bad in ["", "version: 1\ntopic_id: AQIDBAUGBwgJCgsMDQ4PEA\n", "version: 0\n", "version: 0\ntopic_id: short\n"] {
        assert!(partition_metadata_from_text(bad).is_err(), "{bad:?}");
    }
    assert!(partition_metadata_from_text(&partition_metadata_to_text(Uuid::nil())).is_err());
}

#[test]
fn meta_properties_written_by_kafka_are_read() {
    let text = "#\n#Mon Jan 01 00:00:00 UTC 2026\ncluster.id=MkU3OEVBNTcwNTJENDM2Qg\ndirectory.id=AQIDBAUGBwgJCgsMDQ4PEA\n\
                node.id=1\nversion=1\n";
    let meta = MetaProperties {
        cluster_id: "MkU3OEVBNTcwNTJENDM2Qg".to_owned(),
        node_id: 1,
        directory_id: Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
    };
    assert_eq!(meta_from_text(text), Ok((meta, false)));
}

#[test]
fn a_directory_without_an_id_gets_one_and_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let io = Io::plain();
    assert_eq!(read_meta_properties(&io, dir.path()).unwrap(), None);
    io.write_atomic(&dir.path().join(META_PROPERTIES_FILE), b"version=1\ncluster.id=c\nnode.id=1\n").unwrap();
    let first = read_meta_properties(&io, dir.path()).unwrap();
    assert!(first.is_some());
    assert_eq!(read_meta_properties(&io, dir.path()).unwrap(), first);
}

#[test]
fn incomplete_meta_properties_are_refused() {
    for bad in ["", "version=0\nbroker.id=1\n", "version=1\nnode.id=1\n", "version=1\ncluster.id=c\nnode.id=x\n"] {
        assert!(meta_from_text(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn files_come_back_as_they_were_written() {
    let dir = tempfile::tempdir().unwrap();
    let io = Io::plain();
    let path = dir.path().join(RECOVERY_POINT_FILE);
    assert_eq!(read_offsets(&io, &path).unwrap(), Offsets::new());
    let offsets = Offsets::from([(("t".to_owned(), 0), 5)]);
    write_offsets(&io, &path, &offsets).unwrap();
    assert_eq!(read_offsets(&io, &path).unwrap(), offsets);

    assert_eq!(read_partition_metadata(&io, dir.path()).unwrap(), None);
    let id = random_uuid();
    write_partition_metadata(&io, dir.path(), id).unwrap();
    assert_eq!(read_partition_metadata(&io, dir.path()).unwrap(), Some(id));

    io.write_atomic(&path, b"\xff").unwrap();
    assert!(matches!(read_offsets(&io, &path), Err(Error::Corrupt { .. })));
}

#[test]
fn base64_is_that_of_java() {
    assert_eq!(uuid_to_base64(Uuid::nil()), "AAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(uuid_to_base64(Uuid::from_u128(1)), "AAAAAAAAAAAAAAAAAAAAAQ");
    assert_eq!(uuid_to_base64(Uuid::max()), "_____________________w");
    assert_eq!(uuid_from_base64("AAAAAAAAAAAAAAAAAAAAAQ=="), Some(Uuid::from_u128(1)));
    for bad in
        ["", "AAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAA+A", "AAAAAAAAAAAAAAAAAAAAé"]
    {
        assert_eq!(uuid_from_base64(bad), None, "{bad:?}");
    }
}

#[test]
fn random_ids_never_look_like_an_option() {
    assert!((0..1_000).all(|_| !uuid_to_base64(random_uuid()).starts_with('-')));
}

proptest! {
    #[test]
    fn every_id_survives_base64(bits: u128) {
        let id = Uuid::from_u128(bits);
        prop_assert_eq!(uuid_from_base64(&uuid_to_base64(id)), Some(id));
    }

    #[test]
    fn every_cluster_id_survives_properties(cluster_id in "[ -~]{0,30}", node_id: i32) {
        let meta = MetaProperties { cluster_id, node_id, directory_id: Uuid::from_u128(7) };
        prop_assert_eq!(meta_from_text(&meta_to_text(&meta)), Ok((meta, false)));
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC*") {
        let _ = (offsets_from_text(&text), partition_metadata_from_text(&text), meta_from_text(&text));
    }
}
