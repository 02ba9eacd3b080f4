"""Scores GGUF models on held-out packages and on HumanEval-Infilling, all with the same cases and the same prompts.

  evaluate.py cases --shards 'packed/shard-*.jsonl.zst' --output cases.json
  evaluate.py score --cases cases.json --humaneval-infilling FILE --output scores.json MODEL.gguf ...
"""
import argparse
import collections
import gzip
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import corpus
import signatures
from filters import END, FILE, LANGUAGES, MIDDLE, PAD, PREFIX, REPOSITORY, SUFFIX, TEST_PATH
from spans import COMMENT, Lines

HERE = os.path.dirname(os.path.abspath(__file__))
ACCESS = re.compile(r"(?<=[\w)\]])(?:\.|->|::)(?=([A-Za-z_]\w{3,}))")


def held_out_records(shards):
    import glob
    with open(os.path.join(HERE, "sources.toml"), "rb") as file:
        held_out = set(tomllib.load(file)["held_out"])
    return [r for path in sorted(glob.glob(shards)) for r in corpus.read_shard(path) if r[1] in held_out]


def line_cursor(lines, generator):
    """A cursor in a line of code, three characters or more before its end: two thirds at token borders, one third anywhere."""
    for _ in range(12):
        line = generator.randrange(len(lines))
        content, indent = lines.content(line), lines.indent(line)
        body = content[indent:]
        if len(body) < 6 or len(body) > 160:
            continue
        if body.startswith(COMMENT) and not body.startswith(("#include", "#[")) and generator.random() < 0.7:
            continue
        offset = generator.randrange(0, len(body) - 2)
        if generator.random() < 0.65:
            places = [m.end() for m in re.finditer(r"[.(\[{,=:<>|&+\-*/!]|\s|\b", body) if 0 < m.end() <= len(body) - 3]
            offset = generator.choice(places) if places else 0
        if body[offset:].strip():
            return lines.starts[line] + indent + offset, lines.end(line)
    return None


def case_of(record, text, start, end, **more):
    return {"language": record[0], "package": record[1], "path": record[2], "prefix": text[max(0, start - 3200):start],
            "middle": text[start:end], "suffix": text[end:end + 1300], **more}


def line_cases(records, count):
    """`count` cases a language, spread over packages and files."""
    cases, generator = [], random.Random(7)
    for language in LANGUAGES:
        packages = collections.defaultdict(list)
        for record in records:
            if record[0] == language and len(record[3]) > 600 and not TEST_PATH.search(record[2]):
                packages[record[1]].append(record)
        names = sorted(packages)
        for number in range(count if names else 0):
            record = generator.choice(packages[names[number % len(names)]])
            span = line_cursor(Lines(record[3]), generator)
            if span:
                cases.append(case_of(record, record[3], *span, kind="line"))
    return cases


def member_cases(records, count):
    """Cursors right after a member access whose member exactly one type of another file of the package defines.

    The context holds that type's listing and two others, as the language server would show them."""
    by_package = collections.defaultdict(list)
    for record in records:
        by_package[record[0], record[1]].append(record)
    cases, generator = [], random.Random(11)
    for language in LANGUAGES:
        found = []
        for (its, package), group in sorted(by_package.items()):
            if its != language:
                continue
            listings = [(r[2], d) for r in group for d in signatures.definitions(r[3], language)]
            owners = collections.defaultdict(list)
            for path, definition in listings:
                for name in {m for m, _ in definition.members}:
                    owners[name].append((path, definition))
            for record in group:
                if TEST_PATH.search(record[2]):
                    continue
                lines = Lines(record[3])
                for number in range(len(lines)):
                    content = lines.content(number)
                    if content.strip().startswith(COMMENT) or len(content) > 140:
                        continue
                    for match in ACCESS.finditer(content):
                        places = owners.get(match.group(1), [])
                        if len(places) == 1 and places[0][0] != record[2] and len(content) - match.end() >= 4:
                            found.append((record, lines.starts[number] + match.end(), lines.end(number), places[0], listings, match.group(1)))
        generator.shuffle(found)
        for record, start, end, (path, definition), listings, member in found[:count]:
            noise = [generator.choice(listings) for _ in range(2)]
            chunks = [(p, signatures.render(d, language, generator, {member})) for p, d in [(path, definition)] + noise if p != record[2]]
            generator.shuffle(chunks)
            cases.append(case_of(record, record[3], start, end, kind="member", member=member, chunks=chunks,
                                 repository=corpus.repository_name(record[1])))
    return cases


