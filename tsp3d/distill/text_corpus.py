"""Sentences and the vocabulary that the small text encoder is distilled on."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tsp3d.distill.text_words import ADJECTIVES, NAMES, PLACES, RELATIONS, VERBS, things, words

ASKING = (
    "find", "choose", "select", "pick", "show me", "point to", "look for", "go to", "where is", "i want", "bring me",
    "locate", "can you see", "please highlight", "the one i mean is", "you are looking for", "this is", "here is",
)  # fmt: skip


@dataclass(frozen=True)
class Lesson:
    """What the student reads, what the teacher reads, and which teacher's words teach each word of the student's."""

    student: str
    teacher: str
    words: list[tuple[int, int]]
    """Begin and end in the teacher's words, one pair for each word of the student's."""


MARKED = re.compile(r"\{([^|{}]*)\|([^|{}]*)\}")


def lesson(text: str) -> Lesson:
    """Read a sentence in which ``{settee|sofa}`` stands for a word and the better known one that teaches it."""
    spans: list[tuple[int, int]] = []
    begin = 0
    parts = MARKED.split(text)  # plain, name, taught as, plain, ...
    for i in range(0, len(parts), 3):
        count = count_words(parts[i])
        spans.extend((begin + w, begin + w + 1) for w in range(count))
        begin += count
        if i + 2 < len(parts):
            end = begin + count_words(parts[i + 2])
            spans.extend([(begin, end)] * count_words(parts[i + 1]))
            begin = end
    return Lesson(MARKED.sub(r"\1", text), MARKED.sub(r"\2", text), spans)


_SPLITTER = pre_tokenizers.BertPreTokenizer()


def count_words(text: str) -> int:
    """Words as both tokenizers count them: split at spaces and around each punctuation mark."""
    return len(_SPLITTER.pre_tokenize_str(text))


def plural(name: str) -> str:
    """English plural of a name, by rule."""
    if name.endswith(("s", "furniture", "luggage", "drawers")):
        return name
    if name.endswith("shelf"):
        return name[:-1] + "ves"
    if name.endswith(("sh", "ch", "x")):
        return name + "es"
    return name[:-1] + "ies" if re.search("[^aeiou]y$", name) else name + "s"


class TemplateSentences:
    """Random sentences about rooms, from the lists and further ``nouns``, marked for :func:`lesson`.

    A name that the teacher may not know, as "hassock", is taught half of the time by that of its class, "stool".
    """

    def __init__(self, rng: random.Random, nouns: Sequence[str] = ()) -> None:
        self.rng = rng
        self.classes = [(cls, words(names)) for cls, names in NAMES.items()]
        self.things = things()
        self.nouns = list(nouns) or self.things
        self.adjectives, self.relations = words(ADJECTIVES), words(RELATIONS)
        self.verbs, self.places = words(VERBS), words(PLACES)

    def thing(self) -> str:
        """A name: half of the time of a class, each class equally often, and then every other time marked with it."""
        draw = self.rng.random()
        if draw >= 0.5:
            return self._number(self.rng.choice(self.things if draw < 0.75 else self.nouns))
        cls, names = self.rng.choice(self.classes)
        name = self.rng.choice(names)
        if name == cls or self.rng.random() < 0.5:
            return self._number(name)
        return f"{{{name}|{cls}}}" if self.rng.random() < 0.9 else f"{{{plural(name)}|{plural(cls)}}}"

    def _number(self, name: str) -> str:
        return plural(name) if self.rng.random() < 0.1 else name

    def phrase(self) -> str:
        """A noun phrase with up to two adjectives."""
        count = self.rng.choices((0, 1, 2), (5, 4, 1))[0]
        article = self.rng.choice(("the", "the", "the", "a", "this", "that", "one", "an"))
        return " ".join([article, *(self.rng.choice(self.adjectives) for _ in range(count)), self.thing()])

    def clause(self) -> str:
        """A statement or description without its full stop."""
        choose, np = self.rng.choice, self.phrase
        kind = self.rng.randrange(12)
        if kind < 3:
            return f"{np()} {choose(self.relations)} {np()}"
        if kind == 3:
            return f"{np()} {choose(self.verbs)} {choose(self.relations)} {np()}"
        if kind == 4:
            return f"there is {np()} {choose(self.places)}"
        if kind == 5:
            return f"{np()} {choose(('is', 'looks', 'that is', 'which is'))} {choose(self.adjectives)}"
        if kind == 6:
            return f"{np()} between {np()} and {np()}"
        if kind == 7:
            return f"{choose(ASKING)} {np()} {choose(self.relations)} {np()}"
        if kind == 8:
            return f"{choose(self.places)}, {np()}"
        if kind == 9:
            return f"{np()} with {np()} {choose(self.relations)} it"
        if kind == 10:
            return choose((self.thing(), np(), f"{np()} {choose(self.places)}", f"{choose(ASKING)} {np()}"))
        return " . ".join(self.thing() for _ in range(self.rng.randint(2, 8))) + " ."

    def sentence(self) -> str:
        """One to three clauses; a few have more, so that late positions are trained too."""
        count = self.rng.choices((1, 2, 3, 8), (70, 20, 8, 2))[0]
        clauses = [self.clause()]
        for _ in range(count - 1):
            it = f"it {self.rng.choice(self.verbs)} {self.rng.choice(self.relations)} {self.phrase()}"
            clauses.append(self.rng.choice((it, it, f"it is {self.rng.choice(self.adjectives)}", self.clause())))
        text = self.rng.choice((". ", ", and ", ", ", ". ")).join(clauses)
        return text + self.rng.choice(("", "."))


def wordnet_artifacts(folder: str | Path) -> dict[str, str]:
    """Names of man-made things and their definitions, from WordNet's ``data.noun`` (Debian package wordnet-base).

    Raises:
        OSError: ``data.noun`` is not in ``folder``.
    """
    path = Path(folder) / "data.noun"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; apt-get install wordnet-base, or pass --wordnet ''")
    found: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):
            continue  # the licence
        data, _, gloss = line.partition(" | ")
        fields = data.split()
        if fields[1] != "06":  # lexicographer file 6 is noun.artifact
            continue
        for i in range(int(fields[3], 16)):
            found.setdefault(fields[4 + 2 * i].replace("_", " ").lower(), gloss.split(";")[0].strip())
    return found


def read_words(file: str | Path) -> list[str]:
    """Lower-case words of a word list, one a line, e.g. of Debian's package wamerican.

    Raises:
        OSError: the file is missing.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; apt-get install wamerican, or pass --dictionary ''")
    return [line for line in path.read_text(encoding="utf-8").splitlines() if re.fullmatch("[a-z]+", line)]


