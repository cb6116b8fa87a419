"""Trained weights between ssmbench's checkpoints and safetensors files.

A safetensors file is 8 bytes (the header's length, least byte first), a JSON header
{name: {"dtype", "shape", "data_offsets"}, "__metadata__": {str: str}}, and the raw numbers, least byte first.
"""

import json
import os
import shutil
import struct
from pathlib import Path

import h5py
import numpy as np

from .program import BadInput

TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1", "BOOL": "|b1"}
KINDS = {"last": "arrays/param", "best": "arrays/best"}


def write(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    header, place = {"__metadata__": metadata}, 0
    arrays = {name: np.ascontiguousarray(a, a.dtype.newbyteorder("<")) for name, a in sorted(tensors.items())}
    for name, a in arrays.items():
        kind = next(k for k, v in TYPES.items() if np.dtype(v) == a.dtype)
        header[name] = {"dtype": kind, "shape": list(a.shape), "data_offsets": [place, place := place + a.nbytes]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the numbers start at a multiple of 8
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for a in arrays.values():
            f.write(a.tobytes())
    temporary.replace(path)


def read(path: Path) -> dict[str, np.ndarray]:
    raw = path.read_bytes()
    try:
        (size,) = struct.unpack_from("<Q", raw)
        header = json.loads(raw[8 : 8 + size])
        header.pop("__metadata__", None)
        out = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            flat = np.frombuffer(raw[8 + size + begin : 8 + size + end], TYPES[entry["dtype"]])
            out[name] = flat.reshape(entry["shape"])
        return out
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as e:
        raise BadInput(f"{path}: not a safetensors file: {e}") from None


def _checkpoint(path: Path, mode: str = "r") -> h5py.File:
    try:
        f = h5py.File(path, mode)
    except OSError as e:
        raise BadInput(f"{path}: {e}") from None
    if f.attrs.get("schema") != "ssmbench-checkpoint/1":
        raise BadInput(f"{path}: not a checkpoint: schema is {f.attrs.get('schema')!r}")
    return f


def from_checkpoint(path: Path, kind: str = "last") -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(weights by name, the run's configuration). kind: last, or best (those with the best validation score)."""
    with _checkpoint(path) as f:
        if KINDS[kind] not in f:
            raise BadInput(f"{path}: holds no {kind} weights; train.select = best keeps them")
        tensors = {name: data[...] for name, data in f[KINDS[kind]].items()}
        said = {name.removeprefix("config:"): str(v) for name, v in f["state"].attrs.items() if name[:7] == "config:"}
        return tensors, said | {"run_id": str(f["state"].attrs.get("run_id", "")), "weights": kind}


def into_checkpoint(tensors: dict[str, np.ndarray], like: Path, out: Path) -> None:
    """A copy of the checkpoint `like` with other weights: the same names and shapes. For `ssmbench eval`; the moments
    of the optimiser stay those of `like`."""
    with _checkpoint(like) as f:
        known = {name: (data.shape, data.dtype) for name, data in f["arrays/param"].items()}
    for name in sorted(known.keys() ^ tensors.keys()):
        raise BadInput(f"{name}: {'missing in the weights' if name in known else f'{like} has no such parameter'}")
    for name, (shape, _) in known.items():
        if shape != tensors[name].shape:
            raise BadInput(f"{name}: has shape {tensors[name].shape}, {like} has {shape}")
    temporary = out.with_name(out.name + ".tmp")
    shutil.copyfile(like, temporary)
    with _checkpoint(temporary, "r+") as f:
        for name, (_, kind) in known.items():
            data = f["arrays/param"][name]
            data[...] = tensors[name].astype(kind)
            data.attrs["fnv1a"] = _sum_of(data)
        f.attrs["fnv1a"] = _sum_of_all(f)
        f.attrs["sealed"] = False  # writing through h5py cuts off the checksum at the end
    os.replace(temporary, out)


# The checksums of core/record/checkpoint.cpp: FNV-1a over type, shape and contents; over all names, sums, attributes.
def _fnv(data: bytes, start: int = 14695981039346656037) -> int:
    for byte in data:
        start = ((start ^ byte) * 1099511628211) & 0xFFFFFFFFFFFFFFFF
    return start


def _text(word: str) -> bytes:
    return word.encode() + b"\0"


def _sum_of(data: h5py.Dataset) -> str:
    shape = "(" + ", ".join(map(str, data.shape)) + ")"
    return f"{_fnv(_text(str(data.dtype)) + _text(shape) + data[...].tobytes()):016x}"


def _attributes(item) -> bytes:
    out = b""
    for name in sorted(item.attrs.keys() - {"fnv1a"}, key=str.encode):
        value = item.attrs[name]
        out += _text(name)
        if isinstance(value, str):
            out += _text("0") + _text(value)
        elif isinstance(value, (bool, np.bool_)):
            out += _text("3") + struct.pack("<?", bool(value))
        elif isinstance(value, np.integer):
            out += _text("1") + struct.pack("<q", int(value))
        else:
            out += _text("2") + struct.pack("<d", float(value))
    return out


def _sum_of_all(f: h5py.File) -> str:
    arrays = {}
    f["arrays"].visititems(lambda name, item: arrays.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    parts = [
        _text(name) + _text(arrays[name].attrs["fnv1a"]) + _attributes(arrays[name])
        for name in sorted(arrays, key=str.encode)
    ]
    return f"{_fnv(b''.join(parts) + _attributes(f['state'])):016x}"
