use mediant_artifact::{Artifact, ArtifactWriter, Kind, TokenSpans, Tokens};
use mediant_lm::Error;
use mediant_lm::text::{Document, TokenizeOptions, Tokenized, Tokenizer, tokenize};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::suite::support::fixture;

fn options(context: usize, pack: bool, bos: Option<u32>) -> TokenizeOptions {
    TokenizeOptions {
        context,
        pack,
        bos,
        separator: Some(1),
        vocab_size: None,
        test_fraction: 0.0,
        seed: 0,
        limit: None,
    }
}

struct Made {
    summary: Tokenized,
    train: (Tokens, TokenSpans),
    test: (Tokens, TokenSpans),
}

fn run(documents: Vec<Document>, tokenizer: Option<&Tokenizer>, options: &TokenizeOptions) -> Result<Made, String> {
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let writers = folders.each_ref().map(|folder| ArtifactWriter::create(folder.path(), Kind::Tokens).unwrap());
    let made = tokenize(documents.into_iter().map(Ok), tokenizer, options, writers, |_| Ok::<_, Error>(()));
    let summary = made.map_err(|error| error.to_string())?;
    let [train, test] = folders.map(|folder| {
        let artifact = Artifact::open(folder.path()).unwrap();
        (Tokens::read(&artifact).unwrap(), TokenSpans::read(&artifact).unwrap())
    });
    Ok(Made { summary, train, test })
}

fn rows(tokens: &Tokens) -> Vec<Vec<i32>> {
    (0..tokens.len()).map(|row| tokens.sequence(row).to_vec()).collect()
}

/// Documents of ids 2 and more: 0 is BOS and 1 the separator.
fn corpus() -> impl Strategy<Value = Vec<Vec<u32>>> {
    prop::collection::vec(prop::collection::vec(2_u32..50, 0..30), 0..20)
}

fn ids(documents: &[Vec<u32>]) -> Vec<Document> {
    documents.iter().cloned().map(Document::Ids).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn packing_keeps_every_token_once_and_in_order(documents in corpus(), context in 2_usize..40, with_bos: bool) {
        let bos = with_bos.then_some(0);
        let made = run(ids(&documents), None, &options(context, true, bos)).unwrap();
        let (tokens, spans) = made.train;
        let rows = rows(&tokens);
        // All rows but the last are full, and each begins with BOS if asked.
        prop_assert!(rows.iter().rev().skip(1).all(|row| row.len() == context));
        prop_assert!(rows.iter().all(|row| row.len() <= context && (!with_bos || row.len() > 1 && row[0] == 0)));
        // Without BOS the rows joined are the documents joined by separators.
        let skip = usize::from(with_bos);
        let stream: Vec<i32> = rows.iter().flat_map(|row| row[skip..].to_vec()).collect();
        let full: Vec<&Vec<u32>> = documents.iter().filter(|document| !document.is_empty()).collect();
        let expected: Vec<Vec<i32>> = full.iter().map(|document| document.iter().map(|id| *id as i32).collect()).collect();
        prop_assert_eq!(stream, expected.join(&1));
        // Special tokens alone are masked, and every other token knows its document.
        for (at, id) in tokens.ids.iter().enumerate() {
            prop_assert_eq!(tokens.mask[at], *id >= 2);
            let document = &documents[spans.document[at] as usize];
            prop_assert!(*id < 2 || document.contains(&(*id as u32)));
        }
        prop_assert_eq!(tokens.meta.documents, full.len() as u64);
        prop_assert_eq!(made.summary.empty, (documents.len() - full.len()) as u64);
    }

    #[test]
    fn unpacked_documents_are_cut_at_the_context(documents in corpus(), context in 2_usize..40, with_bos: bool) {
        let bos = with_bos.then_some(0);
        let made = run(ids(&documents), None, &options(context, false, bos)).unwrap();
        let full = documents.iter().filter(|document| !document.is_empty());
        let expected: Vec<Vec<i32>> = full.map(|document| bos.iter().chain(document).take(context).map(|id| *id as i32).collect()).collect();
        prop_assert_eq!(rows(&made.train.0), expected);
        let room = context - usize::from(with_bos);
        prop_assert_eq!(made.summary.cut, documents.iter().map(|document| document.len().saturating_sub(room) as u64).sum::<u64>());
    }

    #[test]
    fn the_split_shares_out_all_documents(documents in corpus(), test_fraction in 0.0..1.0_f64, seed: u64) {
        let options = TokenizeOptions { test_fraction, seed, ..options(64, false, None) };
        let made = run(ids(&documents), None, &options).unwrap();
        let mut all: Vec<u32> = made.train.1.document.iter().chain(&made.test.1.document).copied().collect();
        all.sort_unstable();
        all.dedup();
        let full: Vec<u32> = (0..documents.len() as u32).filter(|document| !documents[*document as usize].is_empty()).collect();
        prop_assert_eq!(all, full);
        let again = run(ids(&documents), None, &options).unwrap();
        prop_assert_eq!(rows(&made.test.0), rows(&again.test.0));
    }
}

