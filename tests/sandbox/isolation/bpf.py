"""A small interpreter of classic BPF, as the kernel runs a seccomp filter (linux/filter.h, net/core/filter.c)."""

from __future__ import annotations

import struct
from collections.abc import Sequence


def run(program: bytes, number: int, arch: int, arguments: Sequence[int] = ()) -> int:
    """What the filter answers to a system call. Raises ValueError for what the kernel's verifier would not load."""
    code = list(struct.iter_unpack("=HBBI", program))
    padded = [*arguments, *(0,) * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, arch, 0, *(each & 0xFFFFFFFFFFFFFFFF for each in padded))
    accumulator, at = 0, 0
    while True:
        if at >= len(code):
            raise ValueError("the program ends without an answer")
        operation, yes, no, k = code[at]
        at += 1
        match operation:
            case 0x20:
                if k % 4 or k > len(data) - 4:
                    raise ValueError(f"a load outside of the data, at {k}")
                (accumulator,) = struct.unpack_from("=I", data, k)
            case 0x54:
                accumulator &= k
            case 0x15:
                at += yes if accumulator == k else no
            case 0x35:
                at += yes if accumulator >= k else no
            case 0x45:
                at += yes if accumulator & k else no
            case 0x06:
                return int(k)
            case _:
                raise ValueError(f"an operation that seccomp does not know: {operation:#x}")
