#!/usr/bin/env python3
"""Kills runs, or single workers, at random moments, and checks that nothing is lost, done twice or left behind.

    cargo build --release
    python3 benches/soak.py run 100       # kill -9 of the whole run, 100 times
    python3 benches/soak.py worker 100    # kill -9 of one worker, 100 times
    python3 benches/soak.py training 10   # kill -9 at 10 random steps of trainings of autoencoders

Each round kills one run of a pipeline of about 20 actions (corpus, tokenizer, tokens, language models with checkpoints,
activations, autoencoders); the next round goes on from what it left, and when all is done the store is emptied and it
begins again. Checked after every kill: no action that had a record before is executed again, and no lock is held. Checked
whenever a run ends by itself: all digests are those of an undisturbed run. Trainings write a checkpoint after every step here;
those that are killed must go on from where they were.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MEDIANT = Path(os.environ.get("MEDIANT") or Path(__file__).resolve().parent.parent / "target/release/mediant")
PIPELINE = """
mediant: 1
name: soak
stages:
  corpus:
    uses: generate_corpus
    with: { sentences: 3000 }
  tokenizer:
    uses: train_tokenizer
    inputs: { corpus: corpus }
    with: { vocab_size: 512 }
  tokens:
    uses: tokenize
    inputs: { tokenizer: tokenizer, corpus: corpus }
    with: { context: 64, test_fraction: 0.1 }
  lm:
    uses: train_lm
    matrix: { seed: [0, 1] }
    inputs: { tokens: tokens.train, tokenizer: tokenizer }
    with: { n_layers: 2, d_model: 32, n_heads: 2, steps: 60, batch: 8, lr: 0.003, warmup: 5, seed: "${matrix.seed}", checkpoints: [30] }
  loss:
    uses: evaluate_lm
    inputs: { model: lm, tokens: tokens.test }
  acts:
    uses: cache_activations
    inputs: { model: lm, tokens: tokens.train }
    with: { hooks: [blocks.1.hook_resid_post] }
  sae:
    uses: train_sae
    matrix: { k: [2, 4] }
    inputs: { activations: acts }
    with: { sae: { architecture: topk, k: "${matrix.k}" }, d_sae: 128, steps: 100, batch: 256 }
  eval:
    uses: evaluate_sae
    inputs: { model: lm, sae: sae, tokens: tokens.test }
  compare:
    uses: compare
    inputs: { metrics: eval }
"""


def command(folder, *args):
    return [str(MEDIANT), *args[:1], str(folder / "soak.yaml"), *args[1:]]


def digests(folder):
    """Logical digest of every output that is done."""
    out = subprocess.run(command(folder, "status", "--json"), check=True, capture_output=True, text=True).stdout
    return {f"{row['stage']}.{row['output']}": row["digest"] for row in json.loads(out)["stages"] if row.get("digest")}


def events(text):
    rows = []
    for line in text.splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            pass  # The line that the kill cut off.
    return rows


def held_locks(folder):
    """Lock files of the store that a living process holds."""
    inodes = {path.stat().st_ino for path in folder.rglob("*") if path.is_file()}
    lines = Path("/proc/locks").read_text().splitlines()
    return [line for line in lines if int(line.split(":")[-1].split()[0]) in inodes]


def main():
    what, rounds = sys.argv[1], int(sys.argv[2])
    if what not in ("run", "worker", "training"):
        sys.exit(__doc__)
    if what == "training":
        return training(rounds)
    draws = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, PIPELINE)
        start = time.time()
        subprocess.run(command(folder, "run", "--quiet"), check=True)
        seconds, expected = time.time() - start, digests(folder)
        print(f"undisturbed: {seconds:.1f} s, {len(expected)} outputs")
        empty(folder)
        kills = finished = 0
        while kills < rounds:
            before = digests(folder)
            run = subprocess.Popen(
                command(folder, "run", "--json", "--retries", "1000" if what == "worker" else "0"),
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            try:
                run.wait(timeout=draws.uniform(0.0, seconds / (1.5 if what == "run" else 10)))
            except subprocess.TimeoutExpired:
                kills += kill(run, what)
                if what == "worker":
                    while run.poll() is None and kills < rounds:
                        time.sleep(draws.uniform(0.0, seconds / 10))
                        kills += kill(run, what)
            out, errors = run.communicate()
            again = {event["stage"] for event in events(out) if event["type"] == "finished"}
            twice = [name for name in before if name.rsplit(".", 1)[0] in again]
            assert not twice, f"done twice: {twice}"
            deadline = time.time() + 5
            while held_locks(folder) and time.time() < deadline:
                time.sleep(0.05)  # A worker notices that its run is gone.
            assert not held_locks(folder), held_locks(folder)
            if run.returncode == 0:
                finished += 1
                assert digests(folder) == expected, "other digests"
                empty(folder)
            else:
                assert run.returncode == -signal.SIGKILL, f"exit code {run.returncode}: {errors}"
        subprocess.run(command(folder, "run", "--quiet"), check=True)
        assert digests(folder) == expected, "other digests"
        print(f"{kills} kills of a {what}; {finished + 1} runs came to their end, all with the undisturbed digests")


def training(rounds):
    """Kills the run when a training has come to a step drawn beforehand, and goes on with it until it is over."""
    steps = 1000
    targets = sorted(random.Random(0).sample(range(1, steps), rounds))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, PIPELINE.replace("steps: 100, batch: 256", f"steps: {steps}, batch: 256"))
        subprocess.run(command(folder, "run", "sae", "--quiet"), check=True)
        expected = digests(folder)
        empty(folder)
        subprocess.run(command(folder, "run", "acts", "--quiet"), check=True)
        killed_at = 0
        for target in targets:
            run = subprocess.Popen(command(folder, "run", "sae", "--json"), stdout=subprocess.PIPE, text=True)
            first = None
            for line in run.stdout:
                event = json.loads(line)
                if event["type"] != "progress" or not event["stage"].startswith("sae"):
                    continue
                first = first or event["done"]
                assert first > 1 or not killed_at, "began again"
                if event["done"] >= target:
                    killed_at = event["done"]
                    run.kill()
                    break
            else:
                sys.exit(f"the run ended before step {target}")
            run.wait()
            print(f"went on at step {first}, killed at step {killed_at}")
            deadline = time.time() + 5
            while held_locks(folder) and time.time() < deadline:
                time.sleep(0.05)
            assert not held_locks(folder), held_locks(folder)
        subprocess.run(command(folder, "run", "sae", "--quiet"), check=True)
        assert digests(folder) == expected, "other digests"
        print(f"{rounds} kills; the trainings came to their end with the undisturbed digests")


def prepare(folder, pipeline):
    (folder / "soak.yaml").write_text(pipeline)
    (folder / "mediant.toml").write_text("checkpoint_seconds = 0\n")


def kill(run, what):
    """Kills; 1 if there was something to kill."""
    victims = [run.pid] if what == "run" else children(run.pid)
    if run.poll() is not None or not victims:
        return 0
    try:
        os.kill(random.choice(victims), signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1


def children(parent):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(") ", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def empty(folder):
    subprocess.run(["chmod", "-R", "u+w", folder / ".mediant"], check=True)
    shutil.rmtree(folder / ".mediant")


if __name__ == "__main__":
    main()
