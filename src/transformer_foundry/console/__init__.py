"""The terminal: expected errors, the status line, signals, Colab, and what third parties may print."""
