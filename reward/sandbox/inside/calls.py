"""Second part: a program that answers calls, and the tests that call it.

They are two jobs in two sandboxes, joined by a socket over which only data passes: each record is a
length of four bytes and JSON. The program never sees a test, and cannot reach a verdict.
"""

def make_prelude():
    """Names that answers to "complete this function" leave to their harness: known like builtins, so
    that none of them passes for a function that the answer lacks."""
    names = {}
    for module in (math, itertools, functools, bisect, heapq, collections, operator, typing):
        public = getattr(module, "__all__", None) or [n for n in dir(module) if n[0] != "_"]
        names.update({name: getattr(module, name) for name in public})
    for module in (bisect, collections, copy, datetime, functools, heapq, itertools, json, math,
                   operator, os, random, re, statistics, string, sys, time, typing):
        names[module.__name__] = module
    return {**names, **vars(builtins)}


PRELUDE = make_prelude()


class Channel:
    def __init__(self):
        self.socket = socket.socket(fileno=3)

    def send(self, value):
        data = json.dumps(value).encode()
        if len(data) > MAX_RECORD_BYTES:
            raise ValueError("the value is too large")
        self.socket.sendall(struct.pack(">I", len(data)) + data)

    def receive(self):
        (size,) = struct.unpack(">I", self.read(4))
        if size > MAX_RECORD_BYTES:
            raise LostProgram("the record is too large")
        return json.loads(self.read(size))

    def read(self, size):
        data = bytearray()
        while len(data) < size:
            part = self.socket.recv(min(size - len(data), 1 << 20))
            if not part:
                raise LostProgram("the program ended before it answered")
            data += part
        return bytes(data)


BUILTIN_TYPES = {name: kind for name, kind in vars(builtins).items() if isinstance(kind, type)}


