"""Reading and writing tensors: what fits comes back as it was, what does not is refused with the reason."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway_serving import tensors

FIXED = {kind: name for kind, name in tensors.NUMPY_TYPES.items() if kind != "BYTES"}


def request(**entry: Any) -> bytes:
    return json.dumps({"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2], **entry}]}).encode()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"[]", "no JSON object"),
        (b'{"inputs": []}', "at least one tensor"),
        (b'{"inputs": [1]}', "an object with a name"),
        (b'{"id": 1, "inputs": [1]}', "id must be a string"),
        (request(datatype="FLOAT"), "known are BOOL"),
        (request(datatype=["x"]), "known are BOOL"),
        (request(shape=[3]), "should have the shape [3], but its data has [2]"),
        (request(shape=[2, 1], data=[[1, 2]]), "should have the shape [2, 1]"),
        (request(shape=[-2]), "whole numbers from 0"),
        (request(shape=[1.5]), "whole numbers from 0"),
        (request(shape=[True]), "whole numbers from 0"),
        (request(shape=[1] * 33), "at most 32"),
        (request(shape=2), "must be a list"),
        (request(shape=[2**60]), "whole numbers from 0"),
        (request(data=["a", "b"]), "does not fit its datatype FP32"),
        (request(data=[[1], [2, 3]]), "not a regular array"),
        (request(data={"a": 1}), "must be a list"),
        (request(data=[None, 1]), "does not fit"),
        (request(datatype="INT64", data=[1.5, 2]), "does not fit its datatype INT64"),
        (request(datatype="UINT8", data=[1, 256]), "outside of UINT8"),
        (request(datatype="UINT8", data=[-1, 1]), "outside of UINT8"),
        (request(datatype="BYTES", data=[1, 2]), "must be strings"),
        (request(datatype="BYTES", data=["a"]), "has 2 elements, not 1"),
        (request(datatype="BOOL", data=[1, 2]), "does not fit its datatype BOOL"),
        (request(parameters={"binary_data_size": 8}), "both data and binary_data_size"),
        (request(parameters=[1]), "must be a JSON object"),
        (b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32"}]}', "has no data"),
        (json.dumps({"inputs": [json.loads(request())["inputs"][0]] * 2}).encode(), "given twice"),
        (b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [NaN]}]}', "not JSON"),
        (b'{"outputs": 1, ' + request()[1:], "outputs must be a list"),
        (b'{"outputs": [{}], ' + request()[1:], "an object with a name"),
        (b'{"parameters": {"binary_data_output": 1}, ' + request()[1:], "must be true or false"),
    ],
)
def test_what_does_not_fit_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(tensors.TensorError) as caught:
        tensors.read(body, None)
    assert words in str(caught.value)


def binary(datatype: str, shape: list[int], size: Any, raw: bytes) -> tuple[bytes, bytes]:
    entry = {"name": "x", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [entry]}).encode()
    return head + raw, str(len(head)).encode()


@pytest.mark.parametrize(
    ("datatype", "shape", "size", "raw", "words"),
    [
        ("FP32", [2], 4, b"\0" * 4, "has 8 bytes, not 4"),
        ("FP32", [1], 8, b"\0" * 4, "4 bytes are left"),
        ("FP32", [1], -1, b"\0" * 4, "4 bytes are left"),
        ("FP32", [1], "4", b"\0" * 4, "4 bytes are left"),
        ("FP32", [1], 4, b"\0" * 6, "has 6 bytes of binary tensors, but the inputs name 4"),
        ("FP32", [2**40, 2**40], 4, b"\0" * 4, "bytes, not 4"),
        ("BYTES", [1], 6, b"\x09\0\0\0ab", "in the middle of an element"),
        ("BYTES", [1], 2, b"\x09\0", "in the middle of an element"),
        ("BYTES", [2], 5, b"\x01\0\0\0a", "should have 2 elements, not 1"),
        ("BYTES", [0], 5, b"\x01\0\0\0a", "should have 0 elements"),
    ],
)
def test_binary_tensors_that_do_not_fit(datatype: str, shape: list[int], size: Any, raw: bytes, words: str) -> None:
    body, length = binary(datatype, shape, size, raw)
    with pytest.raises(tensors.TensorError) as caught:
        tensors.read(body, length)
    assert words in str(caught.value)


@pytest.mark.parametrize("length", [b"x", b"-1", b"99999", b"9" * 50, b""])
def test_a_wrong_header_length_is_refused(length: bytes) -> None:
    with pytest.raises(tensors.TensorError, match="Inference-Header-Content-Length"):
        tensors.read(request(), length)


@given(kind=st.sampled_from(sorted(FIXED)), shape=st.lists(st.integers(0, 4), max_size=3), seed=st.integers(0, 2**32))
@settings(max_examples=80)
def test_a_tensor_survives_both_encodings(kind: str, shape: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    array = generator.integers(0, 2 if kind == "BOOL" else 100, shape).astype(FIXED[kind])
    for wanted in (False, True):
        given_request = tensors.Inference(None, {}, (), wanted)
        body, tail = tensors.write({"x": array.reshape(-1) if not shape else array}, given_request, "m", "1")
        # A response's outputs are written as a request's inputs are.
        message = json.loads(body)
        message["inputs"] = message.pop("outputs")
        head = json.dumps(message).encode()
        raw = b"".join(tail)
        back = tensors.read(head + raw, str(len(head)).encode()).inputs["x"]
        assert back.dtype == np.dtype(FIXED[kind])
        assert back.tolist() == (array.reshape(-1) if not shape else array).tolist()


@given(items=st.lists(st.binary(max_size=20), max_size=6))
def test_bytes_survive_the_binary_encoding(items: list[bytes]) -> None:
    array = np.empty(len(items), object)
    array[:] = items
    body, tail = tensors.write({"x": array}, tensors.Inference(None, {}, (), True), "m", "1")
    entry = json.loads(body)["outputs"][0]
    again, header = binary("BYTES", entry["shape"], entry["parameters"]["binary_data_size"], b"".join(tail))
    assert tensors.read(again, header).inputs["x"].tolist() == items


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("x") | JSON,
        "shape": st.lists(st.integers(-1, 5) | st.integers(), max_size=4) | JSON,
        "datatype": st.sampled_from(sorted(tensors.NUMPY_TYPES)) | JSON,
        "data": st.lists(st.integers() | st.floats() | st.booleans() | st.text(max_size=3), max_size=5) | JSON,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 20) | JSON}) | JSON,
    },
)


@given(
    message=st.fixed_dictionaries(
        {}, optional={"inputs": st.lists(ENTRY, max_size=3) | JSON, "outputs": JSON, "parameters": JSON, "id": JSON}
    ),
    raw=st.binary(max_size=20),
    header=st.none() | st.just(-1) | st.integers(0, 300),
)
@settings(max_examples=400)
def test_no_request_breaks_the_reader(message: Any, raw: bytes, header: int | None) -> None:
    """Either tensors of the shape that was said, or a TensorError: nothing else leaves the reader."""
    head = json.dumps(message, allow_nan=True).encode()
    length = None if header is None else str(len(head) if header < 0 else header).encode()
    try:
        inference = tensors.read(head + raw, length)
    except tensors.TensorError:
        return
    for array in inference.inputs.values():
        assert isinstance(array, np.ndarray)
        tensors.plain(array)
