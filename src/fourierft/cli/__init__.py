"""The roof: one file per command, each a thin call of what lies below."""
