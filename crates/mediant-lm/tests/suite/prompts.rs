use std::collections::BTreeMap;
use std::path::Path;

use mediant_lm::prompts::{
    Answer, AnswerKind, Assembler, Columns, CounterfactualColumns, Draft, DraftMark, DraftVersion, Layout,
    check_source, read_drafts, report_misfits,
};
use mediant_lm::text::{BpeOptions, Tokenizer, train_bpe};
use mediant_lm::{Error, Result};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Words that are one token after a space, in all three tokenizers.
const WORDS: [&str; 8] = ["When", "Mary", "John", "saw", "the", "dog", "gave", "it"];

/// As GPT-2's: bytes, and spaces that belong to the words after them.
fn byte_level(add_prefix_space: bool) -> Tokenizer {
    let text = format!("x {} year 19 1932 a32 a32 a32", WORDS.join(" "));
    let texts = (0..4).map(|_| Ok::<_, Error>(format!("{text} {text}")));
    let options = BpeOptions { vocab_size: 292, add_prefix_space, special_token: "<|endoftext|>".to_owned() };
    let files = train_bpe(texts, &options).unwrap();
    Tokenizer::new(&files.tokenizer, Some(&files.config)).unwrap()
}

/// As Llama's: spaces as U+2581, one before the text.
fn sentence_piece() -> Tokenizer {
    let mut vocabulary: Vec<String> = ["<unk>", "<s>"].map(str::to_owned).to_vec();
    vocabulary.extend((' '..='~').map(|c| c.to_string()));
    vocabulary.push("▁".to_owned());
    let mut merges = Vec::new();
    for word in WORDS {
        let mut left = "▁".to_owned();
        for c in word.chars() {
            let both = format!("{left}{c}");
            if !vocabulary.contains(&both) {
                vocabulary.push(both.clone());
                merges.push(json!([left, c.to_string()]));
            }
            left = both;
        }
    }
    let ids: serde_json::Map<String, Value> = vocabulary.into_iter().zip((0..).map(Value::from)).collect();
    let replace = |pattern: &str, content: &str| json!({ "type": "Replace", "pattern": { "String": pattern }, "content": content });
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "pre_tokenizer": null, "post_processor": null,
        "normalizer": { "type": "Sequence", "normalizers": [{ "type": "Prepend", "prepend": "▁" }, replace(" ", "▁")] },
        "decoder": { "type": "Sequence", "decoders": [
            replace("▁", " "), { "type": "Fuse" }, { "type": "Strip", "content": " ", "start": 1, "stop": 0 }
        ] },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": true, "byte_fallback": false, "ignore_merges": false, "vocab": ids, "merges": merges
        }
    });
    Tokenizer::new(json.to_string().as_bytes(), None).unwrap()
}

fn tokenizers() -> [Tokenizer; 3] {
    [byte_level(false), byte_level(true), sentence_piece()]
}

fn mark(text: &str, name: &str, part: &str) -> DraftMark {
    let start = text.find(part).unwrap();
    DraftMark { name: name.to_owned(), start, end: start + part.len(), one_token: true }
}

fn version(text: &str, right: &str, wrong: &str) -> DraftVersion {
    let answer = |text: &str| vec![Answer::Text(text.to_owned())];
    DraftVersion { text: text.to_owned(), right: answer(right), wrong: answer(wrong), ..DraftVersion::default() }
}

fn draft(clean: DraftVersion, counterfactuals: Vec<DraftVersion>) -> Draft {
    Draft { clean, counterfactuals, ..Draft::default() }
}

