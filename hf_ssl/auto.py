"""Opening a saved model without knowing its method."""

from pathlib import Path
from typing import Any

from transformers import AutoModel

from hf_ssl import methods  # noqa: F401 - registers the classes with AutoModel
from hf_ssl.errors import UsageError
from hf_ssl.modeling import SSLModel


class AutoSSLModel:
    """Opens a saved model of any method."""

    @staticmethod
    def from_pretrained(name: str | Path, **options: Any) -> SSLModel:
        """Load the `pretraining/` folder of a run or repository, in eval mode.

        Raises:
            UsageError: if there is no model, or none of this package.
            HfSslError: if its weights are incomplete.

        """
        try:
            model = AutoModel.from_pretrained(name, **options)
        except (OSError, ValueError) as error:
            raise UsageError(f"'{name}' holds no model that can be opened: {str(error).splitlines()[0]}") from error
        if not isinstance(model, SSLModel):
            raise UsageError(f"'{name}' holds a {type(model).__name__} and no pretraining: open NAME/pretraining.")
        return model
