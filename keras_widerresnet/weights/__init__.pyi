from .assign import assign_weights as assign_weights
from .find import find_weights as find_weights
from .find import home as home
from .listing import list_weights as list_weights
from .original import read_original as read_original
from .registry import PRETRAINED as PRETRAINED
from .registry import Pretrained as Pretrained
