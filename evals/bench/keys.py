#!/usr/bin/env python3
"""Key press to answer through the real language server: cold starts, then a file that is typed into.

    python3 evals/bench/keys.py --model M.gguf [--device cuda] [--lacuna target/release/lacuna] [--json OUT]

Starts `lacuna lsp` and speaks to it over its pipes as an editor does. A key is timed from before its didChange is written
to the answer of the inlineCompletion behind it, in this process; nothing is subtracted. Cold: the first completion in a
file that the server has not seen, among other words than all before it. Warm: the keys of a function typed into the middle
of such a file, one request a key, each after the answer to the one before.

Prompts are about --prompt tokens long and answers at most 32 tokens. With random weights answers are no code, so how far
speculation and reuse help says little about a real model; the times of prompts and steps are what they are.
"""

import argparse
import itertools
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ANSWER_TOKENS = 32
START_LIMIT_S = 120
TYPED = (
    "def merge(first, second):\n    result = dict(first)\n    for key, value in second.items():\n"
    "        if key in result and isinstance(value, dict):\n            result[key] = merge(result[key], value)\n"
    "    return result\n"
)
WORDS = "order price item stock user account total value index range window buffer query table column region".split()


class Server:
    """The server over its pipes; one request at a time."""

    def __init__(self, lacuna: Path, settings: dict):
        self.process = subprocess.Popen([lacuna, "lsp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL)
        self.ids = itertools.count(1)
        capabilities = {"textDocument": {"inlineCompletion": {}}, "general": {"positionEncodings": ["utf-16"]}}
        self.request("initialize", {"processId": None, "rootUri": None, "capabilities": capabilities,
                                    "initializationOptions": settings})
        self.notify("initialized", {})
        began = time.monotonic()
        while True:
            status = self.command("lacuna.status")
            if status.get("state") in ("ready", "busy"):
                self.status = status
                return
            if status.get("state") == "failed" or time.monotonic() - began > START_LIMIT_S:
                raise SystemExit(f"the server did not get ready: {json.dumps(status)}")
            time.sleep(0.02)

    def send(self, message: dict) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.process.stdin.flush()

    def receive(self) -> dict:
        length = 0
        while (line := self.process.stdout.readline().strip()):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if length == 0:
            raise SystemExit("the server ended")
        return json.loads(self.process.stdout.read(length))

    def notify(self, method: str, params: dict) -> None:
        self.send({"method": method, "params": params})

    def request(self, method: str, params: dict):
        number = next(self.ids)
        self.send({"id": number, "method": method, "params": params})
        while True:
            message = self.receive()
            if "method" in message and "id" in message:
                # What the server asks of an editor; none of it matters here.
                self.send({"id": message["id"], "result": None})
            elif message.get("id") == number:
                if "error" in message:
                    raise SystemExit(f"{method}: {message['error']}")
                return message["result"]

    def command(self, name: str) -> dict:
        return self.request("workspace/executeCommand", {"command": name})

    def open(self, uri: str, text: str) -> None:
        self.notify("textDocument/didOpen",
                    {"textDocument": {"uri": uri, "languageId": "python", "version": 1, "text": text}})

    def press(self, uri: str, version: int, at: tuple[int, int], text: str, cursor: tuple[int, int]) -> dict:
        """Inserts `text` at `at`, asks at `cursor`, and returns what that cost."""
        place = {"line": at[0], "character": at[1]}
        began = time.perf_counter()
        self.notify("textDocument/didChange", {
            "textDocument": {"uri": uri, "version": version},
            "contentChanges": [{"range": {"start": place, "end": place}, "text": text}]})
        self.request("textDocument/inlineCompletion", {
            "textDocument": {"uri": uri}, "position": {"line": cursor[0], "character": cursor[1]},
            "context": {"triggerKind": 2}})
        ms = (time.perf_counter() - began) * 1e3
        explain = self.command("lacuna.explain")
        return {"ms": ms, "explain": explain}

    def close(self) -> None:
        self.request("shutdown", None)
        self.notify("exit", {})
        self.process.wait(timeout=20)


def source(number: int, functions: int) -> str:
    """A file in which no function is like another, and none like those of other numbers."""
    choose = random.Random(number)
    parts = []
    for index in range(functions):
        a, b, c = (choose.choice(WORDS) + str(choose.randrange(1000)) for _ in range(3))
        parts.append(f"def {a}_{b}({c}, factor={index}):\n    {b} = {c} * factor + {choose.randrange(100)}\n"
                     f"    if {b} > {choose.randrange(1000)}:\n        return [{b}, {c}]\n    return {a}({b})\n\n\n")
    return "".join(parts)


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def summary(name: str, results: list[dict]) -> dict:
    asked = [r for r in results if r["explain"].get("source") == "model"]
    times = [r["ms"] for r in asked]
    total = lambda *path: [value for r in asked if isinstance(value := dig(r["explain"], path), (int, float))]
    out = {"name": name, "presses": len(results), "asked_the_model": len(asked)}
    if asked:
        out |= {"p50_ms": statistics.median(times), "p95_ms": quantile(times, 0.95), "most_ms": max(times),
                "prompt_tokens": statistics.median(total("promptTokens", "total") or [0]),
                "cached_tokens": statistics.median(total("cachedTokens") or [0]),
                "generated_tokens": statistics.median(total("generatedTokens") or [0]),
                "stages_p50_ms": {name: round(statistics.median(total("milliseconds", name)), 2)
                                  for name in sorted({name for r in asked for name in r["explain"].get("milliseconds", {})})}}
    everything = [r["ms"] for r in results]
    out |= {"all_p50_ms": statistics.median(everything), "all_p95_ms": quantile(everything, 0.95)}
    show = lambda value: f"{value:.1f}" if isinstance(value, float) else value  # noqa: E731
    print(" ".join(f"{key} {show(value)}" for key, value in out.items()), flush=True)
    return out


def dig(value, path):
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--lacuna", type=Path, default=REPOSITORY / "target/release/lacuna")
    parser.add_argument("--prompt", type=int, default=2048, help="tokens of a prompt, about")
    parser.add_argument("--cold", type=int, default=15)
    parser.add_argument("--keys", type=int, default=150)
    parser.add_argument("--functions", type=int, default=120, help="of a file: enough to fill the prompt")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    settings = {"model": options.model, "device": options.device, "maxTokens": ANSWER_TOKENS, "multiLine": "always",
                "prefixTokens": options.prompt * 3 // 4, "suffixTokens": options.prompt // 4, "contextTokens": 0,
                "promptStyle": "fim", "warmUp": False, "prefetch": False}
    server = Server(options.lacuna, settings)
    print(f"device {server.status.get('device') or server.status.get('engine')}", flush=True)
    middle = options.functions * 3 // 4 * 7 - 1
    cold = []
    for number in range(options.cold + 1):
        uri = f"file:///nowhere/cold_{number}.py"
        server.open(uri, source(number, options.functions))
        result = server.press(uri, 2, (middle, 0), "x = ", (middle, 4))
        # The first one meets kernels that were never started.
        if number > 0:
            cold.append(result)
    results = [summary("cold", cold)]
    uri = "file:///nowhere/typed.py"
    server.open(uri, source(10_000, options.functions))
    line, column, warm = middle, 0, []
    for index, key in enumerate(TYPED[: options.keys]):
        cursor = (line + 1, 0) if key == "\n" else (line, column + 1)
        warm.append(server.press(uri, index + 2, (line, column), key, cursor))
        line, column = cursor
    results.append(summary("typing", warm[1:]))
    server.close()
    if options.json:
        options.json.write_text(json.dumps({"settings": settings, "results": results}, indent=1))


if __name__ == "__main__":
    sys.exit(main())
