from __future__ import annotations

import io

import numpy as np

from bnn_deploy.parity.npz import npz_bytes


def test_numpy_reads_it_whatever_the_names() -> None:
    arrays = {
        "file": np.arange(6, dtype=np.int32).reshape(2, 3),
        "layer1/Binarize.bits": np.array([1.5, np.nan], np.float32).T,
        "scalar": np.float64(2.0).reshape(()),
        "transposed": np.arange(6).reshape(2, 3).T,
        "empty": np.zeros((0, 4), np.float16),
    }
    with np.load(io.BytesIO(npz_bytes(arrays)), allow_pickle=False) as found:
        assert set(found) == set(arrays)
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)


def test_equal_arrays_make_equal_bytes() -> None:
    assert npz_bytes({"a": np.ones(3)}) == npz_bytes({"a": np.ones(3)}) != npz_bytes({"b": np.ones(3)})
