"""Cross-file samples: a cursor where a name of another file is wanted, that file's listing among others, renamed words.

A name that stands nowhere else in the sample can only be had from its listing. Renaming one word of it in the whole sample
(`begin_nested` -> `begin_quoted`, everywhere) makes sure that it was not learnt by heart either, and leaves the rest of its
meaning to be matched.
"""
import collections
import re

import signatures
import spans

NAME = re.compile(r"[A-Za-z_]\w{2,}")
SITE = re.compile(r"[A-Za-z_]\w{3,}")
NOT_CODE = re.compile(r"\s*(?:import\b|from\b|use\b|using\b|package\b|#|//|\*|/\*|export \*)")
PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# Words of the languages and their built-in names, which a renaming leaves alone.
LANGUAGE_WORDS = set("""
abstract all and any append args array async auto await base bool boolean break build byte bytes case cast catch char class clone close
const constructor continue core count data def default del delete dict do double else elif end enum err error eval except exception export
extends false file final finally float fmt fn for foreach form from func function get getattr global goto hash has hasattr id if impl
implements import in index init input int interface into is isinstance item items iter join key keys kwargs lambda len length let like
line list local long loop macro main map match max min mod module move mut name namespace native new next nil none nonlocal not null
num number object ok open operator option or out override package panic parse path pop print private property protected pub public push
put raise range read ref register remove require result return self set setattr short signed size sizeof some sort split static std str
string struct sub super switch template test text then this throw throws time to trait true try tuple type typedef typename typeof
undefined union unsafe unsigned unwrap update use using val value values var vec virtual void volatile where while with write yield
""".split())


def index_definitions(records, definitions):
    """package -> name -> [(file, position)] and package -> member -> the same, to find what a piece of code refers to."""
    names, members = collections.defaultdict(dict), collections.defaultdict(dict)
    for file, found in enumerate(definitions):
        package = records[file][1]
        for position, (name, _, _, inner) in enumerate(found):
            if len(name) > 2:
                names[package].setdefault(name, []).append((file, position))
            for member in {member for member, _ in inner}:
                if len(member) > 3:
                    members[package].setdefault(member, []).append((file, position))
    return names, members


def word_list(definitions):
    """Words that members are named after, often enough to be words: what renamed words become. A fifth of the files tells."""
    counts = collections.Counter()
    for found in definitions[::5]:
        counts.update({part.lower() for _, _, _, inner in found for member, _ in inner for part in PART.findall(member)})
    return sorted(w for w, n in counts.items() if n >= 2 and 4 <= len(w) <= 10 and w not in LANGUAGE_WORDS)


class Project:
    """What the samples of one process draw cross-file context from."""

    def __init__(self, records, definitions):
        self.records, self.definitions = records, definitions
        self.names, self.members = index_definitions(records, definitions)
        self.words = word_list(definitions)
        self.files = collections.defaultdict(list)
        for index, record in enumerate(records):
            self.files[record[1]].append(index)

    def elsewhere(self, file, word, is_member):
        """Where other files of the package define `word`; nothing when too many do."""
        places = (self.members if is_member else self.names)[self.records[file][1]].get(word, ())
        places = [p for p in places if p[0] != file] if len(places) <= 4 else []
        return places if len(places) <= (2 if is_member else 3) else []


