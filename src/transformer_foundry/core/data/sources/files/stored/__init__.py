"""Tables in binary files: ``arrow`` (parquet, arrow), ``sqlite``, ``spreadsheet`` (xlsx) and ``token_ids``.

``workbook`` holds what the sheets of a spreadsheet share, ``sheet_gaps`` finds cells that look filled but are not.
"""
