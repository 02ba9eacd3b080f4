"""Fetched packages to compressed corpus shards and the corpus manifest: licence, filters, near-duplicates, caps."""
import argparse
import collections
import glob
import hashlib
import json
import multiprocessing
import os
import random
import re
import subprocess
import tomllib

import sources
from filters import LANGUAGES, TEST_PATH, BenchmarkText, NearDuplicates, clean, language_of, line_hashes
from licences import debian_allows, header_refuses, spdx_allows

HERE = os.path.dirname(os.path.abspath(__file__))
benchmark = BenchmarkText()


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def open_package(job):
    kind, path = job
    return {"pypi": sources.read_wheel, "npm": sources.read_npm, "crates": sources.read_crate,
            "deb": sources.read_deb, "dsc": sources.read_debian_source}[kind](path)


def read_package(job):
    """Reads and filters one package. Returns (manifest row, [(language, path, text, hashes)])."""
    try:
        package = open_package(job)
    except Exception as error:  # a damaged archive costs that package, not the run
        return {"archive": os.path.basename(job[1]), "refused": f"unreadable: {error!r}"[:200]}, []
    row = {"ecosystem": package.ecosystem, "name": package.name, "version": package.version, "licence": package.licence,
           "sha256": getattr(package, "sha256", None) or sha256(package.archive)}
    allowed = debian_allows if package.ecosystem.startswith("debian") else spdx_allows
    if not allowed(package.licence):
        return {**row, "refused": "licence"}, []
    kept, refused = [], collections.Counter()
    try:
        for path, raw in package.files():
            language = language_of(path)
            if not package.allowed(path):
                refused["licence"] += 1
                continue
            if header_refuses(raw[:4000].decode("utf-8", "replace")):
                refused["header"] += 1
                continue
            text = clean(path, raw)
            if text is None or benchmark.found_in(text):
                refused["filter"] += 1
                continue
            kept.append((language, path, text, line_hashes(text)))
    except Exception as error:
        return {**row, "refused": f"unreadable: {error!r}"[:200]}, []
    return {**row, "refused_files": dict(refused)}, kept


def read_in_order(pool, jobs, wanted, ahead):
    """Packages in the order of `jobs`, at most `ahead` in flight, skipping those no longer wanted when they come up."""
    pending = collections.deque()
    for job in jobs:
        if wanted(job):
            pending.append(pool.apply_async(read_package, (job,)))
        if len(pending) >= ahead:
            yield pending.popleft().get()
    while pending:
        yield pending.popleft().get()


def package_name(path):
    """The package's name as its archive spells it, comparable after `plain`."""
    name = os.path.basename(path)
    return name.split("_")[0] if name.endswith((".deb", ".dsc")) else re.split(r"-(?=v?\d+\.)", name)[0]


def plain(name):
    return re.sub(r"[-_./@]+", "-", name.lower()).strip("-")


