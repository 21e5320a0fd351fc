"""Asking a server of exported networks, and measuring it."""

from keras_widerresnet.serving.client import Client, GrpcClient, RestClient, connect

__all__ = ["Client", "GrpcClient", "RestClient", "connect"]