#[test]
fn spans_count_tokens_and_bos_whatever_the_tokenizer() {
    for tokenizer in tokenizers() {
        let text = "When Mary saw the dog, John gave it";
        let mut clean = version(text, " Mary", " John");
        clean.marks = vec![mark(text, "io", "Mary"), mark(text, "giver", "John")];
        let at = clean.marks[0].end;
        clean.marks.push(DraftMark { name: "io+1".to_owned(), start: at, end: at, one_token: true });
        let other = version("When John saw the dog, Mary gave it", " John", " Mary");
        let names = ["flip".to_owned()];
        for bos in [None, tokenizer.bos()] {
            let assembler = Assembler { tokenizer: &tokenizer, bos, counterfactuals: &names };
            let prompt = assembler.assemble(&draft(clean.clone(), vec![other.clone()])).unwrap();
            let shift = u32::from(bos.is_some());
            let word = |position: u32| {
                let id = prompt.clean.ids[position as usize] as u32;
                tokenizer.token(id).unwrap().replace(['Ġ', '▁'], "")
            };
            // "When" is one token or more where no space precedes it.
            let [(io, io_end), (after, _), (giver, _), (last, end)] =
                ["io", "io+1", "giver", "last"].map(|n| prompt.clean.spans[n]);
            assert_eq!([word(io), word(after), word(giver), word(last)], ["Mary", "saw", "John", "it"]);
            assert_eq!((io_end, after, end as usize), (io + 1, io + 1, prompt.clean.ids.len()));
            assert!(io > shift);
            assert_eq!(prompt.clean.ids.first().copied() == bos.map(|id| id as i32), bos.is_some());
            assert_eq!(prompt.counterfactuals[0].spans, prompt.clean.spans, "where the clean text has them");
            // The answer is the very token that the word is in the text.
            assert_eq!(prompt.clean.right, [prompt.clean.ids[io as usize]]);
            assert_eq!(prompt.clean.wrong, prompt.counterfactuals[0].right);
        }
    }
}

#[test]
fn what_does_not_fit_is_said() {
    let names = ["other".to_owned()];
    for tokenizer in tokenizers() {
        let assembler = Assembler { tokenizer: &tokenizer, bos: None, counterfactuals: &names };
        let error = |draft: &Draft| assembler.assemble(draft).unwrap_err().to_string();
        let clean = || version("When Mary saw", " the", " it");
        let length = assembler.assemble(&draft(clean(), vec![clean()])).unwrap().clean.ids.len();
        let longer = error(&draft(clean(), vec![version("When Mary saw the", " dog", " it")]));
        assert_eq!(longer, format!("the clean text has {length} tokens, `other` {}", length + 1));
        let several = error(&draft(version("When Mary saw", " the dog", " it"), vec![clean()]));
        assert_eq!(several, "the answer \" the dog\" is not one token");
        let both = error(&draft(version("When Mary saw", " it", " it"), vec![clean()]));
        assert!(both.ends_with("is both right and wrong"), "{both}");
        let mut part = clean();
        part.marks = vec![mark(&part.text, "part", "Mary saw")];
        assert_eq!(error(&draft(part.clone(), vec![])), "`part`, \"Mary saw\", is not one token where it stands");
        part.marks[0].one_token = false;
        let spans = assembler.assemble(&draft(part, vec![])).unwrap().clean.spans;
        assert_eq!(spans["part"].1 - spans["part"].0, 2);
        let mut moved = version("Mary saw When", " the", " it");
        moved.marks = vec![mark(&moved.text, "who", "saw")];
        let mut marked = clean();
        marked.marks = vec![mark(&marked.text, "who", "saw")];
        let found = error(&draft(marked, vec![moved]));
        assert!(found.contains("not where the clean text has them") || found.contains("tokens"), "{found}");
        assert_eq!(error(&draft(version("", " the", " it"), vec![])), "there is no token before the answers");
        let mut foreign = clean();
        foreign.right = vec![Answer::Id(3)];
        assert!(error(&draft(foreign, vec![])).contains("it is of another tokenizer"));
    }
    let misfits: Vec<_> = (0..7)
        .map(|line| {
            let tokenizer = byte_level(true);
            let assembler = Assembler { tokenizer: &tokenizer, bos: None, counterfactuals: &[] };
            (format!("a.csv:{line}"), assembler.assemble(&draft(version("", "a", "b"), vec![])).unwrap_err())
        })
        .collect();
    let report = report_misfits(&misfits, 9);
    assert!(
        report.starts_with("7 of 9 prompts do not fit this tokenizer:\n  a.csv:0: there")
            && report.ends_with("and 2 more")
    );
}

