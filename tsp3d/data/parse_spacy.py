"""The parse of :mod:`tsp3d.data.parse` by spaCy's noun chunks, where spaCy and a model of English are installed.

For comparison: on generated sentences the rules are right more often (tests/data/test_parse_spacy.py), and need
neither.
"""

from __future__ import annotations

from collections.abc import Callable

from tsp3d.data.parse import Parse, nouns


def spacy_parser(model: str = "en_core_web_sm") -> Callable[[str], Parse]:
    """A function like :func:`tsp3d.data.parse.parse`; the main object is the first noun that no preposition governs.

    Raises:
        ImportError: spaCy or the model is not there.
    """
    try:
        import spacy

        nlp = spacy.load(model)
    except (ImportError, OSError) as error:
        raise ImportError(
            f"spaCy or its model {model!r} is missing ({error}): pip install 'tsp3d[parse]', and install the model"
        ) from error

    def parse(text: str) -> Parse:
        found = []
        for chunk in nlp(text.lower()).noun_chunks:
            known = nouns(chunk.text)
            if chunk.root.pos_ in ("NOUN", "PROPN") and known:
                found.append((known[-1], chunk.root.dep_ == "pobj"))
        if not found:
            return Parse("")
        main = next((noun for noun, governed in found if not governed), found[0][0])
        return Parse(main, tuple(dict.fromkeys(noun for noun, _ in found if noun != main)))

    return parse
