"""`python -m keras_widerresnet COMMAND`, the same as `keras-widerresnet COMMAND`."""

from keras_widerresnet.cli import main

main()