#[test]
fn answers_that_would_be_joined_are_the_tokens_they_have_alone() {
    let tokenizer = byte_level(false);
    let assembler = Assembler { tokenizer: &tokenizer, bos: None, counterfactuals: &[] };
    // "1932" is one token here, so 19 does not go on with 32 when both are tokenized together.
    assert!(!assembler.one_token("the year 19", "32") && assembler.one_token("the year", " 1932"));
    let alone = tokenizer.encode("32").unwrap().ids;
    assert_eq!(assembler.one_answer("the year 19", "32"), alone.len() == 1);
    // Where a space is put before every text, the token alone would say another text.
    let tokenizer = byte_level(true);
    let assembler = Assembler { tokenizer: &tokenizer, bos: None, counterfactuals: &[] };
    assert!(!assembler.one_answer("the year 19", "32"));
}

proptest! {
    /// Spans hold the words that they name, wherever these stand.
    #[test]
    fn spans_hold_their_words(words in proptest::collection::vec(0..WORDS.len(), 2..12), at in any::<proptest::sample::Index>()) {
        // The first word may be another token than elsewhere.
        let at = 1 + at.index(words.len() - 1);
        let text = words.iter().map(|&word| WORDS[word]).collect::<Vec<_>>().join(" ");
        let start = words[..at].iter().map(|&word| WORDS[word].len() + 1).sum();
        let word = WORDS[words[at]];
        for tokenizer in tokenizers() {
            let assembler = Assembler { tokenizer: &tokenizer, bos: None, counterfactuals: &[] };
            let mut clean = version(&text, " Mary", " John");
            clean.marks = vec![DraftMark { name: "word".to_owned(), start, end: start + word.len(), one_token: true }];
            let prompt = assembler.assemble(&draft(clean, vec![])).unwrap().clean;
            let (first, end) = prompt.spans["word"];
            prop_assert_eq!(end, first + 1);
            prop_assert_eq!(first as usize, tokenizer.encode(&text[..start - 1]).unwrap().ids.len());
            let decoded = tokenizer.token(prompt.ids[first as usize] as u32).unwrap();
            prop_assert_eq!(decoded.replace(['Ġ', '▁'], ""), word);
        }
    }
}

/// What a file gives, or why it gives nothing.
fn read(name: &str, content: &str, columns: &Columns) -> Result<Vec<(String, Draft)>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    let told = |error: Error| error.to_string().replace(folder.path().to_str().unwrap(), "");
    let names: Vec<String> = columns.counterfactuals.keys().cloned().collect();
    let rows = read_drafts(&path, columns, "mine", &names, None).map_err(told);
    // What the first row tells is known before.
    if let Err(why) = check_source(&path, columns) {
        assert_eq!(rows.as_ref().err(), Some(&told(why)));
    }
    Ok(rows?.into_iter().map(|row| (row.place, row.draft)).collect())
}