def choose_site(project, file, region, generator):
    """(cursor, end, name, its definition's place): a cursor at or before a name that another file defines; None without one."""
    matches = list(SITE.finditer(region))
    counts = collections.Counter(m.group() for m in matches)
    generator.shuffle(matches)
    only_rare, found = generator.random() < 0.75, None
    for match in matches[:150]:
        word = match.group()
        if only_rare and counts[word] > 1:
            continue
        is_member = region[match.start() - 1:match.start()] in (".", ":", ">") and match.start() > 0
        places = project.elsewhere(file, word, is_member)
        if not places or not is_member and generator.random() < 0.4:
            continue
        first = region.rfind("\n", 0, match.start()) + 1
        last = region.find("\n", match.end())
        last = len(region.rstrip("\n")) if last < 0 else last
        if not NOT_CODE.match(region, first):
            found = match.start(), match.end(), first, last, word, generator.choice(places)
            break
    if found is None:
        return None
    start, end, first, last, word, place = found
    draw = generator.random()
    if draw < 0.5:
        cursor = start
    elif draw < 0.62:
        cursor = start + generator.randrange(1, min(5, end - start))
    elif draw < 0.75 and region[end:end + 1] == "(" and last - end > 2:
        cursor = end + 1
    else:
        before = [m.end() for m in spans.TRIGGER.finditer(region, first, start) if region[first:m.end()].strip()]
        indent = first + len(region[first:last]) - len(region[first:last].lstrip(" \t"))
        cursor = generator.choice(before + [indent])
    stop = end if cursor < end < last and generator.random() < 0.08 else last
    return (cursor, stop, word, place) if region[cursor:stop].strip() else None


def chunks(project, file, near, middle, target, generator):
    """[(path, text)]: listings by file. The target's (a place, or None) nearly always, others that the code near the cursor
    uses, and noise to ignore."""
    records, definitions = project.records, project.definitions
    language, everything = records[file][0], project.files[records[file][1]]
    near_names, middle_names = set(NAME.findall(near)), set(NAME.findall(middle))
    chosen = [target] if target is not None and generator.random() < 0.93 else []
    useful = []
    for name in near_names | middle_names:
        places = project.elsewhere(file, name, False)
        if places and (name not in middle_names or generator.random() < 0.85):
            useful.append(generator.choice(places))
    generator.shuffle(useful)
    chosen += useful[:generator.choice([0, 1, 2, 4])]
    for _ in range(generator.choice([0, 1, 2, 3])):
        other = generator.choice(everything)
        if other != file and definitions[other]:
            chosen.append((other, generator.randrange(len(definitions[other]))))
    budget, by_file = generator.choice([700, 1200, 1900, 2800]), {}
    for index, place in enumerate(dict.fromkeys(chosen)):
        name, signature, doc, members = definitions[place[0]][place[1]]
        found = signatures.Definition(name, signature, doc if generator.random() < 0.7 else "")
        found.members = members
        text = signatures.render(found, language, generator, near_names | middle_names, generator.choice([8, 16, 30]))
        if len(text) <= budget or index == 0 and len(text) < 4000:
            budget -= len(text)
            by_file.setdefault(place[0], []).append((place[1], text))
    if generator.random() < 0.12 and len(everything) > 1:
        other = generator.choice(everything)
        text = records[other][3]
        start = text.find("\n", generator.randrange(len(text))) + 1
        end = text.find("\n", start + generator.randrange(200, 700))
        if end > start and other != file and other not in by_file:
            by_file[other] = [(0, text[start:end] + "\n")]
    answer = [(records[other][2], "".join(text for _, text in sorted(parts))) for other, parts in by_file.items()]
    generator.shuffle(answer)
    return answer


def renaming(project, name, others, texts, generator):
    """A function that renames a word of `name`, and now and then words of `others`, in any text; None where none can be."""
    whole = "\n".join(texts)
    lower = whole.lower()
    parts = lambda n: [p.lower() for p in PART.findall(n) if len(p) >= 3 and p.lower() not in LANGUAGE_WORDS]
    own = parts(name)
    if not own:
        return None
    chosen = [generator.choice(own)]
    more = [p for other in others for p in parts(other)]
    chosen += generator.sample(more, min(len(more), generator.choice([0, 1, 3])))
    table = {}
    for part in chosen:
        new = generator.choice(project.words)
        if part in table or new in lower:
            continue
        table.update({part: new, part.capitalize(): new.capitalize(), part.upper(): new.upper()})
    if not table:
        return None
    forms = [rf"(?<![A-Za-z]){p}(?![a-z])" if p.islower() else rf"(?<![A-Z]){p}(?![A-Z])" if p.isupper() else rf"{p}(?![a-z])" for p in table]
    pattern = re.compile("|".join(forms))
    return lambda text: pattern.sub(lambda m: table[m.group()], text)
