from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.data.samples import contract_for, corpus_of, documents_for, sentences
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import DataOptions, Document, fit_tokenizer, load_tokenizer
from transformer_foundry.core.data.tokenizer.tokenizer import SpecialIds

TASKS = ("causal_lm", "masked_lm", "seq2seq_lm", "sequence_classification")


def fit(task="causal_lm", vocab_size=300, *, algorithm="auto", texts=None, **settings):
    documents = documents_for(task) if texts is None else [Document(text) for text in texts]
    corpus = corpus_of(documents, task)
    return fit_tokenizer(corpus, contract_for(task, vocab_size, **settings), DataOptions(tokenizer=algorithm))


@pytest.fixture(scope="module")
def byte_tokenizer():
    return fit(vocab_size=256)


@given(text=st.text())
@settings(max_examples=200, deadline=None)
def test_a_vocabulary_of_256_loses_no_text(byte_tokenizer, text):
    assert byte_tokenizer.decode(byte_tokenizer.encode(text)) == text


@pytest.fixture(scope="module")
def merging_tokenizer():
    return fit(vocab_size=400)


PIECES = st.sampled_from(
    ["the", "dog", "'s", " ", "  ", "\n", "\t", "\u00a0", "\u3000", "7", "!?", "Zürich", "<|eos|>", "\u0301"]
)


@given(texts=st.lists(st.lists(PIECES, max_size=20).map("".join) | st.text(max_size=30), max_size=6))
@settings(max_examples=200, deadline=None)
def test_words_met_before_get_the_ids_that_the_backend_gives(merging_tokenizer, texts):
    expected = [merging_tokenizer.backend.encode(text, add_special_tokens=False).ids for text in texts]
    assert merging_tokenizer.encode_batch(texts, add_special_tokens=False) == expected


@given(text=st.text(alphabet=st.characters(codec="utf-8")))
@settings(max_examples=100, deadline=None)
def test_ids_stay_below_the_vocabulary_and_are_never_special(byte_tokenizer, text):
    ids = byte_tokenizer.encode(text)
    assert all(0 <= number < 256 for number in ids)
    assert not set(ids) & set(byte_tokenizer.special.ids())


@pytest.mark.parametrize("vocab_size", [246, 256, 270, 300])
def test_the_vocabulary_is_filled_exactly(vocab_size):
    tokenizer = fit(vocab_size=vocab_size)
    assert tokenizer.vocab_size == len(tokenizer) == vocab_size
    assert sorted(tokenizer.backend.get_vocab().values()) == list(range(vocab_size))


def test_little_text_gives_fewer_tokens_than_the_model_has():
    tokenizer = fit(vocab_size=5000)
    assert 256 < tokenizer.vocab_size < 5000


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_the_special_tokens_it_needs(task):
    special = fit(task).special
    assert special.pad == 0
    assert (special.mask is not None) == (task == "masked_lm")
    assert (special.bos is not None) == (task == "sequence_classification")
    assert special.decoder_start == (0 if task == "seq2seq_lm" else None)


def test_special_tokens_sit_where_the_contract_wants_them():
    tokenizer = fit("masked_lm", 300, pad_token_id=299, mask_token_id=3, bos_token_id=7)
    assert tokenizer.special == SpecialIds(pad=299, bos=7, eos=0, mask=3)
    assert tokenizer.vocab_size == 300
    assert tokenizer.backend.token_to_id("<|pad|>") == 299


def test_a_special_token_beyond_the_text_leaves_no_hole():
    tokenizer = fit(vocab_size=5000, pad_token_id=4999)
    assert sorted(tokenizer.backend.get_vocab().values()) == list(range(5000))


def test_two_roles_can_share_an_id():
    tokenizer = fit(pad_token_id=5, eos_token_id=5)
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (5, 5)
    assert tokenizer.vocab_size == 300


def test_the_decoder_starts_with_what_the_contract_says_then_bos_then_pad():
    assert fit("seq2seq_lm", decoder_start_token_id=9).decoder_start_token_id == 9
    assert fit("seq2seq_lm", bos_token_id=8).decoder_start_token_id == 8
    assert fit("seq2seq_lm", pad_token_id=4).decoder_start_token_id == 4


def test_the_smaller_of_two_embeddings_decides():
    assert fit("seq2seq_lm", 300, decoder_vocab_size=280).vocab_size == 280


def test_a_special_token_outside_the_vocabulary_is_refused_with_both_numbers():
    with pytest.raises(DataError, match="eos_token_id is 300 but the model has 300 token ids"):
        fit(eos_token_id=300)


