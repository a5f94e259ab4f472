"""Safetensors files, read and written by hand: the format is an 8-byte length, a JSON header and raw arrays, and doing
it here keeps the writer free of dependencies and lets it write under a temporary name first."""

import json
import os
import pathlib
import struct

import numpy as np

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I8": "<i1", "U8": "<u1", "BF16": "<u2"}
NAMES = {np.dtype(code): name for name, code in DTYPES.items() if name != "BF16"}


def write(path: str | os.PathLike, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Whole or not at all: a reader never sees half a file. Wider items come first, so that all are aligned."""
    header, offset = {"__metadata__": metadata}, 0
    arrays = dict(sorted(((k, np.ascontiguousarray(v)) for k, v in tensors.items()),
                         key=lambda kv: (-kv[1].itemsize, kv[0])))
    for name, array in arrays.items():
        header[name] = {"dtype": NAMES[array.dtype], "shape": list(array.shape),
                        "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    temporary = pathlib.Path(f"{path}.tmp")
    with open(temporary, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            file.write(array.tobytes())
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(tensors, metadata). Arrays are views of the mapped file; BF16 comes widened to float32."""
    raw = np.memmap(path, np.uint8, "r")
    size = struct.unpack("<Q", raw[:8].tobytes())[0]
    header = json.loads(raw[8:8 + size].tobytes())
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        array = raw[8 + size + begin:8 + size + end].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = array
    return tensors, metadata
