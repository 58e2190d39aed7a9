"""Readers of local files, chosen by what is in a file and not by its name.

``sniff`` says what a file is; ``tables.open_table`` returns its rows. ``separated`` (csv and relatives),
``json_tables``, ``stored`` (parquet, arrow, SQLite, xlsx), ``plain_text`` and ``labelled_lines`` (CoNLL, fastText)
read them. ``signatures`` lists the binary formats, those that are refused with the reason; ``archive`` unpacks zip and
tar.
"""