def test_a_small_vocabulary_takes_the_most_frequent_characters():
    tokenizer = fit(vocab_size=30)
    assert tokenizer.algorithm == "characters"
    assert tokenizer.unk_token_id is not None
    assert tokenizer.decode(tokenizer.encode("the dog")) == "the dog"
    assert tokenizer.encode("日") == [tokenizer.unk_token_id]


def test_a_hopeless_vocabulary_is_refused_with_both_numbers():
    with pytest.raises(DataError, match=r"has 8 token ids, but the tokenizer .* needs \d+"):
        fit(vocab_size=8)


def test_bytes_can_be_asked_for():
    tokenizer = fit(vocab_size=400, algorithm="bytes")
    assert tokenizer.algorithm == "bytes"
    assert len(tokenizer.encode("Zürich")) == len("Zürich".encode())


def test_bytes_in_too_small_a_vocabulary_are_refused():
    with pytest.raises(DataError, match="has 100 token ids"):
        fit(vocab_size=100, algorithm="bytes")


def test_merges_shorten_the_text():
    text = sentences(1)[0]
    assert len(fit(vocab_size=400).encode(text)) < 0.7 * len(text)


def test_a_special_token_written_in_a_text_is_ordinary_text():
    tokenizer = fit()
    ids = tokenizer.encode("a <|eos|> b")
    assert tokenizer.eos_token_id not in ids
    assert tokenizer.decode(ids) == "a <|eos|> b"


def test_a_classifier_sees_a_first_token_and_a_pair_ends():
    classifier, pairs = fit("sequence_classification"), fit("seq2seq_lm")
    assert classifier.encode("dog")[0] == classifier.bos_token_id
    assert pairs.encode("dog")[-1] == pairs.eos_token_id
    assert pairs.encode("dog", add_special_tokens=False)[-1] != pairs.eos_token_id


def test_decoding_skips_ids_that_no_token_has():
    tokenizer = fit()
    assert tokenizer.decode([*tokenizer.encode("dog"), 100_000, tokenizer.eos_token_id]) == "dog"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("vocab_size", [64, 300])
def test_a_saved_tokenizer_comes_back_the_same(tmp_path, task, vocab_size):
    tokenizer = fit(task, vocab_size)
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.digest() == tokenizer.digest()
    assert (loaded.special, loaded.request) == (tokenizer.special, tokenizer.request)
    assert loaded.encode("a lazy dog") == tokenizer.encode("a lazy dog")


@pytest.mark.parametrize("task", TASKS)
def test_transformers_gives_the_same_ids(tmp_path, task):
    from transformers import AutoTokenizer

    tokenizer = fit(task, pad_token_id=299)
    tokenizer.save(tmp_path)
    pretrained = AutoTokenizer.from_pretrained(str(tmp_path))
    text = "  Seven wizards\n\tin Zürich 日本 e\u0301"
    assert pretrained(text)["input_ids"] == tokenizer.encode(text)
    assert pretrained.decode(tokenizer.encode(text), skip_special_tokens=True) == text
    assert (len(pretrained), pretrained.pad_token_id) == (tokenizer.vocab_size, 299)
    assert set(pretrained(text)) == {"input_ids", "attention_mask"}
    assert (pretrained.eos_token_id, pretrained.mask_token_id) == (tokenizer.eos_token_id, tokenizer.mask_token_id)


def test_a_tokenizer_folder_can_be_given(tmp_path):
    fit(vocab_size=280).save(tmp_path)
    tokenizer = fit(vocab_size=300, algorithm=str(tmp_path))
    assert (tokenizer.vocab_size, tokenizer.pad_token_id) == (280, 0)


def test_a_given_tokenizer_is_made_to_end_a_pair(tmp_path):
    fit("causal_lm", 280).save(tmp_path)
    tokenizer = fit("seq2seq_lm", 300, algorithm=str(tmp_path), decoder_start_token_id=1)
    assert tokenizer.encode("dog")[-1] == tokenizer.eos_token_id
    assert tokenizer.decoder_start_token_id == 1


def test_a_given_tokenizer_neither_cuts_nor_pads_though_its_file_says_so(tmp_path):
    given = fit(vocab_size=280)
    whole = given.encode(sentences(1)[0])
    given.backend.enable_truncation(4)
    given.backend.enable_padding(length=100)
    given.save(tmp_path)
    tokenizer = fit(vocab_size=300, algorithm=str(tmp_path))
    assert tokenizer.encode(sentences(1)[0]) == whole
    assert tokenizer.encode_batch(sentences(1), add_special_tokens=False) == [whole]


