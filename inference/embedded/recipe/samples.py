"""Training rows: fill-in-the-middle samples in the product's prompt layout, packed into fixed-length rows.

As a program it is the data service beside train.py: it writes part-N.npz while the trainer's `cursor` file advances.
Layout (SPM; every piece is encoded on its own, as the engine does):
  <|repo_name|>REPO\\n <|file_sep|>OTHER\\nSNIPPET\\n ... <|file_sep|>PATH\\n <|fim_prefix|><|fim_suffix|>SUFFIX<|fim_middle|>PREFIX MIDDLE <|endoftext|>
"""
import argparse
import bisect
import collections
import json
import os
import random
import sys
import time
import tomllib
from multiprocessing import get_context

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import numpy as np

import corpus
import cross_file
import spans
from contexts import Contexts
from filters import END, FILE, LANGUAGES, MIDDLE, PAD, PREFIX, REPOSITORY, SUFFIX

HERE = os.path.dirname(os.path.abspath(__file__))
SHARES = {"python": 0.33, "rust": 0.09, "typescript": 0.14, "javascript": 0.11, "go": 0.09, "java": 0.10, "cpp": 0.14}
# Files whose functions are shown by doctests are drawn this often: documented functions of few lines are what is asked for most.
DOCTEST_DRAWS = 2
# Loss weights by the part of a sample, in sixteenths. Middles are one token in fifty, and all that a user sees.
WEIGHT = {"context": 3, "suffix": 8, "text": 16, "middle": 80, "end": 128}
# Share of the samples whose cursor stands at a name of another file, and how many of those have words renamed.
CROSS_FILE, RENAMED = 0.6, 0.3
# Where their context comes from, for cursors at such a name and for others: the language server's own index, within one of
# these budgets in tokens; listings made here, which show that name nearly always; the rest has none.
INDEXED, LISTED = {"site": 0.7, "other": 0.45}, {"site": 0.15, "other": 0.1}
BUDGETS = (256, 512, 512, 512, 768)
STATE = {}


def load_tokenizer(path):
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def prompt_pieces(repository, chunks, path):
    """The part of a prompt before the file's own text: special ids and strings, with their loss weight."""
    pieces = []
    if chunks:
        pieces += [(REPOSITORY, "context"), (repository + "\n", "context")]
        for other, text in chunks:
            pieces += [(FILE, "context"), (other + "\n", "context"), (text.rstrip("\n") + "\n", "context")]
    if path:
        pieces += [(FILE, "context"), (path + "\n", "context")]
    return pieces


def cut_suffix(suffix, generator):
    """What of the text behind the middle is shown: none, up to some line's end, up to anywhere, or all."""
    draw = generator.random()
    if draw < 0.08:
        return ""
    if draw < 0.9:
        cut = int(generator.expovariate(1 / 550))
        if draw < 0.55:
            cut = suffix.find("\n", cut) if suffix.find("\n", cut) > 0 else cut
        return suffix[:cut]
    return suffix[:2000]


class Cursor:
    """One sample before its context is chosen. Offsets are characters of the file."""

    __slots__ = ("file", "start", "stop", "prefix", "middle", "suffix", "header", "site", "budget", "chunks")

    def __init__(self, file, start, stop, prefix, middle, suffix, header, site, budget):
        self.file, self.start, self.stop, self.prefix, self.middle, self.suffix = file, start, stop, prefix, middle, suffix
        self.header, self.site, self.budget, self.chunks = header, site, budget, []


def draw(file, position, generator):
    """(cursor or pieces, next position): one sample from `position` of a file on; pieces where it has no cursor."""
    project = STATE["project"]
    record = project.records[file]
    text, path = record[3], record[2]
    header = path if generator.random() < 0.9 else ""
    length = int(generator.triangular(250, 5000, 700))
    end = text.find("\n", min(len(text) - 1, position + length)) + 1 or len(text)
    region = text[position:end]
    if generator.random() < 0.04 or len(region) < 80:
        pieces = prompt_pieces("", [], header) + [(region, "text"), (END if end == len(text) else PAD, "text")]
        return pieces, end
    site = cross_file.choose_site(project, file, region, generator) if generator.random() < CROSS_FILE else None
    start, stop = site[:2] if site else spans.choose_span(spans.Lines(region), generator)
    if stop - start > 1500:
        stop = max(start + 1, region.rfind("\n", start, start + 1500))
    after = text.find("\n", position + stop) + 1
    prefix, middle, suffix = region[:start], region[start:stop], cut_suffix(text[position + stop:position + stop + 6000], generator)
    kind, way = "site" if site else "other", generator.random()
    is_asked = way < INDEXED[kind]
    cursor = Cursor(file, position + start, position + stop, prefix, middle, suffix, header, site, generator.choice(BUDGETS) if is_asked else 0)
    if not is_asked and way < INDEXED[kind] + LISTED[kind]:
        cursor.chunks = cross_file.chunks(project, file, prefix[-700:] + suffix[:250], middle, site and site[3], generator)
    return cursor, after if after > position else end


