"""How a network is exported. Loads no model."""

from dataclasses import dataclass

from services.exporter.names import FormatName, GgufType


@dataclass(frozen=True)
class ExportRequest:
    """How a network is exported.

    Attributes:
        format: its name.
        gguf_type: how numbers are held in a GGUF file; None: as the network was measured, where that can be.
        supernet: directory or URL of the super-network; None: where the run has it.
        verify: whether the export is compared with the network; None: where that takes less than a minute.
        measure: whether a network that is written in another quantisation than it was measured in is measured again;
            None: where that takes less than some minutes.
        push: repository at the Hugging Face hub that it is uploaded to as well; None: none.
    """

    format: FormatName
    gguf_type: GgufType | None = None
    supernet: str | None = None
    verify: bool | None = None
    push: str | None = None
    measure: bool | None = None
