#!/usr/bin/env python3
"""Time of a lattice of trivial stages: cold, and with nothing to do; resident memory beside it.

Layers of ten; each stage reads two of the layer before, as in the generators used to time other engines. Where doit and
snakemake are on PATH they run the same lattice in the same order, interleaved.

Use: benches/lattice.py [STAGES ...]      (default 10 100 1000 10000; MEDIANT names another binary)
"""
import os, pathlib, resource, shutil, statistics, subprocess, sys, tempfile, time

BINARY = os.environ.get("MEDIANT") or str(pathlib.Path(__file__).resolve().parent.parent / "target/release/mediant")


def producers(i):
    return [] if i < 10 else [(i // 10 - 1) * 10 + i % 10, (i // 10 - 1) * 10 + (i + 1) % 10]


def write_mediant(folder, n):
    lines = ["mediant: 1", "name: lattice", "stages:"]
    for i in range(n):
        names = ", ".join(f"s{p}" for p in producers(i))
        # Tables that joined their inputs would double with every layer.
        inputs = f", inputs: {{ tables: [{names}] }}" if names else ""
        rows = f"rows: [{{ i: {i} }}], limit: 1"
        lines.append(f"  s{i}: {{ uses: table{inputs}, with: {{ {rows} }} }}")
    (folder / "p.yaml").write_text("\n".join(lines) + "\n")
    (folder / "row.jsonl").write_text('{"i": 1}\n')
    (folder / "mediant.toml").write_text("allow_command = true\n")
    return [BINARY, "run", "p.yaml", "--json", "--jobs", "2"]


def write_doit(folder, n):
    text = 'DOIT_CONFIG = {"verbosity": 0}\n'
    for i in range(n):
        deps = [f"out/{p}.txt" for p in producers(i)]
        text += f"def task_s{i}(): return dict(actions=['echo {i} > out/{i}.txt'], file_dep={deps!r}, targets=['out/{i}.txt'])\n"
    (folder / "dodo.py").write_text(text)
    (folder / "out").mkdir()
    return ["doit", "-n", "2"]


def write_snakemake(folder, n):
    text = "rule all:\n    input: " + ", ".join(f"'out/{i}.txt'" for i in range(n)) + "\n"
    for i in range(n):
        deps = ", ".join(f"'out/{p}.txt'" for p in producers(i))
        text += f"rule s{i}:\n" + (f"    input: {deps}\n" if deps else "") + f"    output: 'out/{i}.txt'\n    shell: 'echo {i} > out/{i}.txt'\n"
    (folder / "Snakefile").write_text(text)
    (folder / "out").mkdir()
    return ["snakemake", "-c2", "--quiet"]


def timed(command, folder):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status:
        sys.exit(f"{command}: {error.decode()[-2000:]}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


engines = {"mediant": write_mediant}
engines |= {name: write for name, write in {"doit": write_doit, "snakemake": write_snakemake}.items() if shutil.which(name)}
print(f"{'engine':10} {'stages':>6} {'cold s':>8} {'ms/stage':>9} {'no-op s':>8} {'no-op CPU':>9} {'no-op MB':>8}")
for n in [int(a) for a in sys.argv[1:]] or [10, 100, 1000, 10000]:
    prepared = {}
    for name, write in engines.items():
        if name != "mediant" and n > 1000:
            continue
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f"lattice-{name}-"))
        command = write(folder, n)
        prepared[name] = folder, command, timed(command, folder)[0]
    runs = {name: [] for name in prepared}
    for _ in range(5):
        for name, (folder, command, _) in prepared.items():
            runs[name].append(timed(command, folder))
    for name, (folder, _, cold) in prepared.items():
        wall, cpu, memory = (statistics.median(run[k] for run in runs[name]) for k in range(3))
        print(f"{name:10} {n:6} {cold:8.2f} {1000 * cold / n:9.2f} {wall:8.3f} {cpu:9.3f} {memory:8.0f}", flush=True)
        shutil.rmtree(folder)
