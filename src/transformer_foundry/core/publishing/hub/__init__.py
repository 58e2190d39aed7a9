"""Publish packages on the Hugging Face Hub, verify what was published, and manage releases."""
