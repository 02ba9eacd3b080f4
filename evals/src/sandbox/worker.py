# The fork server inside a Python sandbox. Each job is a connection passed over standard input's socket; a fork reads
# the job from it, confines itself further, runs it and answers on the connection. The server itself never reads what
# a job sends. Nothing that a program process says decides a pass: see "check", which runs in another sandbox.

import ast, bisect, builtins, collections, concurrent.futures, contextlib, copy, ctypes, dataclasses, datetime, decimal
import enum, faulthandler, fractions, functools, gc, hashlib, heapq, inspect, io, itertools, json, math, multiprocessing
import operator, os, random, re, resource, select, shutil, signal, socket, statistics, string, struct, subprocess, sys
import tempfile, textwrap, threading, time, traceback, typing

try:  # Loaded in the reference as well, before it takes away what numpy's loading needs.
    import numpy
except ImportError:
    pass

SCRATCH = os.getcwd()
MEMORY_BYTES = int(os.environ.pop("LACUNA_MEMORY"))
FILTERS = [bytes.fromhex(text) for text in os.environ.pop("LACUNA_FILTERS").split(",") if text]
MAX_MESSAGE_BYTES = 256 << 20
MAX_RESULT_CHARACTERS = 8192
LIBC = ctypes.CDLL(None, use_errno=True)


# ---- connection: length-prefixed JSON ----


class Gone(BaseException):
    """The other side went away or broke the protocol."""


class Connection:
    def __init__(self, descriptor):
        self.socket = socket.socket(fileno=descriptor)

    def receive(self, timeout=None):
        self.socket.settimeout(timeout)
        (length,) = struct.unpack("<I", self._exactly(4))
        if length > MAX_MESSAGE_BYTES:
            raise Gone("message too long")
        try:
            return json.loads(self._exactly(length))
        except (ValueError, RecursionError) as error:
            raise Gone("not a message") from error

    def _exactly(self, count):
        parts = []
        while count:
            try:
                part = self.socket.recv(min(count, 1 << 20))
            except TimeoutError:
                raise
            except OSError as error:
                raise Gone("closed") from error
            if not part:
                raise Gone("closed")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def send(self, message):
        body = json.dumps(message).encode()
        try:
            self.socket.sendall(struct.pack("<I", len(body)) + body)
        except OSError as error:
            raise Gone("closed") from error


# ---- values: plain data crosses, everything else stays where it is and is named by a number ----


class Codec:
    """Values to and from JSON. `known` maps numbers to objects that stay on this side; `proxy` makes their stand-ins."""

    def __init__(self, proxy=None):
        self.known = []
        self.proxy = proxy

    def encode(self, value):
        if value is None or value is True or value is False:
            return value
        kind = type(value)
        if kind is str or kind is float:
            return value
        if kind is int:
            return value if -(1 << 62) < value < 1 << 62 else ["i", hex(value)]
        if kind is list:
            return ["l", [self.encode(item) for item in value]]
        if kind is tuple:
            return ["t", [self.encode(item) for item in value]]
        if kind is dict:
            return ["d", [[self.encode(key), self.encode(item)] for key, item in value.items()]]
        if kind is set or kind is frozenset:
            return ["s" if kind is set else "f", [self.encode(item) for item in value]]
        if kind is bytes or kind is bytearray:
            return ["b" if kind is bytes else "B", value.hex()]
        if kind is complex:
            return ["c", value.real, value.imag]
        if kind is range:
            return ["r", value.start, value.stop, value.step]
        if kind is decimal.Decimal:
            return ["D", str(value)]
        if kind is fractions.Fraction:
            return ["F", hex(value.numerator), hex(value.denominator)]
        if isinstance(value, Remote):
            return ["h", object.__getattribute__(value, "_number")]
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, (numpy.generic, numpy.ndarray)) and value.dtype.kind in "biufcU":
            return ["n", value.dtype.str, list(value.shape), isinstance(value, numpy.ndarray), self.encode(value.tolist())]
        for base in (str, int, float, list, tuple, dict, set, frozenset):
            if isinstance(value, base):
                return self.encode(base(value))
        self.known.append(value)
        return ["h", len(self.known) - 1]

    def decode(self, value):
        if not isinstance(value, list):
            if isinstance(value, dict):
                raise Gone("not a value")
            return value
        tag, rest = value[0], value[1:]
        if tag == "i":
            return int(rest[0], 16)
        if tag == "l":
            return [self.decode(item) for item in rest[0]]
        if tag == "t":
            return tuple([self.decode(item) for item in rest[0]])
        if tag == "d":
            return {self.decode(key): self.decode(item) for key, item in rest[0]}
        if tag == "s":
            return {self.decode(item) for item in rest[0]}
        if tag == "f":
            return frozenset([self.decode(item) for item in rest[0]])
        if tag == "b":
            return bytes.fromhex(rest[0])
        if tag == "B":
            return bytearray.fromhex(rest[0])
        if tag == "c":
            return complex(float(rest[0]), float(rest[1]))
        if tag == "r":
            return range(int(rest[0]), int(rest[1]), int(rest[2]))
        if tag == "D":
            return decimal.Decimal(rest[0])
        if tag == "F":
            return fractions.Fraction(int(rest[0], 16), int(rest[1], 16))
        if tag == "n":
            return self._decode_numpy(*rest)
        if tag == "h":
            number = int(rest[0])
            return self.proxy(number) if self.proxy else self.known[number]
        raise Gone("not a value")

    def _decode_numpy(self, dtype, shape, is_array, items):
        if not re.fullmatch(r"[<>|=]?[biufcU][0-9]{1,6}", dtype):
            raise Gone("not a dtype")
        import numpy

        made = numpy.array(self.decode(items), dtype=numpy.dtype(dtype)).reshape([int(length) for length in shape])
        return made if is_array else made[()]


