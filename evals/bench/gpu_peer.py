#!/usr/bin/env python3
"""Lacuna beside llama.cpp on a GPU, in one go: builds the peer, makes models of real shapes, prints the ratios.

    python3 evals/bench/gpu_peer.py --work DIR                     1.5B and 7B Qwen2 in Q4_K_M's types, random weights
    python3 evals/bench/gpu_peer.py --work DIR --packages DIR      without a package index
    python3 evals/bench/gpu_peer.py --work DIR --model M.gguf --device cpu     other models, and the same on the CPU

Needs CUDA's compiler (on 16 cores the build takes about four minutes) and `target/release/lacuna`. The virtual environment
with the peer and the models stay in --work for the next time. --packages is a directory with llama-cpp-python's source
distribution and gguf's wheel; what else they need must then be among the packages of the Python that runs this.

Prompts, decoding and how they are timed are peer.py's, whose report this prints, with two measures more:

    decode, deep     as decode, after a prompt of --deep tokens
    streams          tokens/s in all of --streams requests that decode side by side, each after a prompt of --depth tokens
"""

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import peer

GGUF = "0.19.0"


def streams_of_llama_cpp(model: str, device: str, prompts_file: str, generate: int, threads: int) -> dict:
    """All prompts' sequences in one context, a token of each in every step; the steps alone are timed."""
    prompts = json.loads(Path(prompts_file).read_text())["prompts"]
    engine = peer.LlamaCpp(model, device, vocabulary_only=False)
    longest = max(map(len, prompts)) + generate
    engine.open_context(longest * len(prompts), threads, sequences=len(prompts))
    api, vocabulary = engine.api, engine.api.llama_vocab_n_tokens(engine.vocabulary)
    batch = api.llama_batch_init(longest, 0, 1)

    def run(entries: list[tuple[int, int, int, bool]]) -> None:
        """Computes (token, position, sequence, whether its logits are wanted)."""
        batch.n_tokens = len(entries)
        for index, (token, position, sequence, is_wanted) in enumerate(entries):
            batch.token[index], batch.pos[index], batch.logits[index] = token, position, is_wanted
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, sequence
        status = api.llama_decode(engine.context, batch)
        api.llama_synchronize(engine.context)
        if status != 0:
            sys.exit(f"llama_decode failed with {status}")

    def best(index: int) -> int:
        import numpy

        logits = api.llama_get_logits_ith(engine.context, index)
        return int(numpy.ctypeslib.as_array(logits, shape=(vocabulary,)).argmax())

    tokens = []
    for sequence, prompt in enumerate(prompts):
        run([(token, at, sequence, at == len(prompt) - 1) for at, token in enumerate(prompt)])
        tokens.append(best(len(prompt) - 1))
    spent = 0.0
    for step in range(generate - 1):
        entries = [(token, len(prompts[sequence]) + step, sequence, True) for sequence, token in enumerate(tokens)]
        start = time.perf_counter()
        run(entries)
        spent += time.perf_counter() - start
        tokens = [best(sequence) for sequence in range(len(prompts))]
    return {"tokens_per_second": len(prompts) * (generate - 1) / spent}


def measure_streams(model: Path, python: Path, lacuna: Path | None, options) -> dict:
    """Both engines in turn, as a row of peer.py's report."""
    me, count = [python, Path(__file__).resolve()], options.streams
    wanted = options.rounds * count * options.depth
    ids = peer.call([python, peer.__file__, "worker-tokenize", model, options.corpus, str(wanted)])[0]["ids"]
    corpus = peer.Prompts(ids)
    threads, generate = str(options.threads), str(options.generate)
    samples: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        prompts_file = Path(directory) / "prompts.json"
        for turn in range(options.rounds):
            prompts_file.write_text(json.dumps({"prompts": [corpus.take(options.depth) for _ in range(count)]}))
            commands = {"llama.cpp": [*me, "worker-streams", model, options.device, prompts_file, generate, threads]}
            if lacuna:
                commands["lacuna"] = [
                    lacuna, "bench", "--model", model, "--device", options.device, "--threads", threads, "--prompt", "64",
                    "--batch", str(count), "--context-depth", str(options.depth), "--gen", generate, "--spec", "off",
                    "--rounds", "1", "--corpus", options.corpus, "--json"]
            for engine in sorted(commands, reverse=turn % 2 == 1):
                answer = peer.call(commands[engine])[0]
                rate = answer["decode"][0]["tokens_per_second"] if "decode" in answer else answer["tokens_per_second"]
                samples.setdefault(engine, []).append(rate)
                print(f"  round {turn + 1} {count} streams: {engine} {rate:.1f}", file=sys.stderr)
    row: dict = {"unit": "tokens/s"}
    for engine, values in samples.items():
        row[engine] = {"median": statistics.median(values), "min": min(values), "max": max(values), "samples": len(values)}
    if lacuna:
        row["ratio"] = row["lacuna"]["median"] / row["llama.cpp"]["median"]
    return row


