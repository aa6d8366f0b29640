"""Texts put aside on disk."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tables.clean_rows import RowTexts
from pipeline.tables.text_spool import TextSpool


@given(texts=st.lists(st.binary(max_size=50), max_size=20), data=st.data())
def test_texts_come_back_in_any_order(texts: list[bytes], data: st.DataObject) -> None:
    with TextSpool(Path(tempfile.gettempdir())) as spool:
        for text in texts:
            spool.append(text)
        spool.finish()
        assert len(spool) == len(texts)
        order = data.draw(st.permutations(range(len(texts))))
        assert [spool.read(number) for number in order] == [texts[number] for number in order]
        picked = RowTexts(spool, np.array(order, dtype=np.int64))
        assert list(picked) == [texts[number] for number in order]
        assert list(picked[1:3]) == list(picked)[1:3]
        assert [picked[index] for index in range(len(picked))] == list(picked)


def test_nothing_of_it_is_in_the_folder(tmp_path: Path) -> None:
    with TextSpool(tmp_path) as spool:
        spool.append(b"x" * 2**21)
        assert list(tmp_path.iterdir()) == []
