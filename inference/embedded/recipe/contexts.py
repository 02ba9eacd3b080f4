"""Context as the language server chooses it: the corpus laid out as files, and the index asked about cursors in them."""
import json
import os
import re
import select
import subprocess

PATIENCE_SECONDS = 20  # for all cursors of a package


def byte_offset(text, at):
    return at if text.isascii() else len(text[:at].encode())


class Contexts:
    """Asks one process of the indexer's example `contexts` for each process that uses it."""

    def __init__(self, program, trees, records):
        self.program, self.trees, self.records = program, trees, records
        self.process, self.owner = None, None
        for _, package, path, text in records:
            target = self.path_of(package, path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "w", encoding="utf-8", newline="") as file:
                file.write(text)

    def directory_of(self, package):
        return os.path.join(os.path.abspath(self.trees), re.sub(r"[^\w.-]", "_", package))

    def path_of(self, package, path):
        return os.path.join(self.directory_of(package), self.relative(path))

    @staticmethod
    def relative(path):
        return os.path.normpath("/" + path)[1:]

    def choose(self, package, cursors):
        """Fills in the `chunks` of cursors in files of one package."""
        if self.owner != os.getpid():
            self.owner = os.getpid()
            self.process = subprocess.Popen([self.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        by_file = {}
        for cursor in cursors:
            by_file.setdefault(cursor.file, []).append(cursor)
        if not by_file:
            return
        files = []
        for file, inside in by_file.items():
            text = self.records[file][3]
            offsets = lambda *places: [byte_offset(text, at) for at in places]
            files.append({"path": self.relative(self.records[file][2]), "cursors": [
                {"start": start, "end": end, "visible": [first, last], "budget": cursor.budget} for cursor in inside
                for start, end, first, last in [offsets(cursor.start, cursor.stop, cursor.start - len(cursor.prefix), cursor.stop + len(cursor.suffix))]]})
        self.process.stdin.write((json.dumps({"directory": self.directory_of(package), "files": files}) + "\n").encode())
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], PATIENCE_SECONDS)[0]:
            print(f"no context for {package}: nothing after {PATIENCE_SECONDS} s", [f["path"] for f in files][:50], flush=True)
            self.process.kill()
            self.owner = None
            return
        answer = json.loads(self.process.stdout.readline())
        for inside, found in zip(by_file.values(), answer, strict=True):
            for cursor, pieces in zip(inside, found, strict=True):
                cursor.chunks = [(path, text) for path, text in pieces]
