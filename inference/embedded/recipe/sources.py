"""Reads packages file by file, straight from the archives that the package clients fetched (nothing is unpacked)."""
import io
import json
import os
import re
import subprocess
import tarfile
import tomllib
import zipfile

from filters import language_of
from licences import DebianCopyright, debian_allows, header_refuses, spdx_allows, wheel_licence

LARGEST_FILE = 300_000
LICENCE_TEXTS = [
    (re.compile(r"Apache License,?\s+Version 2\.0", re.IGNORECASE), "Apache-2.0"),
    (re.compile(r"Permission is hereby granted, free of charge", re.IGNORECASE), "MIT"),
    (re.compile(r"Redistribution and use in source and binary forms", re.IGNORECASE), "BSD"),
    (re.compile(r"Boost Software License", re.IGNORECASE), "BSL-1.0"),
]


class Package:
    """One fetched package: where it came from and the files that may be read (`files` yields path, bytes)."""

    def __init__(self, ecosystem, name, version, licence, archive, files, allowed):
        self.ecosystem, self.name, self.version, self.licence = ecosystem, name, version, licence
        self.archive, self.files, self.allowed = archive, files, allowed


def _tar_files(tar, wanted):
    for member in tar:
        if member.isfile() and member.size <= LARGEST_FILE and wanted(member.name):
            yield member.name, tar.extractfile(member).read()


def _inside(name):
    return name.split("/", 1)[1] if "/" in name else name


def read_wheel(path):
    archive = zipfile.ZipFile(path)
    names = archive.namelist()
    metadata = next((n for n in names if n.endswith(".dist-info/METADATA")), None)
    text = archive.read(metadata).decode("utf-8", "replace") if metadata else ""
    head = text.split("\n\n", 1)[0]
    field = lambda key: (re.search(rf"^{key}: *(.+)$", head, re.MULTILINE) or [None, ""])[1].strip()
    licence = wheel_licence(head)
    if not licence:
        licence = _licence_by_text(archive.read(n) for n in names if re.search(r"dist-info/.*licen[sc]e", n, re.IGNORECASE))

    def files():
        for info in archive.infolist():
            if info.file_size <= LARGEST_FILE and language_of(info.filename) == "python":
                yield info.filename, archive.read(info)

    return Package("pypi", field("Name"), field("Version"), licence, path, files, lambda rel: spdx_allows(licence))


def read_npm(path):
    manifest = {}
    with tarfile.open(path) as tar:
        for member in tar:
            if member.name.count("/") == 1 and member.name.endswith("/package.json"):
                manifest = json.load(tar.extractfile(member))
                break
    licence = manifest.get("license", "")
    licence = licence.get("type", "") if isinstance(licence, dict) else str(licence)

    def files():
        with tarfile.open(path) as tar:
            seen = [(_inside(n), raw) for n, raw in _tar_files(tar, lambda n: language_of(n) in ("typescript", "javascript"))]
        # Where a package ships both its TypeScript and what was compiled from it, only the former is a person's text.
        sources = sum(n.endswith((".ts", ".tsx")) and not n.endswith(".d.ts") for n, _ in seen)
        for name, raw in seen:
            if name.endswith((".d.ts", ".d.mts", ".d.cts")) or sources > 5 and language_of(name) == "javascript":
                continue
            yield name, raw

    return Package("npm", manifest.get("name", ""), manifest.get("version", ""), licence, path, files, lambda rel: spdx_allows(licence))


def read_crate(directory):
    with open(os.path.join(directory, "Cargo.toml"), "rb") as file:
        manifest = tomllib.load(file)["package"]
    licence = manifest.get("license", "")
    licence = licence if isinstance(licence, str) else ""

    def files():
        for folder, folders, names in os.walk(directory):
            folders.sort()
            for name in sorted(names):
                full = os.path.join(folder, name)
                if name.endswith(".rs") and os.path.getsize(full) <= LARGEST_FILE:
                    with open(full, "rb") as file:
                        yield os.path.relpath(full, directory), file.read()

    checksum = os.path.join(directory, ".cargo-checksum.json")
    with open(checksum) as file:
        digest = json.load(file).get("package") or ""
    package = Package("crates.io", manifest["name"], manifest["version"], licence, directory, files, lambda rel: spdx_allows(licence))
    package.sha256 = digest
    return package


