"""Sounds as vectors: safe decoding with libsndfile, and how loud each band is.

  logmel   at most the first 30 seconds, in one channel at 16 kHz: of each of 64 mel bands the mean of its logarithm,
           the deviation, and the mean change from one moment to the next: 192 numbers, not of unit length.

No package brings a trained network of sounds, so this is a plain description: it tells speech from music and loud from
quiet, and nothing of melodies or words.

Shapes: B sounds, T samples, F moments, M bands.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from io import BytesIO
from math import gcd
from typing import Any

import numpy as np

from bowerbird.core import ConfigError, MissingExtraError, did_you_mean
from bowerbird.features.media import MediaEncoder, Refused

RATE = 16_000  # samples a second that the bands are taken of
SECONDS = 30  # that are listened to
RATES = (2_000, 384_000)  # samples a second that a file may have
CHANNELS = 16
FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3", "AIFF")
BANDS = 64  # M
WINDOW, STEP, POINTS = 400, 160, 512  # samples of a moment, between two of them, and of its spectrum
QUIET = 1e-6  # power that silence is taken to have


def opened(name: str) -> MediaEncoder:
    """Return the sound encoder of this name; raises `MissingExtraError` and `ConfigError`."""
    if name != "logmel":
        raise ConfigError(f'no audio encoder "{name}".{did_you_mean(name, ["logmel"])} There is "logmel".')
    if find_spec("soundfile") is None:
        raise MissingExtraError(
            'the encoder "logmel" needs soundfile. Install it with: pip install "bowerbird[content]"'
        )
    return LogMel()


@dataclass(frozen=True)
class LogMel:
    """Mean, deviation and mean change of the logarithm of each band."""

    name: str = "logmel-1"
    dim: int = 3 * BANDS

    def decode(self, content: bytes) -> np.ndarray:
        """Return float32 samples (T,) at `RATE`; raises `Refused`."""
        return decoded(content)

    def encode(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 (B, 3 M)."""
        return np.stack([_described(samples) for samples in values])


def decoded(content: bytes) -> np.ndarray:
    """Return the first seconds of a sound in one channel, float32 (T,) within ±1; raises `Refused`."""
    import soundfile

    if _claims_more(content):
        raise Refused("a sound whose header tells of more than there is")
    try:
        with soundfile.SoundFile(BytesIO(content)) as sound:
            samples, rate = _samples(sound), sound.samplerate
    except (RuntimeError, OSError, ValueError, TypeError, OverflowError, MemoryError):  # soundfile's own is the first
        raise Refused("no sound that can be read") from None
    if not len(samples):
        raise Refused("a sound without a sample")
    if not np.isfinite(samples).all():
        raise Refused("a sound with samples that are not finite")
    samples /= max(1.0, float(np.abs(samples).max()))
    return _resampled(samples, rate).astype(np.float32)


def _samples(sound: Any) -> np.ndarray:
    """Return the first seconds (T,) at the file's own rate, read second by second: a header may lie."""
    if sound.format not in FORMATS:
        raise Refused(f"no sound of the formats {', '.join(FORMATS)}")
    rate = sound.samplerate
    if not RATES[0] <= rate <= RATES[1]:
        raise Refused(f"not between {RATES[0]:,} and {RATES[1]:,} samples a second")
    if not 1 <= sound.channels <= CHANNELS:
        raise Refused(f"more than {CHANNELS} channels")
    parts = [np.zeros(0)]
    for _ in range(SECONDS):
        part = sound.read(rate, dtype="float64", always_2d=True)  # (T, channels)
        parts.append(part.mean(axis=1))
        if len(part) < rate:
            break
    return np.concatenate(parts)


def _claims_more(content: bytes) -> bool:
    """Return whether a WAV file tells of more samples than it holds."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return False
    at = 12
    while at + 8 <= len(content):
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        if content[at : at + 4] == b"data":
            return at + 8 + size > len(content)
        at += 8 + size + size % 2
    return False


def _resampled(samples: np.ndarray, rate: int) -> np.ndarray:
    if rate == RATE:
        return samples
    from scipy.signal import resample_poly

    shared = gcd(rate, RATE)
    found: np.ndarray = resample_poly(samples, RATE // shared, rate // shared)
    return found


def _described(samples: np.ndarray) -> np.ndarray:
    """Return float32 (3 M,) of samples (T,)."""
    samples = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    moments = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::STEP]  # (F, WINDOW)
    power = np.abs(np.fft.rfft(moments * np.hanning(WINDOW), POINTS, axis=1)) ** 2
    bands = np.log(power @ _filters() + QUIET)  # (F, M)
    change = np.abs(np.diff(bands, axis=0)).mean(axis=0) if len(bands) > 1 else np.zeros(BANDS)
    return np.concatenate([bands.mean(axis=0), bands.std(axis=0), change]).astype(np.float32)


@lru_cache(maxsize=1)
def _filters() -> np.ndarray:
    """Return how much of each frequency a band hears (POINTS / 2 + 1, M): triangles, even on the mel scale."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)  # (M + 2,) in Hz
    heard = np.linspace(0, RATE / 2, POINTS // 2 + 1)[:, None]
    rising = (heard - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - heard) / (edges[2:] - edges[1:-1])
    found: np.ndarray = np.maximum(0, np.minimum(rising, falling))
    return found
