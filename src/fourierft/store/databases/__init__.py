"""Where a store keeps its rows: one schema, in a SQLite file or in a PostgreSQL database."""
