from .config import ExportConfig as ExportConfig
from .fold import inference_network as inference_network
from .run import ExportedVersion as ExportedVersion
from .run import export as export
