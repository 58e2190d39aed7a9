"""Files that go into every package as they are: they run there, beside the model, without this project."""
