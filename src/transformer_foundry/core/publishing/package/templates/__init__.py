"""Files that are copied into every package unchanged: they run there without this project."""