def measure(model: Path, python: Path, lacuna: Path | None, options) -> dict:
    print(f"{model.name}", file=sys.stderr)
    result = peer.measure(model, python, lacuna, options)
    deep = copy.copy(options)
    deep.prefill, deep.depth = [], options.deep
    measures = result["measures"]
    memory = measures.pop("peak memory")
    measures["decode, deep"] = peer.measure(model, python, lacuna, deep)["measures"]["decode"]
    measures[f"{options.streams} streams"] = measure_streams(model, python, lacuna, options)
    measures["peak memory"] = memory
    return result


def package(directory: Path, name: str) -> Path:
    found = next(directory.absolute().glob(name), None)
    return found or sys.exit(f"{directory} has no {name}")


def make_models(python: Path, options) -> list[Path]:
    """Random weights of the shapes asked for, made where they are not there yet."""
    query = "import gguf"
    if subprocess.run([python, "-c", query], capture_output=True).returncode != 0:
        source = [f"gguf=={GGUF}"]
        if options.packages:
            source = ["--no-index", "--no-deps", package(options.packages, f"gguf-{GGUF}-*.whl")]
        subprocess.run([python, "-m", "pip", "install", *source], check=True, stdout=sys.stderr)
    models = []
    for shape in options.shape:
        path = options.work / f"random-qwen2-{shape}-q4_k_m.gguf"
        if not path.exists():
            maker = peer.REPOSITORY / "evals/bench/random_gguf.py"
            subprocess.run([python, maker, "--shape", shape, "--out", options.work], check=True, stdout=sys.stderr)
        models.append(path)
    return models


def main() -> None:
    if sys.argv[1:2] == ["worker-streams"]:
        model, device, prompts, generate, threads = sys.argv[2:7]
        return print(json.dumps(streams_of_llama_cpp(model, device, prompts, int(generate), int(threads))))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="for the peer and the models")
    parser.add_argument("--packages", type=Path, metavar="DIR", help="where llama-cpp-python and gguf are")
    parser.add_argument("--model", type=Path, action="append", metavar="GGUF", help="instead of random ones; repeatable")
    parser.add_argument("--shape", action="append", choices=["1.5b", "7b"], help="of random models; repeatable")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--cuda-architecture", default="90", metavar="N", help="what the peer is built for")
    parser.add_argument("--lacuna", default=str(peer.REPOSITORY / "target/release/lacuna"), metavar="PATH|none")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--depth", type=int, default=512)
    parser.add_argument("--deep", type=int, default=8192)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--generate", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3, help="how often the engines take turns")
    parser.add_argument("--repeats", type=int, default=3, help="prompts a process runs")
    parser.add_argument("--corpus", type=Path, default=Path(sysconfig.get_paths()["stdlib"]), metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write everything measured to this file")
    options = parser.parse_args()
    options.prefill = [512, 2048]
    options.shape = options.shape or ["1.5b", "7b"]
    options.work = options.work.absolute()
    options.work.mkdir(parents=True, exist_ok=True)
    options.venv = options.work / "peer"
    options.sdist = None
    if options.packages:
        options.sdist = package(options.packages, f"llama_cpp_python-{peer.LLAMA_CPP_PYTHON}.tar.gz")
    lacuna = None if options.lacuna == "none" else Path(options.lacuna).absolute()
    if lacuna and not lacuna.exists():
        parser.error(f"{lacuna} does not exist: build it with `cargo build --release`, or say --lacuna none")
    python = peer.install(options)
    models = [path.absolute() for path in options.model] if options.model else make_models(python, options)
    results = [measure(model, python, lacuna, options) for model in models]
    about = peer.machine(options)
    about["command"] = " ".join(["gpu_peer.py", *sys.argv[1:]])
    if options.device == "cuda":
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        about["gpu"] = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    print(f"{about.get('gpu', about['cpu'])}; {results[0]['engines']['llama.cpp']['version']}; "
          f"lacuna commit {about['lacuna_commit'][:10]}")
    for result in results:
        print(peer.report(result))
    if options.json:
        options.json.write_text(json.dumps({"machine": about, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
