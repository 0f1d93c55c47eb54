"""A model without live norms, exported for transformers, gives Mediant's logits there.

    cargo build --release && python benches/norms.py       # torch 2.15, transformers 5.24, pyarrow, numpy

Removes the norms of datasets/models/tiny-gpt2 in a short training, so that values read theirs at another scale than queries and keys,
exports the model, loads it with transformers, and compares logits on held-out rows with those of Mediant; exports it folded, loads that with
Mediant, and compares again. Exits with 1 if transformers' logits differ by more than 1e-3 or the folded model's by more than 1e-4, or if
transformers takes the folded layout for a model that it knows.
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


# The exported folder of the folded model, which Mediant loads again, on the same rows.
AGAIN = {
    "mediant": 1,
    "stages": {
        **{name: PIPELINE["stages"][name] for name in ("model", "corpus", "tokens")},
        "folded": {"uses": "load_model", "with": {"source": "folded"}},
        "logits": {"uses": "cache_activations", "inputs": {"model": "folded", "tokens": "tokens.test"}, "with": {"hooks": ["logits"]}},
    },
}


def logits_of(folder):
    table = pq.read_table(folder / "logits.parquet", columns=["example", "position", "logits"])
    logits = np.concatenate([np.frombuffer(v.as_py(), np.float32)[None] for v in table["logits"]])
    return table["example"].to_numpy(), table["position"].to_numpy(), logits


def knows_folded(folder):
    """Whether transformers takes the folded layout for a model that it knows."""
    try:
        AutoModelForCausalLM.from_pretrained(folder)
        return True
    except ValueError as error:
        if "mediant_folded" not in str(error):
            raise
        return False


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        run = lambda *args: subprocess.run([MEDIANT, *args], cwd=folder, check=True, capture_output=True, text=True).stdout
        # JSON is YAML.
        (folder / "p.yaml").write_text(json.dumps(PIPELINE))
        run("run", "p.yaml", "--quiet")
        for stage, to in [("stock", "stock"), ("folded", "folded"), ("logits", "out"), ("tokens.test", "out")]:
            run("export", "p.yaml", stage, to)
        (folder / "again.yaml").write_text(json.dumps(AGAIN))
        run("run", "again.yaml", "--quiet")
        run("export", "again.yaml", "logits", "again")
        rows = pq.read_table(next((folder / "out").glob("tokens*.parquet"))).to_pylist()
        examples, positions, ours = logits_of(folder / "out")
        folded = float(np.abs(ours - logits_of(folder / "again")[2]).max())
        model = AutoModelForCausalLM.from_pretrained(folder / "stock").eval()
        stock = 0.0
        for example, row in enumerate(rows):
            with torch.no_grad():
                theirs = model(torch.tensor([row["ids"]])).logits[0].numpy()
            own = examples == example
            stock = max(stock, float(np.abs(ours[own] - theirs[positions[own]]).max()))
        scales = json.loads((folder / "stock" / "config.json").read_text())["mediant_norm_scales"]
        apart = max(scales[f"blocks.{l}.ln1.v"] / scales[f"blocks.{l}.ln1.qk"] for l in range(4))
        known = knows_folded(folder / "folded")
        print(f"{len(ours)} positions, largest logit {np.abs(ours).max():.1f}")
        print(f"transformers' logits differ by at most {stock:.1e}")
        print(f"the folded model's logits differ by at most {folded:.1e}")
        print(f"largest ratio of the scale of values to that of queries and keys: {apart:.3f}")
        print("transformers takes the folded layout for another model" if known else "transformers refuses the folded layout")
        return int(stock > 1e-3 or folded > 1e-4 or known)


if __name__ == "__main__":
    sys.exit(main())
