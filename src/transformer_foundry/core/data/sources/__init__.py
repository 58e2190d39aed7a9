"""Sources of text: ``builtin`` corpora, and tables (``table_source``) of local files, URLs and the Hub.

``read`` chooses among them. A new file type begins in ``local_files.BUILDERS`` (and ``BINARY_BUILDERS`` if it is no
text); if the ``datasets`` library has no builder for it, its rows are read in ``rows``.
"""
