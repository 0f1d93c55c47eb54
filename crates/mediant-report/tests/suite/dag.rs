//! Drawings of pipelines of several shapes.

use insta::assert_snapshot;
use mediant_report::{Edge, Error, Graph, Node, State, Terminal};
use proptest::prelude::*;

/// Stages as `name uses instances <- port=producer.output …`, one a line.
fn graph(name: &str, text: &str, state: impl Fn(usize) -> Option<State>) -> Graph {
    let mut nodes: Vec<Node> = Vec::new();
    let mut edges = Vec::new();
    for line in text.trim().lines() {
        let (stage, inputs) = line.split_once("<-").unwrap_or((line, ""));
        let words: Vec<&str> = stage.split_whitespace().collect();
        let to = nodes.len();
        for input in inputs.split_whitespace() {
            let (port, producer) = input.split_once('=').unwrap();
            let (from, output) =
                producer.split_once('.').map_or((producer, None), |(from, output)| (from, Some(output)));
            let from = nodes.iter().position(|n| n.name == from).unwrap();
            edges.push(Edge { from, to, port: port.to_string(), output: output.map(str::to_string) });
        }
        let instances = words.get(2).map_or(1, |n| n.parse().unwrap());
        nodes.push(Node { name: words[0].to_string(), uses: words[1].to_string(), instances, state: state(to) });
    }
    Graph::new(name, nodes, edges).unwrap()
}

fn chain() -> Graph {
    let text = "
        corpus generate_corpus
        tokenizer train_tokenizer <- corpus=corpus
        tokens tokenize <- tokenizer=tokenizer
        model train_lm <- tokens=tokens.train";
    graph("chain", text, |_| None)
}

fn diamond() -> Graph {
    let text = "
        model load_model
        left cache_activations <- model=model
        right cache_activations <- model=model
        join compare_activations <- a=left b=right";
    graph("diamond", text, |i| [State::Cached, State::Cached, State::WillRun, State::Depends].get(i).copied())
}

fn fan() -> Graph {
    let mut text = String::from("model load_model\ntokens tokenize <- model=model\n");
    let mut collected = String::from("compare compare 1 <-");
    for i in 0..7 {
        text.push_str(&format!("eval_{i} evaluate_lm <- model=model tokens=tokens.test\n"));
        collected.push_str(&format!(" m{i}=eval_{i}"));
    }
    graph("fan", &(text + &collected), |_| None)
}

/// The example of the pipeline language: the tokens for training and for evaluation are two outputs of one stage.
fn sweep() -> Graph {
    let text = "
        model load_model
        tokens tokenize <- model=model
        acts cache_activations <- model=model tokens=tokens.train
        sae train_sae 9 <- activations=acts
        eval evaluate_sae 9 <- model=model sae=sae tokens=tokens.test
        compare compare 3 <- metrics=eval";
    graph("sae-sweep", text, |i| {
        Some([State::Cached, State::Cached, State::Done, State::Running, State::Depends, State::Depends][i])
    })
}

/// As large as pipelines of papers get.
fn paper() -> Graph {
    let text = "
        corpus generate_corpus
        tokenizer train_tokenizer <- corpus=corpus.text
        tokens tokenize <- tokenizer=tokenizer text=corpus.text
        model train_lm 2 <- tokens=tokens.train
        ln_free remove_ln 2 <- model=model tokens=tokens.train
        lm evaluate_lm 2 <- model=model tokens=tokens.test
        lm_free evaluate_lm 2 <- model=ln_free tokens=tokens.test
        tasks evaluate_tasks 2 <- model=model tasks=corpus.tasks
        acts cache_activations 2 <- model=model tokens=tokens.train
        acts_free cache_activations 2 <- model=ln_free tokens=tokens.train
        sae train_sae 12 <- activations=acts
        sae_free train_sae 12 <- activations=acts_free
        eval evaluate_sae 12 <- model=model sae=sae tokens=tokens.test
        eval_free evaluate_sae 12 <- model=ln_free sae=sae_free tokens=tokens.test
        probes train_probe 2 <- activations=acts labels=corpus.labels
        probe_eval evaluate_probe 2 <- probe=probes activations=acts
        das train_das 2 <- model=model prompts=corpus.tasks
        mask train_mask 2 <- model=model prompts=corpus.tasks
        search search_mediator 24 <- model=model prompts=corpus.tasks sae=sae
        mediators evaluate_mediator 24 <- model=model scores=search directions=das masks=mask
        compare_sae compare 1 <- metrics=eval
        compare_free compare 1 <- metrics=eval_free
        compare_lm compare 1 <- a=lm b=lm_free tasks=tasks
        right compare_mediators 1 <- effects=mediators probes=probe_eval control=tasks
        summary report_table 1 <- a=compare_sae b=compare_free c=compare_lm d=right";
    graph("right-mediator", text, |_| None)
}

