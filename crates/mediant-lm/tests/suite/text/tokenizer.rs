use mediant_lm::text::Tokenizer;
use serde_json::Value;

use crate::suite::support::fixture;

fn llama() -> (Vec<u8>, Vec<u8>) {
    let read = |name| std::fs::read(fixture("llama_tokenizer").join(name)).unwrap();
    (read("tokenizer.json"), read("tokenizer_config.json"))
}

#[test]
fn a_llama_tokenizer_gives_the_ids_of_its_golden_text_and_the_text_back() {
    let (json, config) = llama();
    let tokenizer = Tokenizer::new(&json, Some(&config)).unwrap();
    let golden: Value =
        serde_json::from_slice(&std::fs::read(fixture("llama_tokenizer").join("golden.json")).unwrap()).unwrap();
    let ids: Vec<u32> = serde_json::from_value(golden["ids"].clone()).unwrap();
    let text = golden["text"].as_str().unwrap();

    let encoded = tokenizer.encode(text).unwrap();
    assert_eq!(tokenizer.bos(), Some(ids[0]));
    assert_eq!(encoded.ids, ids[1..], "BOS is not added by `encode`, though this tokenizer would");
    assert_eq!(tokenizer.decode(&ids).unwrap(), text, "special tokens are left out");
    assert_eq!((tokenizer.eos(), tokenizer.vocab_size()), (Some(2), 505));
    // Spans are bytes of the text, offsets characters: the same before the first that is not ASCII. BOS has none.
    let offsets: Vec<(u32, u32)> = serde_json::from_value(golden["offsets"].clone()).unwrap();
    let ascii = text.find(|c: char| !c.is_ascii()).unwrap() as u32;
    let same = offsets[1..].iter().take_while(|(_, end)| *end <= ascii).count();
    assert!(same > 5);
    assert_eq!(encoded.spans[..same], offsets[1..=same]);
}

#[test]
fn without_a_config_common_names_tell_bos_and_eos() {
    let (json, _) = llama();
    let tokenizer = Tokenizer::new(&json, None).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), Some(2)));
}

#[test]
fn tokens_may_be_objects_in_the_config_and_must_exist() {
    let (json, _) = llama();
    let object = br#"{"bos_token": {"content": "</s>", "lstrip": false}, "eos_token": null}"#;
    let tokenizer = Tokenizer::new(&json, Some(object)).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(2), Some(2)));
    let error = Tokenizer::new(&json, Some(br#"{"bos_token": "<nowhere>"}"#)).err().unwrap().to_string();
    assert!(error.contains("`bos_token`") && error.contains("<nowhere>"), "{error}");
}

#[test]
fn hostile_files_are_errors() {
    let (json, config) = llama();
    let deep = "[".repeat(100_000);
    let wrong_merge = String::from_utf8(json.clone()).unwrap().replacen(
        "\"merges\": [",
        "\"merges\": [[\"nowhere\", \"nothing\"], ",
        1,
    );
    for bytes in
        [&b""[..], b"{}", b"null", &json[..json.len() / 2], deep.as_bytes(), wrong_merge.as_bytes(), &[0xff; 64]]
    {
        let error = Tokenizer::new(bytes, None).err().map(|error| error.to_string());
        assert!(error.as_ref().is_some_and(|error| error.starts_with("tokenizer.json")), "{error:?}");
    }
    let error = Tokenizer::new(&json, Some(&config[..10])).err().unwrap().to_string();
    assert!(error.starts_with("tokenizer_config.json"), "{error}");
}
