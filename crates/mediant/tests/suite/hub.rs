//! Sources on the hub: fetched, pinned in the lock file, the same to the cache as a folder of the same files.

use std::path::Path;

use serde_json::Value;

use super::hub_server::{COMMITS, Server};
use super::project::Project;

const PIPELINE: &str = "
mediant: 1
stages:
  model: { uses: load_model, with: { source: \"hf://owner/name\" } }
  sae:
    uses: load_sae
    inputs: { model: model }
    with: { source: \"hf://owner/name/layers.0\", hook: blocks.0.hook_resid_post }
  one:
    uses: load_sae
    with: { source: \"hf://owner/name/params.npz\", hook: blocks.0.hook_resid_post }
";

/// The files of a repository: a model and autoencoders.
fn server() -> Server {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| std::fs::read(crates.join(path)).unwrap();
    let gpt2 = "mediant-lm/tests/fixtures/gpt2";
    let (config, weights) = (read(&format!("{gpt2}/config.json")), read(&format!("{gpt2}/model.safetensors")));
    let params = read("mediant-dict/tests/fixtures/formats/gemma_scope/params.npz");
    // As wide as the model.
    let d_in: usize = serde_json::from_slice::<Value>(&config).unwrap()["n_embd"].as_u64().unwrap() as usize;
    let (cfg, sae) = sparsify(d_in, 64);
    Server::new(
        "owner/name",
        &[
            ("config.json", &config),
            ("model.safetensors", &weights),
            ("README.md", b"a model"),
            ("layers.0/cfg.json", &cfg),
            ("layers.0/sae.safetensors", &sae),
            ("params.npz", &params),
        ],
    )
}

/// A sparse coder of zeros.
fn sparsify(d_in: usize, d_sae: usize) -> (Vec<u8>, Vec<u8>) {
    let cfg = format!("{{\"d_in\": {d_in}, \"num_latents\": {d_sae}, \"k\": 3}}");
    let shapes = [
        ("encoder.weight", vec![d_sae, d_in]),
        ("encoder.bias", vec![d_sae]),
        ("W_dec", vec![d_sae, d_in]),
        ("b_dec", vec![d_in]),
    ];
    let mut end = 0;
    let entries = shapes.map(|(name, shape)| {
        let start = end;
        end += 4 * shape.iter().product::<usize>();
        format!("\"{name}\": {{\"dtype\": \"F32\", \"shape\": {shape:?}, \"data_offsets\": [{start}, {end}]}}")
    });
    let header = format!("{{{}}}", entries.join(", "));
    let weights = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; end][..]].concat();
    (cfg.into_bytes(), weights)
}

struct Hub {
    project: Project,
    server: Server,
}

impl Hub {
    fn run(&self, file: &str, args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String, String) {
        let mut command = self.project.command(&["run", file, "--json"]);
        command.args(args).env("HF_ENDPOINT", &self.server.endpoint).env("HF_HUB_CACHE", self.project.path("hub"));
        let output =
            command.env_remove("HF_TOKEN").env_remove("HF_HUB_OFFLINE").envs(env.iter().copied()).output().unwrap();
        let mut finished: Vec<String> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|event| event["type"] == "finished")
            .map(|event| event["stage"].as_str().unwrap().to_owned())
            .collect();
        finished.sort();
        (output.status.code(), finished.join(" "), String::from_utf8(output.stderr).unwrap())
    }
}

#[test]
fn a_source_on_the_hub_is_pinned_and_like_a_folder() {
    let hub = Hub { project: Project::new(), server: server() };
    hub.project.write("pipeline.yaml", PIPELINE);
    let (code, ran, errors) = hub.run("pipeline.yaml", &[], &[]);
    assert_eq!((code, ran.as_str()), (Some(0), "model one sae"), "{errors}");
    let fetched = format!("fetching  hf://owner/name@{}/model.safetensors", COMMITS[0]);
    assert!(errors.contains(&fetched) && !errors.contains("README"), "{errors}");
    let lock: Value =
        serde_json::from_str(&std::fs::read_to_string(hub.project.path("pipeline.lock")).unwrap()).unwrap();
    assert_eq!(lock["hub"], serde_json::json!({ "hf://owner/name": COMMITS[0] }));
    assert!(lock["sources"].get(format!("hf://owner/name@{}/params.npz", COMMITS[0])).is_some(), "{lock}");

    // Others work on; here it stays what it was, and nobody is asked.
    {
        let mut state = hub.server.state();
        let mut files = state.files[COMMITS[0]].clone();
        let cfg = String::from_utf8(files["layers.0/cfg.json"].clone()).unwrap();
        files.insert("layers.0/cfg.json".to_owned(), cfg.replace("\"k\": 3", "\"k\": 4").into_bytes());
        state.files.insert(COMMITS[1].to_owned(), files);
        state.main = COMMITS[1].to_owned();
    }
    hub.server.asked();
    for args in [&[][..], &["--locked"]] {
        for env in [&[][..], &[("HF_HUB_OFFLINE", "1")]] {
            assert_eq!(hub.run("pipeline.yaml", args, env), (Some(0), String::new(), String::new()));
        }
    }
    assert_eq!(hub.server.asked(), [""; 0]);

    // The same files in a folder are the same to the cache.
    let snapshot = hub.project.path("hub/models--owner--name/snapshots").join(COMMITS[0]);
    hub.project.write("local.yaml", &PIPELINE.replace("hf://owner/name", snapshot.to_str().unwrap()));
    assert_eq!(hub.run("local.yaml", &[], &[("HF_HUB_OFFLINE", "1")]).1, "");

    // Without the lock file `main` is asked for again.
    std::fs::remove_file(hub.project.path("pipeline.lock")).unwrap();
    let (code, _, errors) = hub.run("pipeline.yaml", &[], &[("HF_HUB_OFFLINE", "1")]);
    assert_eq!(code, Some(2));
    assert!(
        errors.contains("`hf://owner/name` is no commit that is pinned") && errors.contains("pipeline.yaml:4"),
        "{errors}"
    );
    let (code, ran, errors) = hub.run("pipeline.yaml", &[], &[]);
    assert_eq!((code, ran.as_str()), (Some(0), "sae"), "{errors}");
    let lock: Value =
        serde_json::from_str(&std::fs::read_to_string(hub.project.path("pipeline.lock")).unwrap()).unwrap();
    assert_eq!(lock["hub"]["hf://owner/name"], COMMITS[1]);
}
