#!/usr/bin/env python3
"""Lacuna beside llama.cpp on the CPU or a GPU: the same GGUF, the same prompts, in turn, and the ratios of the medians.

    python3 evals/bench/peer.py --venv DIR --model inference/embedded/model.gguf [--model M2 ...] [--json OUT]
    python3 evals/bench/peer.py --venv DIR --device cuda --model 7b.gguf      with nvcc; random weights: random_gguf.py

The first run builds llama.cpp (the copy inside PyPI's llama-cpp-python, pinned below) into the virtual environment DIR
for this machine's own instruction set, or for --cuda-architecture (90 is Hopper) with CUDA's compiler; that takes a C++
compiler and some minutes. --sdist FILE builds from a source distribution that is at hand, without the package index, if
pip finds the build's own needs. Lacuna is `target/release/lacuna`
unless --lacuna says otherwise; `--lacuna none` measures llama.cpp alone.

What is measured, per model, each in a process of its own and `--rounds` times with the engines' order alternating:

    prefill N        tokens/s from the prompt's start to the logits of its last token, N from --prefill (512 and 2048);
                     one token less where N is the model's whole context, which must hold the answer too
    decode           tokens/s of the steps after the first token, after a prompt of --depth tokens
    peak memory      largest resident set of the process in any of these, as the kernel counts it (mapped weights
                     included); for llama.cpp less what Python held before the model was loaded

Prompts are windows of real source files (--corpus, by default the Python standard library), tokenized with the model's
own vocabulary; no window is used twice by an engine, so nothing can be served from a cache. The first, short prompt of
each process pages the weights in and is not counted. llama.cpp runs with its defaults (flash attention and weight
repacking as it chooses, f16 KV; on a GPU with flash attention and all layers there) and is timed inside the calls of
llama_decode alone: no sampling, no Python.

The contract with `lacuna bench`. It is called as

    lacuna bench --model M --device cpu|cuda --threads T --prompts FILE --gen N --spec off --json

FILE holds {"prompts": [[id, ...], ...]}, of any lengths, to be run one after the other, each from an empty cache, with
exactly N greedy tokens generated after each, whatever they are (an end-of-text token does not stop it). It prints one
JSON object:

    {"engine": "lacuna", "version": "0.1.0", "device": "cpu", "threads": 2, "load_ms": 12.3,
     "runs": [{"prompt_tokens": 512, "cached_tokens": 0, "prefill_ms": 163.1,
               "generated_tokens": 64, "decode_ms": 110.2}]}

prefill_ms runs from the request to its first token; decode_ms from the first token to the last (N - 1 steps). Other
keys may be present. `runs` is in the order of the prompts, one entry each.

Why the build names its instruction sets: with GGML_NATIVE=ON on a machine with AMX, gcc 12 drops stores that the AMX
path needs, and it crashes; the rest of the native set gives the same speed there.
"""

import argparse
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

LLAMA_CPP_PYTHON = "0.3.36"  # llama.cpp 0c1e57098 by its changelog
NUMPY = "2.4.6"
REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE_SUFFIXES = {".py", ".rs", ".ts", ".tsx", ".js", ".java", ".c", ".h", ".cc", ".cpp", ".go", ".cs"}
WARM_UP_TOKENS = 64
PROCESS_LIMIT_S = 3600
# /proc/cpuinfo's names beside ggml's options.
CPU_OPTIONS = {
    "sse4_2": "SSE42", "avx": "AVX", "avx2": "AVX2", "fma": "FMA", "f16c": "F16C", "bmi2": "BMI2",
    "avx_vnni": "AVX_VNNI", "avx512f": "AVX512", "avx512_vbmi": "AVX512_VBMI", "avx512vbmi": "AVX512_VBMI",
    "avx512_vnni": "AVX512_VNNI", "avx512_bf16": "AVX512_BF16",
}


# ---- building the peer


def cpu_info() -> dict[str, str]:
    """The first processor's fields; empty where there is no /proc."""
    try:
        block = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block.splitlines())}


