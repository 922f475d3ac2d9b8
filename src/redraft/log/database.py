"""Opening the log's database: the right URL, real transactions, the newest schema, and errors fit to show.

Guaranteed on SQLite: a transaction that was committed survives ``kill -9`` and power loss (write-ahead log,
``synchronous=FULL``), and one that was not leaves no trace. ``BEGIN`` is issued by us, because Python's driver would
start transactions late or not at all; a writer begins ``IMMEDIATE`` and waits for its turn, where a read that turns
into a write would fail at once.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic_core import to_json
from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, func, inspect, make_url, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, IntegrityError
from sqlalchemy.pool import ConnectionPoolEntry

from redraft.errors import ConfigError, DataError, NotFoundError, UnavailableError

__all__ = ["absent_file", "adding", "beside", "one_import", "open_database", "reading", "settle", "writing"]

NEWEST = "0003"  # the last of migrations/versions
_IMPORTS = 0x7265647261667401  # the number of a lock that is ours alone: "redraft", 1
_ALONE, _BESIDE = 262_144, 16_000
"""Pages of 4 KiB that an import leaves in the write-ahead log: by itself, and once others write (whose commit may have
to move them, as any may). Ids are hashes, so that every batch touches most pages of four indexes: the later they are
moved, the more often one move serves for several batches, half of a million rows' time."""
_CACHE = 1 << 27  # bytes of pages that an import holds; with SQLite's 2 MB a batch reads and writes each several times
_LIMITS = "54"  # PostgreSQL's class of errors for what is too large or too complex
_WAIT = 30  # seconds
_LEFT = 1 << 26  # bytes that a write-ahead log keeps on the disk once all of it has been moved
PRAGMAS = (
    f"busy_timeout={_WAIT}000",
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "secure_delete=ON",
    f"journal_size_limit={_LEFT}",
)


def open_database(url: str, *, create: bool = True) -> Engine:
    """Connect and bring the schema up to date.

    Raises ``ConfigError`` when the URL or the place cannot be used, and ``NotFoundError`` when there is no log yet
    and ``create`` is false.
    """
    engine = _engine(url)
    if not create and engine.dialect.name == "sqlite" and not Path(engine.url.database or "").exists():
        raise NotFoundError(f"log {url}: does not exist yet: import something first, or correct [log] url or --log")
    try:
        _upgrade(engine)
    except BaseException as error:
        engine.dispose()
        if isinstance(error, UnavailableError):
            raise ConfigError(str(error)) from error
        raise
    return engine


def absent_file(url: str) -> Path | None:
    """The file that opening a new SQLite log at ``url`` would create; ``None`` where it creates none."""
    file = _file(_parsed(url))
    return None if file is None or file.exists() else file


def beside(url: URL, name: str, cache: Path) -> Path | None:
    """A folder for files that belong to a log: next to a SQLite file, else below ``cache``; none in memory."""
    if url.get_backend_name() != "sqlite":
        return cache / name / hashlib.sha256(_shown(url).encode()).hexdigest()[:16]
    file = _file(url)
    return None if file is None else file.absolute().with_name(f".{file.name}-{name}")


def _file(url: URL) -> Path | None:
    """The file of a SQLite log; ``None`` for one in memory or with options of its own."""
    plain = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:") and not url.query
    return Path(url.database or "") if plain else None


@contextmanager
def reading(engine: Engine) -> Generator[Connection]:
    """Give a connection that sees one state of the log throughout, whatever others write meanwhile.

    Raises ``UnavailableError`` where the log cannot be reached.
    """
    with _explained(engine), engine.connect() as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Generator[Connection]:
    """Give a connection in one transaction: committed durably at the end, undone as a whole by any exception.

    Raises ``UnavailableError`` where the log cannot be reached, ``DataError`` for a value that it cannot hold.
    """
    with _explained(engine), engine.connect().execution_options(begin="IMMEDIATE") as connection, connection.begin():
        yield connection


def one_import(connection: Connection) -> None:
    """Let no other import write until this transaction ends: two that bring the same ids would meet in an error.

    SQLite has one writer anyway; it moves what an import wrote into the log's file less often than what others write,
    see ``settle``.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_IMPORTS)))
        return
    cursor = connection.connection.cursor()
    (others,) = cursor.execute("PRAGMA data_version").fetchone()  # counts their commits
    alone = connection.info.setdefault("others", others) == others
    cursor.execute(f"PRAGMA wal_autocheckpoint={_ALONE if alone else _BESIDE}")
    cursor.execute(f"PRAGMA cache_size=-{_CACHE >> 10}")


def settle(engine: Engine) -> None:
    """Move what an import wrote into SQLite's file, as far as nobody has to wait: else the next to write would."""
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.connection.cursor().execute("PRAGMA wal_checkpoint")


