"""The command line: `rlhi run RECIPE`, its steps, and what looks at a run."""

from __future__ import annotations

import os
import sys

from rlhi.errors import RlhiError, UsageError


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 some rows or a stage failed, 2 wrong usage, 3 a back end of yours
    raised `BudgetError`."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from rlhi.cli.app import app, complain
    from rlhi.flow import processes

    try:
        app()
    except SystemExit as ended:
        if not ended.code:
            processes.part()
        raise
    except RlhiError as error:
        if processes.speaks(before_meeting=isinstance(error, UsageError)):
            complain(f"{processes.name()}{error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        if processes.is_main():
            complain("interrupted; the same command goes on from here")
        sys.exit(130)
