"""From files to usable rows: which table is meant, its bytes, its format, its rows."""
