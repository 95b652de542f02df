"""Texts, pictures and sounds that are broken, huge, or something else than they say."""

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np


@dataclass(frozen=True)
class Medium:
    """One text, picture or sound, and what must come of it."""

    kind: str  # "text", "image" or "audio"
    content: Callable[[], bytes]
    refused: bool | None = None  # whether it must be refused, or read; None is either


# ── pictures ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, rows: bytes, *, depth: int = 8, colour: int = 0, before: bytes = b"") -> bytes:
    """Return a PNG of these packed rows, whatever size it says."""
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + before + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _picture(form: str, mode: str = "RGB", size: tuple[int, int] = (40, 30), **options: object) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    pixels = np.arange(size[0] * size[1] * 4, dtype=np.uint32).reshape(size[1], size[0], 4).astype(np.uint8)
    Image.fromarray(pixels, "RGBA").convert(mode).save(out, form, **options)
    return out.getvalue()


def _frames(form: str, n: int) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    frames = [Image.new("P", (16, 16), place % 256) for place in range(n)]
    frames[0].save(out, form, save_all=True, append_images=frames[1:])
    return out.getvalue()


def _bomb_rows() -> bytes:
    packer = zlib.compressobj(9)
    row = bytes(50_001)
    return b"".join(packer.compress(row) for _ in range(2_000)) + packer.flush()


def _text_chunk(n: int) -> bytes:
    return _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(n), 9))


def _tiff(entries: list[tuple[int, int, int, int]], following: int = 0) -> bytes:
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + struct.pack("<I", following)


def _bmp(width: int, height: int, bits: int = 24) -> bytes:
    return (
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 70, 0, 0, 54, 40, width, height, 1, bits, 0, 0, 1, 1, 0, 0) + bytes(16)
    )


