"""Classify a text while it is being typed: whole words stay read, the last one is tried.

    python docs/examples/typeahead.py LOOKUP_FOLDER "a small domesticated feline"

Words that are complete go into one stream and are never read again. The word under the cursor may
change with the next letter, so it is pushed into a fork, which is thrown away.
"""

from __future__ import annotations

import sys
import time

from export.lookup import load_lookup  # in an artifact: from runtime import load_lookup


def main(folder: str, text: str) -> None:
    """Print the best label after every letter of `text`, with the time it took."""
    model = load_lookup(folder)
    model.predict([text])  # the first text proves the tokenizer, which takes a moment
    stream = model.stream()
    word = ""
    for letter in text:
        start = time.perf_counter_ns()
        if letter == " ":
            stream.push_text(word)
            word = ""
        else:
            word += letter
        typed = stream.fork()
        typed.push_text(word)
        probabilities = typed.probabilities()
        taken_us = (time.perf_counter_ns() - start) / 1000
        best = int(probabilities.argmax())
        print(f"{letter}  {model.labels[best]:24} {probabilities[best]:7.2%}  {taken_us:6.1f} us")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: python {sys.argv[0]} LOOKUP_FOLDER TEXT")
    main(*sys.argv[1:])