def cmake_arguments(options) -> list[str]:
    parts = ["TESTS", "TOOLS", "EXAMPLES", "SERVER", "APP"]
    arguments = ["-DLLAVA_BUILD=OFF", *(f"-DLLAMA_BUILD_{part}=OFF" for part in parts)]
    flags = set(cpu_info().get("flags", "").split())
    if options.device == "cuda":
        # One GPU needs no communication library, and the processor only looks rows up. A build with all that the processor
        # had died in its first prefill on a GPU machine, why was not found; one with these did not.
        arguments += ["-DGGML_CUDA=ON", "-DGGML_CUDA_NCCL=OFF", f"-DCMAKE_CUDA_ARCHITECTURES={options.cuda_architecture}"]
        flags &= {"sse4_2", "avx", "avx2", "fma", "f16c", "bmi2"}
    if not flags:
        return [*arguments, "-DGGML_NATIVE=ON"]
    options = sorted({option for flag, option in CPU_OPTIONS.items() if flag in flags})
    return [*arguments, "-DGGML_NATIVE=OFF", *(f"-DGGML_{option}=ON" for option in options)]


def install(options) -> Path:
    """Builds the peer into the virtual environment unless the pinned version is there; returns its Python."""
    venv = options.venv
    python = venv / "bin" / "python"
    if python.exists():
        query = "from importlib.metadata import version; print(version('llama-cpp-python'))"
        have = subprocess.run([python, "-c", query], capture_output=True, text=True)
        if have.stdout.strip() == LLAMA_CPP_PYTHON:
            return python
    arguments = cmake_arguments(options)
    print(f"building llama-cpp-python {LLAMA_CPP_PYTHON} in {venv}: {' '.join(arguments)}", file=sys.stderr)
    # A machine without a package index has what the build and the worker need beside its own Python.
    shared = ["--system-site-packages"] if options.sdist else []
    subprocess.run([sys.executable, "-m", "venv", *shared, venv], check=True)
    jobs = str(os.cpu_count() or 1)
    environment = {**os.environ, "CMAKE_ARGS": " ".join(arguments), "CMAKE_BUILD_PARALLEL_LEVEL": jobs}
    packages = [f"llama-cpp-python=={LLAMA_CPP_PYTHON}", f"numpy=={NUMPY}"]
    pip = [python, "-m", "pip", "install"]
    if options.sdist:
        pip += ["--no-index", "--no-deps", "--no-build-isolation", options.sdist]
    else:
        pip += ["--no-binary", "llama-cpp-python", *packages]
    subprocess.run(pip, check=True, env=environment, stdout=sys.stderr)
    return python


# ---- llama.cpp's side, run by the virtual environment's Python