def adding(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An insert that leaves alone the rows that are there."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table).on_conflict_do_nothing()


@contextmanager
def _explained(engine: Engine) -> Generator[None]:
    driver = engine.dialect.loaded_dbapi
    try:
        yield
    except (IntegrityError, driver.IntegrityError):
        raise
    except (UnicodeEncodeError, OverflowError) as error:  # a driver's too, for what is only looked up
        raise DataError(f"a value is none that the log can hold ({error}): correct it") from error
    except (DBAPIError, driver.Error) as error:  # the driver's own: see ``prepared``
        cause = error.orig if isinstance(error, DBAPIError) else error
        said = _redacted(str(cause), engine.url)
        if isinstance(cause, driver.DataError) or str(getattr(cause, "sqlstate", None)).startswith(_LIMITS):
            raise DataError(
                f"a value cannot be stored ({said.partition(' DETAIL: ')[0]}): correct or shorten it"
            ) from error
        raise UnavailableError(
            f"log {_shown(engine.url)}: {said}: check that its folder exists, is writable and has room, "
            "that the file is a redraft log, and that no other process holds it for long ([log] url, --log)"
        ) from error


def _shown(url: URL) -> str:
    """A URL without its password, and without its query, where one may stand too."""
    return url.set(query={}).render_as_string(hide_password=True)


def _redacted(said: str, url: URL) -> str:
    """What a driver said, in one line, without what a URL keeps secret."""
    values = [value for found in url.query.values() for value in ([found] if isinstance(found, str) else found)]
    for secret in filter(None, (url.password, *values)):
        said = said.replace(secret, "***")
    return " ".join(said.split())


def _parsed(url: str) -> URL:
    """Read a URL; PostgreSQL is spoken to through psycopg 3 unless it names another driver."""
    try:
        place = make_url(url)
    except ArgumentError as error:
        raise ConfigError(_unusable(url, str(error).splitlines()[0])) from error
    return place.set(drivername="postgresql+psycopg") if place.drivername == "postgresql" else place


def _unusable(url: str, reason: str) -> str:
    shown = url.rpartition("@")[2].partition("?")[0]  # what stands before and behind may be a password
    return f"log url {shown!r}: {reason}: write it as sqlite:///FILE ([log] url, --log)"


def _engine(url: str) -> Engine:
    place = _parsed(url)
    try:
        # A server that was restarted has closed what waits in the pool; files do not.
        engine = create_engine(place, json_serializer=_json, pool_pre_ping=place.get_backend_name() != "sqlite")
    except ModuleNotFoundError as error:
        package = "'psycopg[binary]'" if error.name == "psycopg" else error.name
        raise ConfigError(
            f"log {_shown(place)}: needs the package {error.name}, which is not installed: pip install {package}"
        ) from error
    except (ArgumentError, ImportError) as error:
        raise ConfigError(_unusable(url, str(error).splitlines()[0])) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        if (file := _file(engine.url)) is not None:
            _watch_file(engine, file)
    return engine


def _watch_file(engine: Engine, file: Path) -> None:
    """Let no connection go on with a file that was removed or replaced: what it writes there is lost."""

    def opened(_connection: object, record: ConnectionPoolEntry) -> None:
        record.info["file"] = os.stat(file).st_ino

    def used(_connection: object, record: ConnectionPoolEntry, _proxy: object) -> None:
        try:
            now = os.stat(file).st_ino
        except FileNotFoundError:
            raise UnavailableError(f"log {file}: its file is gone: put it back, or restart to begin anew") from None
        if record.info["file"] != now:
            raise DisconnectionError  # the pool opens the file that is there now

    event.listen(engine, "connect", opened)
    event.listen(engine, "checkout", used)


def _json(value: Any) -> str:
    """Seven of an answer's columns are JSON, and the standard encoder takes several times as long."""
    return "{}" if value == {} else to_json(value).decode()


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None
    until = time.monotonic() + _WAIT
    for pragma in PRAGMAS:
        while True:
            try:
                connection.execute(f"PRAGMA {pragma}")
                break
            except sqlite3.OperationalError as error:
                # A file that several processes open for the first time: whoever is second to change its journal is
                # refused at once, whatever ``busy_timeout`` says.
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    connection.connection.cursor().execute(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")


def _upgrade(engine: Engine) -> None:
    with reading(engine) as connection:
        known = inspect(connection).has_table("alembic_version")
        if known and connection.scalar(text("SELECT version_num FROM alembic_version")) == NEWEST:
            return  # as nearly always, and Alembic takes a fifth of a second to import
    from alembic.command import upgrade
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config(attributes={})
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    try:
        # Two processes that open a new log at once: the second waits here and finds nothing left to do.
        with writing(engine) as config.attributes["connection"]:
            upgrade(config, "head")
    except CommandError as error:
        raise ConfigError(
            f"log {_shown(engine.url)}: its schema is newer than this redraft ({error}): upgrade it"
        ) from error
