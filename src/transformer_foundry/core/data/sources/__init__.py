"""Sources of text: ``builtin`` corpora, and tables (``table_source``) of local files, URLs and the Hub.

``read`` chooses among them. A new file type begins in ``files``: ``files.sniff`` recognizes it, a reader in ``files``
returns its rows, and ``files.tables`` joins both.
"""
