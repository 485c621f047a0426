"""What one gateway process is told: its environment, its directories and its limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

_MEGABYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of one gateway.

    `directory` holds its state, the served files and the prediction log; `cache` the model environments of the machine.
    `token` opens the control path, `data_token` the data path (empty: open to everybody who reaches it).
    `queue` is how many requests one scorer may have at a time, `memory_mb` what its processes may use together.
    Requests of `max_held_bytes` may be on their way at a time; one that takes longer than `receive_timeout` to arrive
    is refused. A segment of the prediction log becomes Parquet when it reaches its size or age.
    """

    environment: str
    directory: Path
    cache: Path
    token: str = field(repr=False)
    data_token: str = field(default="", repr=False)
    max_request_bytes: int = 16 * _MEGABYTE
    max_held_bytes: int = 128 * _MEGABYTE
    max_answer_bytes: int = 64 * _MEGABYTE
    queue: int = 64
    memory_mb: int = 4096
    receive_timeout: timedelta = timedelta(seconds=30)
    predict_timeout: timedelta = timedelta(seconds=30)
    start_timeout: timedelta = timedelta(minutes=2)
    build_timeout: timedelta = timedelta(minutes=15)
    drain_timeout: timedelta = timedelta(seconds=30)
    segment_bytes: int = 16 * _MEGABYTE
    segment_age: timedelta = timedelta(hours=1)
