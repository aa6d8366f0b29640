"""`python -m export keygen`, and `--sign` of the commands that publish.

cryptography is imported once there is a key: without one, neither command needs it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from export.store.errors import StoreError

PUBLIC_KEY_VARIABLE = "GATETABLE_PUBLIC_KEY"

sign_option = click.option(
    "--sign",
    "key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Private key to sign the manifest with; see keygen.",
)


def _missing(err: ImportError) -> StoreError:
    return StoreError(
        f"signatures: expected the package cryptography, found: {err}. Run "
        "`pip install 'gatetable[store]'`."
    )


def load_signing_key(path: Path) -> Callable[[Path], bytes]:
    """Return what signs a version's folder: it keeps the signature beside it, and returns it.

    Raises:
        StoreError: cryptography is missing, or the file is no private key.
    """
    try:
        from export.store.signing import load_private_key, sign_manifest
    except ImportError as err:
        raise _missing(err) from err
    key = load_private_key(path)
    return lambda folder: sign_manifest(folder, key)


@click.command("keygen")
@click.argument("private", type=click.Path(path_type=Path, dir_okay=False))
def keygen_command(private: Path) -> None:
    """Make a pair of keys to sign artifacts with (Ed25519).

    PRIVATE takes the private key, for `export --sign` and `upload --sign`; keep it where the
    publisher alone can read it. The public key goes beside it, as NAME.pub.pem: give it to those
    who pull.

    Example: python -m export keygen team.pem
    """
    try:
        try:
            from export.store.signing import make_keys
        except ImportError as err:
            raise _missing(err) from err
        public = make_keys(private)
    except (StoreError, OSError) as err:
        click.echo(f"error: {err}", err=True)
        sys.exit(2)
    click.echo(f"Sign with      python -m export upload --sign {private}")
    click.echo(f"Check with     {PUBLIC_KEY_VARIABLE}={public} python -m export pull s3://...")
