#!/usr/bin/env python3
"""Mediant's edges beside the same method written as hooks on TransformerLens, on one machine in one run.

GPT-2-small-shaped random weights, 8 prompts of 32 tokens, every edge of the graph of EAP (32,491). `eap` and `eap_ig` (5 steps) score all of
them; `edge_sets` is the metric with four random sets of half of them kept and everything else patched with its counterfactual. The peer does what the code
of Hanna et al. 2024 does (EAP-IG and its evaluation of circuits, which MIB uses): a buffer of what every node writes, hooks that take its differences
to the receivers' gradients, or add those of the edges that are not kept to what receivers read; the backward pass makes gradients of the weights, too, as
theirs does. What heads write is made of `hook_z` by one product: `hook_result`, which their code hooks, is an elementwise product and a sum in TransformerLens 3.9, and much slower.
Both have the clean and the counterfactual run inside the timer; Mediant's also writes the effects and makes scores of them. Each measure alternates between
the two; the figure is the median.

pip install torch==2.15.0 transformer_lens==3.9.0      benches/mediators.py [--rounds 3] [--threads 2]

A round takes three minutes on two cores. (TransformerLens 4 has no HookedTransformer.)
"""
import argparse, json, os, pathlib, resource, statistics, subprocess, sys, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LAYERS, HEADS, WIDTH, TOKENS, STEPS = 12, 12, 768, 32, 5
NODES = 1 + LAYERS * (HEADS + 1)


def receivers():
    """Hook point, how many nodes come before it, and how many receivers are there, in the order of a pass."""
    for layer in range(LAYERS):
        before = 1 + layer * (HEADS + 1)
        for letter in "qkv":
            yield f"blocks.{layer}.hook_{letter}_input", before, HEADS
        yield f"blocks.{layer}.hook_mlp_in", before + HEADS, 1
    yield f"blocks.{LAYERS - 1}.hook_resid_post", NODES, 1


def senders():
    """Hook point, the number of its first node, and how many nodes are there."""
    yield "hook_embed", 0, 1
    for layer in range(LAYERS):
        first = 1 + layer * (HEADS + 1)
        yield f"blocks.{layer}.attn.hook_z", first, HEADS
        yield f"blocks.{layer}.hook_mlp_out", first + HEADS, 1


def peer(measure, runs, threads):
    import torch
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    torch.set_num_threads(threads); torch.manual_seed(0)
    model = HookedTransformer(HookedTransformerConfig(n_layers=LAYERS, d_model=WIDTH, n_heads=HEADS, d_head=64, d_mlp=4 * WIDTH, n_ctx=1024,
        d_vocab=50257, act_fn="gelu_new", normalization_type="LN", device="cpu", default_prepend_bos=False)).eval()
    model.cfg.use_split_qkv_input = model.cfg.use_hook_mlp_in = True
    clean, other = (torch.randint(0, 50257, (8, TOKENS)) for _ in range(2))
    metric = lambda logits: logits[:, -1, 5] - logits[:, -1, 7]
    units = lambda x: x if x.ndim == 4 else x.unsqueeze(2)
    def written(x, hook):
        """What the nodes at a hook point write, `[prompt, position, node, width]`."""
        return torch.einsum("bphd,hdm->bphm", x, model.blocks[hook.layer()].attn.W_O) if "hook_z" in hook.name else units(x)

    def taken(ids):
        """What every node writes, `[prompt, position, node, width]`."""
        buffer = torch.zeros(8, TOKENS, NODES, WIDTH)
        def hook(first, count):
            def take(x, hook): buffer[:, :, first:first + count] = written(x, hook)
            return take
        with torch.no_grad():
            value = metric(model.run_with_hooks(ids, fwd_hooks=[(name, hook(first, count)) for name, first, count in senders()]))
        return buffer, value

    def scores(steps):
        (of_other, _), (of_clean, _) = taken(other), taken(clean)
        difference = of_other - of_clean
        found = {name: torch.zeros(before, count) for name, before, count in receivers()}
        def hook(name, before):
            def add(gradient, hook): found[name] += torch.einsum("bpnd,bprd->nr", difference[:, :, :before], units(gradient)) / steps
            return add
        backward = [(name, hook(name, before)) for name, before, _ in receivers()]
        for step in range(steps):
            def between(x, hook): return of_clean[:, :, 0] + difference[:, :, 0] * (1 - step / steps) if steps > 1 else x
            model.zero_grad()
            with model.hooks(fwd_hooks=[("hook_embed", between)], bwd_hooks=backward):
                metric(model(clean)).sum().backward()
        return found

    def sets():
        (of_other, _), _ = taken(other), taken(clean)
        values = []
        for draw in range(4):
            generator = torch.Generator().manual_seed(draw)
            cut = {name: (torch.rand(before, count, generator=generator) < 0.5).float() for name, before, count in receivers()}
            difference = of_other.clone()
            def sends(first, count):
                def subtract(x, hook): difference[:, :, first:first + count] -= written(x, hook)
                return subtract
            def reads(name, before):
                def add(x, hook):
                    change = torch.einsum("bpnd,nr->bprd", difference[:, :, :before], cut[name])
                    return x + change.reshape(x.shape)
                return add
            hooks = [(name, sends(first, count)) for name, first, count in senders()] + [(name, reads(name, before)) for name, before, _ in receivers()]
            with torch.no_grad(): values.append(metric(model.run_with_hooks(clean, fwd_hooks=hooks)))
        return values

    run = {"eap": lambda: scores(1), "eap_ig": lambda: scores(STEPS), "edge_sets": sets}[measure]
    times = []
    for round in range(runs + 1):
        t = time.perf_counter(); run()
        if round > 0: times.append(time.perf_counter() - t)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"measure": measure, "seconds": statistics.median(times), "peak_mb": peak}))


def main():
    ap = argparse.ArgumentParser(); ap.add_argument("--rounds", type=int, default=3); ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--peer", help=argparse.SUPPRESS); ap.add_argument("--runs", type=int, default=2, help=argparse.SUPPRESS); a = ap.parse_args()
    if a.peer: return peer(a.peer, a.runs, a.threads)
    subprocess.run(["cargo", "build", "--release", "--workspace", "--example", "lm_speed"], cwd=ROOT, check=True)
    ours = str(ROOT / "target/release/examples/lm_speed")
    env = dict(os.environ, RAYON_NUM_THREADS=str(a.threads))
    def call(command):
        return json.loads(subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    print(f"{'':26} {'Mediant':>9} {'peer':>9} {'ratio':>6}   peak MB, Mediant and peer")
    for name, measure in [("EAP, 32,491 edges", "eap"), ("EAP-IG, 5 steps", "eap_ig"), ("4 sets of half of them", "edge_sets")]:
        pairs = [(call([ours, measure, "2"]), call([sys.executable, __file__, "--peer", measure, "--threads", str(a.threads)])) for _ in range(a.rounds)]
        mine, peers = (statistics.median(p[i]["seconds"] for p in pairs) for i in (0, 1))
        ratio = statistics.median(p[1]["seconds"] / p[0]["seconds"] for p in pairs)
        print(f"{name:26} {mine:8.3f}s {peers:8.3f}s {ratio:6.2f}   {pairs[0][0]['peak_mb']} {pairs[0][1]['peak_mb']}", flush=True)


main()
