"""Images and masks as `tf.data` reads them: splits, decoding, resizing, augmentation, and where they come from."""
