"""Rows with prompts in the layouts that people have, judged by the rows that reach the model, decoded."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.core.data.samples import contract_for, sentences
from transformer_foundry.core.base.errors import DataError, ParameterError
from transformer_foundry.core.data import (
    Batches,
    DataOptions,
    fit_tokenizer,
    prepare_splits,
    profile_splits,
    read_corpus,
)

ROWS = 40
LONG = sentences(ROWS, 6)


def texts(kind):
    return [f"{kind}{number} {text}" for number, text in enumerate(LONG)]


def table(**columns):
    """Rows of columns: a string stands for different texts that begin with it."""
    values = {name: texts(value) if isinstance(value, str) else value for name, value in columns.items()}
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def read(folder, rows, task="causal_lm", **options):
    return read_corpus(DataOptions(source=write(folder / "a.jsonl", rows), **options), task)


def first_document(corpus):
    """The document of the first row of the table."""
    return next(corpus.source.documents("train"))


def turns(first="user", second="assistant", role="role", content="content", start=()):
    return [
        [*start, {role: first, content: f"ASK{n} {text}"}, {role: second, content: f"SAY{n} {text}"}]
        for n, text in enumerate(LONG)
    ]


def shown(text):
    """The capital words of a text: which parts it has, in order."""
    return [word for word in text.replace("\n", " ").split() if word[:2].isupper() or word == "O0"]


LAYOUTS = {
    "alpaca": (table(instruction="IN", input="XX", output="OUT"), ["IN0", "XX0"], "OUT0"),
    "alpaca sorted by name": (table(input="XX", instruction="IN", output="OUT"), ["IN0", "XX0"], "OUT0"),
    "alpaca with its text": (
        [{**row, "text": f"{row['instruction']} ### {row['output']}"} for row in table(instruction="IN", output="OUT")],
        ["IN0"],
        "OUT0",
    ),
    "dolly": (
        table(instruction="IN", context="CTX", response="OUT", category=["qa"] * ROWS),
        ["IN0", "CTX0"],
        "OUT0",
    ),
    "question, context, answer": (table(question="QQ", context="CTX", answer="AA"), ["QQ0", "CTX0"], "AA0"),
    "answer before its question": (table(answer="AA", question="QQ"), ["QQ0"], "AA0"),
    "prompt and completion": (table(prompt="PP", completion="CC"), ["PP0"], "CC0"),
    "capital letters": (table(id=range(ROWS), Question="QQ", Answer="AA"), ["QQ0"], "AA0"),
    "camel case": (table(userInput="UU", modelOutput="OO"), ["UU0"], "OO0"),
    "siblings of usual names": (table(system_message="SY", user_query="UU", expected_output="O"), ["SY0", "UU0"], "O0"),
    "system after the rest": (table(question="QQ", response="RR", system_prompt="SY"), ["SY0", "QQ0"], "RR0"),
    "preference": (table(prompt="PP", chosen="CH", rejected="REJ"), ["PP0"], "CH0"),
    "text and summary": (table(document="DD", summary="SU"), ["DD0"], "SU0"),
    "text and answer": (table(text="TT", question="QQ", answer="AA"), ["TT0", "QQ0"], "AA0"),
    "an answer before other parts": (table(input="XX", output="OUT", instruction="IN"), ["IN0", "XX0"], "OUT0"),
    "a compound name": (table(reviewText="RT", summary="SU", overall=[5.0] * ROWS), ["RT0"], "SU0"),
    "numbers as answers": (table(question="QQ", answer=list(range(ROWS))), ["QQ0"], None),
    "choices": (
        [{**row, "choices": ["one thing", "OTHER thing"]} for row in table(question="QQ", answer="AA")],
        ["QQ0", "OTHER"],
        "AA0",
    ),
    "squad of the hub": (
        [{**row, "answers": {"text": [f"AA{n}", "other"], "answer_start": [3, 4]}}
         for n, row in enumerate(table(id=range(ROWS), title=["T"] * ROWS, context="CTX", question="QQ"))],
        ["CTX0", "QQ0"],
        "AA0",
    ),
    "messages": (table(messages=turns()), ["ASK0"], "SAY0"),
    "conversations": (table(conversations=turns("human", "gpt", "from", "value")), ["ASK0"], "SAY0"),
    "conversation as json text": (table(messages=[json.dumps(turn) for turn in turns()]), ["ASK0"], "SAY0"),
    "conversation as numpy prints it": (
        table(messages=[repr(turn).replace("}, {", "}\n {") for turn in turns()]),
        ["ASK0"],
        "SAY0",
    ),
    "a conversation as the prompt": (
        table(prompt=[turn[:1] for turn in turns()], completion=[turn[1:] for turn in turns()]),
        ["ASK0"],
        "SAY0",
    ),
    "a conversation and its answer": (table(input=[turn[:1] for turn in turns()], output="OUT"), ["ASK0"], "OUT0"),
    "single letters": (table(Q="QQ", A="AA"), ["QQ0"], "AA0"),
    "conversation with a system column": (table(conversation=turns(), system="SY"), ["SY0", "ASK0"], "SAY0"),
    "conversation with a system turn": (
        table(messages=turns(start=[{"role": "system", "content": "SYS"}])),
        ["SYS", "ASK0"],
        "SAY0",
    ),
    "preference of conversations": (
        table(prompt=[f"ASK{n} {text}" for n, text in enumerate(LONG)], chosen=turns(), rejected=turns()),
        ["ASK0"],
        "SAY0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_decoder_reads_all_parts_in_order(tmp_path, layout):
    rows, prompt, answer = LAYOUTS[layout]
    document = first_document(read(tmp_path, rows))
    assert shown(document.text) == [*prompt, *([answer] if answer else [])]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_encoder_decoder_reads_the_prompt_and_writes_the_answer(tmp_path, layout):
    rows, prompt, answer = LAYOUTS[layout]
    if layout == "alpaca with its text":
        pytest.skip("the text column is the whole prompt")
    document = first_document(read(tmp_path, rows, "seq2seq_lm"))
    assert shown(document.text) == prompt
    assert shown(document.target) == ([answer] if answer else [])


def test_of_preferred_and_rejected_dialogues_the_preferred_is_the_text(tmp_path):
    corpus = read(tmp_path, table(chosen="CH", rejected="REJ"))
    assert shown(first_document(corpus).text) == ["CH0"]
    assert corpus.columns.left_out == ("rejected",)


def test_an_encoder_decoder_never_learns_a_rejected_answer_or_a_category(tmp_path):
    for rows in (table(chosen="CH", rejected="REJ"), table(chosen="CH", genre=["a", "b"] * (ROWS // 2))):
        corpus = read(tmp_path, rows, "seq2seq_lm")
        assert (corpus.columns.text, corpus.corrupts_spans) == ("chosen", True)


@pytest.mark.parametrize("order", [("label", "text"), ("text", "label")])
def test_a_class_beside_a_text_is_the_target_of_an_encoder_decoder(tmp_path, order):
    values = {"label": ["good", "bad"] * (ROWS // 2), "text": "TT"}
    columns = read(tmp_path, table(**{name: values[name] for name in order}), "seq2seq_lm").columns
    assert (columns.text, columns.target) == ("text", "label")


def test_of_several_references_the_others_are_counted(tmp_path):
    rows = [{**row, "targets": [f"AA{n} a b", f"BB{n} a b", f"BB{n} a b"]} for n, row in enumerate(table(inputs="XX"))]
    warnings = read(tmp_path, rows).columns.warnings
    assert len(warnings) == 1
    assert "the first is learned, 40 others in 40 examined rows are not" in warnings[0]


@pytest.mark.parametrize("name", ["choices", "endings"])
def test_every_item_of_a_list_in_a_template_is_a_line(tmp_path, name):
    rows = [{**row, name: ["Paris", "Rome", "Old York", "Bonn"]} for row in table(stem="SS")]
    text = first_document(read(tmp_path, rows, template="{stem}\n{" + name + "}")).text
    assert text.split("\n")[1:] == ["Paris", "Rome", "Old York", "Bonn"]


NUMBERED = {
    "letters, answers from 0": (("opa", "opb", "opc"), "cop", [0, 1, 2], "0. CC0"),
    "numbers from 1, answers from 0": (("sol1", "sol2"), "label", [0, 1], "0. CC0"),
    "letters, answers from 1": (("opa", "opb", "opc"), "cop", [1, 2, 3], "1. CC0"),
    "letters, answers as letters": (("opa", "opb", "opc"), "cop", ["A", "C", "B"], "A. CC0"),
}


@pytest.mark.parametrize("kind", NUMBERED)
def test_choices_are_marked_as_the_answers_call_them(tmp_path, kind):
    names, key, answers, line = NUMBERED[kind]
    rows = table(question="QQ", **dict.fromkeys(names, "CC"))
    rows = [{**row, key: answers[number % len(answers)]} for number, row in enumerate(rows)]
    assert line in first_document(read(tmp_path, rows)).text.split("\n")[1]


@pytest.mark.parametrize("answers", [["A", "B"], [0, 1], ["1", "2"]])
def test_answers_that_name_choices_without_marks_are_a_warning(tmp_path, answers):
    rows = [
        {**row, "choices": ["Rome", "Bonn"], "answer": answers[n % 2]} for n, row in enumerate(table(question="QQ"))
    ]
    (warning,) = read(tmp_path, rows).columns.warnings
    assert "the choices in column choices have none" in warning
    rows = [{**row, "answer": ["Rome", "Bonn"][number % 2]} for number, row in enumerate(rows)]
    assert read(tmp_path, rows).columns.warnings == ()


ANSWERED = {
    "a query beside its question": ({"query": "SELECT a FROM b", "question": "QQ"}, "QQ0", "SELECT a FROM b0"),
    "spans of answers": (
        {"passage": "PP", "question": "QQ", "answers_spans": "AA", "answers_type": "span"}, "PP0", "AA0"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ANSWERED)
def test_an_answer_without_the_name_of_one_is_written_last(tmp_path, kind):
    columns, first, last = ANSWERED[kind]
    text = first_document(read(tmp_path, table(**columns))).text.split("\n")
    assert (text[0].split(" ")[0], text[-1][: len(last)]) == (first, last)


CALL = {"name": "get_weather", "arguments": '{"city": "Rome"}'}


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": CALL}]},
        {"role": "assistant", "content": None, "function_call": CALL},
        {"role": "assistant", "tool_calls": [{**CALL, "arguments": {"city": "Rome"}}]},
        {"role": "assistant", "content": [{"type": "tool_use", "name": "get_weather", "input": {"city": "Rome"}}]},
    ],
)
def test_a_call_of_a_tool_is_part_of_the_conversation(tmp_path, message):
    said = [{"role": "user", "content": "how warm is it?"}, message, {"role": "tool", "content": "21 degrees"}]
    text = first_document(read(tmp_path, [{"messages": said}] * ROWS)).text
    assert text.split("\n")[1:] == ['assistant: get_weather({"city": "Rome"})', "tool: 21 degrees"]


@pytest.mark.parametrize("name", ["prefix", "rationale", "label"])
def test_short_texts_beside_the_text_are_a_warning(tmp_path, name):
    rows = [{**row, name: f"because of {n}"} for n, row in enumerate(table(text="TT"))]
    assert [w.split(" holds text")[0] for w in read(tmp_path, rows).columns.warnings] == [f"Column {name}"]


def test_a_history_of_turns_beside_the_prompt_is_a_warning(tmp_path):
    rows = [{**row, "history": [["what is it?", "it is a fox"]]} for row in table(instruction="IN", output="OUT")]
    assert [w.split(" holds text")[0] for w in read(tmp_path, rows).columns.warnings] == ["Column history"]


def test_an_empty_part_leaves_no_gap_and_no_marker(tmp_path):
    rows = table(instruction="IN", input=[""] * ROWS, output="OUT")
    template = "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n{output}"
    assert first_document(read(tmp_path, rows)).text == f"{rows[0]['instruction']}\n{rows[0]['output']}"
    found = first_document(read(tmp_path, rows, template=template)).text
    assert found == f"### Instruction:\n{rows[0]['instruction']}\n\n### Response:\n{rows[0]['output']}"


def test_nested_squad_gives_each_question_with_its_context(tmp_path):
    paragraphs = [
        {
            "context": f"CTX{n} {text}",
            "qas": [
                {"id": f"{n}-{q}", "question": f"QQ{n}.{q}?", "answers": [{"text": f"AA{n}.{q}", "answer_start": 1}]}
                for q in range(3)
            ],
        }
        for n, text in enumerate(LONG)
    ]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))
    corpus = read_corpus(DataOptions(source=str(path)), "causal_lm")
    documents = list(corpus.source.documents("train"))
    assert len(documents) == 3 * ROWS
    assert shown(documents[4].text) == ["CTX1", "QQ1.1?", "AA1.1"]
    assert corpus.source.location("train", 4).endswith("row 1")


def test_what_is_not_read_is_named(tmp_path):
    rows = table(prompt="PP", chosen="CH", rejected="REJ", footnote="FN", id=range(ROWS))
    columns = read(tmp_path, rows).columns
    assert str(columns).endswith("not read: rejected, footnote, id")
    assert [warning.split(" holds text")[0] for warning in columns.warnings] == ["Column footnote"]


@pytest.mark.parametrize(
    "rows",
    [
        table(text="TT", id=range(ROWS), url=[f"http://x/{n}" for n in range(ROWS)], title=["A Title"] * ROWS),
        table(instruction="IN", response="OUT", category=["open_qa", "closed_qa"] * (ROWS // 2)),
        table(text="TT", meta=[{"set": "web", "score": 0.5}] * ROWS),
        table(messages=turns(), model=["gpt"] * ROWS, source=["forum"] * ROWS),
    ],
)
def test_ordinary_columns_beside_the_text_are_no_warning(tmp_path, rows):
    assert read(tmp_path, rows).columns.warnings == ()


def test_classes_beside_the_text_of_a_language_model_are_one_warning(tmp_path):
    columns = read(tmp_path, table(text="TT", label=["pos", "neg"] * (ROWS // 2))).columns
    assert [warning.split(",")[0] for warning in columns.warnings] == ["The texts have classes (column label: neg"]


def test_unknown_names_are_asked_about_in_one_error_whose_remedies_work(tmp_path):
    rows = table(frage="QQ", antwort="AA")
    with pytest.raises(DataError, match="frage, antwort, each of which could be the text") as caught:
        read(tmp_path, rows)
    assert r'data.template="{frage}\n{antwort}"' in caught.value.remedy
    for template in ("{frage}\n{antwort}", r"{frage}\n{antwort}"):  # as double and as single quotes give it
        found = first_document(read(tmp_path, rows, template=template)).text
        assert found == f"{rows[0]['frage']}\n{rows[0]['antwort']}"
    assert shown(first_document(read(tmp_path, rows, "seq2seq_lm", template="{frage}\n{antwort}")).target) == ["AA0"]


@pytest.mark.parametrize(
    ("template", "error", "message"),
    [
        ("{instruction", ParameterError, "has an open or empty brace at character 1"),
        ("no field", ParameterError, "names no column"),
        ("{output} {output}", ParameterError, "names a column twice"),
        ("{instructions} {output}", DataError, "no column instructions .*Did you mean 'instruction'"),
    ],
)
def test_a_wrong_template_is_refused_before_the_data_are_read(tmp_path, template, error, message):
    with pytest.raises(error, match=message):
        read(tmp_path, table(instruction="IN", output="OUT"), template=template)


def prepared(folder, rows, **options):
    options = DataOptions(source=write(folder / "a.jsonl", rows), loss_on="answer", validation_share=0.2, **options)
    contract = contract_for("causal_lm", 400, max_length=32)
    corpus = read_corpus(options, "causal_lm")
    tokenizer = fit_tokenizer(corpus, contract, options)
    return prepare_splits(corpus, tokenizer, contract, options, folder / "tokens"), tokenizer


@pytest.mark.parametrize("layout", ["alpaca", "messages", "conversations", "preference", "squad of the hub"])
def test_only_answers_and_their_ends_are_labels(tmp_path, layout):
    rows, _, answer = LAYOUTS[layout]
    splits, tokenizer = prepared(tmp_path, rows)
    batches = Batches(splits.train, splits, batch_size=4)
    labels = np.concatenate([batches.batch(position)["labels"][:, 1:].ravel() for position in range(len(batches))])
    written = tokenizer.decode(labels[labels != -100], skip_special_tokens=False)
    answers = [text for text in written.split("<|eos|>") if text.strip()]
    assert len(answers) == splits.train.documents
    assert all(text.strip().startswith(answer[:-1]) for text in answers)
    assert (labels != -100).sum() == splits.train.target_count


def test_each_turn_of_the_assistant_is_learned_with_its_end(tmp_path):
    turn = [("user", "ask"), ("assistant", "SAY"), ("user", "more"), ("assistant", "END")]
    rows = [{"messages": [{"role": role, "content": f"{text} {n}"} for role, text in turn]} for n in range(ROWS)]
    (document, *_) = read(tmp_path, rows, loss_on="answer").source.documents("train")
    assert [document.text[start:end] for start, end in document.answers] == ["SAY 0\n", "END 0"]
    assert first_document(read(tmp_path, [{"messages": row["messages"][:3]} for row in rows], "seq2seq_lm")).target == (
        "SAY 0"
    )


def test_baselines_and_bytes_of_answers_are_those_of_answers(tmp_path):
    rows = [{"instruction": text, "output": "yes" if n % 2 else "no"} for n, text in enumerate(LONG)]
    splits, tokenizer = prepared(tmp_path, rows)
    assert splits.baselines["bigram_loss"] < 1.5
    assert splits.train.text_bytes < 4 * splits.train.documents
    assert "-100" not in profile_splits(splits, tokenizer)["examples"][0]["expected"]


def test_a_table_without_answers_has_no_loss_on_answers(tmp_path):
    with pytest.raises(DataError, match=r"no column of .* is an answer; its columns: text"):
        read(tmp_path, table(text="TT"), loss_on="answer")


def test_rows_without_an_answer_are_dropped_where_only_answers_are_learned(tmp_path):
    rows = table(instruction="IN", output=["", *["fine"] * (ROWS - 1)])
    splits, _ = prepared(tmp_path, rows)
    assert "1 row without an answer was dropped." in splits.notes


@pytest.mark.parametrize(
    ("source", "target"),
    [
        *(("text", "headlines"), ("article", "abstract"), ("abstract", "title"), ("original", "corrected")),
        *(("noisy", "clean"), ("complex", "simple"), ("input_text", "target_text"), ("original", "paraphrase")),
    ],
)
@pytest.mark.parametrize("turn", [list, reversed])
def test_names_say_which_text_is_written_from_the_other(tmp_path, source, target, turn):
    columns = read(tmp_path, table(**{name: name for name in turn((source, target))}), "seq2seq_lm").columns
    assert (columns.text, columns.target) == (source, target)


def test_a_summary_that_occurs_in_its_text_is_the_target(tmp_path):
    rows = [{"summary": text[:20], "text": text} for text in LONG]
    columns = read(tmp_path, rows, "seq2seq_lm").columns
    assert (columns.text, columns.target) == ("text", "summary")


@pytest.mark.parametrize("names", [("de", "en"), ("English words/sentences", "French words/sentences"), ("x", "y")])
def test_of_languages_and_sides_the_first_is_the_source(tmp_path, names):
    columns = read(tmp_path, table(**dict.fromkeys(names, "TT")), "seq2seq_lm").columns
    assert (columns.text, columns.target) == names


@pytest.mark.parametrize("names", [("paraphrase", "sentence"), ("sentence", "paraphrase"), ("verse", "prose")])
def test_pairs_whose_direction_is_not_known_are_refused(tmp_path, names):
    setting = f"data.text_column={names[0]},data.target_column={names[1]}"
    with pytest.raises(DataError, match=setting):
        read(tmp_path, table(**dict.fromkeys(names, "TT")), "seq2seq_lm")
    columns = read(tmp_path, table(**dict.fromkeys(names, "TT")), "seq2seq_lm", target_column=names[0]).columns
    assert (columns.text, columns.target) == names[::-1]


@pytest.mark.parametrize("task", ["causal_lm", "seq2seq_lm"])
def test_a_query_in_sql_is_written_from_the_question_and_the_schema(tmp_path, task):
    document = first_document(read(tmp_path, table(sql="SELECT", question="QQ", schema="CREATE"), task))
    assert shown(document.text)[:2] == ["CREATE0", "QQ0"]
    assert shown(document.target or document.text)[-1] == "SELECT0"


@pytest.mark.parametrize(
    ("columns", "remedy"),
    [
        ({"human_ref_A": "AA", "history": "HH", "human_ref_B": "BB"}, " with data.template."),
        (
            {"version_1": "AA", "remark": "HH", "version_2": "BB", "reason": "RR"},
            ': data.template="{remark}\\n{reason}".',
        ),
        (
            {"docstring": "DD", "code": [f"def_f{n}():return{n}**2+{n}" for n in range(ROWS)]},
            ': data.template="{docstring}\\n{code}".',
        ),
        ({"anchor": "QQ", "pos": "PP", "neg": "NN"}, ': data.template="{anchor}\\n{pos}".'),
    ],
)
def test_no_alternative_and_no_negative_is_in_the_template_that_is_suggested(tmp_path, columns, remedy):
    with pytest.raises(DataError) as error:
        read(tmp_path, table(**columns))
    assert error.value.remedy.endswith(f"a language model can join several{remedy}")


def test_the_name_of_the_task_stands_before_the_text_of_t5(tmp_path):
    rows = [
        {"prefix": ("summarize", "translate")[n % 2], "input_text": f"a text {n}", "target_text": f"short {n}"}
        for n in range(40)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = read_corpus(DataOptions(source=str(tmp_path / "a.jsonl")), "seq2seq_lm").source
    first = next(source.documents("train"))
    assert (first.text, first.target) == ("summarize: a text 0", "short 0")


@pytest.mark.parametrize(("languages", "is_said"), [("de en", True), ("de de", False)])
def test_targets_in_several_languages_are_a_warning(tmp_path, languages, is_said):
    rows = [
        {"target_lang": languages.split()[n % 2], "source": f"one long text {n}", "target": f"another long text {n}"}
        for n in range(40)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = str(tmp_path / "a.jsonl")
    warnings = read_corpus(DataOptions(source=path), "seq2seq_lm").source.columns.warnings
    assert [w for w in warnings if "The targets are in several languages (column target_lang: de, en)" in w][:1] == (
        list(warnings) if is_said else []
    )
    if is_said:
        template = warnings[0].split("data.template='")[1].split("'")[0]
        source = read_corpus(DataOptions(source=path, template=template), "seq2seq_lm").source
        assert next(source.documents("train")).text == "to de: one long text 0"
