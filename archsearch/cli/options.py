"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

TableOrJson = Literal["table", "json"]
FormatOption = Annotated[TableOrJson, typer.Option("--format", help="Output format.")]
FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="A study folder.")]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="CIFAR-10 as train/<class>/*.png and test/<class>/*.png, or torchvision's folder.",
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(help="cpu, cuda or cuda:1. Default: the fastest device of this machine."),
]
PrecisionOption = Annotated[
    Literal["fp32", "bf16"] | None,
    typer.Option(help="Default: the faster one on this device."),
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
