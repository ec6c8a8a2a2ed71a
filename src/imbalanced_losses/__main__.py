"""`python -m imbalanced_losses`, and the command `imbalanced-losses`."""

import sys


def main() -> None:
    """Run the command line, or say which extra it needs."""
    try:
        from imbalanced_losses._cli import app
    except ImportError as error:
        print(f"imbalanced-losses: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    app(prog_name="imbalanced-losses")


if __name__ == "__main__":
    main()
