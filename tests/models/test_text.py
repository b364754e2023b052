"""Text encoders: the interface, ragged attention, any language, freezing, saving, and the bundled encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.nn import functional as F

from tsp3d.models.text import (
    BUNDLED,
    HuggingFaceTextEncoder,
    TextConfig,
    TextEncoder,
    build_text_encoder,
    config_from_dict,
    length_buckets,
    load_text_encoder,
)
from tsp3d.models.text_small import SmallTextEncoder

TEXTS = [
    "the brown chair next to the desk",
    "sofa",
    "the lamp that stands on the small table in the corner, behind the two armchairs and the plant",
    "find the box under the bed",
]


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny RoBERTa with random weights and a byte-level tokenizer, as a Hugging Face folder."""
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaModel

    folder = tmp_path_factory.mktemp("roberta")
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    entries = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    raw = Tokenizer(models.BPE({entry: i for i, entry in enumerate(entries)}, [], unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>",
        unk_token="<unk>", pad_token="<pad>", mask_token="<mask>", model_max_length=128,
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(entries), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=130, pad_token_id=1, bos_token_id=0, eos_token_id=2, type_vocab_size=1,
    )  # fmt: skip
    RobertaModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def small() -> SmallTextEncoder:
    torch.manual_seed(0)
    return SmallTextEncoder(TextConfig(name="", dim=32, layers=2, heads=4, max_tokens=40)).eval()


@pytest.fixture(params=["small", "huggingface"])
def encoder(request: pytest.FixtureRequest, small: SmallTextEncoder, roberta: Path) -> TextEncoder:
    return small if request.param == "small" else HuggingFaceTextEncoder(roberta).eval()


def test_features_are_ragged_and_start_with_the_sentence_token(encoder: TextEncoder) -> None:
    out = encoder(TEXTS)
    assert len(out.lengths) == len(TEXTS) and sum(out.lengths) == len(out.tokens)
    assert out.tokens.shape[1] == encoder.dim == 32
    parts = out.split()
    assert torch.equal(out.sentence, torch.stack([part[0] for part in parts]))
    starts = {row[0] for row in encoder.tokenize(TEXTS)}
    assert len(starts) == 1


def test_a_sentence_alone_and_in_a_batch_give_the_same(encoder: TextEncoder) -> None:
    together = encoder(TEXTS).split()
    for text, part in zip(TEXTS, together, strict=True):
        # float32 sums in another order: measured worst case 1e-6
        torch.testing.assert_close(encoder([text]).tokens, part, atol=1e-5, rtol=1e-5)


def test_same_input_same_bits(encoder: TextEncoder) -> None:
    assert torch.equal(encoder(TEXTS).tokens, encoder(TEXTS).tokens)


def test_no_sentences_give_no_tokens(encoder: TextEncoder) -> None:
    out = encoder([])
    assert out.lengths == [] and out.tokens.shape == (0, 32) and out.sentence.shape == (0, 32)


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_empty_text_is_refused(encoder: TextEncoder, text: str) -> None:
    with pytest.raises(ValueError, match=r"texts\[1\] is empty.*the chair next to the desk"):
        encoder(["a chair", text])


def test_one_string_is_refused(encoder: TextEncoder) -> None:
    with pytest.raises(TypeError, match="list of sentences"):
        encoder("a chair")
    with pytest.raises(TypeError, match=r"texts\[0\] is a int"):
        encoder([3])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("text", ["der blaue Stuhl", "沙发旁边的椅子", "стул у окна", "의자", "🪑", "كرسي", "x" * 30])
def test_any_language_has_tokens_of_its_own(small: SmallTextEncoder, text: str) -> None:
    unknown = small.tokenizer.token_to_id("[UNK]")
    (ids,) = small.tokenize([text])
    assert len(ids) > 1 and unknown not in ids
    assert torch.isfinite(small([text]).tokens).all()
    assert not torch.allclose(small([text]).sentence, small(["椅"]).sentence)


def test_case_and_accents_do_not_matter(small: SmallTextEncoder) -> None:
    assert small.tokenize(["The CAFÉ Table"]) == small.tokenize(["the cafe table"])


def test_too_long_text_is_cut_with_one_warning(roberta: Path, small: SmallTextEncoder, caplog) -> None:
    for encoder in (HuggingFaceTextEncoder(roberta, max_tokens=40), SmallTextEncoder(small.config)):
        text = "the chair next to the desk " * 30
        caplog.clear()
        assert encoder([text, "sofa"]).lengths[0] == encoder([text]).lengths[0] == 40
        assert caplog.text.count("the first 40 are read") == 1


def test_a_cut_sentence_keeps_its_closing_token(roberta: Path) -> None:
    encoder = HuggingFaceTextEncoder(roberta, max_tokens=9)
    row = encoder.tokenize(["the chair next to the desk"])[0]
    assert encoder._clip(row)[-1] == 2 and len(encoder._clip(row)) == 9


def test_buckets_hold_each_row_once_and_pad_less_than_a_step() -> None:
    lengths = [3, 30, 8, 9, 16, 1, 17, 24]
    buckets = length_buckets(lengths)
    assert sorted(row for rows in buckets for row in rows) == list(range(len(lengths)))
    assert all(max(lengths[r] for r in rows) - min(lengths[r] for r in rows) < 8 for rows in buckets)


def test_gradients_reach_every_layer_unless_frozen() -> None:
    config = TextConfig(name="", dim=32, layers=2)
    encoder = build_text_encoder(config).train()
    encoder(TEXTS).tokens[:, 0].sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())
    frozen = build_text_encoder(TextConfig(name="", dim=32, layers=2, frozen=True)).train()
    assert not frozen(TEXTS).tokens.requires_grad and not any(p.requires_grad for p in frozen.parameters())


