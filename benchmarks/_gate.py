"""A gate on the syntax of the sources: what could run somebody else's file as code is not written at all.

Names are followed through imports (`from os import system as s`), and a function that is only mentioned counts as
called. What a few modules may do, and no other, stands in `ALLOWED`.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "src" / "bowerbird"
FORBIDDEN = {  # modules, functions: as a whole or as the beginning of a longer name
    "cPickle": "reads code", "_pickle": "reads code", "dill": "reads code",
    "cloudpickle": "reads code", "joblib": "reads code", "shelve": "reads code", "marshal": "reads code",
    "pickletools": "reads code", "imp": "runs a file", "runpy": "runs a file", "code": "runs a text",
    "builtins.eval": "runs a text", "builtins.exec": "runs a text", "builtins.compile": "makes code of a text",
    "builtins.__import__": "runs a file that is named", "torch.load": "reads pickles", "torch.save": "writes pickles",
    "torch.jit.load": "reads code", "torch.package": "reads code", "torch.export.load": "reads code",
    "torch.hub": "fetches code", "torch.ops.load_library": "runs a file", "numpy.fromregex": "is slow on some texts",
    "pandas.read_pickle": "reads pickles", "polars.read_delta": "fetches", "yaml.load": "makes objects",
    "yaml.unsafe_load": "makes objects", "yaml.full_load": "makes objects", "os.system": "runs a shell",
    "os.popen": "runs a shell", "os.execv": "runs a program", "os.execvp": "runs a program",
    "os.execl": "runs a program", "builtins": "reaches eval",
    "os.spawnv": "runs a program", "os.spawnl": "runs a program", "os.posix_spawn": "runs a program",
    "pty": "runs a shell", "commands": "runs a shell", "subprocess.getoutput": "runs a shell",
    "subprocess.getstatusoutput": "runs a shell", "asyncio.create_subprocess_shell": "runs a shell",
    "tempfile.mktemp": "names a file that another may make", "shutil.unpack_archive": "unpacks anywhere",
    "zipfile.ZipFile.extractall": "unpacks anywhere", "tarfile": "unpacks anywhere", "telnetlib": "talks in the clear",
    "ftplib": "talks in the clear", "xml": "follows entities", "lxml": "follows entities",
    "ssl._create_unverified_context": "trusts anybody",
}  # fmt: skip
WATCHED = {  # what only some may use
    "network": (
        "urllib.request", "urllib3", "http.client", "socket", "httpx", "requests", "aiohttp", "websockets", "smtplib",
    ),
    "programs": ("subprocess", "asyncio.create_subprocess_exec", "multiprocessing"),
    "graphs": ("onnx.load", "onnxruntime.InferenceSession", "onnxruntime.quantization"),
    "encoders": ("sentence_transformers", "transformers", "huggingface_hub", "efficientnet_lite_pytorch"),
    "libraries": ("ctypes", "cffi"),
    "pickles": ("pickle",),
    "imports by name": ("importlib.import_module", "importlib.util.spec_from_file_location", "importlib.metadata"),
}  # fmt: skip
ALLOWED = {
    "network": {  # a server that the caller names; where data sets are published
        "cli/client.py",
        "data/fetch.py",
        "serving/console/api.py",
        "serving/console/door.py",
    },
    "programs": {  # pip, ourselves: words, never a shell
        "data/fetch.py",
        "selection/worker.py",
        "serving/jobs.py",
        "serving/workers.py",
    },
    "graphs": {"recommender/export.py"},  # graphs that it has just written
    "encoders": {"features/texts.py", "features/images.py"},  # that a configuration names
    "libraries": {"core/room.py"},  # a setting of the C library that the process has
    "pickles": {"selection/worker.py"},  # over a pipe, of a process that it started itself
    "imports by name": {
        "__init__.py",
        "core/registry.py",
        "models/__init__.py",
        "selection/measure.py",
    },  # rooms, models and their entry points, sizes of what is installed
}
HIDDEN = ("__import__", "__builtins__", "__reduce__", "__globals__")  # texts that only `getattr` has a use for
KEYWORDS = {  # of any call: what they must not be
    "shell": "runs a shell", "allow_pickle": "reads pickles", "trust_remote_code": "runs what was fetched",
}  # fmt: skip
NEEDED = {"weights_only": "reads pickles", "verify": "trusts anybody"}  # of any call: what must not be turned off


def faults_of(source: str, name: str) -> list[str]:
    """Return what the gate holds against a source, each with its line."""
    tree = ast.parse(source, name)
    found = [(line, what) for line, what in _names(tree, name)]
    found += [(line, what) for line, what in _keywords(tree)]
    return [f"{name}:{line}: {what}" for line, what in sorted(set(found))]


def used(source: str, name: str, kind: str) -> bool:
    """Return whether a source uses what only some may."""
    return any(_begins(dotted, WATCHED[kind]) for _, dotted in _dotted(ast.parse(source, name)))


@cache
def sources() -> dict[str, str]:
    """Return the text of every source by its name."""
    paths = sorted(SOURCES.rglob("*.py"))
    return {path.relative_to(SOURCES).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def _names(tree: ast.AST, name: str) -> Iterator[tuple[int, str]]:
    for line, dotted in _dotted(tree):
        for one, why in FORBIDDEN.items():
            if _begins(dotted, (one,)):
                yield line, f"{one} {why}"
        for kind, names in WATCHED.items():
            if name not in ALLOWED[kind] and _begins(dotted, names):
                yield line, f"{dotted} belongs to {kind}, which {', '.join(sorted(ALLOWED[kind]))} may use"


def _begins(dotted: str, names: tuple[str, ...]) -> bool:
    return any(dotted == one or dotted.startswith(f"{one}.") for one in names)


def _dotted(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield every name of another module that is mentioned, as it is called there."""
    known = {one: f"builtins.{one}" for one in ("eval", "exec", "compile", "__import__")} | {"__builtins__": "builtins"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                yield node.lineno, one.name
                known[one.asname or one.name.split(".")[0]] = one.name if one.asname else one.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for one in node.names:
                yield node.lineno, f"{node.module}.{one.name}"
                known[one.asname or one.name] = f"{node.module}.{one.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and (dotted := _of(node, known)):
            yield node.lineno, dotted
        elif isinstance(node, ast.Constant) and node.value in HIDDEN:
            yield node.lineno, "builtins.__import__"


def _of(node: ast.expr, known: dict[str, str]) -> str:
    """Return the dotted name that an expression is, empty for any other."""
    if isinstance(node, ast.Name):
        return known.get(node.id, "")
    if isinstance(node, ast.Attribute) and (before := _of(node.value, known)):
        return f"{before}.{node.attr}"
    return ""


def _keywords(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Attribute) and node.func.attr == "load" and len(node.args) > 2:
            yield node.lineno, "allow_pickle=anything reads pickles"  # the third of numpy.load
        for one in node.keywords:
            value = one.value.value if isinstance(one.value, ast.Constant) else "anything"
            if one.arg in KEYWORDS and value is not False:
                yield node.lineno, f"{one.arg}={value} {KEYWORDS[one.arg]}"
            if one.arg in NEEDED and value is not True:
                yield node.lineno, f"{one.arg}={value} {NEEDED[one.arg]}"
        if isinstance(node.func, ast.Attribute) and node.func.attr == "extractall":
            yield node.lineno, "extractall unpacks anywhere"
