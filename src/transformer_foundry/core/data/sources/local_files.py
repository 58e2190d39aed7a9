"""Local files: what each is, the split it belongs to, archives and folders."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.base.text import counted, short_list
from transformer_foundry.core.data.document import SPLIT_NAMES
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.sources.encodings import misread_sample
from transformer_foundry.core.data.sources.files.archive import unpack
from transformer_foundry.core.data.sources.files.decoding import count_lines, read_head
from transformer_foundry.core.data.sources.files.formats import ARCHIVES, DATA_ENDINGS, FORMATS, GROUPS, TEXTS
from transformer_foundry.core.data.sources.files.kind import DataFile
from transformer_foundry.core.data.sources.files.signatures import Markup, is_translation, is_web_page, markup_of
from transformer_foundry.core.data.sources.files.sniff import ending_of, sniff
from transformer_foundry.core.data.sources.folders import (
    NamedSplits,
    are_shards,
    class_folders,
    is_side_of_pair,
    parallel_files,
    skipped_folder,
    split_files,
)

__all__ = [
    "FoundFiles",
    "digest_files",
    "find_files",
    "looks_like_local_path",
    "markup_in",
]

_ABOUT_DATA = frozenset(  # files beside the data that are not data
    (
        *("readme.md", "readme.txt", "readme", "license.txt", "license.md", "license"),
        *("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"),
    )
)
_LISTS = frozenset(  # of words or classes, and files of a tokenizer: not data, if data are beside them
    (
        *("vocab.txt", "vocabulary.txt", "vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"),
        *("special_tokens_map.json", "stopwords.txt", "labels.txt", "label_names.txt", "classes.txt"),
        *("class_names.txt", "labels.json", "classes.json", "label2id.json", "id2label.json", "label_map.json"),
    )
)
_PICKLES = (".pkl", ".pickle")
_COMPILED = (".pyc", ".pyo")
_FEWEST_PAIRS, _MOST_SIDES = 5, 6
_EXAMINED_FILES = 5
_EXAMINED_BYTES = 2**18


def looks_like_local_path(source: str) -> bool:
    """Return whether ``source`` is meant to be a local path and not the name of a dataset on the Hub."""
    path = Path(source).expanduser()
    is_name = source.count("/") <= 1 and not source.startswith((".", "/", "~", "\\"))
    return not is_name or path.exists() or ending_of(path) in DATA_ENDINGS


@dataclass(frozen=True)
class FoundFiles:
    """The files of a source.

    Attributes:
        splits: Files of each split; all have one format.
        warnings: What the user should know about files that are not read, or not as they should be, in sentences.
        notes: What the names of files decided, in sentences.
    """

    splits: dict[str, list[DataFile]]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def find_files(source: str, options: DataOptions, task: str = "", *, shown: str | None = None) -> FoundFiles:
    """Return the files of each split of a local file, folder or archive; all have one format.

    A word in the path determines the split, such as ``valid`` in ``data/valid-00001.csv``; a single file is train.

    Args:
        source: The path.
        options: ``encoding`` and ``document`` affect what a file is.
        task: A classifier reads a folder for each class.
        shown: Its name in messages; None takes the path.

    Raises:
        DataError: If there is no such path, or it contains no data files or files of several formats.
    """
    path = Path(source).expanduser()
    if not path.exists():
        raise DataError(
            f"data.source is {source}, but there is no such file or folder.",
            "Expected a path relative to the folder where the command runs, 'built-in:countries', or a Hub name.",
            "Check the spelling of data.source.",
        )
    shown = shown or str(path)
    if path.is_dir():
        return _find_in_folder(path, shown, options, task)
    file = _open_file(path, shown, options)
    if file.kind.format not in ARCHIVES:
        _refuse_pages([file], shown, options)
        _refuse_translations([file], options)
        return FoundFiles({"train": [file]}, _file_warnings([file], options))
    return _find_in_folder(unpack(path, shown, file.kind.format, file.kind.compression), shown, options, task)


def _find_in_folder(folder: Path, shown: str, options: DataOptions, task: str) -> FoundFiles:
    chosen, unread, about = _choose_entries(folder)
    names = {entry: entry.relative_to(folder) for entry in chosen}
    files = {entry: _open_file(entry, f"{shown}/{name.as_posix()}", options) for entry, name in names.items()}
    _require_one_format(list(files.values()), shown)
    _refuse_pages(list(files.values()), shown, options)
    _refuse_translations(list(files.values()), options)
    warnings = [unread] if unread else []
    is_text = any(file.kind.format in TEXTS for file in files.values())
    classes = class_folders(list(names.values())) if is_text and task == "sequence_classification" else {}
    if classes:
        outside = [name for name in names.values() if name not in classes]
        if outside:
            warnings.append(
                f"Files of {shown} that are in no folder of a class are not read: {short_list(outside, 3)}."
            )
        files = {
            entry: replace(file, label=classes[names[entry]])
            for entry, file in files.items()
            if names[entry] in classes
        }
    pairs = parallel_files(list(names.values())) if is_text and task == "seq2seq_lm" else {}
    if pairs and options.span_corruption is not True and options.document in ("auto", "line"):
        by_name = {names[entry]: entry for entry in files}
        files = {
            by_name[one]: replace(files[by_name[one]], partner=files[by_name[other]], sides=sides)
            for one, (other, *sides) in pairs.items()
        }
    groups: defaultdict[str, list[DataFile]] = defaultdict(list)
    may_be_pairs = task == "seq2seq_lm" and options.span_corruption is None and options.document in ("auto", "line")
    named = split_files([names[entry] for entry in files], is_text=is_text, has_classes=bool(classes))
    for entry, file in files.items():
        groups[named.splits[names[entry]]].append(file)
    warnings += _split_warnings(named)
    splits = {name: groups[name] for name in SPLIT_NAMES if name in groups}
    if is_text and may_be_pairs and not pairs and all(1 < len(group) <= _MOST_SIDES for group in splits.values()):
        _refuse_equal_lengths(splits["train"])
    notes = [] if not about else [f"Files about the data are left out: {short_list(about)}."]
    if len(splits) > 1:
        of_splits = "; ".join(f"{split} {_short_names(group, shown)}" for split, group in splits.items())
        notes.append(f"The names of files give the splits: {of_splits}.")
    return FoundFiles(splits, (*warnings, *_file_warnings(list(files.values()), options)), tuple(notes))


def _short_names(files: Sequence[DataFile], shown: str) -> str:
    return short_list([file.shown.removeprefix(f"{shown}/") for file in files], 2)


def _split_warnings(named: NamedSplits) -> list[str]:
    """Return sentences about files that are training data although, or because, their names do not clearly say so."""
    warnings = []
    if named.unnamed:
        warnings.append(
            f"Files whose names say no split are read as training data: {short_list(named.unnamed, 5)}."
            " Name files after their split (train, valid, test), or move them away."
        )
    if named.ignored:
        warnings.append(
            f"Read as training data, as no name beside says train: {short_list(named.ignored, 5)}. If a split is meant,"
            " name the files after it (train, valid, test)."
        )
    return warnings


def _choose_entries(folder: Path) -> tuple[list[Path], str, list[str]]:
    """Return the data files of a folder, a sentence about the others (or none), and names such as README.txt."""
    present = sorted(folder.rglob("*"))
    broken = next((entry for entry in present if entry.is_symlink() and not entry.exists()), None)
    if broken is not None:
        raise DataError(
            f"{broken} is a link to {broken.readlink()}, which does not exist.",
            "Expected links that lead to files.",
            "Restore the file, or remove the link.",
        )
    every = [entry for entry in present if entry.is_file()]
    skipped = {entry: part for entry in every if (part := skipped_folder(entry.relative_to(folder))) is not None}
    entries = [entry for entry in every if entry not in skipped and ending_of(entry) not in _COMPILED]
    entries = [entry for entry in entries if entry.name.lower() not in _ABOUT_DATA] or entries
    chosen = _sides_of_pairs(entries) or [entry for entry in entries if ending_of(entry) in DATA_ENDINGS] or entries
    lists = [entry for entry in chosen if entry.name.lower() in _LISTS]
    lists = lists if len(lists) < len(chosen) else []
    chosen = [entry for entry in chosen if entry not in lists]
    if any(ending_of(entry) in FORMATS["token_ids"].endings for entry in chosen):  # nanoGPT writes meta.pkl beside them
        chosen = [entry for entry in chosen if ending_of(entry) not in _PICKLES] or chosen
    # What systems hide, such as .git, is data to no one; hidden tables and texts may be missed.
    shown = {entry: part for entry, part in skipped.items() if part[0] != "." or _is_hidden_data(entry, part)}
    others = [entry for entry in every if entry not in skipped and entry.name.lower() not in _ABOUT_DATA]
    unread = sorted(set(others) - {*chosen, *lists})
    left = Counter(f"with {ending_of(entry) or 'no ending'}" for entry in unread)
    left.update(f"called {entry.name}, a list of words or classes" for entry in lists)
    left.update(f"in {part}" for part in shown.values())
    endings = {ending_of(entry) for entry in chosen}
    about = [entry.name for entry in every if entry.name.lower() in _ABOUT_DATA and entry not in skipped]
    about = [name for name in about if ending_of(name) in endings & DATA_ENDINGS and not name.endswith(".json")]
    if not left:
        return chosen, "", about
    found = short_list([f"{count} {what}" for what, count in left.most_common()], 5)
    return chosen, f"Not read: {counted(left.total(), 'other file')} of the folder ({found}).", about


def _sides_of_pairs(entries: Sequence[Path]) -> list[Path]:
    """Return texts in languages beside which all other files only describe their lines: ``a.de`` beside ``a.ids``."""
    names = {entry: entry.with_name(entry.name.lower().removesuffix(".gz")) for entry in entries}
    sides = [entry for entry, name in names.items() if is_side_of_pair(name.name)]
    stems = {names[entry].with_suffix("") for entry in sides}
    beside = [entry for entry in entries if entry not in sides and entry.name.lower() not in _LISTS]
    describe = not DATA_ENDINGS.difference(FORMATS["token_ids"].endings).intersection(map(ending_of, beside))
    return sides if beside and describe and all(names[entry].with_suffix("") in stems for entry in beside) else []


def _is_hidden_data(entry: Path, part: str) -> bool:
    """Return whether a file has the ending of data and is in a hidden folder."""
    return ending_of(entry) in DATA_ENDINGS and part != entry.name


def _refuse_pages(files: Sequence[DataFile], shown: str, options: DataOptions) -> None:
    """Raise an error if all files are pages of HTML, whose markup would be most of what is learned."""
    texts = files and options.document == "auto" and all(file.kind.format == "text" for file in files)
    if not texts or not all(map(_is_page, files[:_EXAMINED_FILES])):
        return
    what = f"{shown} is a web page" if len(files) == 1 else f"The {len(files)} files of {shown} are web pages"
    raise DataError(
        f"{what}, not text: {files[0].shown} begins with HTML.",
        "Expected a table or text.",
        "Write the text of each page to a .txt file, or set data.document=file to learn the markup too.",
    )


def _refuse_equal_lengths(files: Sequence[DataFile]) -> None:
    """Raise an error if files that are no parts of one text have as many lines: these may belong together."""
    counts = {count_lines(file.path, file.kind.compression) for file in files}
    if len(counts) > 1 or min(counts) < _FEWEST_PAIRS or are_shards([Path(file.shown) for file in files]):
        return
    raise DataError(
        f"{short_list([file.shown for file in files], 3)} have {min(counts)} lines each, but their names do not say"
        " which is the source of which.",
        "Expected two files with names such as train.src and train.tgt, or train.de and train.en, if line n of one"
        " belongs to line n of the other.",
        "Rename the files so, or set data.span_corruption=true to learn from the texts without pairs.",
    )


def _refuse_translations(files: Sequence[DataFile], options: DataOptions) -> None:
    """Raise an error for texts and their translations in XML, whose markup would be most of what is learned."""
    for file in files[:_EXAMINED_FILES] if options.document == "auto" else ():
        if file.kind.format == "text" and is_translation(_text_head(file)):
            raise DataError(
                f"{file.shown} holds texts and their translations in XML, and would be read with its markup.",
                "Expected a table, or two files of text in which line n of one belongs to line n of the other.",
                "Write each language to a column of a table, or to a file of its own (train.de, train.en).",
            )


def _is_page(file: DataFile) -> bool:
    return is_web_page(read_head(file.path, file.kind.compression, 2**10, file.shown))


def markup_in(file: DataFile) -> Markup | None:
    """Return what a file of text with markup is; None if it is plain."""
    return markup_of(_text_head(file))


def _text_head(file: DataFile) -> str:
    head = read_head(file.path, file.kind.compression, 2**10, file.shown)
    return head.decode(file.kind.encoding or "utf-8", "ignore").lstrip("\ufeff")


def _require_one_format(files: list[DataFile], shown: str) -> None:
    inner = next((file for file in files if file.kind.format in ARCHIVES), None)
    if inner is not None:
        raise DataError(
            f"{inner.shown} is an archive in a folder or archive.",
            "Expected tables or text.",
            "Unpack it, or set data.source to it.",
        )
    formats = sorted({_group(file) for file in files})
    if len(formats) != 1:
        examples = [next(f.shown for f in files if _group(f) == name) for name in formats]
        found = "no data files" if not files else "files for " + " and ".join(formats)
        where = f" ({short_list(examples, 3)})" if examples else ""
        raise DataError(
            f"The folder {shown} contains {found}{where}.",
            f"Expected files of one format: {', '.join(GROUPS)}.",
            "Set data.source to one file, or to a folder with files of one format.",
        )


def _file_warnings(files: Sequence[DataFile], options: DataOptions) -> tuple[str, ...]:
    """Return sentences about text that is not read as what it is: markup, or another encoding than it is written in."""
    found = list(_encoding_warnings(files, options))
    for file in files[:_EXAMINED_FILES]:
        if file.kind.format != "text" or file.kind.encoding is None:
            continue
        kind = markup_in(file)
        if kind is not None:
            found.append(
                f"{file.shown} is {kind.what}, read as plain text: its {kind.parts} are learned; {kind.remedy}."
            )
            break
    return tuple(found)


def _encoding_warnings(files: Sequence[DataFile], options: DataOptions) -> tuple[str, ...]:
    """Return a sentence if ``data.encoding`` is set and the first file with other characters is in another one."""
    if options.encoding is None:
        return ()
    for file in files[:_EXAMINED_FILES]:
        if file.kind.encoding is None:
            continue
        head = read_head(file.path, file.kind.compression, _EXAMINED_BYTES, file.shown)
        found = misread_sample(head, options.encoding)
        if found is not None:
            right, wrong, text = found
            return (
                f"data.encoding is {options.encoding}, in which {file.shown} reads {wrong!r}; in {right} it reads"
                f" {text!r}. Set data.encoding to {'null' if right == 'utf-8' else right}.",
            )
    return ()


def _group(file: DataFile) -> str:
    return FORMATS[file.kind.format].group


def _open_file(path: Path, shown: str, options: DataOptions) -> DataFile:
    kind = sniff(path, shown=shown, encoding=options.encoding)
    if options.document in ("line", "paragraph", "section", "file") and kind.format not in ARCHIVES:
        if kind.format in ("json", "json_lines") or kind.encoding is None:
            raise DataError(
                f"data.document is {options.document}, but {shown} is {kind.format.replace('_', ' ')}.",
                "Expected plain text for a text that is no row.",
                "Set data.document to auto or row.",
            )
        kind = replace(kind, format="text", evidence=f"data.document={options.document}")
    elif options.document == "row" and kind.format == "text":
        kind = sniff(path, shown=shown, encoding=options.encoding, ending=".csv")
    return DataFile(path, shown, kind)


def digest_files(files: Iterable[DataFile]) -> str:
    """Return one sha256 over the names and contents of the files."""
    digest = hashlib.sha256()
    files = list(files)
    for data in (*files, *(file.partner for file in files if file.partner is not None)):
        with data.path.open("rb") as file:
            digest.update(
                f"{data.path.name}\0{data.label or ''}".encode() + hashlib.file_digest(file, "sha256").digest()
            )
    return digest.hexdigest()
