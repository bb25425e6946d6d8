"""What every section of the settings is."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the settings: closed and immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
