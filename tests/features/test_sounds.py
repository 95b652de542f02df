import io
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile

from bowerbird.core import ConfigError, MissingExtraError
from bowerbird.features import Audio, describe, encoder_of, media, sounds
from bowerbird.features.media import Refused
from bowerbird.features.sounds import BANDS, RATE, SECONDS, LogMel, decoded, opened

QUIET = np.log(sounds.QUIET)


def tone(hertz: float, rate: int = RATE, seconds: float = 1.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


def saved(samples: np.ndarray, rate: int = RATE, kind: str = "WAV", **options: Any) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, **options)
    return file.getvalue()


def patched(content: bytes, place: int, number: int) -> bytes:
    return content[:place] + struct.pack("<I", number) + content[place + 4 :]


def vector(content: bytes) -> np.ndarray:
    return LogMel().encode([decoded(content)])[0]


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_a_tone_is_heard_in_its_band_whatever_the_file(kind: str, rate: int) -> None:
    samples = tone(1_000, rate)
    found = vector(saved(np.stack([samples, samples], axis=1), rate, kind))
    # 1000 Hz is 1000 mel of 2840, in 65 steps: the edge that band 22 has in its middle is the 23rd
    assert int(found[:BANDS].argmax()) == pytest.approx(1_000 / 2_840 * 65 - 1, abs=1)


def test_mean_deviation_and_change_by_hand() -> None:
    loud, quiet = tone(1_000), np.zeros(RATE)
    both = LogMel().encode([np.concatenate([loud, quiet]), np.concatenate([quiet, quiet]), loud])
    middle = int(both[2, :BANDS].argmax())
    high = both[2, middle]
    assert both.shape == (3, 3 * BANDS)
    assert both[0, middle] == pytest.approx((high + QUIET) / 2, abs=0.2)
    assert both[0, BANDS + middle] == pytest.approx((high - QUIET) / 2, abs=0.2)
    # one step down in 198 differences, and little else
    assert both[0, 2 * BANDS + middle] == pytest.approx((high - QUIET) / 198, abs=0.02)
    assert both[1].tolist() == pytest.approx([QUIET] * BANDS + [0] * 2 * BANDS, abs=1e-4)


def test_the_first_seconds_are_listened_to() -> None:
    long = np.concatenate([tone(500, seconds=SECONDS), tone(3_000, seconds=SECONDS)])
    assert len(decoded(saved(long))) == SECONDS * RATE
    found, first = vector(saved(long, kind="FLAC")), vector(saved(long[: SECONDS * RATE], kind="FLAC"))
    assert found.tolist() == pytest.approx(first.tolist(), abs=1e-4)


@pytest.mark.parametrize(
    "samples", [np.zeros(RATE), np.ones(1), np.full(100, 1e-30), tone(440, seconds=0.03) * 1e30, tone(440) * 1e-20]
)
def test_silence_and_the_very_loud_are_finite(samples: np.ndarray) -> None:
    assert np.isfinite(vector(saved(samples, subtype="FLOAT"))).all()


def test_odd_rates_and_channels() -> None:
    plain = vector(saved(tone(1_000)))
    for rate in (2_000, 11_025, 44_101, 96_000, 384_000):
        samples = tone(700 if rate == 2_000 else 1_000, rate)
        assert np.isfinite(vector(saved(np.stack([samples] * 6, axis=1), rate))).all()
    odd = vector(saved(tone(1_000, 44_101), 44_101))
    assert int(odd[:BANDS].argmax()) == int(plain[:BANDS].argmax())


WAV = saved(tone(440))
NAN = tone(440)
NAN[100] = np.nan
UNREAD, LIES = "no sound that can be read", "a sound whose header tells of more than there is"
RATES = "not between 2,000 and 384,000 samples a second"
BAD = {
    "lies": (patched(patched(WAV, 4, 4_000_000_000), 40, 4_000_000_000), LIES),
    "cut": (WAV[:1_000], LIES),
    "none": (saved(np.zeros(0)), "a sound without a sample"),
    "zero": (patched(WAV, 24, 0), UNREAD),
    "fast": (patched(WAV, 24, 1_000_000_000), RATES),
    "slow": (saved(tone(4, 100), 100), RATES),
    "nan": (saved(NAN, subtype="FLOAT"), "a sound with samples that are not finite"),
    "wide": (saved(np.zeros((100, 17))), "more than 16 channels"),
    "html": (b"<!doctype html>" * 20, UNREAD),
    "flac": (saved(np.random.default_rng(0).random(RATE), kind="FLAC")[:9_000], UNREAD),
    "head": (WAV[:20], UNREAD),
    "other": (saved(tone(440), kind="AU"), "no sound of the formats WAV, WAVEX, RF64, FLAC, OGG, MP3, AIFF"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_sound_is_refused(name: str) -> None:
    content, reason = BAD[name]
    with pytest.raises(Refused, match=reason):
        decoded(content)


def test_bad_sounds_spoil_nothing_and_are_counted_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(media.MOST_BYTES, "audio", 1 << 20)
    for name, (content, _) in BAD.items():
        (tmp_path / f"{name}.wav").write_bytes(content)
    (tmp_path / "large.wav").write_bytes(saved(np.zeros(600_000)))
    (tmp_path / "good.wav").write_bytes(WAV)
    names = [*(f"{name}.wav" for name in BAD), "large.wav", "good.wav", None, "good.wav"]
    found = describe(pl.Series(names), Audio(name="a"), root=tmp_path, cache=tmp_path)
    assert found.refused == {
        LIES: 2, UNREAD: 4, RATES: 2, BAD["none"][1]: 1, BAD["nan"][1]: 1, BAD["wide"][1]: 1, BAD["other"][1]: 1,
        "larger than 1 MB": 1,
    }  # fmt: skip
    assert found.examples[UNREAD] == "zero.wav"
    assert np.flatnonzero(~np.isnan(found.vectors[:, 0])).tolist() == [len(BAD) + 1, len(BAD) + 3]
    assert found.vectors[-1].tolist() == pytest.approx(vector(WAV).tolist(), rel=1e-3, abs=1e-3)
    assert np.array_equal(found.vectors[-1], found.vectors[-3])


def test_every_cut_and_flip_is_read_or_refused() -> None:
    rng = np.random.default_rng(1)
    for kind in ("WAV", "FLAC", "OGG", "MP3"):
        content = saved(tone(440, seconds=0.1), kind=kind)
        for _ in range(60):
            damaged = bytearray(content[: rng.integers(1, len(content))] if rng.random() < 0.5 else content)
            for place in rng.integers(0, min(len(damaged), 200), 3):
                damaged[place] = rng.integers(0, 256)
            with suppress(Refused):
                assert np.isfinite(vector(bytes(damaged))).all()


def test_the_encoder_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (encoder_of(Audio(name="a")).name, encoder_of(Audio(name="a")).dim) == ("logmel-1", 192)
    with pytest.raises(ConfigError, match=r'no audio encoder "logmell"\. Did you mean "logmel"\?'):
        opened("logmell")
    monkeypatch.setattr(sounds, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r'needs soundfile.*pip install "bowerbird\[content\]"'):
        opened("logmel")
