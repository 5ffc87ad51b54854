"""Names as they are compared."""

import unicodedata


def name_key(name: str) -> str:
    """`name` as it is compared with others: NFKC and casefold, in which databases differ.

    Twice, since folding can make characters that NFKC joins (Unicode, 3.13, D146).
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    return unicodedata.normalize("NFKC", folded).casefold().strip()
