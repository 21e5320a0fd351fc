from .activation_maps import class_activation_maps as class_activation_maps
from .conversion import convert as convert
from .errors import InputError as InputError
from .fcn import WideResNetFCN as WideResNetFCN
from .freezing import freeze as freeze
from .freezing import unfreeze as unfreeze
from .networks import WideResNetA as WideResNetA
from .networks import WideResNetA1 as WideResNetA1
from .networks import WideResNetA2 as WideResNetA2
from .networks import WideResNetB as WideResNetB
from .networks import WideResNetC as WideResNetC
from .networks import WideResNetD as WideResNetD
from .networks import WideResNetE as WideResNetE
from .networks import WideResNetF as WideResNetF
from .networks import WiderResNet as WiderResNet
from .networks import feature_extractor as feature_extractor
from .preprocessing import decode_predictions as decode_predictions
from .preprocessing import preprocess_input as preprocess_input
from .structures import STRUCTURES as STRUCTURES
from .structures import Structure as Structure
from .tasks.segmentation.loss import BootstrappedCrossEntropy as BootstrappedCrossEntropy
from .tasks.segmentation.loss import MaskedCrossEntropy as MaskedCrossEntropy
from .tasks.segmentation.metrics import SegmentationScores as SegmentationScores
from .weights.listing import list_weights as list_weights

__version__: str
