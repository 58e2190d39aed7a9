"""Recognize what a file is by its content; the ending of its name only breaks ties."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from pathlib import Path

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.sources.files.decoding import encoding_error, find_encoding, read_head
from transformer_foundry.core.data.sources.files.formats import FORMATS, GROUPS
from transformer_foundry.core.data.sources.files.kind import FileKind
from transformer_foundry.core.data.sources.files.labelled_lines import (
    CONLLU_COLUMNS,
    FASTTEXT_MARK,
    TAG_FIRST,
    is_conll_mark,
)
from transformer_foundry.core.data.sources.files.sections import RESIDUES, read_fastq
from transformer_foundry.core.data.sources.files.separated.separators import find_separator
from transformer_foundry.core.data.sources.files.signatures import compression_of, refuse_known, stored_format

__all__ = ["ending_of", "sniff"]

SAMPLE_BYTES = 2**18
_COMPRESSED_ENDINGS = (".gz", ".bz2", ".xz", ".zst", ".gzip")
_CODE_ENDINGS = (
    *(".py", ".js", ".ts", ".c", ".h", ".cpp", ".hpp", ".java", ".go", ".rs", ".rb", ".php", ".sh", ".css", ".html"),
    *(".htm", ".xml", ".yaml", ".yml", ".toml", ".ini", ".tex", ".md", ".rst", ".sql", ".lua", ".r", ".swift"),
)
_FASTQ_ENDINGS = (".fastq", ".fq")
_TAG = re.compile(r"O|[BIESLUM]-\S+")
_PART_OF_SPEECH = re.compile(r"[A-Z][A-Z$-]*|[.,:()'`\"#$-]+")
_MOST_TAGS = 60
_ENOUGH_TAGS = 20
_FULL_TRUTH = 0.95  # share of the lines that must agree: files have a few odd lines


def sniff(path: Path, *, shown: str | None = None, encoding: str | None = None, ending: str | None = None) -> FileKind:
    """Return what a file is; reads at most 256 KiB of it.

    Args:
        path: The file.
        shown: Its name in messages; None takes the path.
        encoding: Encoding of text; None recognizes it.
        ending: The ending that breaks ties; None takes that of the name.

    Raises:
        DataError: If it is empty, damaged, or something that is no data, with the reason.
    """
    shown = shown or str(path)
    size = path.stat().st_size
    if size == 0:
        raise DataError(f"{shown} is empty.", "Expected a file with data.", "Download or write it again.")
    with path.open("rb") as file:
        compression = compression_of(file.read(16))
    head = read_head(path, compression, SAMPLE_BYTES, shown)
    if not head:
        raise DataError(f"{shown} is empty.", "Expected a file with data.", "Download or write it again.")
    _check_claim(shown, path, compression)
    refuse_known(shown, head)
    stored = stored_format(head)
    if stored is not None:
        return _stored_kind(path, shown, stored, head, compression)
    ending = ending or ending_of(shown)
    if ending in FORMATS["token_ids"].endings and not _is_text(head):
        return FileKind("token_ids", f"{size} bytes without a signature, and the ending {ending}", compression)
    encoding = encoding or find_encoding(head)
    if encoding is None:
        raise _binary_error(shown, head, ending)
    text = _decode(path, compression, encoding, head, shown)
    if not text.strip() and len(head) < SAMPLE_BYTES:
        raise DataError(f"{shown} contains only blanks.", "Expected a file with data.", "Download or write it again.")
    found, evidence, separator = _text_format(text, ending, is_whole=len(head) < SAMPLE_BYTES)
    return FileKind(found, evidence, compression, encoding, separator)


def _is_text(head: bytes) -> bool:
    """Return whether bytes are UTF-8 without zeros: ids of two bytes have zeros, or are no UTF-8."""
    if find_encoding(head) != "utf-8":
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as err:
        return err.start > len(head) - 4
    return True


def ending_of(name: str | Path) -> str:
    """Return the ending of a file name in lower case, without that of its compression.

    Example:
        >>> ending_of("train.CSV.gz"), ending_of("README")
        ('.csv', '')
    """
    suffixes = [suffix.lower() for suffix in Path(str(name).split("?", 1)[0]).suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED_ENDINGS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _check_claim(shown: str, path: Path, compression: str | None) -> None:
    """Refuse a file that is named like a compressed one and is none, if it is no text either."""
    suffix = Path(shown).suffix.lower()
    if suffix in _COMPRESSED_ENDINGS and compression is None:
        with path.open("rb") as file:
            start = file.read(12)
        raise DataError(
            f"{shown} is not compressed, although its name ends in {suffix}: it begins with {start!r}.",
            "Expected the first bytes of a compressed file.",
            f"Download it again, or rename it without {suffix} if it is text.",
        )


def _stored_kind(path: Path, shown: str, stored: str, head: bytes, compression: str | None) -> FileKind:
    if stored == "zip":
        from transformer_foundry.core.data.sources.files.archive import zip_format

        return FileKind(*zip_format(path, shown), compression)
    if stored == "parquet" and compression is None:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - 4))
            if size < 12 or file.read() != b"PAR1":
                raise DataError(
                    f"{shown} ({size} bytes) is truncated or not a parquet file: it does not begin and end with PAR1.",
                    "Expected a complete parquet file.",
                    "Download it again.",
                )
    return FileKind(stored, f"it begins with {head[:8]!r}", compression)


def _binary_error(shown: str, head: bytes, ending: str) -> DataError:
    place = f"byte {head.index(0)} is zero" if b"\0" in head else "it contains control characters"
    claimed = [mark for known in FORMATS.values() if ending in known.endings for mark in known.signatures]
    named = f"; files with the ending {ending} begin with {' or '.join(map(repr, claimed))}" if claimed else ""
    return DataError(
        f"{shown} is binary and no known format: {place}, it begins with {head[:8]!r}{named}.",
        f"Expected {', '.join(GROUPS)}, or an archive of them.",
        "Set data.source to another file; token ids (uint16) need the ending .bin, other encodings data.encoding.",
    )


def _decode(path: Path, compression: str | None, encoding: str, head: bytes, shown: str) -> str:
    """Return the text of the sample; its last character may be cut, but nothing else may be wrong."""
    import codecs

    try:
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError as err:
        raise DataError(
            f"data.encoding is {encoding}, which Python does not know.",
            "Expected the name of an encoding, such as utf-8, cp1252, latin1, shift_jis.",
            "Set data.encoding to one of them, or to null.",
        ) from err
    try:
        return decoder.decode(head, final=len(head) < SAMPLE_BYTES)
    except UnicodeError as err:
        raise encoding_error(path, compression, encoding, shown) from err


def _text_format(text: str, ending: str, *, is_whole: bool) -> tuple[str, str, str | None]:
    """Return the format of a text, the evidence, and the separator of a table."""
    json_format = _json_format(text, ending, is_whole=is_whole)
    if json_format is not None:
        return *json_format, None
    lines = text.splitlines()
    if not is_whole and len(lines) > 1:
        lines.pop()  # it is cut
    filled = [line for line in lines if line.strip()]
    if _is_fastq(filled, ending):
        return "fasta", "records of a name, a sequence, + and the qualities (fastq)", None
    if _is_fasta(filled):
        return "fasta", "lines that begin with > and lines of letters between them", None
    if filled and sum(line.startswith(FASTTEXT_MARK) for line in filled) >= _FULL_TRUTH * len(filled):
        return "fasttext", f"lines that begin with {FASTTEXT_MARK}", None
    if _is_conll(lines) and (ending not in FORMATS["delimited"].endings or _is_in_blocks(lines)):
        return "conll", "blocks of lines with one word and its tag", None
    if ending not in FORMATS["delimited"].endings and _has_tags_first(lines):
        return "conll", f"blocks of lines with {TAG_FIRST}", None
    if ending in _CODE_ENDINGS:
        return "text", f"text, and the ending {ending} of code or markup", None
    separator, evidence = find_separator(text, ending, is_whole=is_whole)
    if separator is not None:
        return "delimited", evidence, separator
    return "text", "text without a structure of rows", None


def _json_format(text: str, ending: str, *, is_whole: bool) -> tuple[str, str] | None:
    start = text.lstrip("\ufeff \t\r\n")
    claims = ending in FORMATS["json"].endings + FORMATS["json_lines"].endings
    if not start.startswith(("{", "[")):
        return ("json_lines", f"the ending {ending}") if claims else None
    first, _, rest = start.partition("\n")
    is_first_line_json = _parses(first)
    second = rest.lstrip()
    if is_first_line_json and second.startswith(start[0]):
        return "json_lines", "one JSON value on each line"
    if ending in FORMATS["json_lines"].endings and start.startswith("{"):
        return "json_lines", f"it begins with a brace, and the ending {ending}"
    if claims or _begins_json(start, is_whole=is_whole):
        return "json", f"JSON that begins with {start[:12].strip()!r}"
    return None


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _begins_json(text: str, *, is_whole: bool) -> bool:
    """Return whether a text is JSON, as far as it is known: an error at the very end of a cut text does not count."""
    try:
        json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as err:
        cut_inside_string = err.msg.startswith("Unterminated string")
        return not is_whole and (cut_inside_string or err.pos >= len(text) - 8)
    except (ValueError, RecursionError):
        return False
    return True


def _is_fasta(lines: list[str]) -> bool:
    """Return whether lines are sequences after headers (``>``), and comments (``;``), the headers of old files."""
    if not lines or not lines[0].startswith((">", ";")) or len(lines) < 2:
        return False
    uncommented = [line for line in lines if not line.startswith(";")]
    sequences = [line for line in lines if not line.startswith((">", ";"))]
    fitting = sum(RESIDUES.fullmatch(line) is not None for line in sequences)
    is_old = lines[0].startswith(";") and any(line.rstrip().isupper() and line.rstrip().endswith("*") for line in lines)
    has_headers = bool(uncommented) and (uncommented[0].startswith(">") or is_old)
    return has_headers and bool(sequences) and fitting >= _FULL_TRUTH * len(sequences)


def _is_fastq(lines: list[str], ending: str) -> bool:
    """Return whether a file begins with a record of fastq, or has several; the reader checks each of them."""
    if not lines or not lines[0].startswith("@"):
        return False
    groups = zip(lines, lines[1:], lines[2:], lines[3:], strict=False)
    records = [
        len(sequence) == len(quality)
        for name, sequence, plus, quality in groups
        if name.startswith("@") and RESIDUES.fullmatch(sequence) and plus.startswith("+")
    ]
    try:
        is_named = ending in _FASTQ_ENDINGS or (len(records) > 1 and 2 * sum(records) > len(records))
        return is_named or next(read_fastq(lines, ""), None) is not None
    except DataError:
        return False


def _is_in_blocks(lines: list[str]) -> bool:
    """Return whether lines with a word first stand in several blocks, which tables do not have."""
    blocks = sum(not line.strip() and bool(after.strip()) for line, after in itertools.pairwise(lines))
    filled = [line for line in lines if line.strip()]
    words = sum("\t" in line and " " not in line.split("\t")[0] for line in filled)
    return 1 < blocks < len(filled) / 2 and words >= _FULL_TRUTH * len(filled)


def _words(lines: list[str]) -> list[list[str]]:
    """Return the fields of the lines that may be words: not blank, and no comments."""
    words = (line for line in lines if line.strip() and not is_conll_mark(line))
    return [line.split("\t") if "\t" in line else line.split() for line in words]


def _has_tags_first(lines: list[str]) -> bool:
    """Return whether lines have a tag of spans (O, B-X, I-X) and its word, in blocks between blank lines."""
    filled = _words(lines)
    if len(filled) < 3 or all(line.strip() for line in lines[:-1]) or any(len(fields) != 2 for fields in filled):
        return False
    tags = [fields[0] for fields in filled]
    return sum(_TAG.fullmatch(tag) is not None for tag in tags) >= _FULL_TRUTH * len(tags) and len(set(tags)) > 1


def _is_conll(lines: list[str]) -> bool:
    """Return whether lines have a word and its tags, in blocks between blank lines; or ten columns, as in CoNLL-U.

    Tags are those of spans (O, B-X, I-X), or few different words in capitals, such as NOUN.
    """
    filled = _words(lines)
    if len(filled) < 3 or all(line.strip() for line in lines[:-1]):
        return False
    [(width, count)] = Counter(map(len, filled)).most_common(1)
    if width < 2 or count < _FULL_TRUTH * len(filled):
        return False
    if width == CONLLU_COLUMNS and all(fields[0][:1].isdigit() for fields in filled):
        return True
    tags = [fields[-1].strip() for fields in filled]
    spans = sum(_TAG.fullmatch(tag) is not None for tag in tags)
    parts = sum(_PART_OF_SPEECH.fullmatch(tag) is not None for tag in tags)
    is_tagged = parts >= _FULL_TRUTH * len(tags) and len(set(tags)) <= _MOST_TAGS and len(tags) >= _ENOUGH_TAGS
    return spans >= _FULL_TRUTH * len(tags) or is_tagged
