"""Command line of the runtime: predictions of a lookup folder, and building the compiled kernel.

python -m runtime FOLDER "a small domesticated feline"
python -m runtime build
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from .build import build
from .errors import ArtifactError
from .model import LookupModel, load_lookup
from .native import NativeUnavailableError, load_extension


def _build(arguments: argparse.Namespace) -> int:
    """Compile the kernel; without a compiler say so once: the NumPy engine serves all the same."""
    try:
        path = build(arguments.into, force=arguments.force)
        if arguments.into is None:
            load_extension()
    except (NativeUnavailableError, OSError) as err:
        if arguments.optional:
            print(f"notice: no native engine, the NumPy engine serves instead. {err}")
            return 0
        raise
    print(f"{path}: compiled kernel, best instruction set here: {_best_isa()}.")
    return 0


def _best_isa() -> str:
    try:
        return str(load_extension().list_isas()[0])
    except NativeUnavailableError:
        return "not loaded from here"


def _print_predictions(model: LookupModel, texts: Iterable[str], k: int) -> None:
    for text in texts:
        print(text)
        for label, probability in model.predict([text], k)[0]:
            print(f"  {probability:7.2%}  {label}")


def _predict(arguments: argparse.Namespace) -> int:
    model = load_lookup(arguments.folder, engine=arguments.engine)
    texts = arguments.text or (line.rstrip("\r\n") for line in sys.stdin)
    _print_predictions(model, texts, arguments.k)
    return 0


def _make_parser(command: str | None) -> argparse.ArgumentParser:
    package = __package__ or "runtime"
    if command == "build":
        parser = argparse.ArgumentParser(
            prog=f"python -m {package} build",
            description="Compile the native engine into this user's cache. CC and CFLAGS are "
            "honoured.",
        )
        parser.add_argument("--force", action="store_true", help="compile even if it is there")
        parser.add_argument("--into", type=Path, metavar="DIR", help="another folder to put it in")
        parser.add_argument(
            "--optional",
            action="store_true",
            help="where it cannot be built, a notice and exit code 0",
        )
        parser.set_defaults(run=_build)
        return parser
    parser = argparse.ArgumentParser(
        prog=f"python -m {package}",
        description="Print the most probable labels of texts.",
        epilog=f"`python -m {package} build` compiles the native engine. Example: "
        f"python -m {package} lookup/ 'a small domesticated feline'",
    )
    parser.add_argument("folder", type=Path, help="the lookup/ folder of an artifact")
    parser.add_argument("text", nargs="*", help="texts; lines of the standard input when none")
    parser.add_argument("--k", type=int, default=3, help="labels a text (default 3)")
    parser.add_argument(
        "--engine", choices=("auto", "native", "numpy"), default="auto", help="default auto"
    )
    parser.set_defaults(run=_predict)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 2 bad input."""
    words = list(sys.argv[1:] if argv is None else argv)
    command = words.pop(0) if words[:1] == ["build"] else None
    arguments = _make_parser(command).parse_args(words)
    try:
        return int(arguments.run(arguments))
    except (ArtifactError, ImportError, OSError, ValueError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