class Codec:
    """Python values as JSON. What is not plain data stays where it is and goes as a number."""

    PAIRS = (("Counter", collections.Counter), ("OrderedDict", collections.OrderedDict),
             ("defaultdict", collections.defaultdict), ("dict", dict))
    ITEMS = (("tuple", tuple), ("set", set), ("frozenset", frozenset), ("deque", collections.deque))
    TEXTS = (("Fraction", fractions.Fraction), ("Decimal", decimal.Decimal),
             ("complex", complex))

    def encode(self, value):
        # A subclass is sent as its base: only data passes, no behaviour.
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int):
            return int.__int__(value)
        if isinstance(value, float):
            return float.__float__(value)
        if isinstance(value, list):
            return [self.encode(item) for item in list.__iter__(value)]
        if isinstance(value, (bytes, bytearray)):
            return {"t": "bytes", "v": bytes(value).hex()}
        if isinstance(value, range):
            return {"t": "range", "v": [value.start, value.stop, value.step]}
        for name, kind in self.PAIRS:
            if isinstance(value, kind):
                return {"t": name, "v": [[self.encode(key), self.encode(item)]
                                         for key, item in dict.items(value)]}
        for name, kind in self.ITEMS:
            if isinstance(value, kind):
                return {"t": name, "v": [self.encode(item) for item in kind.__iter__(value)]}
        for name, kind in self.TEXTS:
            if isinstance(value, kind):
                return {"t": name, "v": kind.__str__(value)}
        if isinstance(value, type) and getattr(builtins, value.__name__, None) is value:
            return {"t": "type", "v": value.__name__}
        return self.encode_other(value)

    def decode(self, value):
        if isinstance(value, list):
            return [self.decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        name, content = value["t"], value["v"]
        if name == "bytes":
            return bytes.fromhex(content)
        if name == "range":
            return range(*content)
        if name == "type":
            return BUILTIN_TYPES[content]
        for known, kind in self.PAIRS:
            if name == known:
                pairs = {self.decode(key): self.decode(item) for key, item in content}
                return kind(None, pairs) if name == "defaultdict" else kind(pairs)
        for known, kind in self.ITEMS:
            if name == known:
                return kind(self.decode(item) for item in content)
        for known, kind in self.TEXTS:
            if name == known:
                return kind(content)
        return self.decode_other(name, content)


class ProgramCodec(Codec):
    """The program's side: its objects by number, its names by name."""

    def __init__(self, namespace):
        self.namespace, self.objects = namespace, []

    def encode_other(self, value):
        self.objects.append(value)
        return {"t": "object", "v": len(self.objects) - 1}

    def decode_other(self, kind, content):
        if kind == "object":
            return self.objects[content]
        if content in self.namespace:
            return self.namespace[content]
        if kind == "function" and "Solution" in self.namespace:
            return getattr(self.namespace["Solution"](), content)
        raise NameError(f"name '{content}' is not defined")


OPERATIONS = {"get": lambda value: value, "call": lambda function, *a, **k: function(*a, **k),
              "getattr": getattr, "setattr": setattr, "iter": iter, "next": next, "len": len,
              "getitem": operator.getitem, "setitem": operator.setitem}


def serve_calls(request, source):
    channel = Channel()
    codec = ProgramCodec(new_module("solution", source, PRELUDE))
    while True:
        try:
            record = channel.receive()
        except LostProgram:
            return 0  # the tests have ended
        reply = {"nonce": record["nonce"]}
        try:
            arguments = [codec.decode(value) for value in record["args"]]
            keywords = {name: codec.decode(value) for name, value in record["kwargs"].items()}
            result = OPERATIONS[record["op"]](*arguments, **keywords)
            reply["value"] = codec.encode(result)
            # Functions may change a list in place: the caller's copy follows.
            reply["args"] = {str(i): codec.encode(value) for i, value in enumerate(arguments)
                             if isinstance(value, (list, dict, set, bytearray))}
        except Exception as error:
            reply = {"nonce": record["nonce"],
                     "error": [type(error).__name__, str(error)[:1000]]}
        channel.send(reply)


class CallError(Exception):
    """An exception of the program that is not one of Python's own."""


class LostProgram(Exception):
    """The program has ended, or does not keep to the rules of the channel."""


class InvalidTests(Exception):
    """The tests cannot be run, whatever the program is."""


class Remote:
    """An object of the program. It can be used and handed back, but never compared or believed:
    its methods run on the other side and only data returns."""

    def __init__(self, program, number):
        object.__setattr__(self, "_at", (program, number))

    def _do(self, operation, *arguments, **keywords):
        return self._at[0].do(operation, self, *arguments, **keywords)

    def __call__(self, *arguments, **keywords):
        return self._do("call", *arguments, **keywords)

    def __getattr__(self, name):
        return self._do("getattr", name)

    def __setattr__(self, name, value):
        self._do("setattr", name, value)

    def __iter__(self):
        return self._do("iter")

    def __next__(self):
        return self._do("next")

    def __len__(self):
        return self._do("len")

    def __getitem__(self, key):
        return self._do("getitem", key)

    def __setitem__(self, key, value):
        self._do("setitem", key, value)

    def __bool__(self):
        raise TypeError("the value is an object of the program, expected plain data")


class Program(Codec):
    """The tests' side of the channel."""

    def __init__(self):
        self.channel = Channel()

    def encode_other(self, value):
        if isinstance(value, Remote):
            return {"t": "object", "v": value._at[1]}
        raise TypeError(f"a test hands over a {type(value).__name__}, expected plain data")

    def decode_other(self, kind, content):
        if kind != "object" or not isinstance(content, int):
            raise LostProgram("the program's answer is malformed")
        return Remote(self, content)

    def do(self, operation, *arguments, **keywords):
        return self.request(operation, [self.encode(value) for value in arguments], arguments,
                            {name: self.encode(value) for name, value in keywords.items()})

    def named(self, operation, kind, name, *arguments):
        target = {"t": kind, "v": name}
        return self.request(operation, [target] + [self.encode(value) for value in arguments],
                            (None,) + arguments, {})

    def request(self, operation, encoded, arguments, keywords):
        nonce = os.urandom(8).hex()
        self.channel.send({"nonce": nonce, "op": operation, "args": encoded, "kwargs": keywords})
        try:
            reply = self.channel.receive()
            if reply["nonce"] != nonce:
                raise LostProgram("the program answered what it was not asked")
            if "error" in reply:
                raise self.exception(*reply["error"])
            for index, value in reply["args"].items():
                self.update(arguments[int(index)], self.decode(value))
            return self.decode(reply["value"])
        except (ValueError, KeyError, IndexError, TypeError, AttributeError,
                RecursionError) as error:
            if getattr(error, "is_remote", False):
                raise
            raise LostProgram(f"the program's answer is malformed: {error!r}") from None

    @staticmethod
    def exception(name, text):
        kind = getattr(builtins, str(name), None)
        is_known = isinstance(kind, type) and issubclass(kind, Exception)
        try:
            error = kind(text) if is_known else CallError(f"{name}: {text}")
        except TypeError:
            error = CallError(f"{name}: {text}")
        error.is_remote = True
        return error

    @staticmethod
    def update(mine, theirs):
        if type(mine) is not type(theirs) or mine == theirs:
            return
        if isinstance(mine, (list, bytearray)):
            mine[:] = theirs
        else:
            mine.clear()
            mine.update(theirs)


def unbound_names(tree):
    """Names that the tests use and do not define; if there are none, the builtins that they call
    first: a function under test may be called "sum"."""
    import ast
    bound, loaded, called = set(), [], []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (loaded.append if isinstance(node.ctx, ast.Load) else bound.add)(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
        if isinstance(node, ast.Assert):
            called += [part.func.id for part in ast.walk(node.test)
                       if isinstance(part, ast.Call) and isinstance(part.func, ast.Name)][:1]
    known = bound | set(dir(builtins))
    free = [name for name in dict.fromkeys(loaded) if name not in known]
    return free or [name for name in dict.fromkeys(called) if name not in bound]


def run_tests(program, source, names):
    import ast
    import importlib
    try:
        tree = ast.parse(source, "tests.py")
        code = compile(tree, "tests.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise InvalidTests(f"the tests do not compile: {error}") from None
    program.do("len", "")  # a program that does not load passes no test, whatever the test does
    namespace = {"__name__": "tests"}
    for name in names + unbound_names(tree):
        if name not in names and name in sys.stdlib_module_names:
            namespace[name] = importlib.import_module(name)
            continue
        try:
            namespace[name] = program.named("get", "name", name)
        except NameError:
            pass  # the test that needs it says so
    exec(code, namespace)


def as_lists(value):
    if isinstance(value, (list, tuple)):
        return [as_lists(item) for item in value]
    if isinstance(value, dict):
        return {key: as_lists(item) for key, item in value.items()}
    return value


def run_call(program, case):
    result = as_lists(program.named("call", "function", case["function"], *case["args"]))
    assert any(result == expected for expected in case["expected"]), (
        f"{case['function']} returned {repr(result)[:200]}, "
        f"expected {repr(case['expected'][0])[:200]}")


def judge(request, source):
    """Runs tests against the program at the other end; reports the outcome on stdout."""
    out = os.dup(1)
    sys.stdout = sys.__stdout__ = sys.stderr = sys.__stderr__ = open(os.devnull, "w")
    program = Program()
    outcome, detail = "pass", ""
    try:
        if request["kind"] == "judge_call":
            run_call(program, json.loads(source))
        else:
            run_tests(program, source, request["names"])
    except InvalidTests as error:
        outcome, detail = "invalid", str(error)
    except (LostProgram, OSError) as error:
        outcome, detail = "lost", str(error)
    except AssertionError as error:
        outcome, detail = "fail", str(error) or failed_line(error, source)
    except BaseException as error:
        outcome, detail = "error", f"{type(error).__name__}: {error}"
    record = {"nonce": request["nonce"], "outcome": outcome, "detail": detail[:2000]}
    os.write(out, json.dumps(record).encode())
    return 0


def failed_line(error, source):
    trace = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    lines = source.decode("utf-8", "replace").splitlines()
    return lines[trace.tb_lineno - 1].strip() if trace.tb_lineno <= len(lines) else ""


JOBS = {"script": run_script, "serve": serve_calls, "judge_tests": judge, "judge_call": judge}
