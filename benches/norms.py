"""A model without live norms, exported for transformers, gives Mediant's logits there.

    cargo build --release && python benches/norms.py       # torch 2.15, transformers 5.24, pyarrow, numpy

Removes the norms of datasets/models/tiny-gpt2 in a short training, so that values read theirs at another scale than queries and keys,
exports the model, loads it with transformers, and compares logits on held-out rows with those of Mediant. Exits with 1 if one differs by more
than 1e-3, or if transformers takes the folded layout for a model that it knows.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from transformers import AutoModelForCausalLM

ROOT = Path(__file__).resolve().parent.parent
MEDIANT = ROOT / "target" / "release" / "mediant"
PIPELINE = {
    "mediant": 1,
    "stages": {
        "model": {"uses": "load_model", "with": {"source": str(ROOT / "datasets/models/tiny-gpt2")}},
        "corpus": {"uses": "generate_corpus", "with": {"sentences": 4000, "seed": 1}},
        "tokens": {
            "uses": "tokenize", "inputs": {"corpus": "corpus", "model": "model"},
            "with": {"context": 128, "test_fraction": 0.01, "pack": False},
        },
        "free": {
            "uses": "remove_layernorm", "inputs": {"model": "model", "tokens": "tokens.train"},
            "with": {"training": {"steps": 60, "batch": 32}},
        },
        "logits": {"uses": "cache_activations", "inputs": {"model": "free", "tokens": "tokens.test"}, "with": {"hooks": ["logits"]}},
        "stock": {"uses": "export", "inputs": {"model": "free"}, "with": {"format": "transformers"}},
        "folded": {"uses": "export", "inputs": {"model": "free"}, "with": {"format": "folded"}},
    },
}


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        # JSON is YAML.
        (folder / "p.yaml").write_text(json.dumps(PIPELINE))
        run = lambda *args: subprocess.run([MEDIANT, *args], cwd=folder, check=True, capture_output=True, text=True).stdout
        run("run", "p.yaml", "--quiet")
        for stage in ("stock", "folded"):
            run("export", "p.yaml", stage, stage)
        for stage in ("logits", "tokens.test"):
            run("export", "p.yaml", stage, "out")
        rows = pq.read_table(next((folder / "out").glob("tokens*.parquet"))).to_pylist()
        table = pq.read_table(folder / "out" / "logits.parquet", columns=["example", "position", "logits"])
        ours = np.concatenate([np.frombuffer(v.as_py(), np.float32)[None] for v in table["logits"]])
        model = AutoModelForCausalLM.from_pretrained(folder / "stock").eval()
        worst, count = 0.0, 0
        examples, positions = table["example"].to_numpy(), table["position"].to_numpy()
        for example, row in enumerate(rows):
            with torch.no_grad():
                theirs = model(torch.tensor([row["ids"]])).logits[0].numpy()
            own = examples == example
            worst = max(worst, float(np.abs(ours[own] - theirs[positions[own]]).max()))
            count += int(own.sum())
        scales = json.loads((folder / "stock" / "config.json").read_text())["mediant_norm_scales"]
        apart = max(scales[f"blocks.{l}.ln1.v"] / scales[f"blocks.{l}.ln1.qk"] for l in range(4))
        print(f"{count} positions, largest logit {np.abs(ours).max():.1f}: transformers' logits differ by at most {worst:.1e}")
        print(f"largest ratio of the scale of values to that of queries and keys: {apart:.3f}")
        try:
            AutoModelForCausalLM.from_pretrained(folder / "folded")
            print("transformers takes the folded layout for another model")
            return 1
        except ValueError:
            return int(worst > 1e-3)


if __name__ == "__main__":
    sys.exit(main())
