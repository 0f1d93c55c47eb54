#!/usr/bin/env python3
"""Mediant's SAE training step beside SAELens', on one machine in one run, and how ours scales.

Both take the whole step on the same shapes of random activations: forward, losses, backward, clipping, Adam. Each measure alternates between the
two; the figure is the median of the rounds. Beside it stands the dense product batch × d_in × d_sae of each library, and the step as a
multiple of it. `--dead` is the part of the latents that counts as dead, so that AuxK works.

pip install torch==2.13.0 sae-lens==6.54.12      benches/sae.py [--rounds 3] [--threads 2] [--scaling] [--only topk]
"""
import argparse, json, os, pathlib, statistics, subprocess, sys, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Family, part of the latents that is dead, options of both sides.
ROWS = [("topk", 0.25), ("topk", 0.0), ("batchtopk", 0.0), ("matryoshka", 0.0), ("relu", 0.0), ("gated", 0.0), ("jumprelu", 0.0), ("matching_pursuit", 0.0)]


def peer(family, dead, steps, threads, d_in, d_sae, k, batch):
    """SAELens in this process; prints what Mediant's example prints."""
    import torch
    from sae_lens import saes as S
    from sae_lens.saes.sae import TrainStepInput
    torch.set_num_threads(threads); torch.manual_seed(0)
    shape = dict(d_in=d_in, d_sae=d_sae)
    widths = [d_sae // 8, d_sae // 4, d_sae // 2, d_sae]
    kind, config = {
        "topk": (S.TopKTrainingSAE, lambda: S.TopKTrainingSAEConfig(k=k, use_sparse_activations=False, **shape)),
        "batchtopk": (S.BatchTopKTrainingSAE, lambda: S.BatchTopKTrainingSAEConfig(k=k, **shape)),
        "matryoshka": (S.MatryoshkaBatchTopKTrainingSAE, lambda: S.MatryoshkaBatchTopKTrainingSAEConfig(k=k, matryoshka_widths=widths, **shape)),
        "relu": (S.StandardTrainingSAE, lambda: S.StandardTrainingSAEConfig(**shape)),
        "gated": (S.GatedTrainingSAE, lambda: S.GatedTrainingSAEConfig(**shape)),
        "jumprelu": (S.JumpReLUTrainingSAE, lambda: S.JumpReLUTrainingSAEConfig(**shape)),
        "matching_pursuit": (S.MatchingPursuitTrainingSAE, lambda: S.MatchingPursuitTrainingSAEConfig(residual_threshold=0.0, max_iterations=k, **shape)),
    }[family]
    sae = kind(config())
    optimiser = torch.optim.Adam(sae.parameters(), lr=3e-4, betas=(0.9, 0.999))
    coefficients = {name: value if isinstance(value, float) else value.value for name, value in sae.get_coefficients().items()}
    mask = torch.arange(d_sae) % 100 < 100 * dead
    x = torch.randn(batch, d_in)
    def step():
        out = sae.training_forward_pass(TrainStepInput(sae_in=x, coefficients=coefficients, dead_neuron_mask=mask, n_training_steps=5, is_logging_step=False))
        optimiser.zero_grad(); out.loss.backward(); torch.nn.utils.clip_grad_norm_(sae.parameters(), 1.0); optimiser.step()
    weight = torch.randn(d_in, d_sae)
    steps_taken, products = [], []
    for i in range(steps + 1):
        t = time.perf_counter(); x @ weight; products.append(time.perf_counter() - t)
        t = time.perf_counter(); step(); steps_taken.append(time.perf_counter() - t)
    print(json.dumps({"step": statistics.median(steps_taken[1:]), "product": statistics.median(products)}))


def main():
    ap = argparse.ArgumentParser(); ap.add_argument("--rounds", type=int, default=3); ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--only", help="one family"); ap.add_argument("--scaling", action="store_true", help="our step over d_sae and k instead")
    for name, default in [("--d-in", 768), ("--d-sae", 12288), ("--k", 32), ("--batch", 4096), ("--steps", 3)]: ap.add_argument(name, type=int, default=default)
    ap.add_argument("--peer", help=argparse.SUPPRESS); ap.add_argument("--dead", type=float, default=0.0, help=argparse.SUPPRESS); a = ap.parse_args()
    if a.peer:
        return peer(a.peer, a.dead, a.steps, a.threads, a.d_in, a.d_sae, a.k, a.batch)
    subprocess.run(["cargo", "build", "--release", "--workspace", "--example", "step_time"], cwd=ROOT, check=True)
    env = dict(os.environ, RAYON_NUM_THREADS=str(a.threads))
    def call(command):
        return json.loads(subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    def ours(family, dead, d_sae, k):
        return call([str(ROOT / "target/release/examples/step_time"), "--json", "--arch", family, "--dead", str(dead), "--d-in", str(a.d_in), "--d-sae", str(d_sae),
                     "--k", str(k), "--batch", str(a.batch), "--steps", str(a.steps)])
    if a.scaling:
        print(f"{'d_sae':>7} {'k':>4} {'step':>9} {'product':>9} {'step/product':>13}")
        for d_sae in (4096, 16384, 65536):
            for k in (16, 64, 256):
                one = ours("topk", 0.0, d_sae, k)
                print(f"{d_sae:7} {k:4} {one['step']:8.3f}s {one['product']:8.3f}s {one['step'] / one['product']:13.2f}", flush=True)
        return
    print(f"{'family':12} {'dead':>5} {'Mediant':>9} {'products':>9} {'tokens/s':>9} {'SAELens':>9} {'products':>9} {'ratio':>6}")
    for family, dead in ROWS:
        if a.only and family != a.only: continue
        command = [sys.executable, __file__, "--peer", family, "--dead", str(dead), "--threads", str(a.threads), "--d-in", str(a.d_in), "--d-sae", str(a.d_sae),
                   "--k", str(a.k), "--batch", str(a.batch), "--steps", str(a.steps)]
        pairs = [(ours(family, dead, a.d_sae, a.k), call(command)) for _ in range(a.rounds)]
        mid = lambda side, key: statistics.median(pair[side][key] for pair in pairs)
        multiple = lambda side: statistics.median(pair[side]["step"] / pair[side]["product"] for pair in pairs)
        ratio = statistics.median(pair[1]["step"] / pair[0]["step"] for pair in pairs)
        print(f"{family:12} {dead:5.2f} {mid(0, 'step'):8.3f}s {multiple(0):9.2f} {a.batch / mid(0, 'step'):9.0f} {mid(1, 'step'):8.3f}s {multiple(1):9.2f} {ratio:6.2f}", flush=True)


main()
