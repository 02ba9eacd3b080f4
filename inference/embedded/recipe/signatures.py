"""Compact listings of what a file defines: declaration lines without bodies, members under their type, one doc line.

The listings stand in the prompt for other files of the project, in the layout of the language server's index.
Line-based on purpose: it reads hundreds of megabytes a minute and its misses only cost a sample its context.
"""
import re

BRACE_TYPE = r"(?:export\s+|default\s+|declare\s+|public\s+|private\s+|protected\s+|abstract\s+|final\s+|static\s+|sealed\s+|pub(?:\([a-z]+\))?\s+|unsafe\s+|template\s*<[^>]*>\s*)*"
TYPES = {
    "python": re.compile(r"^[ \t]*class\s+(\w+)"),
    "rust": re.compile(r"^[ \t]*(?:pub(?:\([a-z ]+\))?\s+)?(?:unsafe\s+)?(?:struct|enum|trait|union)\s+(\w+)|^impl(?:<[^>]*>)?\s+(?:[\w:<>, ']+\s+for\s+)?(\w+)"),
    "go": re.compile(r"^type\s+(\w+)\s+(?:struct|interface)\b"),
    "java": re.compile(r"^[ \t]*" + BRACE_TYPE + r"(?:class|interface|enum|record)\s+(\w+)"),
    "typescript": re.compile(r"^[ \t]*" + BRACE_TYPE + r"(?:class|interface|enum|namespace)\s+(\w+)"),
    "cpp": re.compile(r"^[ \t]*(?:template\s*<.*>\s*)?(?:class|struct|enum class|enum|union)\s+(?:[A-Z_]+\s+)?(\w+)[^;()=]*$"),
}
CALLABLES = {
    "python": re.compile(r"^[ \t]*(?:async\s+)?def\s+(\w+)"),
    "rust": re.compile(r"^[ \t]*(?:pub(?:\([a-z ]+\))?\s+)?(?:const\s+|async\s+|unsafe\s+|extern\s+\"C\"\s+)*fn\s+(\w+)"),
    "go": re.compile(r"^func\s+(?:\(\s*\w*\s*\*?(\w+)[^)]*\)\s+)?(\w+)"),
    "java": re.compile(r"^[ \t]+(?:(?:public|protected|private|static|final|abstract|synchronized|default|native)\s+)+(?:<[^>]+>\s+)?[\w<>\[\],.? ]+\s+(\w+)\s*\("),
    "typescript": re.compile(r"^[ \t]*(?:export\s+)?(?:default\s+)?(?:async\s+)?function\*?\s+(\w+)|^export\s+const\s+(\w+)\s*(?::[^=]+)?=\s*(?:async\s*)?\(|^[ \t]+(?:(?:public|private|protected|static|readonly|async|override|abstract|get|set)\s+)*(?!if|for|while|switch|catch|return|function|super|new\b)(\w+)\s*(?:<[^>]*>)?\([^;]*\)\s*(?::\s*[^{=;]+)?[{;]\s*$"),
    "cpp": re.compile(r"^[ \t]*(?!return|else|if|for|while|switch|case|delete|throw|using|typedef|goto)(?:[\w:<>,*&~]+\s+)+[*&]*(~?\w+)\s*\([^;{]*\)?\s*(?:const|noexcept|override|final|= 0|= default|\s)*[;{]?\s*$"),
}
FIELDS = {
    "python": re.compile(r"^[ \t]+(\w+)\s*:\s*[\w\[\]., |'\"]+(?:\s*=.*)?$"),
    "rust": re.compile(r"^[ \t]+(?:pub(?:\([a-z ]+\))?\s+)?(\w+)\s*:\s*[^=;{]+,\s*$"),
    "go": re.compile(r"^\t(\w+)\s+[\w*\[\].{}()]+(?:\s+`.*`)?\s*$"),
    "java": re.compile(r"^[ \t]+(?:(?:public|protected|private|static|final|volatile)\s+)+[\w<>\[\],.? ]+\s+(\w+)\s*(?:=.*)?;\s*$"),
    "typescript": re.compile(r"^[ \t]+(?:(?:public|private|protected|static|readonly|declare)\s+)*(\w+)[?!]?\s*:\s*[^=(){}]+[;,]?\s*$"),
    "cpp": re.compile(r"^[ \t]+(?!return|using|typedef|goto|delete|else)(?:[\w:<>,*&]+\s+)+[*&]*(\w+)(?:\[[^\]]*\])?\s*(?:=[^(]*)?;\s*$"),
}
for table in (TYPES, CALLABLES, FIELDS):
    table["javascript"] = table["typescript"]
LINE_COMMENT = re.compile(r"^\s*(?:///?!?|#|\*)\s*(.*)$")


class Definition:
    """One top-level name of a file: its declaration, doc line and, for a type, its members."""

    __slots__ = ("name", "signature", "doc", "members")

    def __init__(self, name, signature, doc):
        self.name, self.signature, self.doc, self.members = name, signature, doc, []


