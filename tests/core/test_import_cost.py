import subprocess
import sys

import pytest

import bowerbird

TIMED = """
import sys, time
start = time.perf_counter()
import bowerbird
print(time.perf_counter() - start)
print(*(name for name in ("torch", "polars", "numpy", "fastapi") if name in sys.modules))
"""


def fresh(code: str) -> list[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split("\n")


def test_importing_bowerbird_is_quick_and_imports_no_framework() -> None:
    runs = [fresh(TIMED) for _ in range(3)]
    assert min(float(seconds) for seconds, *_ in runs) < 0.3
    assert [loaded for _, loaded, *_ in runs] == [""] * 3


def test_configuration_and_data_need_no_torch() -> None:
    code = "import sys, bowerbird.core, bowerbird.data, bowerbird.store.bundles; print('torch' in sys.modules)"
    assert fresh(code)[0] == "False"


def test_every_public_name_is_there() -> None:
    assert [name for name in bowerbird.__all__ if getattr(bowerbird, name, None) is None] == []
    assert set(bowerbird.__all__) <= set(dir(bowerbird))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'bowerbird' has no attribute 'recomend'"):
        _ = bowerbird.recomend
