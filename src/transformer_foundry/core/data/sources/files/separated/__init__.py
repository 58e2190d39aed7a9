"""Tables of separated fields: ``table`` reads them, ``separators`` finds the separator, ``quoting`` what quotes mean,
``header`` and ``cells`` say what the columns are called and which hold numbers."""
