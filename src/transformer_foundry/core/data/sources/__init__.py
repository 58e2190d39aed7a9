"""Sources of documents: built-in text, local files, URLs, the Hub. Start at ``read``."""
