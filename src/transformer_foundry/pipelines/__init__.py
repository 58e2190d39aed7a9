"""The pipelines: thin nodes that call the core library."""
