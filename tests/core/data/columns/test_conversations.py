"""Messages: what of them is read, what is learned, and what is named as not read."""

from __future__ import annotations

import json

import pytest

from tests.core.data.samples import sentences
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data import DataOptions, read_corpus
from transformer_foundry.core.data.columns.cells import text_of
from transformer_foundry.core.data.columns.choose import choose_columns
from transformer_foundry.core.data.columns.documents import to_document

TEXTS = sentences(20)


def chats(answer=(), asked=()):
    return [
        {"messages": [{"role": "user", "content": f"ASK {text}", **dict(asked)},
                      {"role": "assistant", "content": f"SAY {text}", **dict(answer)}]}
        for text in TEXTS
    ]  # fmt: skip


def choose(rows, task="causal_lm", **options):
    return choose_columns(rows, task, DataOptions(**options), "a.jsonl")


def learned(rows, **options):
    """The parts of the first text that are learned."""
    document = to_document(rows[0], choose(rows, **options), lambda: "row 1")
    return [document.text[start:end] for start, end in document.answers or ()]


BLOCKS = {"type": "text", "text": "see this"}
THOUGHT = "it is a long thought about the answer"
LEFT = {
    "a key with text": (chats({"reasoning_content": THOUGHT}), "messages[].reasoning_content", "holds text"),
    "a name": (chats(asked={"name": "Ann"}), "messages[].name", None),
    "a picture": (
        chats(asked={"content": [BLOCKS, {"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}),
        "messages[].content[].image_url",
        "20 parts of messages (image_url) are no text and not read",
    ),
    "a thought as a part": (
        chats({"content": [{"type": "thinking", "thinking": THOUGHT}, BLOCKS]}),
        "messages[].content[].thinking",
        "messages[].content[].thinking holds text that is not read",
    ),
    "an empty key": (chats({"refusal": None, "tool_calls": []}), None, None),
}  # fmt: skip


@pytest.mark.parametrize("kind", LEFT)
def test_what_is_not_read_of_messages_is_named(kind):
    rows, key, warning = LEFT[kind]
    columns = choose(rows)
    assert columns.left_out == (() if key is None else (key,))
    assert len(columns.warnings) == (warning is not None)
    assert warning is None or warning in columns.warnings[0]


def test_answers_nested_in_a_column_that_is_not_read_are_a_warning():
    rows = [{"instruction": text, "completions": [{"model": "a", "response": f"R {text[::-1]}"}]} for text in TEXTS]
    assert "completions[].response holds text that is not read" in choose(rows).warnings[0]


def test_a_text_two_levels_inside_a_column_that_is_not_read_is_a_warning():
    rows = [{"question": text, "answers": [{"body": {"text": f"R {text[::-1]}"}, "score": 1}]} for text in TEXTS]
    assert "answers[].body.text holds text that is not read" in choose(rows).warnings[0]


REPLY = {"index": 0, "message": {"role": "assistant", "content": "SAY"}, "finish_reason": "stop"}
RECORDS = {
    "a content of a type": ({"messages": [{"role": "user", "content": {"type": "text", "text": "ASK"}},
                                          {"role": "assistant", "content": {"type": "text", "text": "SAY"}}]},
                            "user: ASK\nassistant: SAY"),
    "a result of a tool": ({"messages": [{"role": "user", "content": "ASK"}, {"role": "tool", "content": {"r": 2}},
                                         {"role": "assistant", "content": "SAY"}]},
                           'user: ASK\ntool: {"r": 2}\nassistant: SAY'),
    "a stored completion": ({"request": {"messages": [{"role": "user", "content": "ASK"}]},
                             "response": {"choices": [REPLY]}}, "user: ASK\nSAY"),
    "a completion beside its prompt": ({"prompt": "ASK", "response": {"choices": [REPLY]}}, "ASK\nSAY"),
    "a list of records": ({"text": [{"lang": "en", "value": {"body": "SAY"}}]}, "SAY"),
}  # fmt: skip


@pytest.mark.parametrize("kind", RECORDS)
def test_records_are_never_read_as_python_writes_them(tmp_path, kind):
    row, text = RECORDS[kind]
    # Longer and different texts, as the columns are chosen by them.
    rows = [
        json.loads(json.dumps(row).replace("SAY", f"SAY {said}").replace("ASK", f"ASK {said[::-1]}")) for said in TEXTS
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = read_corpus(DataOptions(source=str(path)), "causal_lm")
    first = next(iter(corpus.source.documents("train"))).text
    assert first == text.replace("SAY", f"SAY {TEXTS[0]}").replace("ASK", f"ASK {TEXTS[0][::-1]}")


@pytest.mark.parametrize("row", [
    {"text": "Ann was born in Rome in spring", "entities": [{"text": "Ann was born in Rome", "start": 0}]},
    {"question": "who is it?", "answers": [{"text": "a fox of the woods", "answer_start": 3}]},
])  # fmt: skip
def test_what_repeats_the_text_is_no_warning(row):
    assert choose([row] * 20).warnings == ()


WEIGHTS = [{"weight": 0}, {"train": False}, {"training": "false"}, {"loss": False}, {"weight": 0.0}]


@pytest.mark.parametrize("weight", WEIGHTS)
def test_a_message_of_weight_0_is_read_but_not_learned(weight):
    rows = chats(weight)
    for row in rows:
        row["messages"].append({"role": "assistant", "content": "END"})
    document = to_document(rows[0], choose(rows), lambda: "row 1")
    assert document.text == f"user: ASK {TEXTS[0]}\nassistant: SAY {TEXTS[0]}\nassistant: END"
    assert learned(rows) == [f"user: ASK {TEXTS[0]}", "\nassistant: END"]
    assert learned(rows, loss_on="answer") == ["END"]
    assert choose(rows).left_out == ()


def test_an_encoder_decoder_writes_the_last_answer_that_is_learned():
    rows = chats({"weight": 1})
    for row in rows:
        row["messages"].append({"role": "assistant", "content": "WRONG", "weight": 0})
    assert to_document(rows[0], choose(rows, "seq2seq_lm"), lambda: "row 1").target == f"SAY {TEXTS[0]}"


PIECES = {
    "a link in a sentence": (["see ", {"type": "link", "text": "http://a.b"}, ", please"], "see http://a.b, please"),
    "pieces alone": ([{"type": "plain", "text": "so "}, {"type": "bold", "text": "good"}], "so good"),
    "parts of a content": ([{"type": "text", "text": "one part"}, {"type": "text", "text": "another"}], None),
}


@pytest.mark.parametrize("kind", PIECES)
def test_pieces_of_a_sentence_are_joined_as_they_are(kind):
    pieces, joined = PIECES[kind]
    joined = joined or "one part\nanother"
    assert text_of(pieces) == joined
    assert text_of([{"role": "user", "content": pieces}]) == f"user: {joined}"


SAID = [f"{word} {text}" for text in TEXTS for word in ("ASK", "SAY")]
TURNS = {
    "a number of the dialogue": [
        {"dialogue_id": n // 2, "turn": n % 2, "speaker": "AB"[n % 2], "utterance": said} for n, said in enumerate(SAID)
    ],
    "a place without a speaker": [
        {"conv_id": f"c{n // 2}", "utterance_idx": n % 2 + 1, "utterance": said} for n, said in enumerate(SAID)
    ],
    "messages that name the one before": [
        {"message_id": f"m{n}", "parent_id": f"m{n - 1}" if n % 2 else None, "role": "ab"[n % 2], "text": said}
        for n, said in enumerate(SAID)
    ],
}


def texts_of(tmp_path, rows, **options):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = read_corpus(DataOptions(source=str(path), **options), "causal_lm").source
    return [document.text for document in source.documents("train")], source


def pairs(first, second, column="messages"):
    return [{column: [first | {"text": "ASK " + text}, second | {"text": "SAY " + text}]} for text in TEXTS]


SPOKEN = {  # rows, and who speaks in each text
    "sender": (pairs({"sender": "human", "uuid": "a"}, {"sender": "assistant", "uuid": "b"}), "human assistant"),
    "type": (pairs({"type": "human"}, {"type": "ai"}), "human ai"),
    "participant": (pairs({"participant": "agent"}, {"participant": "customer"}), "agent customer"),
    "name by its values": (pairs({"name": "agent"}, {"name": "customer"}, "items"), "agent customer"),
    "name in a conversation": (pairs({"name": "Ann"}, {"name": "Bob"}, "dialogue"), "Ann Bob"),
    "user": (pairs({"user": "Ann"}, {"user": "Bob"}, "thread"), "Ann Bob"),
    "an author with a role": (pairs({"author": {"role": "user"}}, {"author": {"role": "assistant"}}), "user assistant"),
    "newest first": (
        [
            {"messages": [{"sender_name": "B", "timestamp_ms": 9, "content": f"SAY {text}"},
                          {"sender_name": "A", "timestamp_ms": 8, "content": f"ASK {text}"}]}
            for text in TEXTS
        ],
        "A B",
    ),
    "roles, newest first": (
        [
            {"messages": [{"role": "B", "created_at": "2024-01-02", "content": f"SAY {text}"},
                          {"role": "A", "created_at": "2024-01-01", "content": f"ASK {text}"}]}
            for text in TEXTS
        ],
        "A B",
    ),
    "inputs and outputs": (
        [{"conversation": [{"input": f"ASK {text}", "output": f"SAY {text}"}]} for text in TEXTS], "user assistant"
    ),
    "questions and answers": (
        [{"turns": [{"question": f"ASK {text}", "answer": f"SAY {text}"}]} for text in TEXTS], "user assistant"
    ),
    "user and bot": ([{"dialog": [{"user": f"ASK {text}", "bot": f"SAY {text}"}]} for text in TEXTS], "user assistant"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SPOKEN)
def test_who_speaks_is_read_whatever_its_key(tmp_path, kind):
    rows, speakers = SPOKEN[kind]
    one, other = speakers.split()
    texts, source = texts_of(tmp_path, rows)
    assert texts == [f"{one}: ASK {text}\n{other}: SAY {text}" for text in TEXTS]
    assert source.columns.warnings == ()
    assert any("messages" in note or "conversation" in note for note in source.notes)


def test_turns_of_a_conversation_are_one_text_with_its_system_text(tmp_path):
    rows = [
        {"conversation": [{"system": "BE", "input": f"1 {t}", "output": "2"}, {"input": "3", "output": "4"}]}
        for t in TEXTS
    ]
    texts, _ = texts_of(tmp_path, rows)
    assert texts == [f"system: BE\nuser: 1 {t}\nassistant: 2\nuser: 3\nassistant: 4" for t in TEXTS]
    assert len(texts_of(tmp_path, rows, text_column="input", target_column="output")[0]) == 40


def test_paragraphs_beside_a_question_and_its_answer_are_one_prompt(tmp_path):
    rows = [
        {"question": f"Q {t}", "paragraphs": [{"paragraph_text": f"{n} {t}"} for n in (1, 2)], "answer": f"A {t}"}
        for t in TEXTS
    ]
    texts, source = texts_of(tmp_path, rows)
    assert texts == [f"Q {t}\n1 {t}\n2 {t}\nA {t}" for t in TEXTS]
    assert "The items of paragraphs are one text (paragraph_text)." in source.notes


def test_what_is_listed_and_is_no_speaker_is_left_alone(tmp_path):
    rows = [{"text": t, "entities": [{"type": "PER", "name": "Ann", "text": "Ann"}]} for t in TEXTS]
    assert texts_of(tmp_path, rows)[0] == TEXTS
    rows = [{"question": t, "answers": [{"author": "Ann", "text": f"A {t}"}]} for t in TEXTS]
    assert texts_of(tmp_path, rows)[0] == [f"{t}\nA {t}" for t in TEXTS]


@pytest.mark.parametrize("kind", TURNS)
def test_messages_in_rows_of_their_own_are_joined(tmp_path, kind):
    texts, source = texts_of(tmp_path, TURNS[kind])
    assert len(texts) == len(TEXTS)
    assert [
        line.split(" ", 1)[0] if kind.endswith("speaker") else line.split(" ")[1] for line in texts[1].split("\n")
    ] == [
        "ASK",
        "SAY",
    ]
    assert source.location("train", 1).endswith("line 3")
    assert "Each row is a message" in source.notes[-1]


CHATS = [{"conversation_id": n // 2, "role": "ab"[n % 2], "text": said} for n, said in enumerate(SAID)]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (TURNS["a number of the dialogue"][::2] + TURNS["a number of the dialogue"][1::2], "dialogue_id 0 began"),
        (TURNS["a number of the dialogue"][::-1], "its turn is 0 after a later one"),
        *(
            ([row | {name: time(n)} for n, row in enumerate(CHATS)], f"line 2: its {name} is .* after a later one")
            for name, time in (
                ("created_at", lambda n: f"2024-01-01T10:{59 - n:02}:00"),
                ("timestamp_ms", lambda n: 1700000000000 - n),
                ("date", lambda n: f"01.02.2024 10:{59 - n:02}"),
                ("message_id", lambda n: 1000 - n),
            )
        ),
        (sorted(TURNS["messages that name the one before"], key=lambda row: row["role"]), "is not the row before it"),
    ],
)
def test_conversations_whose_rows_are_apart_are_refused_and_the_remedy_works(tmp_path, rows, problem):
    with pytest.raises(DataError, match=problem) as caught:
        texts_of(tmp_path, rows)
    column = caught.value.remedy.split("data.text_column=")[1].split()[0]
    assert len(texts_of(tmp_path, rows, text_column=column)[0]) == len(SAID)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("created_at", range(40), None),
        ("updated_at", range(40, 0, -1), None),
        ("message_id", [5, 9, 1, 4, 7, 2, 8], None),
        ("sent", [1, 0, 3, 4, 5, 6, 7, 8, 9, 10], "Within conversations, sent falls in 4 of 20 examined rows"),
    ],
)
def test_times_that_rise_are_no_warning(tmp_path, name, values, said):
    texts, source = texts_of(tmp_path, [row | {name: values[n % len(values)]} for n, row in enumerate(CHATS)])
    assert len(texts) == len(TEXTS)
    assert source.columns.warnings == () if said is None else source.columns.warnings[0].startswith(said)


@pytest.mark.parametrize(
    "names",
    [
        {"id": range(40), "parent_id": ["x"], "author": "Ann", "body": SAID},
        {"speaker": ["A", "B"], "text": SAID},
        {"session_id": range(40), "turn": [0], "text": SAID},
        {"thread_id": [1, 2], "author": ["Ann"], "text": SAID},
    ],
)
def test_rows_that_are_texts_of_their_own_stay_apart(tmp_path, names):
    rows = [{name: values[n % len(values)] for name, values in names.items()} for n in range(40)]
    assert len(texts_of(tmp_path, rows)[0]) == 40


def judged(**verdict):
    (name, values), *_ = verdict.items()
    return [{"prompt": text, "completion": f"R {text[::-1]}", name: values[n % 2]} for n, text in enumerate(TEXTS)]


@pytest.mark.parametrize(
    "verdict",
    [{"label": [False, True]}, {"label": ["False", "True"]}, {"is_correct": [0, 1]}, {"accepted": ["no", "yes"]}],
)
def test_answers_that_are_called_wrong_are_not_learned(tmp_path, verdict):
    texts, source = texts_of(tmp_path, judged(**verdict))
    assert [text.split("\n")[0] for text in texts] == TEXTS[1::2]
    assert "(10 answers of 20 examined rows); data.target_column=completion learns all" in source.columns.warnings[0]
    assert source.location("train", 1).endswith("line 4")
    assert len(texts_of(tmp_path, judged(**verdict), target_column="completion")[0]) == 20


def test_of_zero_and_one_in_a_label_it_is_asked_which_is_right(tmp_path):
    texts, source = texts_of(tmp_path, judged(label=[0, 1]))
    assert len(texts) == 20
    assert "if it says which answers are right" in source.columns.warnings[0]


def test_texts_on_the_lines_of_a_json_file_are_read(tmp_path):
    assert texts_of(tmp_path, TEXTS)[0] == TEXTS


@pytest.mark.parametrize("odd", [{"text": "an object"}, json.dumps({"text": "written twice"})])
def test_texts_beside_objects_are_refused(tmp_path, odd):
    with pytest.raises(DataError, match="line 21"):
        texts_of(tmp_path, [*TEXTS, odd])


def test_spans_that_overlap_are_counted(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"text": f"Anna lives in Paris {text}", "label": [[0, 4, "PER"], [14, 19, "LOC"]]} for text in TEXTS]
    rows[7]["label"] += [[0, 10, "LOC"], [0, 4, "PER"]]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (warning,) = read_corpus(DataOptions(source=str(path)), "token_classification").source.columns.warnings
    assert warning.startswith("1 pair of labelled spans overlaps (first in")
    assert "line 8: 0 to 4 (PER) and 0 to 10 (LOC))" in warning
