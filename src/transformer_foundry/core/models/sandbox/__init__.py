"""The first run of code from outside, in a process without network and write access."""
