"""Read an export: folder, zip, gist; scan its code; require its approval."""
