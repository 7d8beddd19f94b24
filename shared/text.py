"""Text from elsewhere on a terminal: names, reasons, values and paths that others made up."""

import re
import reprlib
import unicodedata

REPLACED = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Unicode categories of what moves the cursor, changes colours, turns the direction of writing, or is half of a
character."""

LONGEST_SHOWN = 80
"""Characters of a value that are shown where it is wrong."""
LONGEST_LINE = 1000
"""Characters of a line that says what is wrong, whatever it names."""


def printable(text: str) -> str:
    """The text with everything but what can be seen replaced by `�`; lines stay lines."""
    return "".join("�" if unicodedata.category(each) in REPLACED and each != "\n" else each for each in text)


USER = re.compile(r"://(?:[^/\s]*@|[^/\s]*:\S*@)")
"""User and password in a URL; where the password isn't percent-encoded, as far as it can be told."""


def without_users(text: str) -> str:
    """The text without user and password in the URLs that it names."""
    return USER.sub("://", text)


def one_line(text: str) -> str:
    """`printable`, with everything on one line that can be read: of a very long one the middle is left out."""
    half = LONGEST_LINE // 2
    short = text if len(text) <= LONGEST_LINE else f"{text[:half]} ... {text[-half:]}"
    return printable(short).replace("\n", " ")


def shortened(text: str, longest: int = LONGEST_SHOWN) -> str:
    """The beginning of a text."""
    return text if len(text) <= longest else f"{text[:longest]}..."


def shown(value: object, longest: int = LONGEST_SHOWN) -> str:
    """The beginning of a value as Python spells it; quickly, however large it is or deeply it goes."""
    return shortened(_LONG_REPR.repr(value), longest)


class _LongRepr(reprlib.Repr):
    """The beginning of what `repr` says, longer than is ever shown."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 3, 4 * LONGEST_SHOWN, 4 * LONGEST_SHOWN, 10**4
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = LONGEST_SHOWN

    def repr_int(self, number: int, level: int) -> str:
        """Python spells no integer of thousands of digits."""
        digits = round(number.bit_length() * 0.30103)
        return repr(number) if digits <= LONGEST_SHOWN else f"a number of about {digits} digits"

    def repr_dict(self, values: dict[object, object], level: int) -> str:
        """In the order in which they were given, which reprlib has not."""
        if level <= 0:
            return "{...}"
        some = list(values.items())[:LONGEST_SHOWN]
        return f"{{{', '.join(f'{self.repr1(key, level - 1)}: {self.repr1(each, level - 1)}' for key, each in some)}}}"


_LONG_REPR = _LongRepr()
