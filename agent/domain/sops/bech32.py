"""Bech32 (BIP 173), in which age writes its keys; without the limit of length, as age has it."""

from __future__ import annotations

from collections.abc import Iterable

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM = 6


def encode(kind: str, data: bytes) -> str:
    """``data`` behind ``kind``, in lower case."""
    values = _regroup(data, 8, 5, pad=True)
    polymod = _polymod([*_expand(kind), *values, *[0] * _CHECKSUM]) ^ 1
    check = [polymod >> 5 * (5 - i) & 31 for i in range(_CHECKSUM)]
    return f"{kind}1{''.join(_ALPHABET[v] for v in (*values, *check))}"


def decode(text: str) -> tuple[str, bytes]:
    """The kind, in lower case, and the data. Raises ValueError that shows nothing of ``text``."""
    if text not in {text.lower(), text.upper()}:
        raise ValueError("upper and lower case are mixed")
    kind, one, rest = text.lower().rpartition("1")
    values = [_ALPHABET.find(c) for c in rest]
    if not (one and kind) or len(values) < _CHECKSUM or min(values) < 0:
        raise ValueError("this is not Bech32")
    if _polymod([*_expand(kind), *values]) != 1:
        raise ValueError("its checksum is wrong")
    return kind, bytes(_regroup(values[:-_CHECKSUM], 5, 8, pad=False))


def _expand(kind: str) -> list[int]:
    return [*(ord(c) >> 5 for c in kind), 0, *(ord(c) & 31 for c in kind)]


def _polymod(values: Iterable[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for i, factor in enumerate(_GENERATOR):
            check ^= factor if top >> i & 1 else 0
    return check


def _regroup(values: Iterable[int], size: int, into: int, *, pad: bool) -> list[int]:
    """The same bits in groups of another size."""
    held = bits = 0
    result: list[int] = []
    for value in values:
        held = held << size | value
        bits += size
        while bits >= into:
            bits -= into
            result.append(held >> bits & (1 << into) - 1)
    rest = held & (1 << bits) - 1
    if pad and bits:
        result.append(rest << into - bits)
    elif not pad and (bits >= size or rest):
        raise ValueError("bits are left over")
    return result
