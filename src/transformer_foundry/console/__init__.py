"""The terminal: expected errors, log format, status line, SIGTERM and SIGHUP, Colab, output of other libraries."""
