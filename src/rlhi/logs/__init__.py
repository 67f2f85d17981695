"""Chat logs become clean conversations: everything that was read ends in the data or in quarantine.

Read it in the order in which a record passes:

1. `files.py` finds the files of a recipe, `streams.py` opens them (plain, gzip, zstd), and `rows.py` cuts them into
   rows, each with its place: lines by itself, JSON documents by `documents.py`, Parquet by `tables.py`.
2. `readers/` has one module per log format; it turns a row into a `RawConversation`. For a mapping file, `gather.py`
   brings rows that are single messages together first.
3. `clean.py` makes roles alternate, drops empty messages, finds time (`times.py`) and language (`languages.py`), and
   applies the filters of the recipe; `duplicates.py` keeps one of each.
4. `split.py` divides by user and by time.
5. `ingest.py` does all of it.
"""

from __future__ import annotations

from rlhi.logs.ingest import Ingested, ingest

__all__ = ["Ingested", "ingest"]