#[test]
fn bos_before_ready_made_ids_is_not_doubled() {
    let documents = vec![Document::Ids(vec![0, 5, 6]), Document::Ids(vec![7])];
    let made = run(documents, None, &options(8, false, Some(0))).unwrap();
    assert_eq!(rows(&made.train.0), [vec![0, 5, 6], vec![0, 7]]);
    assert_eq!(made.train.0.mask, [false, true, true, false, true]);
}

fn llama() -> Tokenizer {
    let read = |name| std::fs::read(fixture("llama_tokenizer").join(name)).unwrap();
    Tokenizer::new(&read("tokenizer.json"), Some(&read("tokenizer_config.json"))).unwrap()
}

#[test]
fn text_keeps_its_place_in_the_document() {
    let tokenizer = llama();
    let texts = ["Once upon a time", "there was a dog."];
    let documents = texts.iter().map(|text| Document::Text((*text).to_owned())).collect();
    let made = run(documents, Some(&tokenizer), &options(6, true, tokenizer.bos())).unwrap();
    let (tokens, spans) = made.train;
    let mut joined = [String::new(), String::new()];
    for (at, real) in tokens.mask.iter().enumerate() {
        let (document, start, end) = (spans.document[at] as usize, spans.start[at] as usize, spans.end[at] as usize);
        joined[document].push_str(&texts[document][start..end]);
        assert_eq!(*real, start < end);
    }
    assert_eq!(joined, texts);
    assert_eq!(tokens.meta.tokenizer, Some(tokenizer.digest()));
}

#[test]
fn the_same_rows_whatever_the_threads() {
    let tokenizer = llama();
    let documents: Vec<_> =
        (0..3000).map(|i| Document::Text(format!("Story {i} of a dog and {} cats.", i * 7))).collect();
    let made = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| rows(&run(documents.clone(), Some(&tokenizer), &options(64, true, None)).unwrap().train.0))
    };
    assert_eq!(made(1), made(4));
}

#[test]
fn limits_and_errors() {
    let documents = || ids(&[vec![2, 3], vec![4, 60], vec![5]]);
    let limited = TokenizeOptions { limit: Some(1), ..options(8, false, None) };
    assert_eq!(run(documents(), None, &limited).unwrap().train.0.len(), 1);

    let small = TokenizeOptions { vocab_size: Some(50), ..options(8, false, None) };
    let error = run(documents(), None, &small).err().unwrap();
    assert_eq!(error, "document 1 holds token 60, but the vocabulary has 50 tokens");

    let error = run(vec![Document::Text("x".to_owned())], None, &options(8, false, None)).err().unwrap();
    assert!(error.contains("document 0") && error.contains("no tokenizer"), "{error}");

    let error = run(documents(), None, &options(1, true, Some(0))).err().unwrap();
    assert!(error.contains("context of 1"), "{error}");
}
