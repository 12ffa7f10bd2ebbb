"""The tables of a store and every statement on them, in SQL that SQLite and PostgreSQL both speak.

Parameters are written `:name`. What belongs to one database alone is filled into the braces of `TABLES`.
"""

from __future__ import annotations

FORMAT = 1

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
        shapes TEXT
    )""",
    """CREATE TABLE fourierft_adapters (
        id {id},
        name {name} NOT NULL,
        version INTEGER NOT NULL,
        layout INTEGER NOT NULL REFERENCES fourierft_layouts (id),
        dtype TEXT NOT NULL,
        created TEXT NOT NULL,
        sha256 {blob} NOT NULL,
        metrics TEXT,
        record TEXT,
        coefficients {blob} NOT NULL,
        heads {blob},
        UNIQUE (name, version)
    )""",
    """CREATE TABLE fourierft_removed (
        name {name} PRIMARY KEY,
        version INTEGER NOT NULL
    )""",
)
TABLE_NAMES = ("fourierft_store", "fourierft_layouts", "fourierft_adapters", "fourierft_removed")

READ_STORE = "SELECT key, value FROM fourierft_store"
ADD_STORE = "INSERT INTO fourierft_store (key, value) VALUES (:key, :value)"

FIND_LAYOUT = "SELECT id FROM fourierft_layouts WHERE digest = :digest"
LAYOUT_IDS = "SELECT id FROM fourierft_layouts ORDER BY id"
READ_LAYOUT = "SELECT config, layers, shapes, digest FROM fourierft_layouts WHERE id = :id"
ADD_LAYOUT = """INSERT INTO fourierft_layouts (digest, basis, n, scaling, config, layers, shapes)
    VALUES (:digest, :basis, :n, :scaling, :config, :layers, :shapes)"""
REMOVE_LAYOUT = """DELETE FROM fourierft_layouts
    WHERE id = :id AND NOT EXISTS (SELECT 1 FROM fourierft_adapters WHERE layout = :id)"""

# A version is never given twice, not even after the last one was removed.
ADD = """INSERT INTO fourierft_adapters
    (name, version, layout, dtype, created, sha256, metrics, record, coefficients, heads)
    VALUES (:name, 1 + COALESCE((SELECT MAX(version) FROM (
        SELECT version FROM fourierft_adapters WHERE name = :name
        UNION ALL SELECT version FROM fourierft_removed WHERE name = :name) AS given), 0),
        :layout, :dtype, :created, :sha256, :metrics, :record, :coefficients, :heads)"""
LATEST = "SELECT id, version FROM fourierft_adapters WHERE name = :name ORDER BY version DESC LIMIT 1"
VERSIONS = "SELECT version FROM fourierft_adapters WHERE name = :name ORDER BY version"
LAYOUT_OF = "SELECT layout FROM fourierft_adapters WHERE name = :name ORDER BY version DESC LIMIT 1"
LAYOUTS_OF = "SELECT version, layout FROM fourierft_adapters WHERE name = :name"
REMEMBER_REMOVED = """INSERT INTO fourierft_removed (name, version) VALUES (:name, :version)
    ON CONFLICT (name) DO UPDATE SET version = excluded.version WHERE excluded.version > fourierft_removed.version"""
REMOVE = "DELETE FROM fourierft_adapters WHERE name = :name AND version = :version"

COUNT = "SELECT COUNT(DISTINCT name) FROM fourierft_adapters"
DTYPES = """SELECT dtype, COUNT(*), SUM(LENGTH(coefficients) + COALESCE(LENGTH(heads), 0))
    FROM fourierft_adapters GROUP BY dtype ORDER BY dtype"""
NAMES = """SELECT DISTINCT name FROM fourierft_adapters
    WHERE name >= :first AND name <= :last ORDER BY name"""
KEYS = "SELECT name, version FROM fourierft_adapters ORDER BY name, version"

_ROW = "name, version, layout, dtype, created, sha256, metrics, record, coefficients, heads"
_LATEST = """version = (SELECT MAX(version) FROM fourierft_adapters AS other
    WHERE other.name = fourierft_adapters.name)"""
GET_LATEST = f"SELECT {_ROW} FROM fourierft_adapters WHERE name = :name ORDER BY version DESC LIMIT 1"
GET_VERSION = f"SELECT {_ROW} FROM fourierft_adapters WHERE name = :name AND version = :version"
GET_ALL = f"SELECT {_ROW} FROM fourierft_adapters WHERE {_LATEST} ORDER BY id"
_LISTED = """SELECT name, version, dtype, created, n, scaling, metrics,
    LENGTH(coefficients) + COALESCE(LENGTH(heads), 0)
    FROM fourierft_adapters JOIN fourierft_layouts ON fourierft_layouts.id = layout
    WHERE name >= :first AND name <= :last"""
DIGESTS = f"SELECT name, layout, dtype, sha256 FROM fourierft_adapters WHERE {_LATEST} ORDER BY name"
LIST_LATEST = f"{_LISTED} AND {_LATEST} ORDER BY name"
LIST_VERSIONS = f"{_LISTED} ORDER BY name, version"