def definitions(artifacts: dict[str, str], rng: random.Random, count: int) -> list[str]:
    """``count`` sentences that name and define a thing: English beyond our templates."""
    names = rng.sample(sorted(artifacts), min(count, len(artifacts)))
    forms = ("the {} is {}", "{}: {}", "a {}, {}", "{1}", "{1}")
    return [rng.choice(forms).format(name, artifacts[name]) for name in names]


def lessons(
    grammar: Sequence[str], nouns: Sequence[str], artifacts: dict[str, str], templates: int, defined: int, seed: int
) -> list[Lesson]:
    """The whole corpus: the generator's sentences, ``templates`` of ours and ``defined`` definitions."""
    rng = random.Random(seed)
    source = TemplateSentences(rng, nouns)
    texts = [*grammar, *(source.sentence() for _ in range(templates)), *definitions(artifacts, rng, defined)]
    return [lesson(text) for text in texts]


def vocabulary(
    sentences: Iterable[str], ranked: Sequence[str], dictionary: Iterable[str], artifacts: Iterable[str], size: int
) -> list[str]:
    """Whole words of the student: those of our lists and sentences, then things, then frequent English up to ``size``.

    Args:
        sentences: sentences whose words (seen at least three times) shall be whole.
        ranked: words that the teacher has whole, roughly the most frequent ones first.
        dictionary: English words; what is not among them is left out of the broad part.
        artifacts: names of things.
    """
    ours = [w for text in (*things(), ADJECTIVES, RELATIONS, VERBS, PLACES, *ASKING) for w in _split(text)]
    counts = Counter(w for text in sentences for w in _split(text))
    seen = sorted(w for w, count in counts.items() if count >= 3)
    english, named = set(dictionary), set(artifacts)
    frequent = [w for w in ranked if w in english]
    broad = [w for w in frequent if w in named]
    return list(dict.fromkeys([*ours, *seen, *broad, *frequent]))[:size]


def _split(text: str) -> list[str]:
    return re.findall("[a-z]+", text.lower())


def build_tokenizer(whole: Sequence[str], spelling: Iterable[str], pieces: int = 1500) -> Tokenizer:
    """A lower-casing WordPiece tokenizer over bytes: known words whole, others in pieces, any script at worst in bytes.

    Args:
        whole: words that get an entry of their own.
        spelling: words from which the pieces of unknown words are learnt.
        pieces: entries for these pieces, the bytes included.
    """
    # NFKD + accents off lets "café" match "cafe"; NFC puts scripts such as Hangul together again.
    normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.NFC(), normalizers.Lowercase()]
    )
    splitter = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.pre_tokenizer = splitter
    learner.train_from_iterator(
        spelling, trainers.WordPieceTrainer(vocab_size=pieces, initial_alphabet=alphabet, show_progress=False)
    )
    learnt = sorted(learner.get_vocab(), key=lambda entry: (len(entry), entry))
    special = ["[UNK]", "[CLS]"]
    entries = [*special, *alphabet, *(f"##{byte}" for byte in alphabet), *learnt, *whole]
    vocab = {entry: i for i, entry in enumerate(dict.fromkeys(entries))}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=2000))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(special)
    return tokenizer
