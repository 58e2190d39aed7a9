"""Tables in binary files: ``stored_tables`` (parquet, arrow), ``sqlite`` and ``spreadsheet`` (xlsx).

``workbook`` holds what the sheets of a spreadsheet share, ``sheet_gaps`` finds cells that look filled but are not.
"""
