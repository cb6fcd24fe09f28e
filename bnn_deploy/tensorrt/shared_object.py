r"""The smallest ELF shared object: it has a name and needs another library, and there is nothing else in it.

    offset 0     file header         64 bytes
    offset 64    program headers     3 of 56 bytes: what to load (all of the file), where the dynamic section is, and
                                     that the stack needs not be executable, which is assumed of a file that is silent
    offset 232   dynamic section     pairs of (tag, value), 16 bytes each
    then         symbol table        the null symbol, 24 bytes
    then         string table

64 bits, little-endian. Source: System V Application Binary Interface, "Object Files" and "Program Loading and Dynamic
Linking".
"""

from __future__ import annotations

import struct

_FILE_HEADER, _PROGRAM_HEADER, _DYNAMIC_ENTRY = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ"), 16
_SHARED_OBJECT = 3
_LOAD, _DYNAMIC, _GNU_STACK = 1, 2, 0x6474E551
_READ_WRITE = 6
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT, _DT_SONAME = 0, 1, 5, 6, 10, 11, 14
_NULL_SYMBOL = bytes(24)
_PAGE_BYTES = 0x10000  # the largest page of the machines that matter


def empty_shared_object(soname: str, needed: str, machine: int) -> bytes:
    """A library without symbols of its own.

    Args:
        soname: What the loader knows it by: a later `dlopen(soname)` finds it.
        needed: The library whose symbols `dlsym` finds in it, by that library's own soname.
        machine: `e_machine` of the process that is to load it (`machine_of`).
    """
    strings = b"\0" + needed.encode() + b"\0" + soname.encode() + b"\0"
    dynamic_at = _FILE_HEADER.size + 3 * _PROGRAM_HEADER.size
    symbols_at = dynamic_at + 7 * _DYNAMIC_ENTRY
    strings_at = symbols_at + len(_NULL_SYMBOL)
    file_bytes = strings_at + len(strings)
    entries = (
        *(_DT_NEEDED, 1),
        *(_DT_SONAME, 1 + len(needed.encode()) + 1),
        *(_DT_STRTAB, strings_at),
        *(_DT_STRSZ, len(strings)),
        *(_DT_SYMTAB, symbols_at),
        *(_DT_SYMENT, len(_NULL_SYMBOL)),
        *(_DT_NULL, 0),
    )
    dynamic = struct.pack(f"<{len(entries)}Q", *entries)

    def segment(kind: int, offset: int, size: int, alignment: int) -> bytes:
        return _PROGRAM_HEADER.pack(kind, _READ_WRITE, offset, offset, offset, size, size, alignment)

    segments = (
        segment(_LOAD, 0, file_bytes, _PAGE_BYTES)
        + segment(_DYNAMIC, dynamic_at, len(dynamic), 8)
        + segment(_GNU_STACK, 0, 0, 16)
    )
    return _file_header(machine) + segments + dynamic + _NULL_SYMBOL + strings


def machine_of(elf: bytes) -> int:
    """`e_machine` of an ELF file, given its first 20 bytes."""
    return int.from_bytes(elf[18:20], "little")


def _file_header(machine: int) -> bytes:
    identification = b"\x7fELF" + bytes((2, 1, 1))  # 64 bits, little-endian, version 1
    sizes = (_FILE_HEADER.size, _PROGRAM_HEADER.size, 3, 0, 0, 0)
    return _FILE_HEADER.pack(identification, _SHARED_OBJECT, machine, 1, 0, _FILE_HEADER.size, 0, 0, *sizes)
