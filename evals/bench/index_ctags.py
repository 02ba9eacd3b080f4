#!/usr/bin/env python3
"""The index beside Universal Ctags on one tree: time, and which definitions that ctags names the index has too.

usage: index_ctags.py LOCATE MEASURE DIR [--ctags ctags] [--names N]

LOCATE and MEASURE are the built examples of the indexer (`cargo build --release -p lacuna-indexer --examples`).
Ctags reads names only and its tags are not checked against anything: a difference may be its mistake.
"""

import argparse
import json
import os
import random
import subprocess
import time
from collections import Counter, defaultdict
from pathlib import Path

LANGUAGES = "Python,Rust,TypeScript,JavaScript,Java,C,C++,Go,C#,Ruby,PHP,Kotlin,Lua,Sh"
# What is no definition that others can name.
LEFT_OUT = {"local", "parameter", "anonymous", "unknown", "namespace", "module", "package", "import", "header",
            "label", "implementation", "constant", "macro", "property", "alias", "variable", "member", "field",
            "enumerator", "externvar", "using"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("locate", type=Path)
    parser.add_argument("measure", type=Path)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--ctags", default="ctags")
    parser.add_argument("--names", type=int, default=3000)
    parser.add_argument("--show", type=int, default=0, help="print so many of the differences")
    arguments = parser.parse_args()
    root = arguments.directory.resolve()
    print("load before:", *os.getloadavg())
    started = time.monotonic()
    options = [f"--languages={LANGUAGES}", "-R", "--fields=+KnlzS", "--output-format=json", "-f", "-"]
    # Files that the index leaves out for their size do not count.
    large = [f"--exclude={path.relative_to(root)}" for path in root.rglob("*") if path.is_file() and path.stat().st_size > 1 << 20]
    run = subprocess.run([arguments.ctags, *options, *large, "."], cwd=root, capture_output=True, text=True, check=True)
    print(f"ctags: {time.monotonic() - started:.2f} s on one core, {run.stdout.count(chr(10))} tags")
    print(subprocess.run([arguments.measure.resolve(), root], capture_output=True, text=True, check=True).stdout, end="")
    print("load after:", *os.getloadavg())

    tags = []
    for line in run.stdout.splitlines():
        tag = json.loads(line)
        kind = tag.get("kind", "")
        # Inside functions nothing is indexed.
        nested = tag.get("scopeKind", "") in ("function", "method", "member")
        if tag.get("_type") == "tag" and kind not in LEFT_OUT and not nested and not tag["name"].startswith(("__anon", "AnonymousFunction")):
            tags.append((tag["language"], kind, tag["name"], f"{os.path.normpath(tag['path'])}:{tag['line']}"))
    random.Random(1).shuffle(tags)
    by_language = defaultdict(list)
    for tag in tags:
        if len(by_language[tag[0]]) < arguments.names:
            by_language[tag[0]].append(tag)
    print("| language | ctags' definitions | in the index, same line |\n|---|---|---|")
    shown = 0
    for language, tags in sorted(by_language.items()):
        questions = "".join(f"\t{name}\n" for _, _, name, _ in tags)
        run = subprocess.run([arguments.locate.resolve(), root], input=questions, capture_output=True, text=True, check=True)
        missing = Counter()
        for (_, kind, name, place), answer in zip(tags, run.stdout.splitlines()):
            if place not in answer.split():
                missing[kind] += 1
                if shown < arguments.show:
                    shown += 1
                    print(f"  missing: {kind} {name} {place}")
        found = len(tags) - sum(missing.values())
        print(f"| {language} | {len(tags)} | {found} ({100 * found / len(tags):.1f}%); missing {dict(missing)} |")


if __name__ == "__main__":
    main()
