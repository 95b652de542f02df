"""The gate on the syntax of the sources: nothing in them runs somebody else's file, and it sees what would."""

import pytest

from _gate import ALLOWED, WATCHED, faults_of, sources, used

BAD = {
    "pickle": "import pickle\npickle.loads(data)",
    "pickle by another name": "import pickle as p\np.loads(data)",
    "a part of pickle": "from pickle import loads",
    "C pickle": "import _pickle",
    "dill": "import dill",
    "cloudpickle": "from cloudpickle import load",
    "joblib": "import joblib\njoblib.load(path)",
    "shelve": "import shelve",
    "marshal": "import marshal",
    "eval": "def f(text):\n    return eval(text)",
    "eval by another name": "run = eval\nrun('1')",
    "eval from builtins": "from builtins import eval as e\ne('1')",
    "builtins.exec": "import builtins\nbuiltins.exec(text)",
    "exec": "exec(text)",
    "compile": "code = compile(text, 'x', 'exec')",
    "__import__": "__import__(name)",
    "getattr": "getattr(thing, '__builtins__')",
    "__builtins__": "__builtins__['eval']",
    "a pickle of our own": "name = '__reduce__'",
    "yaml.load": "import yaml\nyaml.load(text)",
    "yaml.unsafe_load": "from yaml import unsafe_load",
    "torch.load": "import torch\ntorch.load(path)",
    "torch.load by another name": "import torch as t\nt.load(path, weights_only=True)",
    "torch.load as an argument": "from torch import load\nlist(map(load, paths))",
    "torch.save": "import torch\ntorch.save(model, path)",
    "torch.jit.load": "import torch\ntorch.jit.load(path)",
    "torch.export": "import torch.export\ntorch.export.load(path)",
    "torch.hub": "import torch\ntorch.hub.load('a', 'b')",
    "weights_only": "read(path, weights_only=False)",
    "allow_pickle": "import numpy as np\nnp.load(path, allow_pickle=True)",
    "allow_pickle by a name": "np.load(path, allow_pickle=trusted)",
    "allow_pickle by its place": "import numpy as np\nnp.load(path, None, True)",
    "pandas": "import pandas as pd\npd.read_pickle(path)",
    "a shell": "import subprocess\nsubprocess.run(words, shell=True)",
    "a shell perhaps": "run(words, shell=flag)",
    "os.system": "import os\nos.system(text)",
    "os.system by another name": "from os import system as s\ns(text)",
    "os.popen": "import os\nos.popen(text)",
    "a program": "import subprocess\nsubprocess.run(words)",
    "a shell of asyncio": "import asyncio\nasyncio.create_subprocess_shell(text)",
    "mktemp": "import tempfile\ntempfile.mktemp()",
    "extractall": "archive.extractall(folder)",
    "unpack_archive": "import shutil\nshutil.unpack_archive(path)",
    "tar": "import tarfile",
    "xml": "from xml.etree import ElementTree",
    "ctypes": "import ctypes",
    "a library of operators": "import torch\ntorch.ops.load_library(path)",
    "requests": "import requests\nrequests.get(address)",
    "urllib": "from urllib.request import urlopen",
    "httpx": "def f():\n    import httpx\n    return httpx.get(address)",
    "a socket": "import socket",
    "no certificate": "get(address, verify=False)",
    "a foreign graph": "import onnxruntime\nonnxruntime.InferenceSession(path)",
    "a foreign encoder": "from sentence_transformers import SentenceTransformer",
    "what was fetched": "SentenceTransformer(name, trust_remote_code=True)",
    "a module by name": "from importlib import import_module\nimport_module(name)",
}
GOOD = (
    "model.eval()", "import re\nre.compile('x')", "frame.list.eval(expr)", "import numpy as np\nnp.load(path)",
    "import numpy as np\nnp.load(path, allow_pickle=False)", "from safetensors.numpy import load\nload(data)",
    "import json\njson.loads(text)", "import tomllib\ntomllib.loads(text)", "evaluate(x)", "run(words, shell=False)",
    "from urllib.parse import urlsplit", "import os\nos.replace(a, b)", "self.exec(x)",
    "import tempfile\ntempfile.mkdtemp()",
    "bb.load(run, version=None, options=None)", "'pickle'", "model.load_state_dict(state)",
)  # fmt: skip


def test_nothing_in_the_sources_runs_somebody_elses_file() -> None:
    assert len(sources()) > 150
    assert [fault for name, source in sources().items() for fault in faults_of(source, name)] == []


@pytest.mark.parametrize("source", BAD.values(), ids=BAD)
def test_the_gate_sees_what_would(source: str) -> None:
    found = faults_of(source, "models/x.py")
    assert found
    assert all(fault.startswith("models/x.py:") for fault in found)


@pytest.mark.parametrize("source", GOOD)
def test_the_gate_lets_all_else_pass(source: str) -> None:
    assert faults_of(source, "models/x.py") == []


@pytest.mark.parametrize("kind", WATCHED)
def test_what_only_some_may_use_they_do_use(kind: str) -> None:
    assert {name for name, source in sources().items() if used(source, name, kind)} == ALLOWED[kind]


def test_a_line_is_named() -> None:
    assert faults_of("x = 1\nimport pickle\n", "a.py") == [
        "a.py:2: pickle belongs to pickles, which selection/worker.py may use"
    ]
