"""The HTTP server that puts backends behind one contract: `python -m serving_compare serve`."""
