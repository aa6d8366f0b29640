"""A small server for the page: its own files, an artifact and what npm installed.

    cd ../node && npm ci && cd ../browser
    python serve.py ARTIFACT [PORT]

It listens on 127.0.0.1 only, serves nothing above these three folders and needs Python alone. For
real use, copy the same files to any static web server.
"""

import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

HERE = Path(__file__).resolve().parent
FOLDERS = {
    "artifact": Path(sys.argv[1]).resolve(),
    "node_modules": HERE.parent / "node" / "node_modules",
}


class Handler(SimpleHTTPRequestHandler):
    """Maps the first part of a path to a folder; everything else is the page's."""

    extensions_map: ClassVar[dict[str, str]] = {
        **SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def translate_path(self, path):
        """Return the file of a path; the base class has taken out every `..`."""
        relative = Path(super().translate_path(path)).relative_to(self.directory)
        first, *rest = relative.parts or ("",)
        return str(FOLDERS[first].joinpath(*rest) if first in FOLDERS else HERE / relative)

    def list_directory(self, path):
        """Give no listings."""
        self.send_error(404)

    def log_message(self, *args):
        """Stay silent."""


server = ThreadingHTTPServer(("127.0.0.1", int((sys.argv[2:] or ["0"])[0])), Handler)
print(f"http://127.0.0.1:{server.server_port}/", flush=True)
server.serve_forever()
