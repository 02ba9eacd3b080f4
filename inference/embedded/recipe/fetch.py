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
    arguments = parser.parse_args()
    with open(f"{HERE}/sources.toml", "rb") as file:
        wanted = tomllib.load(file)
    versions = {}
    if not arguments.newest:
        with open(f"{HERE}/manifest.jsonl", encoding="utf-8") as file:
            for row in map(json.loads, file):
                versions.setdefault(row["ecosystem"], {})[row["name"]] = row["version"]
    output = os.path.abspath(arguments.output)
    for name in ("pip", "npm", "crates", "deb", "dsc"):
        os.makedirs(f"{output}/{name}", exist_ok=True)
    pinned = lambda ecosystem, name, joint: name + joint + versions[ecosystem][name] if name in versions.get(ecosystem, {}) else name
    failed = 0
    for name in wanted["pypi"]["packages"]:
        failed += not run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", ".", pinned("pypi", name, "==")], f"{output}/pip")
    for name in wanted["npm"]["packages"]:
        failed += not run(["npm", "pack", "--silent", "--ignore-scripts", pinned("npm", name, "@")], f"{output}/npm")
    for group, crates in wanted["crates"].items():
        failed += not cargo_group(group, crates, versions.get("crates.io", {}), f"{output}/crates/{group}")
    for name in wanted["debian"]["binary"]:
        failed += not run(["apt-get", "-qq", "download", pinned("debian", name, "=")], f"{output}/deb")
    for name in wanted["debian"]["source"]:
        failed += not run(["apt-get", "-qq", "source", "--download-only", pinned("debian-source", name, "=")], f"{output}/dsc")
    print(f"{failed} requests failed; pack.py records the hash of every archive that it reads")


if __name__ == "__main__":
    main()
