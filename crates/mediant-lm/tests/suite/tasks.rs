use mediant_artifact::{Artifact, ArtifactWriter, Kind, TableMeta, write_table};
use mediant_lm::tasks::{TaskItem, judge, judged_rows, read_items, summarize, table_items};
use mediant_lm::text::Tokenizer;
use mediant_lm::{Batch, Error, Hooks};
use tempfile::TempDir;

use crate::suite::support::{fixture, gpt2_json, random_model};

fn tokenizer() -> Tokenizer {
    let read = |name| std::fs::read(fixture("llama_tokenizer").join(name)).unwrap();
    Tokenizer::new(&read("tokenizer.json"), Some(&read("tokenizer_config.json"))).unwrap()
}

fn item(prompt: &str, right: &str, wrong: &str) -> TaskItem {
    let [prompt, right, wrong] = [prompt, right, wrong].map(str::to_owned);
    TaskItem { prompt, right, wrong, task: "story".to_owned(), ..TaskItem::default() }
}

/// Against the model's own losses, text by text.
#[test]
fn differences_are_those_of_the_whole_texts() {
    let (tokenizer, model) = (tokenizer(), random_model(&gpt2_json(2, 16, 2, 512, 64), 0));
    let items = [
        item("Once upon a time there was a", " little girl named Lily", " dog"),
        item("The dog", " ran", " slept for a very long time"),
        item("", "The cat is happy.", "The cat are happy."),
        item("She saw a", " big red ball", " small blue ball"),
    ];
    let verdicts = judge(&model, &tokenizer, &items, tokenizer.bos(), Hooks::none, |_| Ok::<_, Error>(())).unwrap();
    for (item, verdict) in items.iter().zip(&verdicts) {
        let loss = |continuation: &str| -> f64 {
            let ids = tokenizer.encode(&format!("{}{continuation}", item.prompt)).unwrap().ids;
            let ids: Vec<i32> = tokenizer.bos().into_iter().chain(ids).map(|id| id as i32).collect();
            let batch = Batch::new(model.config(), &[&ids], &Default::default()).unwrap();
            model.losses(&batch, Hooks::none()).unwrap().into_iter().map(f64::from).sum()
        };
        let expected = loss(&item.wrong) - loss(&item.right);
        // Sums of up to 20 f32 losses of about 10 nats.
        assert!((verdict.logit_diff() - expected).abs() < 1e-3, "{item:?}: {verdict:?}, expected {expected}");
        assert!(verdict.right < 0.0 && verdict.wrong < 0.0);
        assert_eq!(verdict.correct(), expected > 0.0);
    }
}

#[test]
fn top1_is_the_most_probable_token() {
    let (tokenizer, model) = (tokenizer(), random_model(&gpt2_json(1, 16, 2, 512, 64), 1));
    let letters: Vec<String> = ('a'..='z').map(|letter| letter.to_string()).collect();
    let items: Vec<_> = letters.iter().map(|letter| item("qz", letter, "!")).collect();
    let verdicts = judge(&model, &tokenizer, &items, tokenizer.bos(), Hooks::none, |_| Ok::<_, Error>(())).unwrap();
    let top: Vec<f64> = verdicts.iter().filter(|verdict| verdict.top1).map(|verdict| verdict.right).collect();
    assert!(top.len() <= 1 && top.iter().all(|p| verdicts.iter().all(|verdict| verdict.right <= *p)));
}

#[test]
fn items_that_cannot_be_judged_are_errors() {
    let (tokenizer, model) = (tokenizer(), random_model(&gpt2_json(1, 16, 2, 512, 16), 0));
    let error = |items: &[TaskItem], bos| {
        judge(&model, &tokenizer, items, bos, Hooks::none, |_| Ok::<_, Error>(())).unwrap_err().to_string()
    };
    let fine = item("The dog", " ran", " sat");
    assert!(
        error(&[fine.clone(), item("The", " q", " qq")], Some(1)).starts_with("item 1: of"),
        "one begins the other"
    );
    assert!(error(&[item("", "Once", "Lily")], None).starts_with("item 0: there is no token before"));
    assert!(error(&[item(&"very ".repeat(40), "a", "b")], Some(1)).contains("context is 16"));
}

#[test]
fn items_come_from_jsonl_and_errors_name_the_line() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("items.jsonl");
    let line = r#"{"prompt": "The keys to the cabinet", "right": " are", "wrong": " is", "task": "agreement", "group": "to", "id": 7}"#;
    std::fs::write(&path, format!("{line}\n\n{{\"right\": \"a\", \"wrong\": \"b\"}}\n")).unwrap();
    let items = read_items(&path).unwrap();
    assert_eq!((items.len(), items[0].group.as_deref(), items[1].task.as_str()), (2, Some("to"), "task"));

    for (bad, why) in [
        (r#"{"prompt": "x", "right": "a"}"#, "missing field `wrong`"),
        (r#"{"right": "a", "wrong": "a"}"#, "`right` and `wrong` are both \"a\""),
        (r#"{"right": 3, "wrong": "a"}"#, "expected a string"),
        ("not json", "expected"),
    ] {
        std::fs::write(&path, format!("{line}\n{bad}\n")).unwrap();
        let error = read_items(&path).unwrap_err().to_string();
        assert!(error.contains("items.jsonl:2: ") && error.contains(why), "{error}");
    }
    std::fs::write(&path, "\n").unwrap();
    assert!(read_items(&path).unwrap_err().to_string().ends_with("items.jsonl: no items"));
}

#[test]
fn judged_items_are_a_table_that_can_be_judged_again() {
    let (tokenizer, model) = (tokenizer(), random_model(&gpt2_json(1, 16, 2, 512, 64), 0));
    let mut items = vec![item("The dog", " ran", " sat"), item("A cat", " is", " are")];
    items[0].group = Some("a".to_owned());
    let verdicts = judge(&model, &tokenizer, &items, tokenizer.bos(), Hooks::none, |_| Ok::<_, Error>(())).unwrap();
    let rows = judged_rows("m", &items, &verdicts).unwrap();
    let folder = TempDir::new().unwrap();
    let writer = ArtifactWriter::create(folder.path(), Kind::Table).unwrap();
    write_table(writer, rows.schema(), [Ok(rows)], &TableMeta::default()).unwrap();
    assert_eq!(table_items(&Artifact::open(folder.path()).unwrap()).unwrap(), items);

    let metrics = summarize(&items, &verdicts, 0).tasks;
    let accuracy = metrics.iter().find(|row| row.name == "accuracy" && row.tags.len() == 1).unwrap();
    let correct = verdicts.iter().filter(|verdict| verdict.correct()).count();
    assert_eq!((accuracy.value, accuracy.n), (correct as f64 / 2.0, 2));
}
