"""One secret is there, one is kept from this notebook, the others do not exist."""


class SecretNotFoundError(Exception):
    """There is no secret of this name."""


class NotebookAccessError(Exception):
    """The user did not allow this notebook to see it."""


class TimeoutException(Exception):
    """The user did not answer."""


def get(key):
    if key == "HF_TOKEN":
        return "hf_stub"
    if key == "WANDB_API_KEY":
        raise NotebookAccessError(key)
    raise SecretNotFoundError(key)
