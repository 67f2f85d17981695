"""What all sections of a recipe share."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict

LOCAL = "local"


def slug(name: str) -> str:
    """A name as part of a file name: `base + persona` -> `base-persona`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


class Section(BaseModel):
    """Settings are frozen and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
