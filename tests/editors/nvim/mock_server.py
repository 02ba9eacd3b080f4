#!/usr/bin/env python3
"""A deterministic language server for the plugin's tests: what it suggests depends on the text before the cursor alone.

Every message received is written as one JSON line to $MOCK_LOG. $MOCK_ENCODING is the position encoding it picks,
$MOCK_DYNAMIC=1 makes it register inline completion after `initialized` instead of announcing it, $MOCK_LOADING=1 makes it
answer with nothing until the first request, and then report that it is ready.
"""
import json
import os
import sys
import threading

ENCODING = os.environ.get("MOCK_ENCODING", "utf-16")
DYNAMIC = os.environ.get("MOCK_DYNAMIC") == "1"
LOADING = os.environ.get("MOCK_LOADING") == "1"
# Long enough for an editor on a loaded machine to take in another key before the answer comes.
SLOW_SECONDS = 2.0
METHOD = "textDocument/inlineCompletion"
REQUEST_CANCELLED = -32800

# The text a suggestion begins with -> the suggestions: the first for an automatic request, all for an invoked one.
# A suggestion is given for every prefix of it that is at least as long as its key.
SUGGESTIONS = {
    "ret": ["return a + b  # first\n    # second"],
    "alt": ["alternative_one()", "alternative_two()", "alternative_three()"],
    "wor": ["word_one.two(three, 4)"],
    "lin": ["line one\nline two\nline three"],
    "uni": ["unicode = '日本語😀é' + tail"],
    "tab": ["tabbed {\n\tinner\n\t\tdeeper\n}"],
    "slow": ["slowly_computed()"],
    "cmd": ["cmd_with_command()"],
}

log = open(os.environ.get("MOCK_LOG", os.devnull), "a", encoding="utf-8")
documents = {}  # uri -> lines
pending = {}  # request id -> timer
write_lock = threading.Lock()


def record(entry):
    log.write(json.dumps(entry, ensure_ascii=False) + "\n")
    log.flush()


def send(message):
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    with write_lock:
        sys.stdout.buffer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        sys.stdout.buffer.flush()


def read():
    length = 0
    while line := sys.stdin.buffer.readline().strip():
        name, value = line.split(b":", 1)
        if name.lower() == b"content-length":
            length = int(value)
    if length == 0:
        sys.exit(0)
    return json.loads(sys.stdin.buffer.read(length))


def to_units(text):
    """The length of `text` in units of the position encoding."""
    if ENCODING == "utf-8":
        return len(text.encode())
    if ENCODING == "utf-16":
        return len(text.encode("utf-16-le")) // 2
    return len(text)


def to_index(line, units):
    for index in range(len(line) + 1):
        if to_units(line[:index]) >= units:
            return index
    return len(line)


def apply_change(lines, change):
    if "range" not in change:
        return change["text"].split("\n")
    start, end = change["range"]["start"], change["range"]["end"]
    at = lambda row: lines[row] if row < len(lines) else ""
    before = at(start["line"])[: to_index(at(start["line"]), start["character"])]
    after = at(end["line"])[to_index(at(end["line"]), end["character"]):]
    return lines[: start["line"]] + (before + change["text"] + after).split("\n") + lines[end["line"] + 1:]


def item(row, start, end, text, **more):
    return {
        "insertText": text,
        "range": {"start": {"line": row, "character": start}, "end": {"line": row, "character": end}},
        **more,
    }


def items_at(lines, position, invoked):
    row = position["line"]
    line = lines[row] if row < len(lines) else ""
    column = to_index(line, position["character"])
    before, after = line[:column], line[column:]
    if before.endswith("norange"):
        return [{"insertText": "_item()"}]
    if before.endswith("crlf"):
        return [item(row, position["character"], position["character"], "_one\r\n_two")]
    if before.endswith("call(") and after.startswith(")"):
        # Replaces the closing bracket after the cursor and brings it back.
        return [item(row, position["character"], position["character"] + 1, "first, second)")]
    if before.endswith("swap(") and after.startswith("old)"):
        # Replaces the rest of the line by something else.
        return [item(row, position["character"], position["character"] + 4, "new_value)")]
    if before.endswith("block(") and after:
        return [item(row, position["character"], position["character"], "\n    inner,\n")]
    for key, texts in SUGGESTIONS.items():
        start = before.rfind(key)
        if start < 0:
            continue
        typed = before[start:]
        found = [text for text in texts if text.startswith(typed) and text != typed]
        command = {"command": {"title": "accepted", "command": "mock.accepted", "arguments": [1]}} if key == "cmd" else {}
        first, last = to_units(before[:start]), position["character"]
        return [item(row, first, last, text, **command) for text in (found if invoked else found[:1])]
    return []