@pytest.mark.parametrize("keep_dropout", [False, True])
def test_a_frozen_encoder_keeps_dropout_only_where_asked(roberta: Path, keep_dropout: bool) -> None:
    config = TextConfig("huggingface", str(roberta), frozen=True, keep_dropout=keep_dropout)
    encoder = build_text_encoder(config).train()
    out = encoder(TEXTS).tokens
    assert not out.requires_grad
    assert torch.equal(out, encoder(TEXTS).tokens) != keep_dropout
    encoder.eval()
    assert torch.equal(encoder(TEXTS).tokens, encoder(TEXTS).tokens)


def test_an_unfrozen_hugging_face_encoder_learns(roberta: Path) -> None:
    encoder = HuggingFaceTextEncoder(roberta, frozen=False).train()
    encoder(TEXTS).sentence[:, 0].sum().backward()
    gradient = next(encoder.parameters()).grad
    assert gradient is not None and gradient.abs().sum() > 0


def test_saved_encoders_come_back_the_same(encoder: TextEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path / "text")
    again = load_text_encoder(tmp_path / "text").eval()
    assert type(again) is type(encoder) and again.config.frozen == encoder.config.frozen
    assert torch.equal(again(TEXTS).tokens, encoder(TEXTS).tokens)


def test_hugging_face_settings_are_stored(roberta: Path, tmp_path: Path) -> None:
    HuggingFaceTextEncoder(roberta, frozen=False, keep_dropout=True, max_tokens=50).save(tmp_path)
    again = load_text_encoder(tmp_path).config
    assert (again.frozen, again.keep_dropout, again.max_tokens) == (False, True, 50)


def test_unusable_names_say_what_to_do(tmp_path: Path, roberta: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        load_text_encoder(tmp_path)
    with pytest.raises(FileNotFoundError, match="text-small"):
        build_text_encoder(TextConfig(name=str(tmp_path)))
    with pytest.raises(OSError, match="cannot be loaded"):
        build_text_encoder(TextConfig("huggingface", str(tmp_path)))
    with pytest.raises(ValueError, match="must be 'small' or 'huggingface'"):
        build_text_encoder(TextConfig("large"))
    with pytest.raises(ValueError, match="name is empty"):
        build_text_encoder(TextConfig("huggingface", ""))
    with pytest.raises(ValueError, match=r"text\.dim is 64.* has 32"):
        build_text_encoder(TextConfig("huggingface", str(roberta), dim=64))
    with pytest.raises(ValueError, match="multiple of text.heads"):
        build_text_encoder(TextConfig(name="", dim=30, heads=4))
    with pytest.raises(ValueError, match="colour"):
        config_from_dict({"colour": 1})


def test_weights_that_do_not_fit_are_refused(small: SmallTextEncoder, tmp_path: Path) -> None:
    small.save(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(file.read_text().replace('"ffn": 64', '"ffn": 96'))
    with pytest.raises(ValueError, match="does not fit config.json"):
        load_text_encoder(tmp_path)


@pytest.fixture(scope="module")
def bundled() -> TextEncoder:
    return build_text_encoder(TextConfig()).eval()


def test_bundled_encoder_is_small(bundled: TextEncoder) -> None:
    folder = BUNDLED / "text-small"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 8e6
    assert bundled.dim == 128 and bundled.max_tokens == 128


@pytest.mark.parametrize(
    ("word", "near", "far"),
    [
        ("sofa", "couch", "toilet"),
        ("davenport", "sofa", "lamp"),
        ("wastebasket", "bin", "window"),
        ("television", "tv", "pillow"),
        ("carpet", "rug", "oven"),
        ("settees", "sofas", "doors"),
    ],
)
def test_bundled_encoder_puts_synonyms_together(bundled: TextEncoder, word: str, near: str, far: str) -> None:
    rows = []
    with torch.inference_mode():
        for name in (word, near, far):
            before = len(bundled.tokenize(["the brown x"])[0]) - 1
            until = len(bundled.tokenize([f"the brown {name}"])[0])
            features = bundled([f"the brown {name} is next to the window"]).tokens[before:until]
            rows.append(F.normalize(features.mean(0), dim=0))
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.1
