use std::fs;

use mediant_store::{ContentRecord, Id, RawJson, Written};

use super::common::{Place, content_key, finish, key, maker, names, output, publish, record};

#[test]
fn a_record_reads_back_as_it_was_written() {
    let place = Place::new();
    let store = place.store();
    let written = record(publish(&store, "a"), "first");
    assert_eq!(store.read_action(key(0)).unwrap(), None);
    assert_eq!(store.write_action(key(0), &written).unwrap(), Written::First);
    assert_eq!(store.read_action(key(0)).unwrap(), Some(written));
}

#[test]
fn records_are_json_that_others_can_read() {
    let place = Place::new();
    let store = place.store();
    finish(&store, key(0), "a");
    let hex = key(0).to_string();
    let text = fs::read_to_string(store.root().join(format!("actions/{}/{}.json", &hex[..2], &hex[2..]))).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["key"], hex);
    assert_eq!(json["record"]["stage"], "demo");
    assert_eq!(json["record"]["preimage"]["with"]["name"], "ä");
}

#[test]
fn the_first_result_wins_and_a_differing_one_is_kept_aside() {
    let place = Place::new();
    let store = place.store();
    finish(&store, key(0), "a");
    let again = record(publish(&store, "a"), "again");
    assert_eq!(store.write_action(key(0), &again).unwrap(), Written::Agrees);
    let other = record(publish(&store, "b"), "other");
    let Written::Divergent(path) = store.write_action(key(0), &other).unwrap() else { panic!("not divergent") };
    assert!(path.to_string_lossy().ends_with(".divergent-1.json"), "{path:?}");
    // The same divergence twice is one divergence; another is another.
    assert_eq!(store.write_action(key(0), &other).unwrap(), Written::Divergent(path));
    store.write_action(key(0), &record(publish(&store, "c"), "third")).unwrap();
    assert_eq!(maker(&store.read_action(key(0)).unwrap().unwrap()), "a");
    let aside: Vec<String> = store.divergent_actions(key(0)).unwrap().iter().map(maker).collect();
    assert_eq!(aside, ["other", "third"]);
}

#[test]
fn a_stage_that_always_differs_does_not_fill_the_disk() {
    let place = Place::in_memory();
    let store = place.store();
    for n in 0..30 {
        let record = record(publish(&store, &n.to_string()), &n.to_string());
        store.write_action(key(0), &record).unwrap();
    }
    let aside: Vec<String> = store.divergent_actions(key(0)).unwrap().iter().map(maker).collect();
    assert_eq!(aside, ["1", "2", "3", "4", "5", "6", "7", "29"]);
}

#[test]
fn a_result_whose_bytes_are_gone_is_replaced() {
    let place = Place::new();
    let store = place.store();
    let first = finish(&store, key(0), "a");
    store.quarantine(output(&first).object, "a test").unwrap();
    let other = record(publish(&store, "b"), "other");
    assert_eq!(store.write_action(key(0), &other).unwrap(), Written::Replaced);
    assert_eq!(maker(&store.read_action(key(0)).unwrap().unwrap()), "other");

    let content = content_key(output(&first).logical);
    let outputs = other.outputs;
    store.write_content(content, &ContentRecord { action: key(7), outputs: outputs.clone() }).unwrap();
    assert_eq!(store.read_content(content).unwrap().unwrap().action, key(7));
    store.write_content(content, &ContentRecord { action: key(8), outputs }).unwrap();
    assert_eq!(store.read_content(content).unwrap().unwrap().action, key(7));
}

#[test]
fn an_uncacheable_result_never_stands_in_the_way() {
    let place = Place::new();
    let store = place.store();
    let mut uncacheable = record(publish(&store, "a"), "raced");
    uncacheable.cacheable = false;
    assert_eq!(store.write_action(key(0), &uncacheable).unwrap(), Written::First);
    assert_eq!(store.write_action(key(0), &uncacheable).unwrap(), Written::Replaced);
    let proper = record(publish(&store, "b"), "proper");
    assert_eq!(store.write_action(key(0), &proper).unwrap(), Written::Replaced);
    assert_eq!(store.write_action(key(0), &uncacheable).unwrap(), Written::Ignored);
    assert_eq!(maker(&store.read_action(key(0)).unwrap().unwrap()), "proper");
    assert!(store.divergent_actions(key(0)).unwrap().is_empty());
}

#[test]
fn a_forced_result_replaces_the_first() {
    let place = Place::new();
    let store = place.store();
    finish(&store, key(0), "a");
    store.replace_action(key(0), &record(publish(&store, "b"), "forced")).unwrap();
    assert_eq!(maker(&store.read_action(key(0)).unwrap().unwrap()), "forced");
}

#[test]
fn hostile_records_are_damage_and_never_more() {
    let place = Place::new();
    let store = place.store();
    finish(&store, key(0), "a");
    let hex = key(0).to_string();
    let path = store.root().join(format!("actions/{}/{}.json", &hex[..2], &hex[2..]));
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let elsewhere = {
        finish(&store, key(1), "a");
        let hex = key(1).to_string();
        fs::read(store.root().join(format!("actions/{}/{}.json", &hex[..2], &hex[2..]))).unwrap()
    };
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let vouched = |body: &str| {
        format!("{{\"format\":1,\"key\":\"{hex}\",\"blake3\":\"{}\",\"record\":{body}}}\n", Id::of(body.as_bytes()))
            .into_bytes()
    };
    let cases: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"garbage".to_vec(),
        whole[..whole.len() - 3].to_vec(),
        [whole.as_slice(), b" "].concat(),
        flipped,
        elsewhere,
        vec![0xff; 4096],
        "ä".repeat(500).into_bytes(),
        vouched("{}"),
        vouched("null"),
        vouched(&deep),
        vouched(
            r#"{"stage":"x","preimage":1,"inputs":["../../etc"],"outputs":{},"content":"","provenance":1,"cacheable":true}"#,
        ),
    ];
    for (n, bytes) in cases.iter().enumerate() {
        fs::write(&path, bytes).unwrap();
        assert_eq!(store.read_action(key(0)).unwrap(), None, "case {n}");
        assert!(!path.exists(), "case {n} was not set aside");
    }
    // Neither a folder nor a link nor a pipe is read, or waited for.
    fs::create_dir(&path).unwrap();
    assert_eq!(store.read_action(key(0)).unwrap(), None);
    std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
    assert_eq!(store.read_action(key(0)).unwrap(), None);
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o644)).unwrap();
    assert_eq!(store.read_action(key(0)).unwrap(), None);
    // A file that is far too large is not read at all.
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(store.read_action(key(0)).unwrap(), None);
    assert_eq!(names(&store.root().join("quarantine")).len(), cases.len() + 4);
    fs::write(&path, &whole).unwrap();
    assert_eq!(maker(&store.read_action(key(0)).unwrap().unwrap()), "a");
}

#[test]
fn numbers_in_a_preimage_keep_their_spelling() {
    let raw = RawJson::new(&serde_json::json!({ "a": 1.0, "b": 1, "c": -0.0 })).unwrap();
    assert_eq!(raw.text(), r#"{"a":1.0,"b":1,"c":-0.0}"#);
}
