"""Input data with `tf.data`: sources, splits, decoding, resizing and augmentation of images and masks."""
