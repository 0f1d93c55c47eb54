#!/usr/bin/env python3
"""Mediant beside transformers and TransformerLens: forward passes, caching, patching, attribution, on one machine in one run.

GPT-2-small-shaped random weights, 8 prompts of 128 tokens. Each measure alternates between the libraries; the figure is the median. Patching and
attribution have the clean and the corrupted run inside the timer on both sides. Peak memory is that of a process that does nothing else. `products` is the
share of Mediant's time that its dense products alone take: B, those of all blocks, timed by themselves, and the product for all logits; a
sweep of 36 heads takes 18 B (what lies behind each head) and 2 for the clean and the corrupted run, one of 144 heads 74 and 2, attribution 4: two passes, the
corrupted one again block by block, and its gradient.

pip install torch==2.13.0 transformers transformer_lens      benches/lm.py [--rounds 3] [--threads 2] [--all-layers]
"""
import argparse, json, os, pathlib, resource, statistics, subprocess, sys, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LAYERS, HEADS = 12, 12


def peer(measure, runs, threads, layers):
    """One measure in this process, as Mediant's example prints it."""
    import torch
    torch.set_num_threads(threads); torch.manual_seed(0)
    ids, ids2 = (torch.randint(0, 50257, (8, 128)) for _ in range(2))
    if measure == "transformers":
        import transformers
        hf = transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval()
        def run():
            with torch.no_grad(): hf(ids)
    else:
        from transformer_lens import HookedTransformer, HookedTransformerConfig
        m = HookedTransformer(HookedTransformerConfig(n_layers=LAYERS, d_model=768, n_heads=HEADS, d_head=64, d_mlp=3072, n_ctx=1024, d_vocab=50257,
            act_fn="gelu_new", normalization_type="LN", device="cpu", default_prepend_bos=False)).eval()
        heads = lambda n: n.endswith("hook_z")
        metric = lambda logits: logits[:, -1, 5] - logits[:, -1, 7]
        def forward():
            with torch.no_grad(): m(ids)
        def residuals():
            with torch.no_grad(): m.run_with_cache(ids, names_filter=lambda n: n.endswith("hook_resid_pre") or n.endswith("hook_resid_post"))
        def patch():
            with torch.no_grad():
                _, clean = m.run_with_cache(ids, names_filter=heads)
                metric(m(ids2))
                for l in layers:
                    for h in range(HEADS):
                        def put(x, hook, h=h): x = x.clone(); x[:, :, h] = clean[hook.name][:, :, h]; return x
                        metric(m.run_with_hooks(ids2, fwd_hooks=[(f"blocks.{l}.attn.hook_z", put)]))
        def attribution():
            with torch.no_grad(): _, clean = m.run_with_cache(ids, names_filter=heads)
            acts = {}
            def keep(x, hook): acts[hook.name] = x; x.retain_grad(); return x
            m.zero_grad(); metric(m.run_with_hooks(ids2, fwd_hooks=[(heads, keep)])).sum().backward()
            return [((clean[k] - x) * x.grad).sum((0, 1, 3)) for k, x in acts.items()]
        run = {"forward": forward, "residuals": residuals, "patch": patch, "patch_all": patch, "attribution": attribution}[measure]
    times = []
    if not measure.startswith("patch"): run()
    for _ in range(runs):
        t = time.perf_counter(); run(); times.append(time.perf_counter() - t)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"measure": measure, "seconds": statistics.median(times), "peak_mb": peak}))


def main():
    ap = argparse.ArgumentParser(); ap.add_argument("--rounds", type=int, default=3); ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--all-layers", action="store_true", help="also patch every head of every layer, once"); ap.add_argument("--peer", help=argparse.SUPPRESS)
    ap.add_argument("--runs", type=int, default=2, help=argparse.SUPPRESS); a = ap.parse_args()
    if a.peer:
        layers = range(LAYERS) if a.peer == "patch_all" else [0, LAYERS // 2, LAYERS - 1]
        return peer(a.peer, a.runs, a.threads, layers)
    subprocess.run(["cargo", "build", "--release", "--workspace", "--example", "lm_speed"], cwd=ROOT, check=True)
    ours = str(ROOT / "target/release/examples/lm_speed")
    env = dict(os.environ, RAYON_NUM_THREADS=str(a.threads))
    def call(command):
        return json.loads(subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    def other(measure, runs):
        return call([sys.executable, __file__, "--peer", measure, "--runs", str(runs), "--threads", str(a.threads)])
    block, logits = (call([ours, name, "5"])["seconds"] for name in ("block_products", "logits_product"))
    least = {"forward": block + logits, "residuals": block, "patch": 20 * block, "patch_all": 76 * block, "attribution": 4 * block}
    print(f"dense products: {block:.3f} s of the blocks, {logits:.3f} s of the logits")
    rows = [("forward, logits", "forward", "transformers", 3), ("forward, logits", "forward", "forward", 3), ("all residuals cached", "residuals", "residuals", 3),
            ("36 heads patched", "patch", "patch", 1), ("attribution of all heads", "attribution", "attribution", 2)]
    if a.all_layers: rows.append(("144 heads patched", "patch_all", "patch_all", 1))
    print(f"{'':26} {'Mediant':>9} {'peer':>9} {'ratio':>6} {'products':>9}   peak MB, Mediant and peer")
    for name, own, theirs, runs in rows:
        rounds = 1 if own == "patch_all" else a.rounds
        pairs = [(call([ours, own, str(runs)]), other(theirs, runs)) for _ in range(rounds)]
        mine, peers = (statistics.median(p[i]["seconds"] for p in pairs) for i in (0, 1))
        ratios = [p[1]["seconds"] / p[0]["seconds"] for p in pairs]
        library = "transformers" if theirs == "transformers" else "TransformerLens"
        print(f"{name:26} {mine:8.3f}s {peers:8.3f}s {statistics.median(ratios):6.2f} {least[own] / mine:9.2f}   {pairs[0][0]['peak_mb']} {pairs[0][1]['peak_mb']}   {library}", flush=True)


main()