def pieces_of(cursor, generator):
    """The pieces of a sample, words of it renamed now and then."""
    project, site, chunks = STATE["project"], cursor.site, cursor.chunks
    prefix, middle, suffix, header = cursor.prefix, cursor.middle, cursor.suffix, cursor.header
    # A name that nothing shows cannot be known, whatever it is called.
    is_shown = site and any(site[2] in text for text in [prefix, suffix] + [text for _, text in chunks])
    if is_shown and generator.random() < RENAMED:
        others = [member for member, _ in project.definitions[site[3][0]][site[3][1]][3]]
        rename = cross_file.renaming(project, site[2], others, [prefix, middle, suffix] + [t for _, t in chunks], generator)
        if rename:
            prefix, middle, suffix, header = rename(prefix), rename(middle), rename(suffix), rename(header)
            chunks = [(rename(other), rename(t)) for other, t in chunks]
    pieces = prompt_pieces(corpus.repository_name(project.records[cursor.file][1]), chunks, header)
    return pieces + [(PREFIX, "context"), (SUFFIX, "context"), (suffix, "suffix"), (MIDDLE, "context"), (prefix, "text"),
                     (middle, "middle"), (END, "end")]


def encode_samples(samples, capacity):
    """Samples to (ids, weights); one that is too long loses context first, then the start of its prefix."""
    encoder = STATE["tokenizer"]
    strings = [piece for pieces in samples for piece, _ in pieces if isinstance(piece, str) and piece]
    encoded = iter(encoder.encode_batch_fast(strings, add_special_tokens=False))
    documents = []
    for pieces in samples:
        parts = []
        for piece, kind in pieces:
            if isinstance(piece, str):
                parts.append((next(encoded).ids if piece else [], kind))
            else:
                parts.append(([piece], kind))
        over = sum(len(ids) for ids, _ in parts) - capacity
        for index, (ids, kind) in enumerate(parts):
            if over <= 0:
                break
            if kind == "context" and len(ids) > 40 or kind == "text" and len(ids) > 40:
                cut = min(over, len(ids) - 32)
                parts[index] = (ids[cut:], kind)
                over -= cut
        if over > 0:
            continue
        documents.append((np.concatenate([np.asarray(ids, np.uint16) for ids, _ in parts if ids]),
                          np.concatenate([np.full(len(ids), WEIGHT[kind], np.uint8) for ids, kind in parts if ids])))
    return documents


def pack(documents, capacity, generator):
    """First-fit decreasing into rows: ids, weights and the number of the document within the row (0 is padding)."""
    documents = sorted((d for d in documents if len(d[0]) > 12), key=lambda d: len(d[0]), reverse=True)
    rows, space, keys = [], collections.defaultdict(list), []
    for document in documents:
        length = len(document[0])
        at = bisect.bisect_left(keys, length)
        if at < len(keys):
            room = keys[at]
            row = space[room].pop()
            if not space[room]:
                keys.pop(at)
        else:
            row, room = len(rows), capacity
            rows.append([])
        rows[row].append(document)
        left = room - length
        if left > 12:
            if not space[left]:
                bisect.insort(keys, left)
            space[left].append(row)
    ids = np.full((len(rows), capacity), PAD, np.uint16)
    weights, numbers = np.zeros((len(rows), capacity), np.uint8), np.zeros((len(rows), capacity), np.uint8)
    for index, row in enumerate(rows):
        generator.shuffle(row)
        at = 0
        for number, (tokens, weight) in enumerate(row, 1):
            ids[index, at:at + len(tokens)] = tokens
            weights[index, at + 1:at + len(tokens)] = weight[1:]  # the first token of a document has nothing to be told from
            numbers[index, at:at + len(tokens)] = min(number, 255)
            at += len(tokens)
    return ids, weights, numbers


def build_rows(job):
    """Rows of some packages' files: `job` is ({package: files}, capacity, seed)."""
    packages, capacity, seed = job
    generator = random.Random(seed)
    documents, samples = [], []
    for package, files in packages.items():
        drawn = []
        for file in files:
            position, size = 0, len(STATE["project"].records[file][3])
            while position < size - 20:
                found, position = draw(file, position, generator)
                drawn.append(found)
        STATE["contexts"].choose(package, [found for found in drawn if isinstance(found, Cursor) and found.budget])
        samples += [pieces_of(found, generator) if isinstance(found, Cursor) else found for found in drawn]
        while len(samples) >= 256:
            documents += encode_samples(samples[:256], capacity)
            samples = samples[256:]
    documents += encode_samples(samples, capacity)
    return pack(documents, capacity, generator)


def shared_out(files, count):
    """Files as `count` jobs of whole packages, about as large as each other."""
    records, packages = STATE["project"].records, collections.defaultdict(list)
    for file in files:
        packages[records[file][1]].append(file)
    jobs, sizes = [{} for _ in range(count)], [0] * count
    size_of = lambda files: sum(len(records[f][3]) for f in files)
    for package, files in sorted(packages.items(), key=lambda item: -size_of(item[1])):
        least = min(range(count), key=sizes.__getitem__)
        jobs[least][package] = files
        sizes[least] += size_of(files)
    return [job for job in jobs if job]


