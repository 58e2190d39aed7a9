"""Names of characters as data that every Python has: letters as tokens, the character's category as class."""

import itertools
import random
import unicodedata

import numpy as np

from transformer_foundry.core.data.tokenized.dataset import TokenSplit, TokenSplits
from transformer_foundry.core.data.tokenized.memmap import RaggedArray
from transformer_foundry.core.data.tokenizer.tokenizer import SpecialIds

CATEGORIES = ("Ll", "Lo", "Lu", "Mn", "Sm", "So")
VOCAB_SIZE, LENGTH = 64, 48
SPECIAL = SpecialIds(pad=0, bos=1, eos=2, mask=3, decoder_start=0)


def named_characters(seed, count):
    """Return ``count`` pairs (ids, class), as many of each class as there are, in random order."""
    found = {category: [] for category in CATEGORIES}
    for code in range(0x110000):
        name = unicodedata.name(chr(code), "")
        category = unicodedata.category(chr(code))
        if category in found and not name.startswith(("CJK", "HANGUL", "EGYPTIAN", "CUNEIFORM", "TANGUT", "NUSHU")):
            found[category].append(name)
    stream = random.Random(seed)
    pairs = [
        ([1, *(ord(letter) - 28 for letter in name[: LENGTH - 1])], label)
        for label, category in enumerate(CATEGORIES)
        for name in stream.sample(found[category], min(len(found[category]), count // len(CATEGORIES)))
    ]
    stream.shuffle(pairs)
    return pairs


def make_splits(task, pairs, *, fingerprint="names"):
    """Return splits of 80, 10 and 10 percent; blocks of running names for a masked language model."""
    cuts = (0, len(pairs) * 8 // 10, len(pairs) * 9 // 10, len(pairs))
    parts = [pairs[low:high] for low, high in itertools.pairwise(cuts)]
    splits = [_split(name, task, part) for name, part in zip(("train", "validation", "test"), parts, strict=False)]
    names = CATEGORIES if task == "sequence_classification" else None
    return TokenSplits(*splits, task=task, vocab_size=VOCAB_SIZE, max_length=LENGTH, fingerprint=fingerprint,
                       special=SPECIAL, label_names=names)  # fmt: skip


def _split(name, task, pairs):
    if task == "masked_lm":
        ids = [number for row, _ in pairs for number in row]
        return TokenSplit(
            name, RaggedArray.from_rows([ids[at : at + LENGTH] for at in range(0, len(ids) - LENGTH, LENGTH)])
        )
    return TokenSplit(
        name, RaggedArray.from_rows([row for row, _ in pairs]), None, np.array([label for _, label in pairs])
    )
