"""The package skrub, which is costly to import, and without which tables of numbers do."""

from typing import Any

from imbalanced_losses._errors import missing_extra


def load_skrub() -> Any:
    """The package.

    Raises:
        ImportError: It is missing.
    """
    try:
        import skrub
    except ModuleNotFoundError as error:
        raise ImportError(missing_extra(error)) from error
    return skrub
