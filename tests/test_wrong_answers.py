"""What is not ours to decide: answers of servers, texts of flag files, records that change while they are read."""

import json

import pytest
import requests
import tensorflow as tf
from test_training import refused

from keras_widerresnet.data.sources.arrays import digits
from keras_widerresnet.errors import InputError
from keras_widerresnet.serving import connect
from keras_widerresnet.training.run import _explained_images

ROW = {"valid": True, "indices": [3, 1], "classes": ["three", "one"], "probabilities": [0.75, 0.25]}
NONE = {"valid": False, "indices": [-1, -1], "classes": ["", ""], "probabilities": [0.0, 0.0]}


def answered(body, status=200):
    client = connect("127.0.0.1:1", "digits", retries=0)
    response = requests.Response()
    response.status_code, response._content = status, body if isinstance(body, bytes) else json.dumps(body).encode()
    client._session.request = lambda *_, **__: response
    return client


def test_a_right_answer_is_taken():
    assert answered({"predictions": [ROW, NONE]}).predict([b"", b""]) == [[(3, "three", 0.75), (1, "one", 0.25)], None]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"predictions": None},
        {"predictions": 3},
        {"predictions": "two"},
        {"predictions": {"valid": [True, True]}},
        {"predictions": [[0.1, 0.9], [0.9, 0.1]]},  # a bare network's probabilities
        {"predictions": [{"label_maps": [[0]], "scores": [[0.5]], "sizes": [1, 1], "valid": True}] * 2},  # a segmentation export's
        {"predictions": [ROW]},
        {"predictions": [ROW, NONE, NONE]},
        {"predictions": [ROW, {**ROW, "valid": "yes"}]},
        {"predictions": [ROW, {**ROW, "indices": [1.5, 2]}]},
        {"predictions": [ROW, {**ROW, "indices": [1]}]},
        {"predictions": [ROW, {**ROW, "classes": [1, 2]}]},
        {"predictions": [ROW, {**ROW, "probabilities": ["many", None]}]},
        {"predictions": [ROW, {**ROW, "probabilities": 0.5}]},
    ],
    ids=lambda body: json.dumps(body)[:60],
)
def test_an_answer_of_another_form_is_said(body):
    with pytest.raises(InputError, match=r"'digits' on 127.0.0.1:1 did not return valid, indices, classes, probabilities for every image"):
        answered(body).predict([b"one", b"two"])


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1, 2]", b"null", b"\xff\xfe", b"[" * 100_000], ids=lambda body: repr(body[:6]))
@pytest.mark.parametrize("status", [200, 404, 500])
def test_what_is_no_json_object_is_of_no_model_server(body, status):
    for ask in (lambda client: client.predict([b""]), lambda client: client.check_ready()):
        with pytest.raises(InputError, match=rf"is not a model server: it returned status {status} without a JSON object"):
            ask(answered(body, status))


@pytest.mark.parametrize(
    "body", [{}, {"model_version_status": 1}, {"model_version_status": [{}]}, {"model_version_status": [{"version": "x", "state": ""}]}]
)
def test_a_status_of_another_form_is_said(body):
    with pytest.raises(InputError, match="did not return"):
        answered(body).check_ready()


@pytest.mark.parametrize("reason", [None, 3, {"code": 5}])
def test_a_reason_that_is_no_text_is_shown(reason):
    with pytest.raises(InputError, match="has no model 'digits'"):
        answered({"error": reason}, 404).predict([b""])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"--epochs=3\n# r\xe9seau\n", "can't decode byte 0xe9"),
        (b"--flagfile=a\0b\n", "null byte"),
        (b"\xff\xfe-\0-\0e\0p\0o\0c\0h\0s\0=\x003\0", "can't decode byte 0xff"),
    ],
)
def test_a_flag_file_that_is_no_text_is_named(tmp_path, capsys, monkeypatch, content, words):
    (tmp_path / "own.flags").write_bytes(content)
    line = refused(capsys, monkeypatch, "train", f"--flagfile={tmp_path / 'own.flags'}")
    assert f"The flag file cannot be read ({tmp_path / 'own.flags'})" in line and words in line


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.DataLossError(None, None, "corrupted record at 4711"),
        tf.errors.NotFoundError(None, None, "/data/train-00000; No such file"),
        UnicodeDecodeError("utf-8", b"value: \xff", 7, 8, "invalid start byte"),
    ],
)
def test_records_that_are_damaged_end_a_training_in_one_line(error):
    with (
        pytest.raises(InputError, match="Records of 'digits' are damaged or have changed since training began"),
        _explained_images(digits()),
    ):
        raise error


def test_other_errors_of_tensorflow_stay_what_they_are():
    with pytest.raises(tf.errors.InvalidArgumentError), _explained_images(digits()):
        raise tf.errors.InvalidArgumentError(None, None, "shapes do not match")