class LlamaCpp:
    """The engine through its C API: a model, a context, and timed calls of llama_decode."""

    def __init__(self, model: str, device: str, vocabulary_only: bool):
        import llama_cpp

        self.api = llama_cpp
        self.quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.quiet, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        self.device = device
        if device == "cuda" and not llama_cpp.llama_supports_gpu_offload():
            sys.exit("the peer was built without CUDA: name another --venv")
        parameters.n_gpu_layers = 999 if device == "cuda" else 0
        parameters.vocab_only = vocabulary_only
        self.model = llama_cpp.llama_model_load_from_file(model.encode(), parameters)
        if not self.model:
            sys.exit(f"llama.cpp cannot load {model}")
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.model)

    def metadata(self, key: str) -> str:
        room = ctypes.create_string_buffer(256)
        if self.api.llama_model_meta_val_str(self.model, key.encode(), room, len(room)) < 0:
            sys.exit(f"the model lacks {key}")
        return room.value.decode()

    def tokenize(self, text: bytes) -> list[int]:
        room = (self.api.llama_token * (len(text) + 8))()
        count = self.api.llama_tokenize(self.vocabulary, text, len(text), room, len(room), False, False)
        return room[:count]

    def open_context(self, tokens: int, threads: int, sequences: int = 1) -> None:
        parameters = self.api.llama_context_default_params()
        parameters.n_ctx = tokens
        parameters.n_seq_max = sequences
        parameters.n_batch = tokens
        parameters.n_threads = threads
        parameters.n_threads_batch = threads
        if self.device == "cuda":
            parameters.flash_attn_type = self.api.LLAMA_FLASH_ATTN_TYPE_ENABLED
        self.context = self.api.llama_init_from_model(self.model, parameters)
        if not self.context:
            sys.exit("llama.cpp cannot make a context")

    def decode_ms(self, tokens: list[int]) -> float:
        buffer = (self.api.llama_token * len(tokens))(*tokens)
        batch = self.api.llama_batch_get_one(buffer, len(tokens))
        start = time.perf_counter()
        status = self.api.llama_decode(self.context, batch)
        self.api.llama_synchronize(self.context)
        spent = time.perf_counter() - start
        if status != 0:
            sys.exit(f"llama_decode failed with {status}")
        return spent * 1e3

    def best_token(self) -> int:
        import numpy

        count = self.api.llama_vocab_n_tokens(self.vocabulary)
        logits = self.api.llama_get_logits_ith(self.context, -1)
        return int(numpy.ctypeslib.as_array(logits, shape=(count,)).argmax())

    def run(self, prompt: list[int], generate: int) -> dict:
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)
        prefill = self.decode_ms(prompt)
        decode = 0.0
        for _ in range(generate - 1):
            decode += self.decode_ms([self.best_token()])
        return {"prompt_tokens": len(prompt), "cached_tokens": 0, "prefill_ms": prefill,
                "generated_tokens": generate, "decode_ms": decode}


def resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def worker_bench(model: str, device: str, prompts_file: str, generate: int, threads: int) -> dict:
    import numpy  # noqa: F401  (part of the baseline, not of the engine)
    from importlib.metadata import version

    import llama_cpp

    prompts = json.loads(Path(prompts_file).read_text())["prompts"]
    baseline = resident_bytes()
    start = time.perf_counter()
    engine = LlamaCpp(model, device, vocabulary_only=False)
    engine.open_context(max(map(len, prompts)) + generate, threads)
    load = time.perf_counter() - start
    runs = [engine.run(prompt, generate) for prompt in prompts]
    return {"engine": "llama.cpp", "version": f"llama-cpp-python {version('llama-cpp-python')}",
            "system": llama_cpp.llama_print_system_info().decode().strip(), "device": device, "threads": threads,
            "load_ms": load * 1e3, "baseline_bytes": baseline, "runs": runs}


def worker_context(model: str) -> dict:
    """The model's context length in tokens."""
    engine = LlamaCpp(model, "cpu", vocabulary_only=True)
    return {"context": int(engine.metadata(f"{engine.metadata('general.architecture')}.context_length"))}


def worker_tokenize(model: str, corpus: str, wanted: int) -> dict:
    """`wanted` token ids of source files under `corpus`, in the files' sorted order."""
    engine = LlamaCpp(model, "cpu", vocabulary_only=True)
    ids: list[int] = []
    for path in sorted(Path(corpus).rglob("*")):
        if path.suffix in SOURCE_SUFFIXES and path.is_file() and "site-packages" not in path.parts:
            ids += engine.tokenize(path.read_bytes())
        if len(ids) >= wanted:
            return {"ids": ids[:wanted]}
    sys.exit(f"{corpus} holds {len(ids)} tokens of source, {wanted} are needed: give a larger --corpus")


# ---- both sides, in turn


def call(command: list) -> tuple[dict, int]:
    """A process's JSON answer and its peak resident set in bytes."""
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen([str(part) for part in command], stdout=out)
        deadline = time.monotonic() + PROCESS_LIMIT_S
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > deadline:
                process.kill()
                sys.exit(f"no answer within {PROCESS_LIMIT_S} s: {command}")
            time.sleep(0.02)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            sys.exit(f"exit status {process.returncode}: {' '.join(map(str, command))}")
        out.seek(0)
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return json.loads(out.read()), peak