def write_shard(path, records, level):
    """One JSON row a line, through the zstd command: its long window finds what files of one package share."""
    command = subprocess.Popen(["zstd", "-q", f"-{level}", "--long=27", "-f", "-o", path], stdin=subprocess.PIPE)
    for record in records:
        command.stdin.write((json.dumps(record, ensure_ascii=False) + "\n").encode())
    command.stdin.close()
    if command.wait() != 0:
        raise RuntimeError(f"zstd could not write {path}")
    print(f"{path}: {len(records)} files, {os.path.getsize(path) / 2**20:.1f} MiB", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fetched", required=True, help="folder that fetch.py filled")
    parser.add_argument("--output", required=True, help="folder for shard-N.jsonl.zst and manifest.jsonl")
    parser.add_argument("--benchmark-data", help="folder with the evaluation files whose text must not be learnt")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--seen", help="manifest of what a model learnt from before: those packages fill what room the others leave")
    parser.add_argument("--compression", type=int, default=3, help="level of zstd; 17 makes the shards a fifth smaller, slowly")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    global benchmark
    benchmark = BenchmarkText(arguments.benchmark_data)
    with open(os.path.join(HERE, "sources.toml"), "rb") as file:
        settings = tomllib.load(file)
    held_out = set(settings["held_out"])
    os.makedirs(arguments.output, exist_ok=True)

    root = arguments.fetched
    jobs = [("pypi", p) for p in sorted(glob.glob(f"{root}/pip/*.whl"))]
    jobs += [("npm", p) for p in sorted(glob.glob(f"{root}/npm/*.tgz"))]
    seen = set()
    for path in sorted(glob.glob(f"{root}/crates/*/vendor/*")):
        name = os.path.basename(path)
        if name not in seen and not any(name.startswith(s) for s in settings["caps"]["skipped_crates"]):
            seen.add(name)
            jobs.append(("crates", path))
    jobs += [("deb", p) for p in sorted(glob.glob(f"{root}/deb/*.deb"))]
    jobs += [("dsc", p) for p in sorted(glob.glob(f"{root}/dsc/*.dsc"))]
    random.Random(0).shuffle(jobs)
    # Held-out packages go first: copies of their files inside other packages then count as near-duplicates.
    held_names, seen_names = {plain(name) for name in held_out}, set()
    if arguments.seen:
        with open(arguments.seen, encoding="utf-8") as file:
            seen_names = {plain(row["name"]) for row in map(json.loads, file) if "name" in row}
    rank = lambda name: 0 if name in held_names else 2 if name in seen_names else 1
    jobs.sort(key=lambda job: rank(plain(package_name(job[1]))))

    duplicates, generator = NearDuplicates(), random.Random(1)
    manifest, by_language, dropped = [], collections.defaultdict(list), collections.Counter()
    package_cap, test_share = settings["caps"]["package_megabytes"] * 1e6, settings["caps"]["test_file_share"]
    budget = {k: v * 1e6 * 1.15 for k, v in settings["caps"]["language_megabytes"].items()}
    usual = {"pypi": ("python",), "npm": ("typescript", "javascript"), "crates": ("rust",)}
    size = collections.Counter()

    def wanted(job):
        """A package is read while any of the languages that it is fetched for is below its budget."""
        languages = usual.get(job[0]) or (settings["debian"]["languages"].get(os.path.basename(job[1]).split("_")[0], "go"),)
        return any(size[language] < budget[language] for language in languages)

    with multiprocessing.get_context("fork").Pool(arguments.processes) as pool:
        for index, (row, files) in enumerate(read_in_order(pool, jobs, wanted, 2 * arguments.processes)):
            manifest.append(row)
            total = 0
            generator.shuffle(files)
            for language, path, text, hashes in files:
                held = row["name"] in held_out
                if not held and size[language] > budget[language]:
                    continue
                if not held and TEST_PATH.search(path) and generator.random() > test_share:
                    continue
                if total + len(text) > package_cap:
                    dropped["package cap"] += 1
                    continue
                if duplicates.is_duplicate(text, hashes):
                    dropped["near-duplicate"] += 1
                    continue
                total += len(text)
                size[language] += len(text)
                by_language[language].append([language, row["name"], path, text])
            row["files"], row["bytes"] = 0, 0
            if index % 100 == 0:
                print(f"{index}/{len(jobs)} packages", {k: round(v / 1e6) for k, v in size.items()}, flush=True)

    records, summary = [], {}
    rows = {row.get("name"): row for row in manifest if "refused" not in row}
    for language in LANGUAGES:
        files = by_language[language]
        share = min(1.0, settings["caps"]["language_megabytes"][language] * 1e6 / max(1, size[language]))
        files = [record for record in files if record[1] in held_out or generator.random() < share]
        for record in files:
            rows[record[1]]["files"] += 1
            rows[record[1]]["bytes"] += len(record[3].encode())
        summary[language] = {"files": len(files), "megabytes": round(sum(len(r[3]) for r in files) / 1e6, 1),
                             "before_cap": round(size[language] / 1e6, 1), "packages": len({r[1] for r in files})}
        records += files
    print(json.dumps(summary, indent=1), dict(dropped), flush=True)
    with open(f"{arguments.output}/manifest.jsonl", "w", encoding="utf-8") as file:
        for row in manifest:
            if "refused" in row or row["files"]:
                file.write(json.dumps(row) + "\n")
    with open(f"{arguments.output}/summary.json", "w") as file:
        json.dump({"languages": summary, "dropped": dict(dropped)}, file, indent=1)

    # Contiguous by package compresses better; a shard still mixes languages because packages are dealt round-robin.
    by_package = collections.defaultdict(list)
    for record in sorted(records, key=lambda r: (r[0], r[1], r[2])):
        by_package[record[0], record[1]].append(record)
    shards = [[] for _ in range(arguments.shards)]
    sizes = [0] * arguments.shards
    for (_, name), group in sorted(by_package.items(), key=lambda item: -sum(len(r[3]) for r in item[1])):
        target = 0 if name in held_out else min(range(arguments.shards), key=sizes.__getitem__)
        shards[target] += group
        sizes[target] += sum(len(r[3]) for r in group)
    for shard in shards:
        shard.sort(key=lambda r: (r[0], r[1], r[2]))
    for number, shard in enumerate(shards):
        write_shard(f"{arguments.output}/shard-{number}.jsonl.zst", shard, arguments.compression)


if __name__ == "__main__":
    main()