class Prompts:
    """The product's prompt layout in token ids; every piece is encoded on its own."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids if text else []

    def decode(self, ids):
        return self.tokenizer.decode([i for i in ids if i > FILE], skip_special_tokens=False)

    def build(self, path, prefix, suffix, repository=None, chunks=(), prefix_tokens=768, suffix_tokens=256):
        ids = []
        if chunks:
            ids += [REPOSITORY] + self.encode(repository + "\n")
            for other, text in chunks:
                ids += [FILE] + self.encode(other + "\n") + self.encode(text.rstrip("\n") + "\n")[:400]
        if path:
            ids += [FILE] + self.encode(path + "\n")
        return ids + [PREFIX, SUFFIX] + self.encode(suffix)[:suffix_tokens] + [MIDDLE] + self.encode(prefix)[-prefix_tokens:]


def interval(hits, generator=np.random.default_rng(0)):
    """Percentage with the 95% bootstrap interval over cases."""
    hits = np.asarray(hits, float)
    means = hits[generator.integers(0, len(hits), (1000, len(hits)))].mean(1) if len(hits) else [0]
    return {"n": len(hits), "percent": round(100 * float(hits.mean()), 1) if len(hits) else 0,
            "interval": [round(100 * float(np.quantile(means, q)), 1) for q in (0.025, 0.975)]}


def first_line(text):
    return text.split("\n")[0].strip()


STOPS = {END, PREFIX, MIDDLE, SUFFIX, PAD, REPOSITORY, FILE}


def score_lines(answer, cases):
    """Exact first line, and exact with the model's own stop right there, by language."""
    outcome = collections.defaultdict(lambda: ([], []))
    for case, (text, stopped) in zip(cases, answer):
        line = first_line(text) == case["middle"].strip()
        exact = stopped and text.strip() == case["middle"].strip()
        outcome[case["language"]][0].append(line)
        outcome[case["language"]][1].append(exact)
    table = {language: {"first_line": interval(a), "with_stop": interval(b)} for language, (a, b) in outcome.items()}
    for key, place in (("first_line", 0), ("with_stop", 1)):
        table.setdefault("mean over languages", {})[key] = round(float(np.mean([t[key]["percent"] for l, t in table.items() if l in LANGUAGES])), 1)
    return table


def score_members(without, with_context, cases):
    table = {}
    for language in LANGUAGES + ["all"]:
        chosen = [i for i, c in enumerate(cases) if language in ("all", c["language"])]
        if chosen:
            name = lambda text: (re.match(r"\w+", text) or [""])[0]
            table[language] = {
                f"{what} {label}": interval([test(answers[i][0], cases[i]) for i in chosen])
                for label, answers in (("without", without), ("with", with_context))
                for what, test in (("first_line", lambda t, c: first_line(t) == c["middle"].strip()), ("member", lambda t, c: name(t) == c["member"]))}
    return table


LIMITS = "import resource\nresource.setrlimit(resource.RLIMIT_AS,(2<<30,2<<30));resource.setrlimit(resource.RLIMIT_CPU,(5,5))\n"


def run_programs(programs, workers):
    """True for each program that ends without an error; every one in a process of its own with limits."""
    with tempfile.TemporaryDirectory() as folder:
        def run(job):
            index, program = job
            path = f"{folder}/{index}.py"
            with open(path, "w") as file:
                file.write(LIMITS + program)
            try:
                done = subprocess.run([sys.executable, "-I", "-S", path], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL, timeout=8, env={"PATH": "/usr/bin:/bin"})
            except subprocess.TimeoutExpired:
                return False
            return done.returncode == 0

        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(run, enumerate(programs)))