class Prompts:
    """Windows of the corpus, each given out once."""

    def __init__(self, ids: list[int]):
        self.ids, self.at = ids, 0

    def take(self, length: int) -> list[int]:
        window = self.ids[self.at : self.at + length]
        assert len(window) == length
        self.at += length
        return window


def measure(model: Path, python: Path, lacuna: Path | None, options) -> dict:
    me = [python, Path(__file__).resolve()]
    context = call([*me, "worker-context", model])[0]["context"]
    measures = [(f"prefill {n}", min(n, context - 1), 1) for n in options.prefill]
    measures.append(("decode", min(options.depth, context - options.generate), options.generate))
    wanted = options.rounds * sum(WARM_UP_TOKENS + options.repeats * length for _, length, _ in measures)
    corpus = Prompts(call([*me, "worker-tokenize", model, options.corpus, str(wanted)])[0]["ids"])
    samples: dict[tuple[str, str], list[float]] = {}
    about: dict[str, dict] = {}
    loads = []
    with tempfile.TemporaryDirectory() as directory:
        prompts_file = Path(directory) / "prompts.json"
        threads, peer = str(options.threads), [*me, "worker-bench", model, options.device, prompts_file]
        ours = [lacuna, "bench", "--model", model, "--device", options.device, "--threads", threads]
        ours += ["--prompts", prompts_file]
        for turn in range(options.rounds):
            for name, length, generate in measures:
                prompts = [corpus.take(WARM_UP_TOKENS), *(corpus.take(length) for _ in range(options.repeats))]
                prompts_file.write_text(json.dumps({"prompts": prompts}))
                commands = {"llama.cpp": [*peer, str(generate), threads]}
                if lacuna:
                    commands["lacuna"] = [*ours, "--gen", str(generate), "--spec", "off", "--json"]
                for engine in sorted(commands, reverse=turn % 2 == 1):
                    loads.append(os.getloadavg()[0])
                    answer, peak = call(commands[engine])
                    runs = answer.pop("runs")[1:]
                    if [run["prompt_tokens"] for run in runs] != [length] * options.repeats:
                        sys.exit(f"{engine} did not run the prompts it was given")
                    if any(run.get("cached_tokens", 0) for run in runs):
                        sys.exit(f"{engine} answered from a cache: these are not cold runs")
                    about[engine] = answer
                    values = samples.setdefault((name, engine), [])
                    for run in runs:
                        tokens, spent = (length, "prefill_ms") if generate == 1 else (generate - 1, "decode_ms")
                        values.append(tokens / run[spent] * 1e3)
                    memory = samples.setdefault(("peak memory", engine), [])
                    memory.append((peak - answer.get("baseline_bytes", 0)) / 2**20)
                    print(f"  round {turn + 1} {name}: {engine} {statistics.median(values):.1f}", file=sys.stderr)
    names = [name for name, _, _ in measures]
    result = {"model": model.name, "bytes": model.stat().st_size, "load_average": [min(loads), max(loads)],
              "engines": about, "measures": {}}
    for name in [*names, "peak memory"]:
        unit = "MiB" if name == "peak memory" else "tokens/s"
        row = {"unit": unit}
        for engine in about:
            values = samples[(name, engine)]
            middle = max(values) if name == "peak memory" else statistics.median(values)
            row[engine] = {"median": middle, "min": min(values), "max": max(values), "samples": len(values)}
        if lacuna:
            row["ratio"] = row["lacuna"]["median"] / row["llama.cpp"]["median"]
        result["measures"][name] = row
    return result


