"""What Mediant exports, loaded by SAELens, gives Mediant's numbers.

    cargo build --release && python benches/formats.py       # sae-lens 6.54.12, pyarrow, numpy

Trains a small autoencoder of every family on datasets/models/tiny-gpt2, exports each for SAELens, loads it there, and compares
L0 and explained variance on the activations of held-out tokens with what `evaluate_sae` measured. Exits with 1 if one differs.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from sae_lens import SAE

ROOT = Path(__file__).resolve().parent.parent
MEDIANT = ROOT / "target" / "release" / "mediant"
HOOK = "blocks.2.hook_resid_post"
FAMILIES = {
    "relu": {"architecture": "relu", "l1": 0.05},
    "gated": {"architecture": "gated", "l1": 0.05},
    "topk": {"architecture": "topk", "k": 16},
    "topk_plain": {"architecture": "topk", "k": 16, "rescale_acts_by_decoder_norm": False},
    "batchtopk": {"architecture": "batchtopk", "k": 16},
    "matryoshka": {"architecture": "matryoshka", "k": 16, "matryoshka_widths": [64]},
    "jumprelu": {"architecture": "jumprelu", "b_dec_init": "mean"},
    "layer_norm": {"architecture": "topk", "k": 16, "normalize_activations": "layer_norm"},
    "const_norm": {"architecture": "gated", "l1": 0.05, "normalize_activations": "constant_norm_rescale"},
}
PIPELINE = {
    "mediant": 1,
    "stages": {
        "model": {"uses": "load_model", "with": {"source": str(ROOT / "datasets/models/tiny-gpt2")}},
        "corpus": {"uses": "generate_corpus", "with": {"sentences": 4000, "seed": 1}},
        "tokens": {
            "uses": "tokenize", "inputs": {"corpus": "corpus", "model": "model"},
            "with": {"context": 128, "test_fraction": 0.1, "pack": False},
        },
        "acts": {"uses": "cache_activations", "inputs": {"model": "model", "tokens": "tokens.train"}, "with": {"hooks": [HOOK]}},
        "held_out": {"uses": "cache_activations", "inputs": {"model": "model", "tokens": "tokens.test"}, "with": {"hooks": [HOOK]}},
        "sae": {
            "uses": "train_sae", "inputs": {"activations": "acts"},
            "matrix": {"include": [{"name": name, "sae": sae} for name, sae in FAMILIES.items()]},
            "with": {"sae": "${matrix.sae}", "d_sae": 256, "steps": 200, "batch": 512, "lr": 0.001},
        },
        "eval": {"uses": "evaluate_sae", "inputs": {"model": "model", "sae": "sae", "tokens": "tokens.test"}},
        "saelens": {"uses": "export", "inputs": {"dictionary": "sae"}, "with": {"format": "saelens"}},
    },
}


def vectors(path):
    table = pq.read_table(path, columns=[HOOK])
    shape = json.loads(table.schema.field(HOOK).metadata[b"shape"])
    chunks = [chunk.buffers()[1][chunk.offset * chunk.type.byte_width :] for chunk in table[HOOK].chunks]
    raw = np.concatenate([np.frombuffer(chunk, np.float32) for chunk in chunks])
    return torch.from_numpy(raw.copy()).reshape(-1, *shape)


def main():
    wrong = False
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        # JSON is YAML.
        (folder / "p.yaml").write_text(json.dumps(PIPELINE))
        run = lambda *args: subprocess.run([MEDIANT, *args], cwd=folder, check=True, capture_output=True, text=True).stdout
        run("run", "p.yaml", "--quiet")
        run("export", "p.yaml", "saelens", "out")
        run("export", "p.yaml", "held_out", "out")
        run("export", "p.yaml", "eval", "out")
        x = vectors(folder / "out" / "held_out.parquet")
        print(f"{'family':<12}{'l0':>10}{'SAELens':>10}{'ev_mc':>10}{'SAELens':>10}")
        for name in FAMILIES:
            rows = pq.read_table(folder / "out" / f"eval[name={name}].parquet").to_pylist()
            ours = {row["name"]: row["value"] for row in rows}
            sae = SAE.load_from_disk(folder / "out" / f"saelens[name={name}]")
            with torch.no_grad():
                acts = sae.encode(x)
                error = (x - sae.decode(acts)).double().pow(2).sum(-1).mean()
            variance = (x.double() - x.double().mean(0)).pow(2).sum(-1).mean()
            theirs = {"l0": (acts > 0).double().sum(-1).mean().item(), "ev_mc": (1 - error / variance).item()}
            print(f"{name:<12}{ours['l0']:>10.4f}{theirs['l0']:>10.4f}{ours['ev_mc']:>10.6f}{theirs['ev_mc']:>10.6f}")
            wrong |= abs(ours["l0"] - theirs["l0"]) > 1e-3 * theirs["l0"] or abs(ours["ev_mc"] - theirs["ev_mc"]) > 1e-4
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