def _licence_by_text(texts):
    for raw in texts:
        text = raw.decode("utf-8", "replace")
        if not header_refuses(text):
            for pattern, name in LICENCE_TEXTS:
                if pattern.search(text):
                    return name
    return ""


def _deb_tar(path):
    """The file system of a binary Debian package as a tar stream."""
    process = subprocess.run(["dpkg-deb", "--fsys-tarfile", path], capture_output=True, check=True)
    return tarfile.open(fileobj=io.BytesIO(process.stdout))


def read_deb(path):
    name, version = os.path.basename(path).split("_")[:2]
    with _deb_tar(path) as tar:
        copyright_member = next((m for m in tar if re.search(rf"doc/{re.escape(name)}/copyright$", m.name)), None)
        text = tar.extractfile(copyright_member).read().decode("utf-8", "replace") if copyright_member and copyright_member.isfile() else ""
    rules = DebianCopyright(text)
    main = rules.main_licence() if rules.machine_readable else ""

    def strip(member):
        member = member.removeprefix("./")
        for root in ("usr/share/gocode/src/", "usr/share/go-1.19/", "usr/include/"):
            if member.startswith(root):
                member = member[len(root):]
                return re.sub(r"^(github\.com|gopkg\.in|google\.golang\.org|golang\.org|go\.[a-z]+\.org|gitlab\.com)/([^/]+/)?([^/]+/)?", "", member) if "gocode" in root else member
        return None

    def files():
        with _deb_tar(path) as tar:
            for member, raw in _tar_files(tar, lambda n: language_of(n) in ("go", "cpp")):
                inner = strip(member)
                if inner:
                    yield inner, raw

    return Package("debian", name, version.replace("%3a", ":"), main, path, files, lambda rel: debian_allows(rules.licence_of(rel)))


def read_debian_source(dsc):
    """A Debian source package: the upstream tarball, judged file by file by debian/copyright."""
    with open(dsc, encoding="utf-8", errors="replace") as file:
        text = file.read()
    name = re.search(r"^Source: (.+)$", text, re.MULTILINE)[1]
    version = re.search(r"^Version: (.+)$", text, re.MULTILINE)[1]
    return _debian_source(name, version, os.path.dirname(dsc), sorted(set(re.findall(r"^ [0-9a-f]{64} \d+ (\S+)$", text, re.MULTILINE))))


def _debian_source(name, version, folder, members):
    here = [os.path.join(folder, m) for m in members if os.path.exists(os.path.join(folder, m)) and not m.endswith(".asc")]
    origins = [m for m in here if ".orig" in m and ".tar." in m]
    packaging = next((m for m in here if ".debian.tar" in m), None)
    text = ""
    if packaging:
        with tarfile.open(packaging) as tar:
            member = next((m for m in tar if m.name.endswith("debian/copyright")), None)
            text = tar.extractfile(member).read().decode("utf-8", "replace") if member else ""
    rules = DebianCopyright(text)
    if rules.machine_readable:
        main, allowed = rules.main_licence(), lambda rel: debian_allows(rules.licence_of(rel))
    else:
        # Without a per-file statement the upstream LICENSE file must be one well-known permissive text.
        texts = []
        for origin in origins:
            with tarfile.open(origin) as tar:
                for member in tar:
                    if member.isfile() and member.name.count("/") <= 1 and re.search(r"/(LICEN[SC]E|COPYING|COPYRIGHT)(\.txt|\.md)?$", member.name, re.IGNORECASE):
                        texts.append(tar.extractfile(member).read())
        main = _licence_by_text(texts)
        allowed = lambda rel: bool(main)

    def files():
        for origin in origins:
            with tarfile.open(origin) as tar:
                for member, raw in _tar_files(tar, lambda n: language_of(n) in ("go", "cpp", "java", "typescript", "javascript", "python")):
                    yield _inside(member.removeprefix("./")), raw

    package = Package("debian-source", name, version, main, origins[0] if origins else dsc_missing(name), files, allowed)
    return package


def dsc_missing(name):
    raise FileNotFoundError(f"{name}: no upstream tarball was fetched")