#[test]
fn the_known_layouts_are_read() {
    let texts = |answers: &[&str]| answers.iter().map(|&text| Answer::Text(text.to_owned())).collect::<Vec<_>>();
    let one = |name, content: &str, layout: Layout| {
        let rows = read(name, content, &layout.columns()).unwrap();
        assert_eq!(rows.len(), 1);
        rows.into_iter().next().unwrap()
    };

    let csv = "clean,corrupted,label\n\"From 1752, to 17\",From 1701 to 17,52\n";
    let (place, draft) = one("greater.csv", csv, Layout::EapGreaterThan);
    assert_eq!((place.as_str(), draft.task.as_str(), draft.group.as_str()), ("greater.csv:2", "mine", "2"));
    assert_eq!((draft.clean.right.len(), draft.clean.wrong.len()), (47, 53));
    assert_eq!((draft.clean.text.as_str(), &draft.clean.right[0]), ("From 1752, to 17", &texts(&["53"])[0]));
    assert_eq!(draft.counterfactuals[0].right, draft.clean.right, "a counterfactual without answers has the prompt's");

    // The data set itself writes 4 for 04.
    let csv = "clean,corrupted,label\nFrom 1604 to 16,From 1601 to 16,4\n";
    let (_, draft) = one("greater.csv", csv, Layout::EapGreaterThan);
    assert_eq!((&draft.clean.right[..2], draft.clean.right.len()), (&texts(&["05", "06"])[..], 95));
    assert_eq!(draft.clean.wrong, texts(&["00", "01", "02", "03", "04"]));

    let csv = ",clean,corrupted,corrupted_hard,correct_idx,incorrect_idx\n7,A B A,A B C,A B B,5,6\n";
    let (_, draft) = one("ioi.csv", csv, Layout::EapIoi);
    assert_eq!((draft.clean.right, draft.clean.wrong), (vec![Answer::Id(5)], vec![Answer::Id(6)]));
    assert_eq!(draft.counterfactuals[1].right, [Answer::Id(6)]);

    let list = r#"{"word_idxs": {}, "prompts": [{"clean": "a", "corrupt": "b", "answers": [" x"], "wrong_answers": [" y", " z"]}]}"#;
    let (place, draft) = one("circuit.json", list, Layout::AutoCircuit);
    assert_eq!((place.as_str(), draft.clean.wrong), ("circuit.json:1", texts(&[" y", " z"])));

    let line = r#"{"clean_prefix": "The men", "patch_prefix": "The man", "clean_answer": " go", "patch_answer": " goes", "case": "plural"}"#;
    let (_, draft) = one("sva.jsonl", &format!("\n{line}\n\n"), Layout::Sva);
    assert_eq!(
        (&draft.counterfactuals[0].right, &draft.counterfactuals[0].text),
        (&texts(&[" goes"]), &"The man".to_owned())
    );
    assert_eq!(draft.clean.variables, BTreeMap::from([("case".to_owned(), "plural".to_owned())]));

    let fact = json!([{ "prompt": "In Rome, Vinson", "subject": "Vinson", "attribute": "X", "template": "{}", "relation_id": "P1", "known_id": 0 }]);
    let (_, draft) = one("facts.json", &fact.to_string(), Layout::Facts);
    assert_eq!((draft.clean.right, draft.clean.wrong.len(), draft.counterfactuals.len()), (texts(&[" X"]), 0, 0));
    assert_eq!((draft.clean.marks[0].start, draft.clean.marks[0].end, draft.clean.marks[0].one_token), (9, 15, false));
    assert_eq!((draft.group.as_str(), draft.template.as_str()), ("P1", "{}"));
}

