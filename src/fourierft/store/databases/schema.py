"""The tables of a store and every statement on them, in SQL that SQLite and PostgreSQL both speak.

Parameters are written `:name`. What belongs to one database alone is filled into the braces of `TABLES` and `UPGRADE`.
Every row has a seal, the SHA-256 of its other columns (`seals.py`).
"""

from __future__ import annotations

FORMAT = 2

TABLES = (
    """CREATE TABLE fourierft_store (
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL
    )""",
    """CREATE TABLE fourierft_layouts (
        id {id},
        digest TEXT NOT NULL UNIQUE,
        basis TEXT NOT NULL,
        n INTEGER NOT NULL,
        scaling DOUBLE PRECISION NOT NULL,
        config TEXT NOT NULL,
        layers TEXT NOT NULL,
        shapes TEXT,
        seal {blob} NOT NULL DEFAULT ''
    )""",
    """CREATE TABLE fourierft_adapters (
        id {id},
        name {name} NOT NULL,
        version INTEGER NOT NULL,
        layout INTEGER NOT NULL REFERENCES fourierft_layouts (id),
        dtype TEXT NOT NULL,
        created TEXT NOT NULL,
        seal {blob} NOT NULL,
        metrics TEXT,
        record TEXT,
        coefficients {blob} NOT NULL,
        heads {blob},
        UNIQUE (name, version)
    )""",
    """CREATE TABLE fourierft_removed (
        name {name} PRIMARY KEY,
        version INTEGER NOT NULL,
        seal {blob} NOT NULL DEFAULT ''
    )""",
    """CREATE TABLE fourierft_aliases (
        name {name} NOT NULL,
        alias {name} NOT NULL,
        version INTEGER NOT NULL,
        seal {blob} NOT NULL,
        PRIMARY KEY (name, alias)
    )""",
)
TABLE_NAMES = ("fourierft_store", "fourierft_layouts", "fourierft_adapters", "fourierft_removed", "fourierft_aliases")
UPGRADE = (  # of format 1, whose sha256 covers the blobs alone
    "ALTER TABLE fourierft_adapters RENAME COLUMN sha256 TO seal",
    "ALTER TABLE fourierft_layouts ADD COLUMN seal {blob} NOT NULL DEFAULT ''",
    "ALTER TABLE fourierft_removed ADD COLUMN seal {blob} NOT NULL DEFAULT ''",
    TABLES[-1],
)

READ_STORE = "SELECT key, value FROM fourierft_store"
ADD_STORE = """INSERT INTO fourierft_store (key, value) VALUES (:key, :value)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value"""

FIND_LAYOUT = "SELECT id FROM fourierft_layouts WHERE digest = :digest"
LAYOUT_IDS = "SELECT id FROM fourierft_layouts ORDER BY id"
READ_LAYOUT = "SELECT config, layers, shapes, digest, basis, n, scaling, seal FROM fourierft_layouts WHERE id = :id"
ADD_LAYOUT = """INSERT INTO fourierft_layouts (digest, basis, n, scaling, config, layers, shapes, seal)
    VALUES (:digest, :basis, :n, :scaling, :config, :layers, :shapes, :seal)"""
SEAL_LAYOUT = "UPDATE fourierft_layouts SET seal = :seal WHERE id = :id"
REMOVE_LAYOUT = """DELETE FROM fourierft_layouts
    WHERE id = :id AND NOT EXISTS (SELECT 1 FROM fourierft_adapters WHERE layout = :id)"""

ADD = """INSERT INTO fourierft_adapters
    (name, version, layout, dtype, created, seal, metrics, record, coefficients, heads)
    VALUES (:name, :version, :layout, :dtype, :created, :seal, :metrics, :record, :coefficients, :heads)"""
LATEST = "SELECT id, version FROM fourierft_adapters WHERE name = :name ORDER BY version DESC LIMIT 1"
FIND_VERSION = "SELECT id FROM fourierft_adapters WHERE name = :name AND version = :version"
VERSIONS = "SELECT version FROM fourierft_adapters WHERE name = :name ORDER BY version"
LAYOUT_OF = "SELECT layout FROM fourierft_adapters WHERE name = :name ORDER BY version DESC LIMIT 1"
LAYOUTS_OF = "SELECT version, layout FROM fourierft_adapters WHERE name = :name"
REMOVE = "DELETE FROM fourierft_adapters WHERE name = :name AND version = :version"

