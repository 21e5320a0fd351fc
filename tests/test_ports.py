from keras_widerresnet import WideResNetA1
from research.ports import with_port_mistakes


def difference(a, b):
    return abs(a - b).max() / abs(a).max()


def test_each_mistake_changes_the_outputs_and_none_leaves_them(image):
    model = WideResNetA1(input_shape=(64, 64, 3), width=0.125, classes=10, classifier_activation=None)
    logits = model.predict_on_batch(image(64, 64))
    assert difference(logits, with_port_mistakes(model).predict_on_batch(image(64, 64))) < 1e-6
    for mistake in ({"epsilon": 1e-3}, {"same_padding": True}):
        assert difference(logits, with_port_mistakes(model, **mistake).predict_on_batch(image(64, 64))) > 1e-4
