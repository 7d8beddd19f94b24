"""A measured cost table in one line."""

from shared.messages import CostTable


def cost_table_in_words(table: CostTable) -> str:
    """What a whole layer costs, on which machine and under which load."""
    load, whole = table.workload, max(table.prefill.mlp)
    name = "unquantised" if table.quantization == "none" else table.quantization
    return (
        f"{name}: {table.engine} {table.engine_version} on {table.device}, {table.dtype}, "
        f"batch {load.batch}; a whole layer takes "
        f"{(table.prefill.attention + table.prefill.mlp[whole]) * 1000:.2f} ms of the prefill of "
        f"{load.prompt_tokens} tokens, {(table.decode.attention + table.decode.mlp[whole]) * 1000:.2f} ms of a "
        "step of decoding"
    )