#[test]
fn rows_that_are_none_are_named() {
    let plain = Layout::Plain.columns();
    let facts = Columns { spans: [("who".to_owned(), "who".to_owned())].into(), ..Columns::default() };
    let ids = Columns { answers: AnswerKind::Ids, ..Columns::default() };
    let above = Layout::EapGreaterThan.columns();
    for (name, content, columns, message) in [
        (
            "a.csv",
            "clean,corrupted,label\na,b,52\n",
            &plain,
            "a.csv:2: no column `right`, only clean, corrupted, label; these are the columns of `layout: eap_greater_than`",
        ),
        ("a.jsonl", "{\"text\": 1}\n", &plain, "a.jsonl:1: no column `clean`, only text; say by `columns`"),
        ("a.csv", "clean,clean\na,b\n", &plain, "a.csv:1: the column `clean` occurs twice"),
        ("a.csv", "clean,right\na,b\nc\n", &Columns::default(), "a.csv:3: 1 cells, but the header has 2 columns"),
        ("a.csv", "clean,right\r\na,b\r\n\r\nc\r\n", &Columns::default(), "a.csv:4: 1 cells, but the header"),
        ("a.csv", "clean,right\n", &Columns::default(), "a.csv: no prompts"),
        ("a.json", "{\"rows\": []}", &plain, "a.json: neither a list nor an object with a list under `prompts`"),
        ("a.json", "[1]", &plain, "a.json:1: not an object"),
        ("a.jsonl", "{\"clean\": \"a\", \"right\": \"b\"}\nx\n", &Columns::default(), "a.jsonl:2: expected value"),
        (
            "a.jsonl",
            "{\"clean\": [0, 4], \"right\": \"b\"}\n",
            &Columns::default(),
            "a.jsonl:1: `clean` is a list, not text",
        ),
        ("a.jsonl", "{\"clean\": \"a\", \"right\": []}\n", &Columns::default(), "`right` holds no answer"),
        ("a.jsonl", "{\"clean\": \"a\", \"right\": [[0.5]]}\n", &Columns::default(), "`right` holds a list, not text"),
        ("a.csv", "clean,right\na,\n", &Columns::default(), "`right` holds an empty answer"),
        ("a.csv", "clean,right,who\nab,b,c\n", &facts, "a.csv:2: `who`, \"c\", is not in the prompt \"ab\""),
        ("a.csv", "clean,right\na,b\n", &ids, "`right` is \"b\", not a token id"),
        ("a.csv", "clean,corrupted,label\na,b,99\n", &above, "`label` is \"99\", not a number from 00 to 98"),
        ("a.tsv", "clean\n", &plain, "not a `.csv`, `.jsonl` or `.json` file"),
    ] {
        let error = read(name, content, columns).unwrap_err();
        assert!(error.contains(message), "{name} {content:?}: {error}");
    }
    assert!(matches!(
        read_drafts(Path::new("nowhere.csv"), &plain, "", &[], None),
        Err(Error::Source { .. } | Error::Io { .. })
    ));
}

#[test]
fn spans_are_whole_words_and_cells_may_hold_lists() {
    let columns: Columns = serde_json::from_value(serde_json::json!({
        "spans": { "who": "who" }, "counterfactuals": { "other": { "text": "other" } }
    }))
    .unwrap();
    let header = "clean,right,who,other\n";
    let rows = format!("{header}The man he saw,\"[\"\" was\"\", \"\" is\"\"]\",he,The man she saw\n");
    let read_rows = read("rows.csv", &rows, &columns).unwrap();
    let clean = &read_rows[0].1.clean;
    assert_eq!((clean.marks[0].start, clean.marks[0].end), (8, 10), "not the end of `The`");
    assert_eq!(clean.right, [Answer::Text(" was".to_owned()), Answer::Text(" is".to_owned())]);
    let inside = format!("{header}The man saw, was,he,The man saw\n");
    let error = read("rows.csv", &inside, &columns).unwrap_err();
    assert!(error.contains("rows.csv:2") && error.contains("only part of a word"), "{error}");
}

#[test]
fn columns_that_make_no_sense_are_named() {
    let counterfactual = |right: Option<&str>, wrong: Option<&str>| CounterfactualColumns {
        text: "b".to_owned(),
        right: right.map(str::to_owned),
        wrong: wrong.map(str::to_owned),
    };
    let columns = Columns {
        wrong: Some("w".to_owned()),
        counterfactuals: [("clean".to_owned(), counterfactual(None, Some("w")))].into(),
        spans: [("last".to_owned(), "a".to_owned())].into(),
        answers: AnswerKind::Above,
        space: true,
        ..Columns::default()
    };
    let paths: Vec<String> = columns.problems().into_iter().map(|(path, _)| path).collect();
    let expected = [
        "spans.last",
        "counterfactuals.clean",
        "counterfactuals.clean.wrong",
        "wrong",
        "counterfactuals.clean.wrong",
        "space",
    ];
    assert_eq!(paths, expected);
    assert!(Layout::ALL.into_iter().all(|layout| layout.columns().problems().is_empty()));
}