# A version is never given twice, not even after the last one was removed.
HIGHEST = "SELECT name, MAX(version) FROM fourierft_adapters WHERE name IN ({names}) GROUP BY name"
REMOVED = "SELECT name, version, seal FROM fourierft_removed WHERE name IN ({names})"
ALL_HIGHEST = "SELECT name, MAX(version) FROM fourierft_adapters GROUP BY name"
ALL_REMOVED = "SELECT name, version, seal FROM fourierft_removed ORDER BY name"
REMEMBER_REMOVED = """INSERT INTO fourierft_removed (name, version, seal) VALUES (:name, :version, :seal)
    ON CONFLICT (name) DO UPDATE SET version = excluded.version, seal = excluded.seal"""
FORGET_REMOVED = "DELETE FROM fourierft_removed WHERE name = :name"

ALIAS = "SELECT name, alias, version, seal FROM fourierft_aliases WHERE name = :name AND alias = :alias"
ALIASES = "SELECT name, alias, version, seal FROM fourierft_aliases WHERE name = :name ORDER BY alias"
ALL_ALIASES = "SELECT name, alias, version, seal FROM fourierft_aliases ORDER BY name, alias"
SET_ALIAS = """INSERT INTO fourierft_aliases (name, alias, version, seal) VALUES (:name, :alias, :version, :seal)
    ON CONFLICT (name, alias) DO UPDATE SET version = excluded.version, seal = excluded.seal"""
REMOVE_ALIAS = "DELETE FROM fourierft_aliases WHERE name = :name AND alias = :alias"

COUNT = "SELECT COUNT(DISTINCT name) FROM fourierft_adapters"
DTYPES = """SELECT dtype, COUNT(*), SUM(LENGTH(coefficients) + COALESCE(LENGTH(heads), 0))
    FROM fourierft_adapters GROUP BY dtype ORDER BY dtype"""
NAMES = """SELECT DISTINCT name FROM fourierft_adapters
    WHERE name >= :first AND name <= :last ORDER BY name"""
EMPTY = tuple(f"DELETE FROM {name}" for name in reversed(TABLE_NAMES))  # what others refer to goes last
IDS = "SELECT id FROM fourierft_adapters ORDER BY id"

_ROW = "name, version, layout, dtype, created, seal, metrics, record, coefficients, heads"
_LATEST = """version = (SELECT MAX(version) FROM fourierft_adapters AS other
    WHERE other.name = fourierft_adapters.name)"""
GET_LATEST = f"SELECT {_ROW} FROM fourierft_adapters WHERE name = :name ORDER BY version DESC LIMIT 1"
GET_VERSION = f"SELECT {_ROW} FROM fourierft_adapters WHERE name = :name AND version = :version"
GET_ID = f"SELECT {_ROW} FROM fourierft_adapters WHERE id = :id"
SEAL_ID = "UPDATE fourierft_adapters SET seal = :seal WHERE id = :id"
ALL_ROWS = f"SELECT {_ROW} FROM fourierft_adapters ORDER BY id"
GET_ALL = f"SELECT {_ROW} FROM fourierft_adapters WHERE {_LATEST} ORDER BY id"
_LISTED = """SELECT name, version, layout, dtype, created, seal, metrics, record,
    LENGTH(coefficients) + COALESCE(LENGTH(heads), 0)
    FROM fourierft_adapters WHERE name >= :first AND name <= :last"""
DIGESTS = f"""SELECT name, layout, dtype, SUBSTR(seal, 1, 16)
    FROM fourierft_adapters WHERE {_LATEST} ORDER BY name"""
LIST_LATEST = f"{_LISTED} AND {_LATEST} ORDER BY name"
RECORDS = f"""SELECT MIN(name), record FROM fourierft_adapters WHERE {_LATEST} AND record IS NOT NULL
    GROUP BY record ORDER BY MIN(name)"""
LIST_VERSIONS = f"{_LISTED} ORDER BY name, version"
