"""The card's section on licences: of the code, and of the data it holds."""

from __future__ import annotations

from export.model_card.data import is_wordnet
from export.model_card.forms import wrap
from export.model_card.markdown import fold
from pipeline.run_folder import Run

WORDNET_LICENCE = """\
This software and database is being provided to you, the LICENSEE, by
Princeton University under the following license.  By obtaining, using
and/or copying this software and database, you agree that you have
read, understood, and will comply with these terms and conditions.:

Permission to use, copy, modify and distribute this software and
database and its documentation for any purpose and without fee or
royalty is hereby granted, provided that you agree to comply with
the following copyright notice and statements, including the disclaimer,
and that the same appear on ALL copies of the software, database and
documentation, including modifications that you make for internal
use or for distribution.

WordNet 3.1 Copyright 2011 by Princeton University.  All rights reserved.

THIS SOFTWARE AND DATABASE IS PROVIDED "AS IS" AND PRINCETON
UNIVERSITY MAKES NO REPRESENTATIONS OR WARRANTIES, EXPRESS OR
IMPLIED.  BY WAY OF EXAMPLE, BUT NOT LIMITATION, PRINCETON
UNIVERSITY MAKES NO REPRESENTATIONS OR WARRANTIES OF MERCHANT-
ABILITY OR FITNESS FOR ANY PARTICULAR PURPOSE OR THAT THE USE
OF THE LICENSED SOFTWARE, DATABASE OR DOCUMENTATION WILL NOT
INFRINGE ANY THIRD PARTY PATENTS, COPYRIGHTS, TRADEMARKS OR
OTHER RIGHTS.

The name of Princeton University or Princeton may not be used in
advertising or publicity pertaining to distribution of the software
and/or database.  Title to copyright in this software, database and
any associated documentation shall at all times remain with
Princeton University and LICENSEE agrees to preserve same.
"""
"""Of WordNet 3.1, which wants it on every copy, changed ones too."""

_CODE = (
    "Code: the programs in `lookup/runtime/` are part of gatetable and under the Apache License "
    "2.0, <https://www.apache.org/licenses/LICENSE-2.0>."
)
_OWN_DATA = (
    "Data and weights: the licence of your data is yours to state, and so is what it says of a "
    "model trained on it and of the texts that this folder holds (see Limits)."
)
_WORDNET = (
    "Data: WordNet 3.1, Copyright 2011 by Princeton University. It may be used, copied, modified "
    "and distributed for any purpose without fee, with this notice:"
)


def format_licences(run: Run) -> str:
    """Return the section on licences."""
    if not is_wordnet(run):
        return f"{wrap(_CODE)}\n\n{wrap(_OWN_DATA)}"
    notice = fold("Licence of WordNet 3.1", f"```text\n{WORDNET_LICENCE}```")
    return f"{wrap(_CODE)}\n\n{wrap(_WORDNET)}\n\n{notice}"