def test_a_given_tokenizer_keeps_its_special_tokens_where_config_names_ordinary_ones(tmp_path):
    fit(vocab_size=280, eos_token_id=270).save(tmp_path)
    tokenizer = fit(vocab_size=300, algorithm=str(tmp_path), eos_token_id=65, bos_token_id=66, pad_token_id=67)
    assert tokenizer.special == SpecialIds(pad=0, eos=270)


def test_a_role_that_a_given_tokenizer_lacks_goes_to_the_special_token_that_config_names(tmp_path):
    fit(vocab_size=280, unk_token_id=5).save(tmp_path)
    tokenizer = fit("sequence_classification", 300, algorithm=str(tmp_path), bos_token_id=5)
    assert tokenizer.bos_token_id == 5


def test_a_given_tokenizer_larger_than_the_model_is_refused_with_both_numbers(tmp_path):
    fit(vocab_size=300).save(tmp_path)
    with pytest.raises(DataError, match="has 300 tokens but the model only 280"):
        fit(vocab_size=280, algorithm=str(tmp_path))


def test_a_given_tokenizer_without_a_mask_is_refused_for_masked_modelling(tmp_path):
    fit(vocab_size=280).save(tmp_path)
    with pytest.raises(DataError, match="no mask token"):
        fit("masked_lm", 300, algorithm=str(tmp_path))


def test_a_tokenizer_that_is_nowhere_is_a_data_error():
    with pytest.raises(DataError, match="cannot be read"):
        fit(algorithm="nobody/nothing")


def test_fitting_again_returns_the_previous_tokenizer():
    corpus = corpus_of(documents_for("causal_lm"), "causal_lm")
    first = fit_tokenizer(corpus, contract_for("causal_lm"), DataOptions())
    assert fit_tokenizer(corpus, contract_for("causal_lm"), DataOptions(), previous=first) is first
    assert fit_tokenizer(corpus, contract_for("causal_lm", 301), DataOptions(), previous=first) is not first


def test_a_copy_takes_special_tokens_in_a_text_as_text():
    tokenizer = fit()
    assert copy.deepcopy(tokenizer).encode("a <|eos|> b") == tokenizer.encode("a <|eos|> b")


@pytest.mark.parametrize("damage", ["", "{", '{"model": {}}'])
def test_a_damaged_folder_is_a_data_error(tmp_path, damage):
    fit().save(tmp_path)
    (tmp_path / "tokenizer.json").write_text(damage)
    with pytest.raises(DataError, match="no readable tokenizer"):
        load_tokenizer(tmp_path)


def test_a_folder_without_a_tokenizer_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="no readable tokenizer"):
        load_tokenizer(tmp_path)


def test_the_configuration_names_the_special_tokens(tmp_path):
    fit("masked_lm").save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["mask_token"] == "<|mask|>"
    assert config["model_max_length"] == 16


MOVES = [" ".join(f"{'abcdefgh'[(n * 3 + k) % 8]}{k % 8 + 1}d{n % 8 + 1}" for k in range(9)) for n in range(40)]


@pytest.mark.parametrize("join", [" ".join, "\n".join])
def test_words_of_letters_and_digits_are_one_token_wherever_they_stand(join):
    options = DataOptions(tokenizer="word")
    corpus = corpus_of([Document(f"{text} a1d1\nb2d1") for text in MOVES], "causal_lm")
    tokenizer = fit_tokenizer(corpus, contract_for("causal_lm", 700), options)
    text = join(["a1d1", *next(corpus.documents("train")).text.split()[:4], "a1d1"])
    ids = [number for number in tokenizer.encode(text) if tokenizer.token(number).strip()]
    assert [tokenizer.token(number).strip() for number in ids] == text.split()
    assert ids[0] == ids[-1]
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("text", ["a1d1  b2d1", "a1d1\n\nb2d1", "a1d1\n", "a1d1 "])
def test_words_keep_the_blanks_and_line_breaks_between_them(text):
    corpus = corpus_of([Document(f"{one} a1d1  b2d1 \n\n y ") for one in MOVES], "causal_lm")
    tokenizer = fit_tokenizer(corpus, contract_for("causal_lm", 700), DataOptions(tokenizer="word"))
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_saved_tokenizer_of_words_is_that_of_transformers(tmp_path):
    from transformers import AutoTokenizer

    corpus = corpus_of([Document(text) for text in MOVES], "causal_lm")
    tokenizer = fit_tokenizer(corpus, contract_for("causal_lm", 700), DataOptions(tokenizer="word"))
    tokenizer.save(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)(MOVES[3])["input_ids"] == tokenizer.encode(MOVES[3])
    given = fit_tokenizer(
        corpus, contract_for("causal_lm", 700), DataOptions(tokenizer=str(tmp_path / "tokenizer.json"))
    )
    assert given.encode(MOVES[3]) == tokenizer.encode(MOVES[3])


