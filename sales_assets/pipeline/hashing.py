"""Hashes of texts, to compare and to partition them without holding them."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def hash_texts(texts: pa.Array) -> npt.NDArray[np.int64]:
    """64 bits of each text, without nulls. It is Python's own hash, which is seeded anew in each process."""
    return np.fromiter(map(hash, texts.to_numpy(zero_copy_only=False)), np.int64, len(texts))
