"""The models that mlxrt is compared with mlx-lm on: CASES of every file in families/."""

import importlib
from pathlib import Path

from case import Case

FAMILIES = sorted(path.stem for path in (Path(__file__).parent / "families").glob("*.py"))
CASES: list[Case] = [
    case for family in FAMILIES for case in importlib.import_module(f"families.{family}").CASES
]