GIF = b"GIF89a" + b"\xff" * 4 + b"\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\0;"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/><script>alert(1)</script></svg>'
PICTURES = {
    "zero bytes": Medium("image", lambda: b"", False),
    "one byte": Medium("image", lambda: b"\xff", True),
    "JPEG cut short": Medium("image", lambda: _picture("JPEG")[:300], True),
    "PNG cut short": Medium("image", lambda: _picture("PNG")[:80], True),
    "PNG of 50,000 x 50,000": Medium("image", lambda: png(50_000, 50_000, _bomb_rows()), True),
    "PNG of 2^31 x 2^31": Medium("image", lambda: png(2**31 - 1, 2**31 - 1, zlib.compress(b"")), True),
    "PNG of nothing": Medium("image", lambda: png(0, 0, zlib.compress(b"")), True),
    "PNG with a text of 256 MB": Medium(
        "image", lambda: png(2, 2, zlib.compress(bytes(6)), before=_text_chunk(1 << 28)), None
    ),
    "PNG whose rows are far too many": Medium("image", lambda: png(4, 4, zlib.compress(bytes(1 << 28), 9)), None),
    "PNG with a wrong sum": Medium("image", lambda: _picture("PNG")[:-20] + bytes(20), None),
    "SVG called PNG": Medium("image", lambda: SVG, True),
    "HTML called PNG": Medium("image", lambda: b"<html><img src=http://127.0.0.1/></html>", True),
    "PostScript": Medium("image", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/x) (w) file", True),
    "PDF": Medium("image", lambda: b"%PDF-1.7\n1 0 obj\n", True),
    "icon": Medium("image", lambda: _picture("ICO", "RGBA", (32, 32)), True),
    "a zip": Medium("image", lambda: b"PK\x03\x04" + bytes(100), True),
    "gzip": Medium("image", lambda: gzip.compress(bytes(1000)), True),
    "a pickle": Medium("image", lambda: b"\x80\x04c__builtin__\neval\n", True),
    "animated GIF": Medium("image", lambda: _frames("GIF", 50), False),
    "animated GIF of 3,000": Medium("image", lambda: _frames("GIF", 3_000), False),
    "animated WebP": Medium("image", lambda: _frames("WEBP", 20), False),
    "CMYK": Medium("image", lambda: _picture("JPEG", "CMYK"), False),
    "CMYK TIFF": Medium("image", lambda: _picture("TIFF", "CMYK"), False),
    "16 bits": Medium("image", lambda: png(2, 2, zlib.compress(b"\0\1\2\3\4\0\5\6\7\x08"), depth=16), False),
    "32 bits": Medium("image", lambda: _picture("TIFF", "I"), False),
    "floats": Medium("image", lambda: _picture("TIFF", "F"), False),
    "a palette": Medium("image", lambda: _picture("PNG", "P", transparency=3), False),
    "grey with alpha": Medium("image", lambda: _picture("PNG", "LA"), False),
    "black and white": Medium("image", lambda: _picture("PNG", "1"), False),
    "a line": Medium("image", lambda: _picture("PNG", "L", (20_000, 1)), False),
    "a column": Medium("image", lambda: _picture("JPEG", "L", (1, 60_000)), False),
    "one pixel": Medium("image", lambda: _picture("PNG", "RGB", (1, 1)), False),
    "GIF of 65,535 x 65,535": Medium("image", lambda: GIF, True),
    "BMP of 2^31": Medium("image", lambda: _bmp(2**31 - 1, 2**31 - 1), True),
    "BMP of a negative size": Medium("image", lambda: _bmp(-(2**31), -(2**31)), True),
    "BMP of a billion colours": Medium("image", lambda: _bmp(8, 8, 65_535), True),
    "TIFF that turns in a circle": Medium("image", lambda: _tiff([(256, 3, 1, 1)], 8), True),
    "TIFF of many values": Medium("image", lambda: _tiff([(256, 4, 2**31, 8), (257, 4, 1, 9)]), True),
    "TIFF of 2^32": Medium("image", lambda: _tiff([(256, 4, 1, 2**32 - 1), (257, 4, 1, 2**32 - 1)]), True),
    "WebP that lies": Medium("image", lambda: b"RIFF\xff\xff\xff\x7fWEBPVP8X\n\0\0\0\x10\0\0\0" + b"\xff" * 6, True),
    "JPEG with a broken EXIF": Medium("image", lambda: _picture("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), False),
    "JPEG with a long profile": Medium("image", lambda: _picture("JPEG", icc_profile=bytes(10 << 20)), False),
    "21 MB": Medium("image", lambda: _picture("PNG") + bytes(21 << 20), True),
}  # fmt: skip


# ── sounds ────────────────────────────────────────────────────────────────────────────────────────────────────────


def wav(
    samples: bytes, *, form: int = 1, channels: int = 1, rate: int = 16_000, bits: int = 16, claimed: int | None = None
) -> bytes:
    """Return a WAV file, whatever it says of itself."""
    size = len(samples) if claimed is None else claimed
    block = channels * bits // 8
    head = struct.pack("<HHIIHH", form, channels, rate, rate * block & 0xFFFFFFFF, block & 0xFFFF, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", size) + samples
    return b"RIFF" + struct.pack("<I", (len(body)) & 0xFFFFFFFF) + body


def _sound(form: str, seconds: float = 1.0, rate: int = 16_000, quiet: bool = False, **options: str) -> bytes:
    import soundfile

    time = np.arange(int(seconds * rate)) / rate
    out = io.BytesIO()
    soundfile.write(out, 0 * time if quiet else 0.5 * np.sin(2765 * time), rate, format=form, **options)
    return out.getvalue()


def _floats(*values: float) -> bytes:
    return wav(np.array([*values] * 4_000, np.float32).tobytes(), form=3, bits=32)


SOUNDS = {
    "zero bytes": Medium("audio", lambda: b"", False),
    "one byte": Medium("audio", lambda: b"R", True),
    "WAV": Medium("audio", lambda: _sound("WAV"), False),
    "FLAC": Medium("audio", lambda: _sound("FLAC"), False),
    "OGG": Medium("audio", lambda: _sound("OGG"), False),
    "MP3": Medium("audio", lambda: _sound("MP3"), False),
    "AIFF": Medium("audio", lambda: _sound("AIFF"), False),
    "8 bits": Medium("audio", lambda: _sound("WAV", subtype="PCM_U8"), False),
    "24 bits": Medium("audio", lambda: _sound("WAV", subtype="PCM_24"), False),
    "silence": Medium("audio", lambda: _sound("WAV", quiet=True), False),
    "an hour of silence": Medium("audio", lambda: _sound("FLAC", 3600, quiet=True), False),
    "WAV that claims 4 GB": Medium("audio", lambda: wav(bytes(32_000), claimed=2**32 - 1), True),
    "WAV that claims more": Medium("audio", lambda: wav(bytes(32_000), claimed=32_002), True),
    "WAV without a sample": Medium("audio", lambda: wav(b""), True),
    "WAV of 0 a second": Medium("audio", lambda: wav(bytes(32_000), rate=0), True),
    "WAV of 2^32 a second": Medium("audio", lambda: wav(bytes(32_000), rate=2**32 - 1), True),
    "WAV of no channel": Medium("audio", lambda: wav(bytes(32_000), channels=0), True),
    "WAV of 65,535 channels": Medium("audio", lambda: wav(bytes(262_140), channels=65_535), True),
    "WAV of 1 bit": Medium("audio", lambda: wav(bytes(32_000), bits=1), None),
    "WAV of 65,535 bits": Medium("audio", lambda: wav(bytes(32_000), bits=65_535), True),
    "WAV of another format": Medium("audio", lambda: wav(bytes(32_000), form=0xFFFE), True),
    "NaN": Medium("audio", lambda: _floats(float("nan")), True),
    "infinity": Medium("audio", lambda: _floats(float("inf"), 0.0), True),
    "1e38": Medium("audio", lambda: _floats(1e38, -1e38), None),
    "WAV cut short": Medium("audio", lambda: _sound("WAV")[:1000], True),
    "FLAC cut short": Medium("audio", lambda: _sound("FLAC")[:200], None),
    "OGG cut short": Medium("audio", lambda: _sound("OGG")[:500], None),
    "a text": Medium("audio", lambda: b"this is no sound at all\n" * 100, True),
    "HTML": Medium("audio", lambda: b"<html></html>", True),
    "a zip": Medium("audio", lambda: b"PK\x03\x04" + bytes(1000), True),
    "a picture": Medium("audio", lambda: _picture("PNG"), True),
    "zeros": Medium("audio", lambda: bytes(100_000), True),
    "65 MB": Medium("audio", lambda: wav(bytes(65 << 20)), True),
}


# ── texts ─────────────────────────────────────────────────────────────────────────────────────────────────────────

WORDS = "a red shop, ein rotes Geschäft, красный магазин, 赤い店, 빨간 가게, متجر أحمر, लाल दुकान 😀"
TEXTS = {
    "nothing": Medium("text", lambda: b"", False),
    "spaces": Medium("text", lambda: b" \t\n\r ", False),
    "10 MB": Medium("text", lambda: b"red shop " * (10 << 17), False),
    "one word of 10 MB": Medium("text", lambda: b"x" * (10 << 20), False),
    "mixed scripts": Medium("text", WORDS.encode, False),
    "no UTF-8": Medium("text", lambda: b"\xff\xfe\xc3\x28\xed\xa0\x80", False),
    "NUL": Medium("text", lambda: b"a\0b\0\0c", False),
    "right to left": Medium("text", lambda: "\u202eabc\u2066".encode(), False),
    "a million marks": Medium("text", lambda: ("a" + "\u0301" * 10**6).encode(), False),
    "a family": Medium("text", lambda: ("👨\u200d👩\u200d👧\u200d👦" * 1000).encode(), False),
    "code": Medium(
        "text", lambda: b"{{7*7}} ${jndi:ldap://x} <script>alert(1)</script> '; drop table items; --", False
    ),
    "<|endoftext|>": Medium("text", lambda: b"<|endoftext|>[CLS][SEP]<s></s>" * 100, False),
}

NAMED: dict[str, Medium] = {
    f"{one.kind}: {name}": one for part in (PICTURES, SOUNDS, TEXTS) for name, one in part.items()
}

PATHS: dict[str, str] = {  # what a column of pictures or sounds may name; none of them is read
    "up": "../../../../etc/passwd",
    "from the root": "/etc/passwd",
    "home": "~/.ssh/id_rsa",
    "a device": "/dev/zero",
    "a terminal": "/dev/tty",
    "a folder": ".",
    "nothing": "gone.png",
    "http": "http://127.0.0.1:9/x.png",
    "https": "HTTPS://127.0.0.1/x.png",
    "file": "file:///etc/passwd",
    "data": "data:image/png;base64,AA",
    "ftp": "ftp://x/y",
    "gopher": "gopher://127.0.0.1:9/",
    "a share": r"\\127.0.0.1\x\y.png",
    "a long name": "x" * 5000,
    "NUL": "a\0b.png",
    "a link": "link.png",
    "a pipe": "pipe.png",
    "a member": "bomb.zip!big.png",
    "a member that is not": "bomb.zip!gone.png",
    "a member up": "bomb.zip!../../etc/passwd",
    "no zip": "text.zip!x.png",
    "a command": "| id",
    "format": "%s%n%x",
}


@cache
def bomb_zip() -> bytes:
    """Return a zip with a member of 1 GB."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("big.png", "w") as file:
        for _ in range(1024):
            file.write(bytes(1 << 20))
    return out.getvalue()


BASES: tuple[str, ...] = (
    *(
        f"image: {one}"
        for one in ("JPEG with a broken EXIF", "a palette", "CMYK TIFF", "animated GIF", "animated WebP")
    ),
    *(f"audio: {one}" for one in ("WAV", "FLAC", "OGG", "MP3", "AIFF", "24 bits")),
    "image: 16 bits",
    "text: mixed scripts",
)