/// The shapes by name.
fn shapes() -> [(&'static str, Graph); 5] {
    [("chain", chain()), ("diamond", diamond()), ("fan", fan()), ("sweep", sweep()), ("paper", paper())]
}

fn columns(width: usize) -> Terminal {
    Terminal { width: Some(width), color: false }
}

#[test]
fn terminal() {
    for (name, graph) in shapes() {
        assert_snapshot!(format!("dag_terminal_{name}"), graph.to_terminal(columns(200)));
    }
}

#[test]
fn svg() {
    for (name, graph) in shapes() {
        assert_snapshot!(format!("dag_svg_{name}"), graph.to_svg());
    }
}

#[test]
fn mermaid() {
    for (name, graph) in shapes() {
        assert_snapshot!(format!("dag_mermaid_{name}"), graph.to_mermaid());
    }
}

#[test]
fn wide_and_large_pipelines_become_a_list() {
    assert_snapshot!("dag_list_paper", paper().to_list(Terminal::PLAIN));
    assert_snapshot!("dag_list_fan", fan().to_terminal(columns(40)));
    let deep: String =
        (0..5000).map(|i| if i == 0 { "s0 u\n".to_string() } else { format!("s{i} u <- in=s{}\n", i - 1) }).collect();
    let list = graph("deep", &deep, |_| None).to_terminal(columns(80));
    assert_eq!(list.lines().count(), 5000);
    assert!(list.lines().all(|line| line.chars().count() < 80));
}

#[test]
fn names_cannot_break_a_drawing() {
    let node =
        |name: &str| Node { name: name.to_string(), uses: "\"<&;#\n\u{1b}[2J".to_string(), instances: 1, state: None };
    let edge = Edge { from: 0, to: 1, port: "<p>".to_string(), output: Some("\"o\"".to_string()) };
    let graph = Graph::new("<odd>", vec![node("漢字漢字"), node(&"long".repeat(40))], vec![edge]).unwrap();
    assert_snapshot!("dag_odd_terminal", graph.to_terminal(columns(80)));
    assert_snapshot!("dag_odd_mermaid", graph.to_mermaid());
    let svg = graph.to_svg();
    assert!(!svg.contains('\u{1b}') && !svg.contains("<p>") && svg.contains("&lt;p&gt;"), "{svg}");
}

#[test]
fn what_is_no_pipeline_is_refused() {
    let node = || Node { name: "a".to_string(), uses: "b".to_string(), instances: 1, state: None };
    let edge = |from, to| Edge { from, to, port: "in".to_string(), output: None };
    assert!(matches!(Graph::new("x", vec![node()], vec![edge(0, 1)]), Err(Error::GraphEdge { .. })));
    assert!(matches!(Graph::new("x", vec![node(), node()], vec![edge(0, 1), edge(1, 0)]), Err(Error::GraphCycle)));
    assert!(matches!(Graph::new("x", vec![node()], vec![edge(0, 0)]), Err(Error::GraphCycle)));
    let empty = Graph::new("x", Vec::new(), Vec::new()).unwrap();
    assert_eq!(empty.to_terminal(Terminal::PLAIN), "");
    assert!(empty.to_svg().contains("0 stages"));
}

/// Up to 25 stages, each with up to three inputs from earlier ones.
fn any_graph() -> impl Strategy<Value = Graph> {
    let inputs = proptest::collection::vec(
        proptest::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..=3),
        1..25,
    );
    inputs.prop_map(|inputs| {
        let mut nodes = Vec::new();
        let mut edges = Vec::new();
        for (to, from) in inputs.into_iter().enumerate() {
            nodes.push(Node { name: format!("stage_{to:02}"), uses: "uses".to_string(), instances: 1, state: None });
            for (port, (index, other)) in from.into_iter().enumerate().filter(|_| to > 0) {
                let output = other.then(|| "other".to_string());
                edges.push(Edge { from: index.index(to), to, port: format!("in{port}"), output });
            }
        }
        Graph::new("any", nodes, edges).unwrap()
    })
}

proptest! {
    #[test]
    fn every_edge_ends_in_an_arrow(graph in any_graph()) {
        let text = graph.to_terminal(columns(10_000));
        let arrows = text.matches('▼').count();
        // Where lines cannot be kept apart there is a list, which has none.
        prop_assert!(arrows == graph.edges().len() || (arrows == 0 && text.starts_with("stage")), "{text}");
        for node in graph.nodes() {
            prop_assert_eq!(text.lines().filter(|line| line.contains(&format!("│ {}", node.name)) || line.contains(&format!("{} · uses", node.name))).count(), 1, "{}", text);
        }
        let svg = graph.to_svg();
        prop_assert_eq!(svg.matches("class=\"port\"").count(), graph.edges().len() + outputs(&graph), "{}", svg);
    }
}

/// Outputs that are named at the bottom of a box: each once, however many use it.
fn outputs(graph: &Graph) -> usize {
    let named = graph.edges().iter().filter(|edge| edge.output.is_some()).map(|edge| edge.from);
    named.collect::<std::collections::BTreeSet<_>>().len()
}
