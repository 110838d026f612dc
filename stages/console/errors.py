"""The errors a person may see. Each says what was seen, where, and what to type next; anything else that escapes is a
bug of ours."""

from __future__ import annotations


class SrlmError(Exception):
    """Root of every error made by bad input or a bad environment. Printed without a traceback."""

    exit_code = 1


class ParamsError(SrlmError):
    """`params.yaml` (or a profile) does not say what a run needs."""


class SeedDataError(SrlmError):
    """The human seed data cannot be read or holds too little."""


class TableError(SrlmError):
    """A table breaks its contract, or is missing."""


class MissingTableError(TableError):
    """No stage has made the table yet."""


class ModelError(SrlmError):
    """A model folder cannot be used."""


class EngineError(SrlmError):
    """An engine cannot run what it was asked."""


class TrainingError(SrlmError):
    """Training cannot start, or did not train."""


class StaleInputError(SrlmError):
    """An input changed while the stage ran."""


class QueryError(SrlmError):
    """A query cannot be run."""

    exit_code = 2


class RevisionError(SrlmError):
    """The store as it was at a revision cannot be read."""


class HubError(SrlmError):
    """Something cannot be published on the Hub, or read from it."""
