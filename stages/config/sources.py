"""Where models and seed data come from: made or copied here, or kept by others."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from stages.config.shared import Section


class Source(Section):
    """Where something comes from. A Hub repository is pinned, so that a run can be repeated."""

    source: str
    repo: str | None
    revision: str | None

    @model_validator(mode="after")
    def _hub_is_pinned(self) -> Source:
        if self.source == "hub" and not (self.repo and self.revision):
            raise ValueError("source hub needs repo and revision (a commit hash or tag), so that a run can be repeated")
        if self.source == "server" and not self.repo:
            raise ValueError("source server needs repo, the name that the server gives the model")
        return self


class Base(Section):
    """A model that is made or copied here before the method begins. Nobody else keeps it, so a DVC remote gets it with
    all else."""

    source: Literal["tinyworld", "local", "random"]
    """`random`: a small randomly initialised Llama, to try a pipeline out."""
    path: str
    """What DVC watches: the folder of a local model; for other sources the code that makes it."""

    @model_validator(mode="before")
    @classmethod
    def _is_made_here(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("source") in ("hub", "server"):
            raise ValueError(
                f"source {data['source']} is for models that others keep: write the entry under external, without path"
            )
        return data


class External(Source):
    """A model that others keep and version; it is not pushed to a DVC remote a second time."""

    source: Literal["hub", "server"]
    """`server`: a model that an OpenAI-compatible server has; `repo` is its name there, `revision` null or an id of the
    weights behind the name, which you give: texts that were cached under another id are not used. It can write or
    judge, never be trained."""
