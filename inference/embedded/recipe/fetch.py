"""Fetches the corpus packages through pip, npm, cargo and apt-get; pinned to manifest.jsonl unless --newest is given."""
import argparse
import json
import os
import subprocess
import sys
import tomllib

HERE = os.path.dirname(os.path.abspath(__file__))


def run(command, folder):
    """True when the client succeeded. A package that cannot be fetched is reported and left out."""
    done = subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        print("not fetched:", " ".join(command[-2:]), "-", done.stderr.strip().split("\n")[-1][:200], flush=True)
    return done.returncode == 0


def run_for_all(command, names, folder, at_once):
    """Runs a client for many packages at once, and one by one where that fails. Returns how many were not fetched."""
    failed = 0
    for first in range(0, len(names), at_once):
        part = names[first:first + at_once]
        if len(part) > 1 and subprocess.run(command + part, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
            continue
        failed += sum(not run(command + [name], folder) for name in part)
    return failed


def cargo_group(name, crates, versions, folder):
    """One `cargo vendor` of a manifest that lists `crates`; their dependencies come along."""
    os.makedirs(f"{folder}/src", exist_ok=True)
    open(f"{folder}/src/lib.rs", "w").close()
    with open(f"{folder}/Cargo.toml", "w") as file:
        file.write(f'[package]\nname = "fetch-{name}"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n[dependencies]\n')
        for crate in crates:
            version = versions.get(crate)
            file.write(f'{crate} = "{"=" + version if version else "*"}"\n')
    return run(["cargo", "vendor", "--versioned-dirs", "vendor"], folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", required=True)
    parser.add_argument("--newest", action="store_true", help="newest versions instead of those in manifest.jsonl")
    parser.add_argument("--only", nargs="+", default=["pip", "npm", "crates", "deb", "dsc"], help="these kinds: several can run beside each other")
    arguments = parser.parse_args()
    with open(f"{HERE}/sources.toml", "rb") as file:
        wanted = tomllib.load(file)
    versions = {}
    if not arguments.newest:
        with open(f"{HERE}/manifest.jsonl", encoding="utf-8") as file:
            for row in map(json.loads, file):
                if "version" in row:  # an unreadable archive has none; the latest round comes last
                    versions.setdefault(row["ecosystem"], {})[row["name"]] = row["version"]
    output = os.path.abspath(arguments.output)
    for name in ("pip", "npm", "crates", "deb", "dsc"):
        os.makedirs(f"{output}/{name}", exist_ok=True)
    pinned = lambda ecosystem, name, joint: name + joint + versions[ecosystem][name] if name in versions.get(ecosystem, {}) else name
    failed = 0
    if "pip" in arguments.only:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", "."]
        failed += run_for_all(pip, [pinned("pypi", n, "==") for n in wanted["pypi"]["packages"]], f"{output}/pip", 10)
    if "npm" in arguments.only:
        npm = ["npm", "pack", "--silent", "--ignore-scripts"]
        failed += run_for_all(npm, [pinned("npm", n, "@") for n in wanted["npm"]["packages"]], f"{output}/npm", 12)
    if "crates" in arguments.only:
        for group, crates in wanted["crates"].items():
            failed += not cargo_group(group, crates, versions.get("crates.io", {}), f"{output}/crates/{group}")
    if "deb" in arguments.only:
        debian = [pinned("debian", n, "=") for n in wanted["debian"]["binary"]]
        failed += run_for_all(["apt-get", "-qq", "download"], debian, f"{output}/deb", 25)
    if "dsc" in arguments.only:
        sources = [pinned("debian-source", n, "=") for n in wanted["debian"]["source"]]
        failed += run_for_all(["apt-get", "-qq", "source", "--download-only"], sources, f"{output}/dsc", 1)
    print(f"{failed} requests failed; pack.py records the hash of every archive that it reads")


if __name__ == "__main__":
    main()
