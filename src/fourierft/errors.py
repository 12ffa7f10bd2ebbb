"""Every error a user can cause. Each message says what was given, what is allowed and what to do."""

from __future__ import annotations


class FourierFTError(Exception):
    """Base of all errors raised on purpose; the command line prints its text alone and exits with status 2."""


class ShapeError(FourierFTError, ValueError):
    """A tensor, an entry or a count does not fit the weight it is meant for."""


class ConfigError(FourierFTError, ValueError):
    """A setting is missing, unknown, out of range or contradicts another."""


class DataError(FourierFTError, ValueError):
    """A data set is missing, empty, or lacks what the task needs."""


class CheckpointError(FourierFTError, ValueError):
    """A file of weights is missing, damaged, or belongs to another model."""


class ExportError(FourierFTError, ValueError):
    """An adapter can't be exported this way, or the export answers differently; nothing was written."""


class StoreError(FourierFTError, ValueError):
    """A store of adapters is missing, damaged, busy, full or of another base model, or lacks the requested adapter."""


class MissingAdapterError(StoreError):
    """A store has no adapter, version or alias of this name."""


class UnavailableError(StoreError):
    """A store is full, busy or out of reach; acknowledged writes are kept, and a later try may succeed."""


class OutputExistsError(FourierFTError, FileExistsError):
    """The output exists already; nothing was changed."""


class BusyError(FourierFTError, RuntimeError):
    """Another process writes there; nothing was changed."""


class PlaceError(FourierFTError, OSError):
    """The output folder or file can't be written; what was there before is kept."""


class BackendError(FourierFTError, RuntimeError):
    """The numerical backend of this machine gives wrong results for this shape."""


class MissingExtraError(FourierFTError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""
