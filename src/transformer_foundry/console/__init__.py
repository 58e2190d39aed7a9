"""The terminal: expected errors, log format, status line, SIGTERM, Colab, output of other libraries."""