def answer(request_id, result):
    if pending.pop(request_id, None) is not None:
        send({"id": request_id, "result": result})


def status(state):
    return {"state": state, "model": "mock", "device": "none", "lastLatencyMs": 12.4}


def inline_completion(message):
    global LOADING
    params = message["params"]
    if LOADING:
        LOADING = False
        send({"id": message["id"], "result": None})
        send({"method": "lacuna/status", "params": status("ready")})
        return
    lines = documents.get(params["textDocument"]["uri"], [""])
    line = lines[params["position"]["line"]] if params["position"]["line"] < len(lines) else ""
    if "failing" in line:
        send({"id": message["id"], "error": {"code": -32803, "message": "the mock fails as it was told to"}})
        return
    if "crash" in line:
        sys.stderr.write("the mock ends as it was told to\n")
        sys.stderr.flush()
        os._exit(3)
    items = items_at(lines, params["position"], params["context"]["triggerKind"] == 1)
    delay = SLOW_SECONDS if "slow" in line else 0
    timer = threading.Timer(delay, answer, (message["id"], {"items": items}))
    timer.daemon = True
    pending[message["id"]] = timer
    timer.start()


def cancel(request_id):
    timer = pending.pop(request_id, None)
    if timer is not None:
        timer.cancel()
        send({"id": request_id, "error": {"code": REQUEST_CANCELLED, "message": "cancelled"}})


def execute(message):
    command = message["params"]["command"]
    results = {
        "lacuna.status": {"state": "ready", "model": "mock", "engine": {"device": "none"}},
        "lacuna.explain": {"context": ["definitions of the mock"], "stages": {"promptMs": 1.5}},
        "lacuna.restartEngine": None,
        "mock.accepted": None,
        "mock.documents": {uri: "\n".join(lines) for uri, lines in documents.items()},
    }
    if command in results:
        send({"id": message["id"], "result": results[command]})
    else:
        send({"id": message["id"], "error": {"code": -32602, "message": f"no command {command}"}})


def initialized(options):
    if DYNAMIC:
        send({
            "id": "register",
            "method": "client/registerCapability",
            "params": {"registrations": [{"id": "inline", "method": METHOD, "registerOptions": {"documentSelector": None}}]},
        })
    send({"id": "progress", "method": "window/workDoneProgress/create", "params": {"token": "load"}})
    for value in (
        {"kind": "begin", "title": "loading", "percentage": 0},
        {"kind": "report", "percentage": 50},
        {"kind": "end"},
    ):
        send({"method": "$/progress", "params": {"token": "load", "value": value}})
    send({"method": "window/logMessage", "params": {"type": 3, "message": "the mock is ready"}})
    if options.get("statusNotifications"):
        send({"method": "lacuna/status", "params": status("loading" if LOADING else "ready")})


def main():
    options = {}
    while True:
        message = read()
        method, params = message.get("method"), message.get("params")
        if method:
            record({"method": method, "id": message.get("id"), "params": params})
        if method == "initialize":
            options = params.get("initializationOptions") or {}
            capabilities = {
                "positionEncoding": ENCODING,
                "textDocumentSync": {"openClose": True, "change": 2},
                "executeCommandProvider": {"commands": ["lacuna.explain", "lacuna.status", "lacuna.restartEngine", "mock.accepted"]},
                "workspace": {"workspaceFolders": {"supported": True, "changeNotifications": True}},
            }
            if not DYNAMIC:
                capabilities["inlineCompletionProvider"] = True
            send({"id": message["id"], "result": {"serverInfo": {"name": "mock"}, "capabilities": capabilities}})
        elif method == "initialized":
            initialized(options)
        elif method == "textDocument/didOpen":
            documents[params["textDocument"]["uri"]] = params["textDocument"]["text"].split("\n")
        elif method == "textDocument/didChange":
            uri = params["textDocument"]["uri"]
            for change in params["contentChanges"]:
                documents[uri] = apply_change(documents[uri], change)
        elif method == "textDocument/didClose":
            documents.pop(params["textDocument"]["uri"], None)
        elif method == METHOD:
            inline_completion(message)
        elif method == "$/cancelRequest":
            cancel(params["id"])
        elif method == "workspace/executeCommand":
            execute(message)
        elif method == "shutdown":
            send({"id": message["id"], "result": None})
        elif method == "exit":
            os._exit(0)
        elif method and message.get("id") is not None:
            send({"id": message["id"], "error": {"code": -32601, "message": f"no method {method}"}})


if __name__ == "__main__":
    main()
