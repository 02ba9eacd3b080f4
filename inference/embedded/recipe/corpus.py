"""Loads the corpus where training runs: packed shards plus the permissively licensed Python packages installed there."""
import collections
import glob
import importlib.metadata
import json
import os
import pickle
import re
import sysconfig
from multiprocessing import get_context

import pyarrow

import signatures
from filters import TEST_PATH, BenchmarkText, NearDuplicates, clean, line_hashes
from licences import header_refuses, spdx_allows, wheel_licence

INSTALLED_CAP = 9_000_000  # characters of one installed package, so that no single project dominates
BENCHMARK = BenchmarkText()


def read_shard(path):
    """Rows of one zstd-compressed shard: [language, package, path, text]."""
    with pyarrow.input_stream(path, compression="zstd") as stream:
        return [json.loads(line) for line in stream.read().decode("utf-8").split("\n") if line]


def read_installed(batch):
    kept = []
    for package, relative, path in batch:
        try:
            with open(path, "rb") as file:
                raw = file.read(100_001)
        except OSError:
            continue
        if header_refuses(raw[:4000].decode("utf-8", "replace")):
            continue
        text = clean(relative, raw)
        if text is not None and not BENCHMARK.found_in(text):
            kept.append((["python", package, relative, text], line_hashes(text)))
    return kept


def installed_files():
    """(package, relative path, path) of Python files beside torch, with a manifest row for each package."""
    files, rows = [], []
    standard = sysconfig.get_paths()["stdlib"]
    for folder, folders, names in os.walk(standard):
        folders[:] = sorted(f for f in folders if f not in ("site-packages", "dist-packages", "test", "tests", "__pycache__",
                                                            "lib2to3", "ensurepip", "idlelib", "pydoc_data", "lib-dynload"))
        files += [("cpython", "Lib/" + os.path.relpath(os.path.join(folder, n), standard), os.path.join(folder, n))
                  for n in sorted(names) if n.endswith(".py")]
    rows.append({"ecosystem": "installed", "name": "cpython", "version": sysconfig.get_python_version(), "licence": "PSF-2.0"})
    seen = set()
    for distribution in importlib.metadata.distributions():
        name = (distribution.metadata["Name"] or "").strip()
        if not name or name.lower() in seen:
            continue
        seen.add(name.lower())
        licence = wheel_licence(str(distribution.read_text("METADATA") or "").split("\n\n", 1)[0])
        row = {"ecosystem": "installed", "name": name, "version": distribution.version, "licence": licence[:100]}
        if name.lower().startswith("nvidia") or "human" in name.lower() or not spdx_allows(licence):
            rows.append({**row, "refused": "licence"})
            continue
        rows.append(row)
        for index, file in enumerate(distribution.files or []):
            relative = str(file)
            if relative.endswith(".py") and not relative.startswith("..") and not (TEST_PATH.search(relative) and index % 5 > 1):
                files.append((name, relative, str(distribution.locate_file(file))))
    return files, rows


def definitions_of(batch):
    return [(index, [(d.name, d.signature, d.doc, d.members) for d in signatures.definitions(text, language)])
            for index, language, text in batch]


def load(shards, held_out, processes, cache, benchmark_data=None, installed=True, log=print):
    """(records, definitions): records are [language, package, path, text]; cached so that a resumed run starts at once."""
    if os.path.exists(cache):
        with open(cache, "rb") as file:
            return pickle.load(file)
    global BENCHMARK
    BENCHMARK = BenchmarkText(benchmark_data)
    records, rows, duplicates = [], [], NearDuplicates()
    with get_context("fork").Pool(processes) as pool:
        packed = [pool.apply_async(read_shard, (path,)) for path in sorted(glob.glob(shards))]
        files, rows = installed_files() if installed else ([], [])
        # Every job at once, results in order: near-duplicates are judged against what came before.
        batches = [files[i:i + 100] for i in range(0, len(files), 100)]
        pending = pool.imap(read_installed, batches)
        for result in packed:
            records += result.get()
        packed_count = len(records)
        for hashes in pool.imap(line_hashes, [r[3] for r in records if r[0] == "python"], chunksize=200):
            duplicates.seen[hashes & duplicates.mask] = True
        size, kept = collections.Counter(), collections.Counter()
        for result in pending:
            for record, hashes in result:
                if record[1] in held_out or size[record[1]] > INSTALLED_CAP or duplicates.is_duplicate(record[3], hashes):
                    continue
                size[record[1]] += len(record[3])
                kept[record[1]] += 1
                records.append(record)
        for row in rows:
            row["files"], row["bytes"] = kept[row["name"]], size[row["name"]]
        log(f"{packed_count} packed files, {len(records) - packed_count} installed files")
        items = [(i, r[0], r[3]) for i, r in enumerate(records)]
        definitions = [None] * len(records)
        for result in pool.imap_unordered(definitions_of, [items[i:i + 150] for i in range(0, len(items), 150)]):
            for index, found in result:
                definitions[index] = found
    answer = records, definitions, rows
    # Only a resumed run reads it: a forked process writes it beside the training.
    get_context("fork").Process(target=write_cache, args=(cache, answer)).start()
    return answer


def write_cache(path, answer):
    with open(path + ".tmp", "wb") as file:
        pickle.dump(answer, file, protocol=4)
    os.replace(path + ".tmp", path)


def repository_name(package):
    """What a checkout of the package would be called; the prompt names the workspace folder."""
    name = re.sub(r"^golang-(?:github-|golang-|google-|gopkg-|k8s-)?", "", package.split("/")[-1])
    name = re.sub(r"-dev$|-java$", "", name) if package.startswith(("golang-", "lib")) else name
    return name.split("-")[-1] if package.startswith("golang-github-") else name