class Stream:
    """Endless shuffled files of one language; a resumed run continues where the order of its seed left off."""

    def __init__(self, files, seed):
        self.files, self.seed, self.epoch, self.queue = files, seed, 0, []

    def take(self, characters, size_of):
        taken = []
        while characters > 0 and self.files:
            if not self.queue:
                self.queue = self.files[:]
                random.Random(self.seed + self.epoch).shuffle(self.queue)
                self.epoch += 1
            taken.append(self.queue.pop())
            characters -= size_of(taken[-1])
        return taken


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, help="folder shared with train.py")
    parser.add_argument("--shards", required=True, help="glob of the packed shards")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--benchmark-data")
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--processes", type=int, default=15)
    parser.add_argument("--part-megabytes", type=float, default=60)
    parser.add_argument("--ahead", type=int, default=4, help="parts to stay ahead of the trainer")
    parser.add_argument("--start-part", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0, help="another one for each round over the same source: other cursors, another order")
    parser.add_argument("--no-installed", action="store_true")
    parser.add_argument("--contexts", required=True, help="program: the indexer's example `contexts`")
    parser.add_argument("--trees", required=True, help="folder in which the corpus is laid out as files")
    parser.add_argument("--limit-files", type=int, default=0)
    arguments = parser.parse_args()
    began, parent = time.time(), os.getppid()
    log = lambda *words: print(f"[data {time.time() - began:6.1f}s]", *words, flush=True)
    with open(os.path.join(HERE, "sources.toml"), "rb") as file:
        held_out = set(tomllib.load(file)["held_out"])
    records, definitions, installed = corpus.load(arguments.shards, held_out, arguments.processes, f"{arguments.work}/corpus.pkl",
                                                  arguments.benchmark_data, not arguments.no_installed, log)
    with open(f"{arguments.work}/installed.jsonl", "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in installed)
    STATE.update(tokenizer=load_tokenizer(arguments.tokenizer), project=cross_file.Project(records, definitions),
                 contexts=Contexts(arguments.contexts, arguments.trees, records))
    by_language = collections.defaultdict(list)
    for index, record in enumerate(records):
        if record[1] not in held_out:
            by_language[record[0]] += [index] * (DOCTEST_DRAWS if record[0] == "python" and "    >>> " in record[3] else 1)
    if arguments.limit_files:
        by_language = {k: v[:arguments.limit_files] for k, v in by_language.items()}
    log({k: (len(v), round(sum(len(records[i][3]) for i in v) / 1e6, 1)) for k, v in by_language.items()}, "files and megabytes for training")
    streams = {language: Stream(files, 1000 + 100 * LANGUAGES.index(language) + 10_000 * arguments.seed) for language, files in by_language.items()}
    held = [index for index, record in enumerate(records) if record[1] in held_out]
    if not held:
        sys.exit("no held-out package of sources.toml is in these shards: give all of them, or one more that has some")
    random.Random(5).shuffle(held)
    part = 0
    with get_context("fork").Pool(arguments.processes) as pool:
        if not os.path.exists(f"{arguments.work}/held.npz"):
            built = pool.map(build_rows, [(job, arguments.context + 1, 77 + i) for i, job in enumerate(shared_out(held[:300], 8))], chunksize=1)
            order = np.random.default_rng(77).permutation(sum(len(b[0]) for b in built))
            rows = [np.concatenate([b[k] for b in built])[order] for k in range(3)]
            np.savez(f"{arguments.work}/held.npz", ids=rows[0], weights=rows[1], numbers=rows[2])
        while not os.path.exists(f"{arguments.work}/stop") and os.getppid() == parent:
            total = arguments.part_megabytes * 1e6 * (0.4 if part == 0 else 1)
            files = [f for language, stream in streams.items() for f in stream.take(total * SHARES[language], lambda f: len(records[f][3]))]
            if part < arguments.start_part:
                part += 1
                continue
            while part > int(open(f"{arguments.work}/cursor").read() or 0) + arguments.ahead and not os.path.exists(f"{arguments.work}/stop"):
                time.sleep(0.2)
            started = time.time()
            count = arguments.processes * 3
            jobs = [(job, arguments.context + 1, 7_000_003 * (part + 1_000 * arguments.seed) + i) for i, job in enumerate(shared_out(files, count))]
            built = pool.map(build_rows, jobs, chunksize=1)
            order = np.random.default_rng(part).permutation(sum(len(b[0]) for b in built))
            rows = [np.concatenate([b[k] for b in built])[order] for k in range(3)]
            target = f"{arguments.work}/part-{part}.npz"
            with open(target + ".tmp", "wb") as file:
                np.savez(file, ids=rows[0], weights=rows[1], numbers=rows[2])
            os.replace(target + ".tmp", target)
            middle = (rows[1] == WEIGHT["middle"]).mean()
            log(f"part {part}: {len(order)} rows, {(rows[0] != PAD).sum() / 1e6:.1f}M tokens, full {(rows[0] != PAD).mean():.3f}, "
                f"middles {middle:.3f}, {(rows[1] == WEIGHT['end']).sum()} samples, {time.time() - started:.1f}s")
            part += 1


if __name__ == "__main__":
    sys.exit(main())
