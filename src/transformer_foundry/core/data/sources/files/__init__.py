"""Readers of local files, chosen by what is in a file and not by its name.

``sniff.sniff`` says what a file is, ``formats.open_table`` returns its rows. ``separated`` (csv and relatives),
``json_tables``, ``stored`` (binary: parquet, arrow, SQLite, xlsx, token ids), ``plain_text`` and ``labelled_lines``
(CoNLL, fastText) read them. ``archive`` unpacks zip and tar.

To add a format:

1. Write a reader, a class as ``formats.Table`` describes, in ``stored`` if it is binary, in ``separated`` or
   ``json_tables`` if it is a relative of theirs, else in a folder of its own: this folder has its 12 entries, so move
   ``labelled_lines`` there if the new one reads lines too. Bound what it decodes with ``data.limits``. A
   library that it needs goes into ``pyproject.toml`` and ``constraints.txt`` (then ``make lock``).
   A format of plain texts (contents ``texts``) has no reader: ``plain_text.TextTable`` reads it, with a case for what
   one text is in ``TextTable`` and ``choose_document``, as for ``fasta``.
2. Add an entry to ``formats.FORMATS``: its group and contents, endings, first bytes, reader, and the
   options of ``data`` that it takes. Messages, the choice of files in a folder and the
   recognition of a binary format by its first bytes follow from it.
3. Recognize it, if first bytes do not: a text in ``sniff._text_format``, a zip file in ``archive.zip_format``. What is
   known of it until now goes: a refusal in ``signatures``, its ending in ``formats._REFUSED_ENDINGS`` or
   ``sniff._CODE_ENDINGS`` (read as text), its pattern in ``_MARKUP`` of ``signatures`` (text, with a warning).
   If lines of it are no texts, as in JSON, add it where ``sources.local_files._open_file`` refuses ``data.document``.
4. If the ``datasets`` library can stream it from a URL, add its endings to ``STREAMED`` of ``sources.remote``.
5. Add it to the table of files in ``docs/data.md``, and a file of it to ``tests/core/data/sources/files``.
"""
