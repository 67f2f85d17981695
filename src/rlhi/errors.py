"""The exceptions that a user of rlhi can meet, each with the exit code that the command line gives it."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class RlhiError(Exception):
    """Base of all errors that rlhi raises on purpose. The message is for the person who reads it."""

    exit_code = 1


class UsageError(RlhiError):
    """Wrong usage: a recipe, path, name or option that cannot work. Nothing was computed or spent."""

    exit_code = 2


class StageError(RlhiError):
    """A whole stage could not do its work (for one, no row was left). What was finished is kept."""


class BudgetError(RlhiError):
    """For a back end of yours that stops on a spent budget; rlhi itself raises it nowhere."""

    exit_code = 3
