"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Dataset(StrEnum):
    """Which images."""

    cifar10 = "cifar10"
    shapes = "shapes"


class Precision(StrEnum):
    """Of forward passes."""

    fp32 = "fp32"
    bf16 = "bf16"


class TableOrJson(StrEnum):
    """How a result is printed."""

    table = "table"
    json = "json"


DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="CIFAR-10 as train/<class>/*.png and test/<class>/*.png, or torchvision's folder.",
    ),
]
DeviceOption = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1; the best there is unless given.")
]
PrecisionOption = Annotated[
    Precision | None, typer.Option(help="The faster one on this device unless given.")
]
StorageOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The study's database instead of its folder's SQLite: "
        "postgresql+psycopg://USER@HOST/DATABASE, without a password; the environment variable "
        "ARCHSEARCH_STORAGE may hold one.",
    ),
]
