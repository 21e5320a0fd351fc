from .client import Client as Client
from .client import GrpcClient as GrpcClient
from .client import RestClient as RestClient
from .client import connect as connect
