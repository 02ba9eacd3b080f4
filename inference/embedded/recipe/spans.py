"""Where a cursor stands in a file and what a person would want there: (start, end) of the middle.

The rule that ends a middle can be read from what surrounds the cursor, so that a model can learn to stop:
code before the cursor on its line -> the end of the line; an empty body -> the end of the block; text right
after the cursor -> up to that text.
"""
import re

CLOSERS = {"(": ")", "[": "]", "{": "}"}
OPENS_BLOCK = re.compile(r"(:|\{|=>|\(|\[)\s*$")
COMMENT = ("//", "#", "*", "/*")
# Places where people stop typing and look up: after an access, an opening, an assignment, a keyword, an operator.
TRIGGER = re.compile(r"\.|->|::|[(\[{,=:<>|&+\-*/!]\s?|\b(?:return|import|from|await|new|if|for|in|not|and|or|let|const|var|throw|raise|use|pub)\s|\s")
WORD_END = re.compile(r"\b")


def line_starts(text):
    starts = [0] + [m.end() for m in re.finditer("\n", text)]
    if starts[-1] == len(text):
        starts.pop()
    return starts


class Lines:
    """Line table of one text."""

    def __init__(self, text):
        self.text, self.starts = text, line_starts(text)

    def __len__(self):
        return len(self.starts)

    def end(self, line):
        return self.starts[line + 1] - 1 if line + 1 < len(self.starts) else len(self.text.rstrip("\n"))

    def content(self, line):
        return self.text[self.starts[line]:self.end(line)]

    def indent(self, line):
        content = self.content(line)
        return len(content) - len(content.lstrip(" \t"))

    def next_with_text(self, line):
        return next((j for j in range(line + 1, min(len(self), line + 6)) if self.content(j).strip()), None)

    def block_end(self, first):
        """Last line of the block that starts at `first`: lines indented at least as deep."""
        depth, last, line = self.indent(first), first, first
        while line < len(self) and line < first + 80:
            if self.content(line).strip():
                if self.indent(line) < depth:
                    break
                last = line
            line += 1
        return last


def cursor_in_line(content, generator):
    """Offset of a cursor inside a line's content, or None when the line has no place worth asking at."""
    indent = len(content) - len(content.lstrip(" \t"))
    body = content[indent:]
    if len(body) < 4:
        return None
    if body.startswith(COMMENT) and not body.startswith(("#include", "#[", "#define")) and generator.random() < 0.75:
        return None
    draw = generator.random()
    if draw < 0.05:
        return 0
    if draw < 0.2:
        offset = 0
    elif draw < 0.58:
        offset = _any(generator, [m.end() for m in TRIGGER.finditer(body) if m.end() <= len(body) - 2])
    elif draw < 0.76:
        offset = _any(generator, [m.end() for m in WORD_END.finditer(body) if 0 < m.end() <= len(body) - 2])
    else:
        offset = generator.randrange(0, len(body) - 2)
    return None if not body[offset:].strip() else indent + offset


def _any(generator, places):
    return generator.choice(places) if places else 0


def rest_of_line(lines, generator):
    for _ in range(14):
        line = generator.randrange(len(lines))
        offset = cursor_in_line(lines.content(line), generator)
        if offset is not None:
            return lines.starts[line] + offset, lines.end(line)
    return None


def statement(lines, generator):
    """From a cursor before an opening bracket that its line leaves open, to the line that closes it."""
    for _ in range(14):
        line = generator.randrange(len(lines))
        content = lines.content(line)
        if not content.rstrip().endswith(("(", "[", "{")) or lines.next_with_text(line) is None:
            continue
        last = next((j for j in range(line + 1, min(len(lines), line + 12))
                     if lines.content(j).strip() and lines.indent(j) <= lines.indent(line)), None)
        if last is None or not lines.content(last).strip().startswith((")", "]", "}")):
            continue
        opener = len(content.rstrip()) - 1
        return lines.starts[line] + opener + 1, lines.end(last)
    return None


def block_body(lines, generator):
    """The whole body under a line that opens one; the cursor stands in the empty body or right after the opener."""
    for _ in range(14):
        line = generator.randrange(len(lines))
        first = lines.next_with_text(line)
        if first is None or not OPENS_BLOCK.search(lines.content(line)) or lines.indent(first) <= lines.indent(line):
            continue
        last = lines.block_end(first)
        if last - first > 24:
            continue
        if generator.random() < 0.3:
            return lines.end(line), lines.end(last)
        return lines.starts[first] + lines.indent(first), lines.end(last)
    return None


def rest_of_block(lines, generator):
    """From an indented empty line to the end of its block: what follows in the file is less indented."""
    for _ in range(14):
        line = generator.randrange(len(lines))
        if not lines.content(line).strip() or lines.indent(line) == 0:
            continue
        last = lines.block_end(line)
        if 1 <= last - line <= 14:
            return lines.starts[line] + lines.indent(line), lines.end(last)
    return None


def inside_brackets(lines, generator):
    """The inside of one bracket pair on one line: editors insert the closing bracket themselves."""
    for _ in range(14):
        line = generator.randrange(len(lines))
        start, content = lines.starts[line], lines.content(line)
        openers = [m.start() for m in re.finditer(r"[(\[{]", content)]
        if not openers:
            continue
        at = generator.choice(openers)
        opener, closer, depth = content[at], CLOSERS[content[at]], 0
        for offset in range(at, len(content)):
            depth += (content[offset] == opener) - (content[offset] == closer)
            if depth == 0:
                if offset - at > 3:
                    inner = generator.randrange(at + 1, offset - 1) if generator.random() < 0.3 else at + 1
                    return start + inner, start + offset
                break
    return None


def inside_name(lines, generator):
    """From inside a name to its end, the rest of the line being there already."""
    for _ in range(14):
        line = generator.randrange(len(lines))
        names = [m.span() for m in re.finditer(r"[A-Za-z_]\w{3,}", lines.content(line))]
        if names:
            start, end = generator.choice(names)
            return lines.starts[line] + generator.randrange(start, end - 1), lines.starts[line] + end
    return None


def some_lines(lines, generator):
    """A few whole lines up to a blank line: the paragraph that a person writes in one go."""
    for _ in range(14):
        line = generator.randrange(len(lines))
        if not lines.content(line).strip() or line and lines.content(line - 1).strip():
            continue
        last = line
        while last + 1 < len(lines) and last - line < 12 and lines.content(last + 1).strip():
            last += 1
        if last > line:
            return lines.starts[line] + lines.indent(line), lines.end(last)
    return None


def random_span(lines, generator):
    start = generator.randrange(max(1, len(lines.text) - 2))
    return start, min(len(lines.text), start + 1 + int(generator.expovariate(1 / 50)))


SITUATIONS = [(0.84, rest_of_line), (0.01, statement), (0.06, block_body), (0.02, rest_of_block),
              (0.03, inside_brackets), (0.03, inside_name), (0.01, some_lines)]


def choose_span(lines, generator):
    draw = generator.random()
    for share, situation in SITUATIONS:
        if draw < share:
            break
        draw -= share
    return situation(lines, generator) or rest_of_line(lines, generator) or random_span(lines, generator)