def _signature(lines, index):
    """The declaration as it stands in the source, joined until its brackets close, without the body's opener."""
    joined = lines[index].strip()
    for extra in range(1, 7):
        if joined.count("(") <= joined.count(")") or index + extra >= len(lines):
            break
        joined += " " + lines[index + extra].strip()
    joined = re.sub(r"\s+", " ", joined).replace("( ", "(").replace(", )", ")").replace(",)", ")")
    return re.sub(r"\s*(\{.*|:|;|,)$", "", joined)[:180]


def _doc(lines, index, language):
    if language == "python":
        for below in lines[index + 1:index + 9]:
            quoted = re.match(r'\s*[rbu]?("""|\'\'\')\s*(.*?)("""|\'\'\')?\s*$', below)
            if quoted:
                return quoted.group(2)[:100]
            if not below.rstrip().endswith((",", "(", ":", ")")):
                return ""
        return ""
    above, first = index - 1, ""
    while above >= 0 and above > index - 12:
        comment = LINE_COMMENT.match(lines[above])
        if not comment and not lines[above].strip().startswith(("/**", "/*", "@", "#[", "*/")):
            break
        if comment and comment.group(1) not in ("", "/") and not comment.group(1).startswith(("@", "[", "include")):
            first = comment.group(1)
        above -= 1
    return first[:100]


def definitions(text, language):
    """The definitions of a file, in order; methods that stand outside their type (Go, Rust) join it by name."""
    lines = text.split("\n")
    types, callables, fields = TYPES[language], CALLABLES[language], FIELDS[language]
    found, by_name, open_type, open_indent, inside_parameters = [], {}, None, -1, 0
    for index, line in enumerate(lines[:4000]):
        if inside_parameters > 0:
            inside_parameters += line.count("(") - line.count(")")
            continue
        stripped = line.lstrip(" \t")
        if not stripped or stripped[0] in "}#*/)" or len(line) > 240:
            continue
        indent = len(line) - len(stripped)
        if open_type is not None and indent <= open_indent:
            open_type = None
        match = types.match(line)
        if match and (indent == 0 or language in ("java", "cpp", "typescript")):
            name = next(g for g in match.groups() if g)
            if name in by_name:
                open_type = by_name[name]
            else:
                open_type = by_name[name] = Definition(name, _signature(lines, index), _doc(lines, index, language))
                found.append(open_type)
            open_indent = indent
            continue
        match = callables.match(line)
        if match:
            names = [g for g in match.groups() if g]
            if not names:
                continue
            inside_parameters = min(1, max(0, line.count("(") - line.count(")")))
            name, owner = names[-1], open_type
            if language == "go" and len(names) == 2:
                owner = by_name.get(names[0])
                if owner is None:
                    owner = by_name[names[0]] = Definition(names[0], f"type {names[0]}", "")
                    found.append(owner)
            if owner is not None:
                if indent <= open_indent + 8 or language == "go":
                    owner.members.append((name, _signature(lines, index)))
            elif indent == 0 or language in ("cpp", "java") and indent <= 4:
                if name not in by_name:
                    by_name[name] = Definition(name, _signature(lines, index), _doc(lines, index, language))
                    found.append(by_name[name])
            continue
        if open_type is not None and 0 < indent - open_indent <= 8:
            match = fields.match(line)
            if match:
                open_type.members.append((match.group(1), _signature(lines, index)))
    return found


TYPE_HEAD = re.compile(r"^(?:[\w()]+\s+)*?(?:class|struct|enum|interface|trait|union|namespace|record|impl|type)\b")


def _chosen_members(members, wanted, most, generator):
    """Where not all fit, those in `wanted` stay and the others are thinned in order."""
    if len(members) <= most:
        return members
    keep = {i for i, (name, _) in enumerate(members) if name in wanted}
    others = [i for i in range(len(members)) if i not in keep]
    if generator:
        generator.shuffle(others)
    keep |= set(others[:max(0, most - len(keep))])
    return [member for i, member in enumerate(members) if i in keep]


def render(definition, language, generator=None, wanted=(), most=24):
    """Text of one listing, laid out as the language server lays it out (indexer/src/render.rs)."""
    members = [signature for _, signature in _chosen_members(definition.members, wanted, most, generator)]
    head, doc, is_type = definition.signature, definition.doc, bool(members) or bool(TYPE_HEAD.match(definition.signature))
    if language == "python":
        text = [head + ":" if is_type or doc else head + ": ..."]
        text += [f'    """{doc}"""'] if doc else []
        text += ["    " + m + (": ..." if re.match(r"(?:async\s+)?def\s|class\s", m) else "") for m in members]
        if is_type and len(text) == 1:
            text.append("    ...")
        return "\n".join(text) + "\n"
    text = [("/// " if language == "rust" else "// ") + doc] if doc else []
    if language == "go":
        beside = [m for m in members if m.startswith("func")]
        inside = ["    " + m for m in members if not m.startswith("func")]
        text += [head + " {", *inside, "}"] if inside else [head]
        return "\n".join(text + beside) + "\n"
    if members:
        ends = lambda m: "," if language == "rust" and "fn " not in m else ";"
        text += [head + " {", *("    " + m + ends(m) for m in members), "}"]
    else:
        text.append(head + ";")
    return "\n".join(text) + "\n"
