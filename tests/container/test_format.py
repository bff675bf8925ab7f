"""Our constants against those of the gguf package, which the plan's path cannot afford to import."""

from __future__ import annotations

import gguf
import pytest

from qxmix.container import gguf_format
from qxmix.quants import QUANT_TYPES
from qxmix.report.inspect import file_type_name


def test_value_types() -> None:
    assert {t.name: t.value for t in gguf_format.ValueType} == {t.name: t.value for t in gguf.GGUFValueType}


def test_file_constants() -> None:
    assert int.from_bytes(gguf_format.MAGIC, "little") == gguf.GGUF_MAGIC
    assert gguf_format.VERSION == gguf.GGUF_VERSION
    assert gguf_format.DEFAULT_ALIGNMENT == gguf.GGUF_DEFAULT_ALIGNMENT
    assert gguf_format.QUANTIZATION_VERSION == gguf.GGML_QUANT_VERSION


def test_keys() -> None:
    keys = gguf.Keys
    assert gguf_format.GENERAL_TYPE == keys.General.TYPE
    assert gguf_format.GENERAL_ALIGNMENT == keys.General.ALIGNMENT
    assert gguf_format.GENERAL_QUANTIZATION_VERSION == keys.General.QUANTIZATION_VERSION
    assert gguf_format.GENERAL_FILE_TYPE == keys.General.FILE_TYPE
    assert gguf_format.SPLIT_NO == keys.Split.LLM_KV_SPLIT_NO
    assert gguf_format.SPLIT_COUNT == keys.Split.LLM_KV_SPLIT_COUNT
    assert gguf_format.SPLIT_TENSORS_COUNT == keys.Split.LLM_KV_SPLIT_TENSORS_COUNT
    assert gguf_format.IMATRIX_CHUNK_COUNT == keys.IMatrix.CHUNK_COUNT
    assert gguf_format.IMATRIX_CHUNK_SIZE == keys.IMatrix.CHUNK_SIZE
    assert gguf_format.IMATRIX_DATASETS == keys.IMatrix.DATASETS


SHARED = sorted(set(gguf.GGMLQuantizationType.__members__) & {t.name for t in QUANT_TYPES})


def test_every_type_of_the_package_is_known_or_known_not_to_be_stored() -> None:
    assert set(gguf.GGMLQuantizationType.__members__) - set(SHARED) == {"Q8_1", "Q8_K"}  # activations only


@pytest.mark.parametrize("name", SHARED)
def test_ids_and_block_sizes(name: str) -> None:
    ours = next(t for t in QUANT_TYPES if t.name == name)
    theirs = gguf.GGMLQuantizationType[name]
    assert ours.id == theirs.value
    assert (ours.block_size, ours.block_nbytes) == gguf.GGML_QUANT_SIZES[theirs]


def test_type_ids_and_names_are_unique() -> None:
    assert len({t.id for t in QUANT_TYPES}) == len({t.name for t in QUANT_TYPES}) == len(QUANT_TYPES)


def test_file_types() -> None:
    """llama.cpp's numbers; a mix is named after its type in the table, and IQ2_M, IQ3_M and the like are mixes."""
    numbers = {f.name.removeprefix("MOSTLY_").removeprefix("ALL_"): f.value for f in gguf.LlamaFileType}
    ours = {t.name: t.ftype[0] for t in QUANT_TYPES if t.ftype[0] is not None}
    mix_of = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "MXFP4": "MXFP4_MOE"}
    checked = {n: f for n, f in ours.items() if mix_of.get(n, n) in numbers}
    assert len(checked) > 20
    assert checked == {n: numbers[mix_of.get(n, n)] for n in checked}


@pytest.mark.parametrize("file_type", list(gguf.LlamaFileType))
def test_file_type_names(file_type: gguf.LlamaFileType) -> None:
    name = file_type.name.removeprefix("MOSTLY_").removeprefix("ALL_").removesuffix("_MOE")
    if name == "GUESSED":
        assert file_type_name(file_type.value | 15) == "Q4_K_M (guessed)"
    elif file_type_name(file_type.value) != "Q2_0 (llama.cpp) or Q1_0 (ik_llama.cpp)":
        assert file_type_name(file_type.value) == name


def test_file_types_that_only_one_engine_has_or_neither() -> None:
    assert file_type_name(140) == "IQ4_K"
    assert file_type_name(999) == "unknown"
    assert file_type_name(41) == "Q2_0 (llama.cpp) or Q1_0 (ik_llama.cpp)"
