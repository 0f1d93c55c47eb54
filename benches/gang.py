#!/usr/bin/env python3
"""Trainings done together beside the same trainings done one at a time: 12 TopK autoencoders on three layers of a language model.

    cargo build --release
    python3 benches/gang.py [--rounds 3] [--d-sae 2048]

`cached`: on activations from a cache; beside it the sum of the 12 trainings alone. `streamed`: on activations that the model computes on the way;
beside it one pass of the model (a training that streams less one that reads the cache) and the sum of the 12. Seconds are those of the
actions, without the start of the process. Every training must have the digest that it has alone.
"""
import argparse, json, os, pathlib, statistics, subprocess, tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
MEDIANT = os.environ.get("MEDIANT") or str(ROOT / "target/release/mediant")
HOOKS = [f"blocks.{layer}.hook_resid_post" for layer in range(1, 4)]
KS = [8, 16, 32, 64]
PIPELINE = """
mediant: 1
name: gang
stages:
  model:
    uses: load_model
    with: {{ source: {model} }}
  corpus:
    uses: generate_corpus
    with: {{ sentences: 8000 }}
  tokens:
    uses: tokenize
    inputs: {{ corpus: corpus, model: model }}
    with: {{ context: 128, test_fraction: 0.1 }}
  acts:
    uses: cache_activations
    inputs: {{ model: model, tokens: tokens.train }}
    with: {{ hooks: {all_hooks} }}
  cached:
    uses: train_sae
    matrix: {{ hook: {hooks}, k: {ks} }}
    inputs: {{ activations: acts }}
    with: &with {{ hook: "${{matrix.hook}}", sae: {{ architecture: topk, k: "${{matrix.k}}" }}, d_sae: {d_sae}, tokens: 100000, batch: 2048 }}
  streamed:
    uses: train_sae
    matrix: {{ hook: {hooks}, k: {ks} }}
    inputs: {{ model: model, tokens: tokens.train }}
    with: *with
"""


def run(folder, stage):
    """Seconds of every action of a stage, run anew, by its labels."""
    out = subprocess.run([MEDIANT, "run", "gang.yaml", stage, "--force", stage, "--json"], cwd=folder, check=True, capture_output=True, text=True).stdout
    events = [json.loads(line) for line in out.splitlines()]
    return {event["stage"]: event["seconds"] for event in events if event["type"] == "finished" and event["stage"].startswith(stage + "[")}


def digests(folder):
    out = subprocess.run([MEDIANT, "status", "gang.yaml", "--json"], cwd=folder, check=True, capture_output=True, text=True).stdout
    return {row["stage"]: row["digest"] for row in json.loads(out)["stages"] if row.get("digest") and "[" in row["stage"]}


def main():
    ap = argparse.ArgumentParser(); ap.add_argument("--rounds", type=int, default=3); ap.add_argument("--d-sae", type=int, default=2048); a = ap.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        def pipeline(hooks, ks):
            (folder / "gang.yaml").write_text(PIPELINE.format(model=ROOT / "datasets/models/tiny-gpt2", all_hooks=json.dumps(HOOKS), hooks=json.dumps(hooks), ks=json.dumps(ks), d_sae=a.d_sae))
        ratios = {"cached": [], "streamed": []}
        for _ in range(a.rounds):
            together, alone = {}, {"cached": {}, "streamed": {}}
            pipeline(HOOKS, KS)
            run(folder, "acts")
            for stage in alone: together[stage] = max(run(folder, stage).values())
            expected = digests(folder)
            for hook in HOOKS:
                for k in KS:
                    pipeline([hook], [k])
                    for stage in alone if (hook, k) == (HOOKS[-1], KS[0]) else ["cached"]:
                        alone[stage].update(run(folder, stage))
                        got = digests(folder)
                        assert all(expected[label] == digest for label, digest in got.items()), "other digests"
            last = f"[hook={HOOKS[-1]},k={KS[0]}]"
            steps = sum(alone["cached"].values())
            forward = alone["streamed"]["streamed" + last] - alone["cached"]["cached" + last]
            ratios["cached"].append(together["cached"] / steps)
            ratios["streamed"].append(together["streamed"] / (forward + steps))
            print(f"12 alone {steps:.2f} s, one pass of the model {forward:.2f} s; together {together['cached']:.2f} s cached ({ratios['cached'][-1]:.3f}), "
                  f"{together['streamed']:.2f} s streamed ({ratios['streamed'][-1]:.3f})", flush=True)
        for stage, all_ratios in ratios.items(): print(f"{stage}: {statistics.median(all_ratios):.3f} times")


main()
