//! Input made to hurt: it gives an error, soon, and in bounded memory.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use insta::assert_snapshot;
use mediant_spec::{expand, load, parse};

use super::support::{Catalogue, wrong};

fn first_line(text: &str) -> String {
    wrong(text).lines().next().unwrap().to_owned()
}

#[test]
fn nesting() {
    let flow = format!("mediant: {}1{}\n", "[".repeat(200), "]".repeat(200));
    assert_snapshot!(first_line(&flow), @"error[yaml]: nested more than 100 levels deep");
    let far = format!("mediant: {}\n", "[".repeat(1_000_000));
    assert_snapshot!(first_line(&far), @"error[yaml]: recursion limit exceeded");
    let block: String = (0..200).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    assert_snapshot!(first_line(&block), @"error[yaml]: nested more than 100 levels deep");
}

#[test]
fn billion_laughs() {
    let mut aliases =
        String::from("mediant: 1\nparams:\n  p0: &p0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    let mut params = String::from("mediant: 1\nparams:\n  p0: [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    let mut texts = String::from("mediant: 1\nparams:\n  p0: a text of some length\n");
    for level in 1..=30 {
        let earlier = level - 1;
        writeln!(aliases, "  p{level}: &p{level} [{}]", vec![format!("*p{earlier}"); 10].join(", ")).unwrap();
        writeln!(params, "  p{level}: [{}]", vec![format!("\"${{params.p{earlier}}}\""); 10].join(", ")).unwrap();
        writeln!(texts, "  p{level}: \"{}\"", format!("${{params.p{earlier}}}").repeat(10)).unwrap();
    }
    let end = "stages:\n  m: { uses: load_model, with: { x: \"${params.p30}\" } }\n";
    assert_snapshot!(first_line(&(aliases + end)), @"error[yaml]: the values of this file take more than 128 MiB once aliases are copied");
    assert_snapshot!(first_line(&(params + end)), @"error[substitution]: values take more than 128 MiB once `${…}` is replaced");
    assert_snapshot!(first_line(&(texts + end)), @"error[substitution]: values take more than 128 MiB once `${…}` is replaced");
}

#[test]
fn chains_of_parameters() {
    let mut text = String::from("mediant: 1\nparams:\n");
    for level in 0..100_000 {
        writeln!(text, "  p{level}: \"${{params.p{}}}\"", level + 1).unwrap();
    }
    text += "  p100000: 1\nstages:\n  m: { uses: load_model, with: { x: \"${params.p0}\" } }\n";
    assert_snapshot!(first_line(&text), @"error[param-loop]: more than 100 parameters refer to each other in a chain");
    // A hundred levels in each of a hundred parameters.
    let mut text = String::from("mediant: 1\nparams:\n");
    for level in 0..90 {
        writeln!(text, "  p{level}: {}\"${{params.p{}}}\"{}", "[".repeat(50), level + 1, "]".repeat(50)).unwrap();
    }
    text += "  p90: 1\nstages:\n  m: { uses: load_model, with: { x: \"${params.p0}\" } }\n";
    assert_snapshot!(first_line(&text), @"error[substitution]: nested more than 100 levels deep once `${…}` is replaced");
}

#[test]
fn large_files() {
    let folder = std::env::temp_dir().join(format!("mediant-spec-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("large.yaml");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(b"name: ").unwrap();
    file.set_len(100_000_000).unwrap();
    let large = load(&path, &[]).unwrap_err().to_string();
    std::fs::write(&path, b"name: \xffx\n").unwrap();
    let binary = load(&path, &[]).unwrap_err().to_string();
    std::fs::write(&path, b"\xff\xfen\0a\0").unwrap();
    let utf16 = load(&path, &[]).unwrap_err().to_string();
    let absent = load(&folder.join("absent.yaml"), &[]).unwrap_err().to_string();
    let is_folder = load(&folder, &[]).unwrap_err().to_string();
    std::fs::remove_dir_all(&folder).unwrap();
    let all = format!("{large}{binary}{utf16}{absent}{is_folder}").replace(folder.to_str().unwrap(), "lab");
    assert_snapshot!(all, @r"
    error[file]: `lab/large.yaml` is larger than 32 MiB, the limit for a pipeline
    error[file]: `lab/large.yaml` is not UTF-8 text
     --> lab/large.yaml:1:7
      |
    1 | name: �x
      |       ^ the byte 0xff
    error[file]: `lab/large.yaml` is UTF-16
     |
     = help: save it as UTF-8
    error[file]: cannot read `lab/absent.yaml`: No such file or directory (os error 2)
    error[file]: cannot read `lab`: Is a directory (os error 21)
    ");
}

#[test]
fn values_beyond_the_limit_of_memory() {
    let text = format!("mediant: [{}]\n", "1,".repeat(8 << 20));
    assert_snapshot!(first_line(&text), @"error[yaml]: the values of this file take more than 128 MiB once aliases are copied");
}

#[test]
fn many_errors_are_counted() {
    let mut text = String::from("mediant: 1\nstages:\n");
    for stage in 0..2_000 {
        writeln!(text, "  s{stage}: {{ uses: load_model, inputs: {{ x: s{stage}x }} }}").unwrap();
    }
    let pipeline = parse(Path::new("p.yaml"), &text, &[]).unwrap();
    let errors = expand(&pipeline, &Catalogue).unwrap_err().diagnostics;
    assert_eq!(errors.iter().count(), 4_000);
    assert_snapshot!(errors.render(&pipeline.sources, false).lines().last().unwrap(), @"4000 errors, the first 50 shown");
}

#[test]
fn long_lines_are_shown_in_part() {
    let text = format!("mediant: 1\nstages: {{ {} b: {{ uses: 5 }} }}\n", "aaaaaaaaa: { uses: load_model },");
    assert_snapshot!(wrong(&text.replace("aaaaaaaaa", &"a".repeat(60))), @r"
    error[type]: expected text, found the number 5
     --> lab/p.yaml:2:106
      |
    2 | stages: { aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa: { uses: load_model }, b: { uses: 5 } }
      |                                                                                                          ^
      |
      = help: quote it to make it text
    ");
    let text = format!("mediant: 1\nname: '{}'\nstages: {{ b: {{ uses: load_model }} }}\n", "x".repeat(100_000));
    assert!(wrong(&text).lines().all(|line| line.chars().count() <= 160));
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let text = "mediant: 1\n\"\\e[31m\": 5\nstages: { b: { uses: load_model } }\n";
    assert!(!wrong(text).contains('\u{1b}'));
}

#[test]
fn colours() {
    let failure = parse(Path::new("p.yaml"), "mediant: 1\n", &[]).unwrap_err();
    let colored = failure.diagnostics.render(&failure.sources, true);
    assert!(colored.contains("\u{1b}[1m"));
    assert!(colored.contains("the key `stages` is missing"));
}
