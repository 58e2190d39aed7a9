"""Which columns are read, by their names: right and wrong answers, choices, letters, verdicts about answers."""

from __future__ import annotations

import pytest

from tests.core.data.samples import sentences
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import DataOptions
from transformer_foundry.core.data.columns.choose import choose_columns
from transformer_foundry.core.data.columns.roles import role_of

TEXTS = sentences(40)


def rows_of(**columns):
    """Rows of columns: a text stands for other sentences that begin with it, a list for its values in turn."""
    return [
        {
            name: value[number % len(value)] if isinstance(value, list | tuple) else f"{value} {text}"
            for name, value in columns.items()
        }
        for number, text in enumerate(TEXTS)
    ]


OPTIONS = {name: [f"{name}{n}" for n in range(40)] for name in "ABCDabcd"}
UPPER, LOWER = ({name: OPTIONS[name] for name in names} for names in ("ABCD", "abcd"))
MARKED = "\n".join(f"{name}. {{{name}}}" for name in "ABCD")
TEMPLATES = {
    "best of several": (
        rows_of(question="Q", best_answer="B", correct_answers=[["r", "longer"]], incorrect_answers=[["w" * 99]]),
        "{question}\n{best_answer}",
    ),
    "wrong one first": (rows_of(question="Q", wrong_answer="W W W", answer="A"), "{question}\n{answer}"),
    "distractors": (
        rows_of(question="Q", distractor1=["d"], distractor2=["e"], correct_answer="A"),
        "{question}\n{correct_answer}",
    ),
    "numbered wrong ones": (
        rows_of(question="Q", answer="A", incorrectAnswer1="long long", false_answer_2="F"),
        "{question}\n{answer}",
    ),
    "exact before longer": (rows_of(prompt="P", response="R", model_response="M M M"), "{prompt}\n{response}"),
    "preferred before exact": (rows_of(prompt="P", chosen="C", rejected="R", answer="A"), "{prompt}\n{chosen}"),
    "letters": (rows_of(question="Q", **UPPER, answer=list("ABCD")), "{question}\n" + MARKED + "\n{answer}"),
    "small letters": (
        rows_of(question="Q", **LOWER, correct=list("abcd")),
        "{question}\na. {a}\nb. {b}\nc. {c}\nd. {d}\n{correct}",
    ),
    "letters with the text of the answer": (
        rows_of(question="Q", **UPPER, answer_text="T"),
        "{question}\n{A}\n{B}\n{C}\n{D}\n{answer_text}",
    ),
    "small letters as names, capitals as answers": (
        rows_of(question="Q", **LOWER, answer=list("ABCD")),
        "{question}\nA. {a}\nB. {b}\nC. {c}\nD. {d}\n{answer}",
    ),
    "numbered options": (
        rows_of(question="Q", option1=["x1"], option2=["x2"], option3=["x3"], answer=["x2"]),
        "{question}\n{option1}\n{option2}\n{option3}\n{answer}",
    ),
    "names of options as answers": (
        rows_of(question="Q", option_a=["x"], option_b=["y"], answer=["option_a", "option_b"]),
        "{question}\noption_a. {option_a}\noption_b. {option_b}\n{answer}",
    ),
    "nested options": (
        rows_of(**{"question": "Q", "options.A": ["x"], "options.B": ["y"], "answer_idx": ["A", "B"]}),
        "{question}\nA. {options.A}\nB. {options.B}\n{answer_idx}",
    ),
    "endings of a sentence of another name": (
        rows_of(startphrase="S", ending0="E", ending1="F", label=[0, 1]),
        "{startphrase}\n0. {ending0}\n1. {ending1}\n{label}",
    ),
    "answers as choices": (
        rows_of(context="C", question="Q", answerA="A", answerB="B", label=["1", "2"]),
        "{context}\n{question}\n1. {answerA}\n2. {answerB}\n{label}",
    ),
    "question and answer as letters": (rows_of(Q="Q", A="A"), "{Q}\n{A}"),
}  # fmt: skip


@pytest.mark.parametrize("task", ["causal_lm", "seq2seq_lm"])
@pytest.mark.parametrize("kind", TEMPLATES)
def test_the_right_answer_and_all_choices_are_read(kind, task):
    rows, template = TEMPLATES[kind]
    assert choose_columns(rows, task, DataOptions(), "a.csv").template == template


@pytest.mark.parametrize(
    "name",
    ["wrong_answer", "incorrectAnswers", "bad_response", "distractor3", "negative", "false_answer_1"],
)
def test_wrong_answers_have_no_role_in_a_prompt(name):
    assert role_of(name) == "rejected"


@pytest.mark.parametrize(
    "name", ["negative_sentiment", "bad_words", "is_false_alarm", "notes", "a", "text_a", "wrongly"]
)
def test_other_names_with_such_words_are_no_answers(name):
    assert role_of(name) is None


def test_of_two_answers_of_which_none_is_the_right_one_the_user_chooses():
    with pytest.raises(DataError, match="question, answer_1, answer_2, each of which could be the text"):
        choose_columns(rows_of(question="Q", answer_1="A", answer_2="B"), "causal_lm", DataOptions(), "a.csv")


def test_two_texts_and_their_class_are_no_choices():
    rows = rows_of(a="one", b="other", label=["x", "y"])
    assert choose_columns(rows, "sequence_classification", DataOptions(text_column="a"), "a.csv").label == "label"
