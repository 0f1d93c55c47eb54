#!/usr/bin/env python3
"""Mediant's fine-tuning step beside PyTorch's, on one machine in one run.

Both take the whole step in float32 on the same shapes of random weights and tokens: forward, loss, backward, clipping, AdamW. Each measure alternates
between the two; the figure is the median of the rounds. `live` has LayerNorms, `dropout` those and dropout of 0.1 (PyTorch's not on attention patterns either),
`removing` LayerNorms with the auxiliary loss and the scale of every norm taken, `frozen` no norm that is live. `products` is the share of
Mediant's time that the dense products of a step, forward and backward, take by themselves.

pip install torch==2.15.0 transformers==5.24.0      benches/finetune.py [--rounds 3] [--threads 2] [--only tiny]
"""
import argparse, json, os, pathlib, statistics, subprocess, sys, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Layers, width, heads, vocabulary, tokens of a row, rows of a step; steps that are timed.
SHAPES = {"tiny": ((4, 128, 4, 2000, 32, 96), 20), "small": ((12, 768, 12, 50257, 256, 4), 3)}
MEASURES = ["live", "dropout", "removing", "frozen"]


def peer(measure, shape, steps, threads):
    """PyTorch in this process; prints what Mediant's example prints."""
    import torch, transformers
    torch.set_num_threads(threads); torch.manual_seed(0)
    layers, width, heads, vocabulary, context, batch = shape
    drop = 0.1 if measure == "dropout" else 0.0
    config = transformers.GPT2Config(n_layer=layers, n_embd=width, n_head=heads, vocab_size=vocabulary, n_positions=context,
                                     embd_pdrop=drop, resid_pdrop=drop, attn_pdrop=0.0, use_cache=False)
    model = transformers.GPT2LMHeadModel(config).train()

    class Frozen(torch.nn.Module):
        def __init__(self, norm):
            super().__init__(); self.weight, self.bias = norm.weight, norm.bias
        def forward(self, x):
            return (x - x.mean(-1, keepdim=True)) / 0.5 * self.weight + self.bias

    if measure == "frozen":
        for block in model.transformer.h: block.ln_1, block.ln_2 = Frozen(block.ln_1), Frozen(block.ln_2)
        model.transformer.ln_f = Frozen(model.transformer.ln_f)
    scale = lambda x: torch.sqrt(x.var(-1, unbiased=False) + 1e-5)
    seen = []
    if measure == "removing":
        for block in model.transformer.h:
            for norm in (block.ln_1, block.ln_2): norm.register_forward_pre_hook(lambda _, x: seen.append(scale(x[0].detach()).mean()))
        model.transformer.ln_f.register_forward_pre_hook(lambda _, x: seen.append(scale(x[0])))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.01)
    data = torch.randint(0, vocabulary, (8, batch, context))

    def step(i):
        seen.clear()
        loss = model(data[i % 8], labels=data[i % 8]).loss
        if measure == "removing":
            sigma = seen[-1]; loss = loss + 0.1 * ((sigma - sigma[:, 1:].mean().detach()) ** 2).mean()
        optimiser.zero_grad(); loss.backward(); torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0); optimiser.step()

    times = []
    for i in range(steps + 1):
        start = time.perf_counter(); step(i); times.append(time.perf_counter() - start)
    seconds = statistics.median(times[1:])
    print(json.dumps({"measure": measure, "seconds": seconds, "tokens_per_second": batch * context / seconds}))


def main():
    ap = argparse.ArgumentParser(); ap.add_argument("--rounds", type=int, default=3); ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--only", choices=SHAPES); ap.add_argument("--peer", help=argparse.SUPPRESS); ap.add_argument("--shape", help=argparse.SUPPRESS)
    a = ap.parse_args()
    if a.peer:
        shape, steps = SHAPES[a.shape]
        return peer(a.peer, shape, steps, a.threads)
    subprocess.run(["cargo", "build", "--release", "--workspace", "--example", "finetuning"], cwd=ROOT, check=True)
    ours = str(ROOT / "target/release/examples/finetuning")
    env = dict(os.environ, RAYON_NUM_THREADS=str(a.threads))
    def call(command):
        return json.loads(subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    for name, (shape, steps) in SHAPES.items():
        if a.only and name != a.only: continue
        own = lambda measure: call([ours, measure, *map(str, shape), str(steps)])
        theirs = lambda measure: call([sys.executable, __file__, "--peer", measure, "--shape", name, "--threads", str(a.threads)])
        products = statistics.median(own("products")["seconds"] for _ in range(a.rounds))
        layers, width, heads, vocabulary, context, batch = shape
        print(f"{name}: {layers} layers of {width}, {heads} heads, vocabulary {vocabulary}, {batch} rows of {context} tokens, {a.threads} threads")
        print(f"{'tokens/s':10} {'Mediant':>9} {'PyTorch':>9} {'ratio':>6} {'products':>9}")
        for measure in MEASURES:
            pairs = [(own(measure), theirs(measure)) for _ in range(a.rounds)]
            mine, peers = (statistics.median(pair[i]["tokens_per_second"] for pair in pairs) for i in (0, 1))
            ratio = statistics.median(pair[0]["tokens_per_second"] / pair[1]["tokens_per_second"] for pair in pairs)
            seconds = statistics.median(pair[0]["seconds"] for pair in pairs)
            print(f"{measure:10} {mine:9.0f} {peers:9.0f} {ratio:6.2f} {products / seconds:9.2f}", flush=True)


main()
