"""The Hugging Face Hub: publish, verify what was published, releases."""
