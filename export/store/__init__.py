"""Artifacts that travel: S3 upload and pull, versions and their pointer, signatures."""
