"""The data card of a data folder: what is measured, what is warned of, and its page."""
