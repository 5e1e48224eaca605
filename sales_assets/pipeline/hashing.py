"""Hash texts, to compare and partition them without keeping them in memory."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def hash_texts(texts: pa.Array) -> npt.NDArray[np.int64]:
    """Hash each text to 64 bits with Python's built-in hash, seeded per process. The column must have no nulls."""
    return np.fromiter(map(hash, texts.to_numpy(zero_copy_only=False)), np.int64, len(texts))