class Remote:
    """Stands on the checker's side for an object that is not plain data. Compares by identity: an object that claims
    to equal everything claims it where nobody asks."""

    __slots__ = ("_program", "_number")

    def __init__(self, program, number):
        self._program = program
        self._number = number

    def __call__(self, *arguments, **keywords):
        return self._program.call(["h", self._number], arguments, keywords)

    def __iter__(self):
        return iter(self._program.ask({"do": "list", "of": self._number}))

    def __bool__(self):
        return self._program.ask({"do": "truth", "of": self._number}) is True


# ---- confinement of one fork ----


class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_void_p)]


def confine(job):
    memory = job.get("memory_bytes") or MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    seconds = math.ceil(job["cpu_seconds"])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    for program in FILTERS:
        buffer = ctypes.create_string_buffer(program, len(program))
        header = Filter(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
        if LIBC.prctl(22, 2, ctypes.byref(header), 0, 0) != 0:  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
            os._exit(70)


class Unreadable(io.StringIO):
    """Swallows output; reading from it fails, as standard input does in the reference."""

    def read(self, *_, **__):
        raise OSError

    readline = readlines = read

    def readable(self):
        return False


@contextlib.contextmanager
def swallowed():
    kept = sys.stdin, sys.stdout, sys.stderr
    sys.stdin = sys.stdout = sys.stderr = Unreadable()
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = kept


class OutOfTime(Exception):
    pass


@contextlib.contextmanager
def time_limit(seconds):
    def ring(_signal, _frame):
        raise OutOfTime("Timed out!")

    signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


# What the reference harness takes away, so that a program which trips over it fails here with the same words.
TAKEN_FROM_OS = (
    "kill system putenv remove removedirs rmdir fchdir setuid fork forkpty killpg rename renames truncate replace "
    "unlink fchmod fchown chmod chown chroot lchflags lchmod lchown getcwd chdir"
).split()


def take_away():
    faulthandler.disable()
    builtins.exit = builtins.quit = builtins.help = None
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in TAKEN_FROM_OS:
        setattr(os, name, None)
    shutil.rmtree = shutil.move = shutil.chown = None
    subprocess.Popen = None
    for name in ("ipdb", "joblib", "resource", "psutil", "tkinter"):
        sys.modules[name] = None


def describe(error):
    return str(error)[:MAX_RESULT_CHARACTERS]


# ---- the jobs ----


def sample(job, connection, peer):
    """A sample: first its functions are called from the checker's sandbox, with no test in this process; then, for the
    reference's verdict and words, program and test run in one namespace. The second answer counts only as a failure."""
    take_away()
    try:
        serve(job, peer)
    except Gone:
        pass
    if job["test"] is not None:
        connection.send(whole(job))


def serve(job, peer):
    codec = Codec()
    names = {}
    try:
        with swallowed():
            exec("".join(job["body"]), names)
        peer.send({"ready": True})
    except BaseException as error:
        peer.send({"ready": False, "error": describe(error)})
    while True:
        request = peer.receive()
        with swallowed():
            answer = respond(request, names, codec)
        peer.send(answer)


def whole(job):
    program = "".join(job["body"]) + "\n" + job["test"] + "\n" + job["call"]
    try:
        names = {}
        with swallowed():
            with time_limit(job["timeout_seconds"]):
                exec(program, names)
        return "passed"
    except OutOfTime:
        return "timed out"
    except BaseException as error:
        return "failed: " + describe(error)


def respond(request, names, codec):
    kind = request["do"]
    try:
        if kind == "list":
            return {"value": codec.encode(list(codec.known[request["of"]]))}
        if kind == "truth":
            return {"value": bool(codec.known[request["of"]])}
        target = request["target"]
        function = names[target] if isinstance(target, str) else codec.decode(target)
        arguments = [codec.decode(item) for item in request["arguments"]]
        keywords = {name: codec.decode(item) for name, item in request["keywords"].items()}
        started = time.perf_counter()
        value = function(*arguments, **keywords)
        answer = {"value": codec.encode(value), "seconds": time.perf_counter() - started}
        if request.get("effects"):
            after = [codec.encode(item) for item in arguments]
            answer["after"] = [new if new != old else None for new, old in zip(after, request["arguments"])]
        return answer
    except RecursionError as error:
        return {"raised": ["RecursionError", describe(error)]}
    except BaseException as error:
        return {"raised": [type(error).__name__, describe(error)]}


class Program:
    """The checker's end of a served program."""

    def __init__(self, connection):
        self.connection = connection
        self.codec = Codec(proxy=lambda number: Remote(self, number))
        self.broken = None

    def begin(self, timeout):
        answer = self.connection.receive(timeout)
        if answer.get("ready") is not True:
            raise Gone("the program alone does not load: " + str(answer.get("error"))[:200])

    def exchange(self, request, timeout=None):
        if self.broken:
            raise Gone(self.broken)
        try:
            self.connection.send(request)
            answer = self.connection.receive(timeout)
            if not isinstance(answer, dict):
                raise Gone("not an answer")
            return answer
        except Gone as error:
            self.broken = str(error)
            raise

    def result(self, answer):
        try:
            if "raised" in answer:
                name, message = answer["raised"]
                kind = getattr(builtins, str(name), None)
                known = isinstance(kind, type) and issubclass(kind, Exception)
                raised = (kind if known else Exception)(str(message))
            else:
                return self.codec.decode(answer["value"])
        except (Gone, KeyError, TypeError, ValueError, IndexError, ArithmeticError, RecursionError, AttributeError) as error:
            self.broken = "an answer that is not plain data"
            raise Gone(self.broken) from error
        raise raised

    def ask(self, request):
        return self.result(self.exchange(request))

    def function(self, name):
        def called(*arguments, **keywords):
            return self.call(name, arguments, keywords)

        return called

    def call(self, target, arguments, keywords):
        plain = [self.codec.encode(item) for item in arguments]
        named = {name: self.codec.encode(item) for name, item in keywords.items()}
        request = {"do": "call", "target": target, "arguments": plain, "keywords": named, "effects": True}
        answer = self.exchange(request)
        value = self.result(answer)
        for argument, after in zip(arguments, answer.get("after") or ()):
            if after is not None:
                write_back(argument, self.codec.decode(after))
        return value


def write_back(argument, after):
    """What a function did to a list, dict or set it was given shows in the caller's own."""
    if type(argument) is not type(after):
        return
    if isinstance(argument, list):
        argument[:] = after
    elif isinstance(argument, (dict, set)):
        argument.clear()
        argument.update(after)


def check(job, connection, peer):
    """The test, with every function of the program replaced by a call into the other sandbox."""
    program = Program(peer)
    names = {}
    result = "passed"
    try:
        with swallowed(), time_limit(job["timeout_seconds"]):
            program.begin(job["timeout_seconds"])
            for definitions in job["trusted"]:
                try:
                    names = {}
                    exec(definitions, names)
                    break
                except (SyntaxError, NameError):
                    continue
            for name in job["names"] or free_names(job["test"], names):
                names[name] = program.function(name)
            exec(job["test"] + "\n" + job["call"], names)
    except OutOfTime:
        result = "timed out"
    except BaseException as error:
        result = "failed: " + describe(error)
    if program.broken and result == "passed":
        result = "failed: " + program.broken
    connection.send(result)


def free_names(test, known):
    """The names that a test uses and nobody but the program can define."""
    used = [node for node in ast.walk(ast.parse(test)) if isinstance(node, ast.Name)]
    stored = {node.id for node in used if not isinstance(node.ctx, ast.Load)}
    return {node.id for node in used} - stored - set(known) - set(dir(builtins))


def outputs(job, connection, _peer):
    """Runs trusted code on inputs: the expected outputs and the times they take."""
    codec = Codec()
    names = {}
    values, seconds = [], []
    with swallowed():
        exec("".join(job["body"]), names)
        function = names[job["name"]]
        for arguments in itertools.chain(*job["inputs"]):
            given = copy.deepcopy(arguments)
            started = time.perf_counter()
            value = function(*given)
            seconds.append(time.perf_counter() - started)
            values.append(codec.encode(value))
    connection.send({"values": values, "seconds": seconds})


def compare(job, connection, peer):
    """The program's outputs on inputs against the expected ones, by the rules of the augmented test suites."""
    program = Program(peer)
    codec = program.codec
    result = "passed"
    deadline = time.monotonic() + job["timeout_seconds"]
    names = {}
    try:
        with swallowed():
            exec(job["trusted"], names)
            program.begin(job["timeout_seconds"])
            for arguments, expected, seconds in zip(itertools.chain(*job["inputs"]), job["expected"], job["limits"]):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                request = {"do": "call", "target": job["name"], "arguments": [codec.encode(a) for a in arguments], "keywords": {}}
                actual = program.result(program.exchange(request, min(left, seconds)))
                if not agrees(job, names, arguments, actual, codec.decode(expected)):
                    raise AssertionError(f"wrong output for {str(arguments)[:200]}")
    except TimeoutError:
        result = "timed out"
    except BaseException as error:
        result = "failed: " + describe(error)
    if program.broken and result == "passed":
        result = "failed: " + program.broken
    connection.send(result)


def agrees(job, names, arguments, actual, expected):
    tolerance = job["tolerance"]
    if job["oracle"]:  # Several answers are right; the definitions say which residue must vanish.
        return abs(names[job["oracle"]](*arguments, actual)) <= tolerance
    if tolerance == 0 and all_floats(expected):
        tolerance = 1e-6
    if actual == expected:
        return True
    if tolerance == 0 or type(actual) is not type(expected):
        return False
    if isinstance(expected, (list, tuple)) and len(actual) != len(expected):
        return False
    actual, expected = flatten(actual), flatten(expected)
    if actual is None or expected is None or len(actual) != len(expected):
        return False
    return all(a == b or abs(a - b) <= tolerance + 1e-7 * abs(b) for a, b in zip(actual, expected))


def all_floats(value):
    if isinstance(value, (list, tuple)):
        return len(value) > 0 and all(isinstance(item, float) for item in value)
    return isinstance(value, float)


def flatten(value):
    """The numbers of a nested list, or None if anything else is in it."""
    if isinstance(value, (bool, int, float, complex)):
        return [value]
    if not isinstance(value, (list, tuple)):
        return None
    parts = [flatten(item) for item in value]
    return None if None in parts else [number for part in parts for number in part]


JOBS = {"sample": sample, "check": check, "outputs": outputs, "compare": compare}


# ---- the server ----


def run_job(descriptors):
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    os.chdir(SCRATCH)
    connections = [Connection(descriptor) for descriptor in descriptors]
    job = connections[0].receive(10)
    connections[0].socket.settimeout(None)
    confine(job)
    JOBS[job["kind"]](job, connections[0], connections[1] if len(connections) > 1 else None)


def main():
    if "" in sys.path:
        sys.path.remove("")
    control = socket.socket(fileno=0)
    gc.collect()
    gc.freeze()
    control.sendall(b"R")
    exit_now = os._exit
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        if not message:
            exit_now(0)
        if message != b"J":
            continue  # A kill that came after its job had ended.
        child = os.fork()
        if child == 0:
            try:
                run_job(descriptors)
            except BaseException:
                pass
            exit_now(0)
        for descriptor in descriptors:
            os.close(descriptor)
        watch(control, child)


def watch(control, child):
    """Waits for the job to end, or for the harness to end it."""
    handle = os.pidfd_open(child)
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(handle, select.POLLIN)
    while True:
        ready = [descriptor for descriptor, _ in poll.poll()]
        if handle in ready:
            break
        if control.recv(1) != b"K":
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            os._exit(0)
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    os.close(handle)
    _, status = os.waitpid(child, 0)
    control.sendall(b"E" + struct.pack("<i", status))


main()
