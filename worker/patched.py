"""Whether gevent has taken the place of what blocks. Looks, and never imports gevent."""

import sys

__all__ = ["is_patched"]


def is_patched(module: str) -> bool:
    """Whether gevent has patched this module of the standard library, such as `threading` or `socket`."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched(module))
