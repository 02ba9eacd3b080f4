#!/usr/bin/env python3
"""Where names of real Python packages lead: the index beside Jedi (PyPI `jedi`).

usage: index_jedi.py LOCATE DIR PACKAGE... [--names N]

LOCATE is the built example of the indexer (`cargo build --release -p lacuna-indexer --example locate`). DIR has
the packages as its subdirectories. Names are drawn from all loads of a bare name, and of an attribute of a bare name, that
Jedi resolves to a definition of a module or class inside DIR. Parameters, local variables and attributes of instances
are not asked: the index resolves names, it does not infer types.
"""

import argparse
import ast
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jedi


def names(tree):
    """(line, column of the name, question) of each use."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.lineno, node.col_offset, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and isinstance(node.value, ast.Name):
            column = node.end_col_offset - len(node.attr)
            yield node.end_lineno, column, f"{node.value.id}.{node.attr}"


def is_global(definition):
    if definition.type in ("param", "module"):
        return False
    parent = definition.parent()
    return parent is not None and parent.type in ("module", "class")


def receiver_is_static(script, line, column, question):
    """Whether the qualifier is a module or class, not an instance."""
    qualifier = question.split(".")[0]
    found = script.goto(line, column - len(qualifier) - 1, follow_imports=True)
    return bool(found) and all(name.type in ("module", "class") for name in found)


def ask_jedi(root, package, wanted, seed):
    project = jedi.Project(root, added_sys_path=[str(root)], smart_sys_path=False)
    uses = []
    for path in sorted((root / package).rglob("*.py")):
        try:
            text = path.read_text()
            uses += [(path, *use) for use in names(ast.parse(text))]
        except (SyntaxError, UnicodeDecodeError):
            continue
    random.Random(seed).shuffle(uses)
    scripts = {}
    for path, line, column, question in uses:
        if wanted == 0:
            return
        script = scripts.setdefault(path, jedi.Script(path=path, project=project))
        try:
            found = script.goto(line, column, follow_imports=True)
            if "." in question and not receiver_is_static(script, line, column, question):
                continue
            places = {
                f"{name.module_path.relative_to(root)}:{name.line}"
                for name in found
                if name.module_path and name.module_path.is_relative_to(root) and is_global(name)
            }
        except Exception as error:  # Jedi's own failures are not the index's.
            print(f"jedi failed at {path}:{line}: {error!r}", file=sys.stderr)
            continue
        if places:
            wanted -= 1
            yield path.relative_to(root), line, question, places


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("locate", type=Path)
    parser.add_argument("directory", type=Path)
    parser.add_argument("packages", nargs="+")
    parser.add_argument("--names", type=int, default=200, help="names of each package")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="print each difference")
    arguments = parser.parse_args()
    root = arguments.directory.resolve()
    total = Counter()
    print("| package | names | same place | elsewhere | not found |\n|---|---|---|---|---|")
    for package in arguments.packages:
        cases = list(ask_jedi(root, package, arguments.names, arguments.seed))
        questions = "".join(f"{path}\t{question}\n" for path, _, question, _ in cases)
        run = subprocess.run([arguments.locate.resolve(), root], input=questions, capture_output=True, text=True, check=True)
        tally = Counter()
        for (path, line, question, places), answer in zip(cases, run.stdout.splitlines()):
            outcome = "same" if answer in places else "none" if not answer else "other"
            tally[outcome] += 1
            if arguments.show and outcome != "same":
                print(f"{path}:{line}: {question}: jedi {sorted(places)}, index {answer or 'nothing'}", file=sys.stderr)
        total += tally
        print(row(package, tally))
    print(row("all", total))


def row(name, tally):
    count = max(sum(tally.values()), 1)
    parts = [f"{tally[key]} ({100 * tally[key] / count:.1f}%)" for key in ("same", "other", "none")]
    return f"| {name} | {sum(tally.values())} | " + " | ".join(parts) + " |"


if __name__ == "__main__":
    main()
