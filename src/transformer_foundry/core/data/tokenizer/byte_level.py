"""Characters that stand for bytes in a byte-level tokenizer, as GPT-2 has chosen them."""

from __future__ import annotations

__all__ = ["byte_alphabet", "byte_characters"]

# UTF-8 never uses these 13 bytes, so a vocabulary of 256 has room for special tokens and still encodes every text.
_IMPOSSIBLE_BYTES = frozenset((0xC0, 0xC1, *range(0xF5, 0x100)))


def byte_characters() -> dict[int, str]:
    """Return byte -> character; printable bytes stand for themselves.

    Example:
        >>> byte_characters()[ord("a")], byte_characters()[ord(" ")]
        ('a', '\u0120')
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    shifted = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(shifted)}


def byte_alphabet() -> list[str]:
    """Return the characters of the 243 bytes that UTF-8 uses, by byte value."""
    characters = byte_characters()
    return [characters[byte] for byte in range(256) if byte not in _IMPOSSIBLE_BYTES]