def humaneval_infilling(generate, prompts, path, workers):
    with gzip.open(path, "rt") as file:
        tasks = [json.loads(line) for line in file]
    suffixes = [t["suffix"] if t["suffix"].startswith("\n") or not t["canonical_solution"].endswith("\n") else "\n" + t["suffix"] for t in tasks]
    answers = generate([prompts.build("solution.py", t["prompt"], s) for t, s in zip(tasks, suffixes)], 64)
    lines = [text.strip("\n").split("\n")[0] for text, _ in answers]
    passed = run_programs([t["prompt"] + l + "\n" + t["suffix"] + "\n" + t["test"] + f"\ncheck({t['entry_point']})\n" for t, l in zip(tasks, lines)], workers)
    return {"exact": interval([l.strip() == t["canonical_solution"].strip() for l, t in zip(lines, tasks)]), "pass": interval(passed)}


def humaneval(generate, prompts, path, workers):
    with gzip.open(path, "rt") as file:
        tasks = [json.loads(line) for line in file]
    programs = []
    answers = generate([prompts.build("solution.py", t["prompt"], "") for t in tasks], 320)
    for task, (text, _) in zip(tasks, answers):
        cut = re.search(r"\n(?=[^\s])", text)
        programs.append(task["prompt"] + (text[:cut.start()] if cut else text) + "\n" + task["test"] + f"\ncheck({task['entry_point']})\n")
    return {"pass": interval(run_programs(programs, workers))}


def score(arguments):
    import torch
    import gguf_file
    import model as network
    from samples import load_tokenizer
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with open(arguments.cases) as file:
        cases = json.load(file)
    lines, members = [c for c in cases if c["kind"] == "line"], [c for c in cases if c["kind"] == "member"]
    if arguments.limit:
        lines, members = lines[::max(1, len(lines) // arguments.limit)], members[::max(1, len(members) // arguments.limit)]
    results = {}
    for path in arguments.models:
        model, metadata = gguf_file.load_model(path)
        model = model.to(device).eval()
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
            file.write(gguf_file.tokenizer_json(metadata))
            file.flush()
            prompts = Prompts(load_tokenizer(file.name))

        def generate(encoded, tokens):
            return [(prompts.decode(ids), stopped) for ids, stopped in network.generate(model, encoded, tokens, STOPS, device)]

        result = {"lines": score_lines(generate([prompts.build(c["path"], c["prefix"], c["suffix"]) for c in lines], 48), lines)}
        plain = generate([prompts.build(c["path"], c["prefix"], c["suffix"]) for c in members], 40)
        shown = generate([prompts.build(c["path"], c["prefix"], c["suffix"], c["repository"], c["chunks"]) for c in members], 40)
        result["members"] = score_members(plain, shown, members)
        if arguments.humaneval_infilling:
            result["humaneval_infilling_single_line"] = humaneval_infilling(generate, prompts, arguments.humaneval_infilling, arguments.workers)
        if arguments.humaneval:
            result["humaneval"] = humaneval(generate, prompts, arguments.humaneval, arguments.workers)
        if arguments.rows:
            from train import held_out_loss
            result["held_out_loss"] = held_out_loss(model, arguments.rows, device, most=96)
        results[os.path.basename(path)] = result
        print(os.path.basename(path), json.dumps(result), flush=True)
        with open(arguments.output, "w") as file:
            json.dump(results, file, indent=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    cases = commands.add_parser("cases")
    cases.add_argument("--shards", required=True)
    cases.add_argument("--output", required=True)
    cases.add_argument("--per-language", type=int, default=500)
    scores = commands.add_parser("score")
    scores.add_argument("models", nargs="+")
    scores.add_argument("--cases", required=True)
    scores.add_argument("--output", required=True)
    scores.add_argument("--rows", help="held.npz of a training run: adds the held-out loss")
    scores.add_argument("--humaneval-infilling", help="HumanEval-SingleLineInfilling.jsonl.gz")
    scores.add_argument("--humaneval", help="HumanEval.jsonl.gz")
    scores.add_argument("--workers", type=int, default=os.cpu_count() or 2)
    scores.add_argument("--limit", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.command == "cases":
        records = held_out_records(arguments.shards)
        found = line_cases(records, arguments.per_language) + member_cases(records, arguments.per_language)
        with open(arguments.output, "w") as file:
            json.dump(found, file)
        print(collections.Counter((c["kind"], c["language"]) for c in found))
    else:
        score(arguments)


if __name__ == "__main__":
    main()
