"""Text that anyone may have written, made safe to keep and to show."""

from __future__ import annotations

import unicodedata


def valid_unicode(text: str) -> str:
    """The text with U+FFFD for lone surrogates, which JSON and a command line can spell but neither tokenizers nor
    files can hold. A pair of surrogates becomes its character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def printable(text: str) -> str:
    """The text without what steers a terminal: control and format characters become U+FFFD; new lines and tabs stay.

    Model and tool text may hold escape sequences that set a clipboard, move the cursor or turn the reading direction.
    """
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf") else "\ufffd" for c in text)
