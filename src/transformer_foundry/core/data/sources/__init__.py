"""Sources of text: ``built_in`` texts, and tables of local files, URLs and the Hub; ``read`` chooses among them.

``open_tables`` opens what ``data.source`` names: ``local_files`` finds files, ``remote`` asks the Hub. Both give
``rows``, of which ``table_source`` makes documents, whatever the format. Readers of formats are in ``files``, whose
docstring says how to add one.
"""
