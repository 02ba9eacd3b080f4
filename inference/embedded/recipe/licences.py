"""Decides whether a file may be used: SPDX expressions, Debian machine-readable copyright files, file headers."""
import fnmatch
import functools
import re

PERMISSIVE = re.compile(
    r"\b(MIT|MIT-0|Expat|X11|Apache|BSD|ISC|PSF|Python Software Foundation|Python-2\.0|PostgreSQL|Zlib|Unlicense|"
    r"0BSD|CC0|HPND|BSL-1\.0|BSL-1|Boost|Unicode-3\.0|BlueOak|BOLA|public[- ]domain|curl|FreeBSD|Go)\b",
    re.IGNORECASE,
)
RECIPROCAL = re.compile(
    r"(GPL|GNU|\bMPL|Mozilla|\bEPL|Eclipse|NVIDIA|proprietary|\bCDDL|\bEUPL|\bSSPL|commercial|\bBUSL|Elastic-|"
    r"CC-BY-NC|non-?commercial|JSON license|Artistic)",
    re.IGNORECASE,
)
HEADER_REFUSED = re.compile(
    r"(GNU (Lesser |Affero |Library )?General Public|\bGPL-?v?[23]|\bLGPL|Mozilla Public License|Eclipse Public License|"
    r"Server Side Public License|Business Source License|Common Development and Distribution|"
    r"proprietary and confidential|strictly prohibited|All rights reserved\. *Confidential|non-?commercial use only)",
    re.IGNORECASE,
)


def spdx_allows(expression):
    """True when the expression can be satisfied with permissive licences alone."""
    if not expression:
        return False
    for part in re.split(r"\bAND\b|&", expression.replace("/", " OR "), flags=re.IGNORECASE):
        alternatives = re.split(r"\bOR\b|\|", part.replace("(", " ").replace(")", " "), flags=re.IGNORECASE)
        if not any(PERMISSIVE.search(one) and not RECIPROCAL.search(one) for one in alternatives if one.strip()):
            return False
    return True


def header_refuses(text):
    """A file whose first lines name a licence that is not permissive is refused, whatever its package says."""
    return bool(HEADER_REFUSED.search(text[:3000]))


class DebianCopyright:
    """The `Files:` stanzas of a machine-readable debian/copyright (DEP-5); the last matching stanza decides."""

    def __init__(self, text):
        self.machine_readable = bool(re.match(r"\s*Format:", text))
        self.stanzas = []
        for stanza in re.split(r"\n\s*\n", text):
            fields = {}
            for field in re.finditer(r"^([A-Za-z-]+):[ \t]*(.*(?:\n[ \t]+.*)*)", stanza, re.MULTILINE):
                fields[field.group(1).lower()] = field.group(2)
            if "files" in fields and "license" in fields:
                licence = fields["license"].split("\n")[0].strip()
                patterns = "|".join(fnmatch.translate(p) for p in fields["files"].split())
                self.stanzas.append((re.compile(patterns), licence))

    @functools.lru_cache(maxsize=100_000)
    def licence_of(self, path):
        """Short name of the licence that covers `path` (relative to the source root), or '' when none is stated."""
        return next((licence for pattern, licence in reversed(self.stanzas) if pattern.match(path)), "")

    def main_licence(self):
        return self.licence_of("\x00no such file")


DEBIAN_REFUSED = re.compile(
    r"(GPL|\bMPL|\bEPL|CDDL|non-?free|CC-BY-SA|CC-BY-NC|GFDL|Artistic|\bOFL|Bitstream)", re.IGNORECASE
)


def debian_allows(licence):
    """DEP-5 short names: alternatives joined by `or` and `|`, requirements joined by `and` and `,`."""
    if not licence:
        return False
    for part in re.split(r"\band\b|,", licence):
        alternatives = re.split(r"\bor\b|\|", part)
        if not any(PERMISSIVE.search(one) and not DEBIAN_REFUSED.search(one) for one in alternatives if one.strip()):
            return False
    return True


def wheel_licence(metadata):
    """Licence of a Python distribution by its METADATA: expression, else classifiers, else the free-text field."""
    expression = re.search(r"^License-Expression: *(.+)$", metadata, re.MULTILINE)
    if expression:
        return expression.group(1).strip()
    classifiers = re.findall(r"^Classifier: License :: (.+)$", metadata, re.MULTILINE)
    classifiers = [c.split(" :: ")[-1] for c in classifiers if c.strip() != "OSI Approved"]
    if classifiers:
        return " AND ".join(c.replace("/", " ") for c in classifiers)
    field = re.search(r"^License: *(.{2,100})$", metadata, re.MULTILINE)
    return field.group(1).strip() if field else ""
