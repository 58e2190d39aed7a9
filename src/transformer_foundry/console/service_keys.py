"""``KEYS``, the keys of services (trackers, hubs) that a user may set: read from Colab's secrets, shown by doctor."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["KEYS", "ServiceKey"]


@dataclass(frozen=True)
class ServiceKey:
    """A key of a service; none is required.

    Attributes:
        variable: Environment variable that holds it, and the name of the secret on Colab.
        service: Name of the service.
        without: What happens without the key.
        address: Where to get one.
    """

    variable: str
    service: str
    without: str
    address: str


KEYS = (
    ServiceKey("WANDB_API_KEY", "W&B", "runs are recorded offline", "wandb.ai/authorize"),
    ServiceKey(
        "HF_TOKEN",
        "Hugging Face",
        "public data can be read, nothing can be published",
        "huggingface.co/settings/tokens",
    ),
    ServiceKey("GITHUB_TOKEN", "GitHub", "limited to 60 gists an hour", "github.com/settings/tokens"),
)
