"""Archives: a zip that holds one table, perhaps with tables of items and users, as MovieLens is published."""

import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

from bowerbird.core import DataError
from bowerbird.data.files import ENDINGS, PARTS, Table, first_line, open_files
from bowerbird.data.places import BLOCK, LEAST, TIMES, Place

MOST = 1_000  # tables of a zip
RATINGS = ("u.data", "ratings.dat", "ratings.csv")
SIDES = {"items": ("u.item", "movies.dat", "movies.csv"), "users": ("u.user", "users.dat")}


def open_zip(path: Path) -> Table:
    """Return the table in a zip, with its tables of items and users as `sides`.

    The table is the one called as MovieLens calls its ratings, else the only `.inter`, CSV, TSV or Parquet file.
    Raises `DataError`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        try:
            names = _unpacked(path, Path(scratch))
            table = _read_whole(Path(scratch) / _main(path, names), path)
            sides = {key: Path(scratch) / name for key, usual in SIDES.items() for name in usual if name in names}
            return replace(table, sides=dict(table.sides) | {key: _read_whole(one, path) for key, one in sides.items()})
        except DataError as error:
            raise DataError(error.message.replace(scratch, str(path))) from None
        except Exception as error:  # what a broken or locked archive raises is no closed list
            raise DataError(f"{path}: this zip is damaged, or none. ({first_line(error)})") from None


def _unpacked(path: Path, folder: Path) -> list[str]:
    """Copy the tables out of a zip into one folder, and return their names."""
    names, left = [], max(LEAST, TIMES * path.stat().st_size)
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            name = Path(member.filename).name
            is_table = Path(name).suffix in ENDINGS or name in RATINGS or any(name in side for side in SIDES.values())
            if is_table and not member.is_dir() and not name.startswith((".", "_")):
                with archive.open(member) as packed, open(folder / name, "wb") as file:
                    while data := packed.read(BLOCK):  # the size that a member tells of may be wrong
                        left -= len(data)
                        if left < 0:
                            raise DataError(
                                f"{path}: unpacked it has more than {TIMES} times its size, as no table has. "
                                "Unpack it yourself if you trust it."
                            )
                        file.write(data)
                names.append(name)
                if len(names) > MOST:
                    raise DataError(f"{path}: this zip holds more than {MOST:,} tables. Unpack it, name one.")
    return names


def _main(path: Path, names: list[str]) -> str:
    known = [name for name in RATINGS if name in names] or [name for name in names if name.endswith(".inter")]
    tables = known or [name for name in names if ENDINGS.get(Path(name).suffix) in PARTS]
    if len(tables) != 1 and not known:
        held = f"It holds {', '.join(sorted(names))}" if names else "It holds no table that is known"
        raise DataError(
            f"{path}: no table of this zip is plainly the one of interactions. {held}. Unpack it, name one."
        )
    return tables[0]


def _read_whole(file: Path, zipped: Path) -> Table:
    """Return a table that outlives its file."""
    table = open_files(file, None)
    part = table.place.parts[0]
    place = Place(f"{zipped}/{file.name}", (replace(part, path=zipped / file.name),))
    sides = {key: replace(side, frame=side.columns(side.names).lazy()) for key, side in table.sides.items()}
    return replace(table, frame=table.columns(table.names).lazy(), place=place, sides=sides)