def report(result: dict) -> str:
    lines = [f"\n{result['model']}  {result['bytes'] / 2**20:.0f} MiB",
             f"  {'':14}{'llama.cpp (min to max)':>32}{'lacuna (min to max)':>32}{'lacuna / llama.cpp':>20}"]
    for name, row in result["measures"].items():
        cells = ""
        for engine in ("llama.cpp", "lacuna"):
            cell = "-"
            if engine in row:
                value = row[engine]
                cell = f"{value['median']:.1f} ({value['min']:.1f} to {value['max']:.1f})"
            cells += f"{cell:>32}"
        ratio = f"{row['ratio']:.2f}x" if "ratio" in row else "-"
        lines.append(f"  {name:14}{cells}{ratio:>20}  {row['unit']}")
    return "\n".join(lines)


def machine(options) -> dict:
    info = cpu_info()
    commit = subprocess.run(["git", "-C", REPOSITORY, "rev-parse", "HEAD"], capture_output=True, text=True)
    return {"cpu": info.get("model name", platform.processor()), "cores": os.cpu_count(), "threads": options.threads,
            "instruction_sets": [f for f in CPU_OPTIONS if f in info.get("flags", "").split()],
            "system": platform.platform(), "python": platform.python_version(),
            "lacuna_commit": commit.stdout.strip(), "date": time.strftime("%Y-%m-%d"),
            "command": " ".join(["peer.py", *sys.argv[1:]])}


def main() -> None:
    if sys.argv[1:2] == ["worker-bench"]:
        model, device, prompts, generate, threads = sys.argv[2:7]
        return print(json.dumps(worker_bench(model, device, prompts, int(generate), int(threads))))
    if sys.argv[1:2] == ["worker-context"]:
        return print(json.dumps(worker_context(sys.argv[2])))
    if sys.argv[1:2] == ["worker-tokenize"]:
        model, corpus, wanted = sys.argv[2:5]
        return print(json.dumps(worker_tokenize(model, corpus, int(wanted))))
    numbers = lambda text: [int(n) for n in text.split(",")]  # noqa: E731
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", type=Path, required=True, metavar="DIR", help="virtual environment of the peer")
    parser.add_argument("--model", type=Path, action="append", required=True, metavar="GGUF", help="may be repeated")
    parser.add_argument("--lacuna", default=str(REPOSITORY / "target" / "release" / "lacuna"), metavar="PATH|none")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="both engines compute there")
    parser.add_argument("--cuda-architecture", default="90", metavar="N", help="what the peer is built for")
    parser.add_argument("--sdist", type=Path, metavar="FILE", help="llama-cpp-python's source distribution")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--prefill", type=numbers, default=[512, 2048], metavar="N,N", help="prompt lengths")
    parser.add_argument("--depth", type=int, default=512, help="prompt tokens before decode")
    parser.add_argument("--generate", type=int, default=64, help="tokens generated for decode, at least 2")
    parser.add_argument("--rounds", type=int, default=3, help="how often the engines take turns")
    parser.add_argument("--repeats", type=int, default=3, help="prompts a process runs")
    parser.add_argument("--corpus", type=Path, default=Path(sysconfig.get_paths()["stdlib"]), metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write everything measured to this file")
    options = parser.parse_args()
    if options.generate < 2:
        parser.error("--generate must be at least 2: decode is timed from the first token to the last")
    lacuna = None if options.lacuna == "none" else Path(options.lacuna)
    if lacuna and not lacuna.exists():
        parser.error(f"{lacuna} does not exist: build it with `cargo build --release`, or say --lacuna none")
    options.venv = options.venv.absolute()
    python = install(options)
    if os.getloadavg()[0] > 0.5:
        print(f"load average {os.getloadavg()[0]:.1f}: the machine is busy, expect noise", file=sys.stderr)
    results = [measure(model.absolute(), python, lacuna, options) for model in options.model]
    about = machine(options)
    print(f"{about['cpu']}, {about['threads']} threads; {results[0]['engines']['llama.cpp']['version']}; "
          f"lacuna commit {about['lacuna_commit'][:10]}; load average up to "
          f"{max(result['load_average'][1] for result in results):.1f}")
    for result in results:
        print(report(result))
    if options.json:
        options.json.write_text(json.dumps({"machine": about, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