def test_too_many_different_words_for_the_vocabulary_are_refused():
    corpus = corpus_of([Document(text) for text in MOVES], "causal_lm")
    with pytest.raises(DataError, match=r"needs \d+ for this text"):
        fit_tokenizer(corpus, contract_for("causal_lm", 12), DataOptions(tokenizer="word"))


@pytest.mark.parametrize(("name", "kind"), [("byte", "bytes"), ("char", "characters"), ("words", "word")])
def test_other_names_of_kinds_are_known(name, kind):
    corpus = corpus_of([Document(text) for text in MOVES], "causal_lm")
    assert fit_tokenizer(corpus, contract_for("causal_lm", 700), DataOptions(tokenizer=name)).algorithm == kind


def test_wordpiece_fits_the_model_and_decodes(tmp_path):
    from transformers import AutoTokenizer

    corpus = corpus_of(documents_for("causal_lm"), "causal_lm")
    tokenizer = fit_tokenizer(
        corpus, contract_for("causal_lm", 120, eos_token_id=7), DataOptions(tokenizer="wordpiece")
    )
    text = next(corpus.documents("train")).text
    ids = tokenizer.encode(text)
    assert (tokenizer.algorithm, tokenizer.decode(ids)) == ("wordpiece", text)
    assert max(ids) < 120
    assert tokenizer.eos_token_id == 7
    assert not {number for number in tokenizer.encode("a <|eos|> b") if number == 7}
    tokenizer.save(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"] == ids


def test_wordpiece_without_room_for_the_characters_is_refused():
    corpus = corpus_of(documents_for("causal_lm"), "causal_lm")
    with pytest.raises(DataError, match=r"has 20 token ids, but the tokenizer .'wordpiece'. needs"):
        fit_tokenizer(corpus, contract_for("causal_lm", 20), DataOptions(tokenizer="wordpiece"))


@pytest.fixture(scope="module")
def unigram_tokenizer():
    return fit(vocab_size=1300, algorithm="unigram", eos_token_id=7)


@given(text=st.text(st.characters(exclude_characters="\u2581", exclude_categories=["Cs"])))
@settings(max_examples=200, deadline=None)
def test_a_large_unigram_vocabulary_loses_no_text(unigram_tokenizer, text):
    assert unigram_tokenizer.decode(unigram_tokenizer.encode(text)) == text


@pytest.mark.parametrize("text", ["a <|eos|> b", "<0x41>", "<|pad|><|unk|>"])
def test_names_of_tokens_in_a_text_are_text_for_unigram(unigram_tokenizer, text):
    ids = unigram_tokenizer.encode(text)
    assert not set(unigram_tokenizer.special.ids()).intersection(ids)
    assert unigram_tokenizer.decode(ids) == text


def test_unigram_is_the_same_for_transformers(unigram_tokenizer, tmp_path):
    from transformers import AutoTokenizer

    text = documents_for("causal_lm")[0].text
    ids = unigram_tokenizer.encode(text)
    assert len(ids) < len(text) / 2
    assert max(ids) < 1300
    unigram_tokenizer.save(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"] == ids


def test_unigram_has_whole_words_and_at_most_the_vocabulary():
    tokenizer = fit(vocab_size=120, algorithm="unigram")
    assert tokenizer.vocab_size == 120
    assert {"\u2581quick", "\u2581wizards"} <= tokenizer.backend.get_vocab().keys()


@pytest.mark.parametrize("vocab_size", [20, 60, 150])
def test_a_small_unigram_vocabulary_is_refused_or_knows_most(vocab_size):
    if vocab_size == 20:
        with pytest.raises(DataError, match=r"has 20 token ids, but the tokenizer .'unigram'. needs"):
            fit(vocab_size=vocab_size, algorithm="unigram")
        return
    tokenizer = fit(vocab_size=vocab_size, algorithm="unigram")
    assert tokenizer.decode(tokenizer.encode("lazy dog")) == "lazy dog"
    assert tokenizer.special.unk in tokenizer.encode("東京")
