"""A TFDS data directory of a few small images, as `download_and_prepare` would leave it."""

import io
import json
from typing import Any

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

proto: Any = tf_example_pb2  # its classes are made at run time, unseen by a type checker


@pytest.fixture
def write_tfds():
    return _write_tfds


def _write_tfds(
    root,
    name='cifar10',
    version='3.0.2',
    encoding='PNG',
    num_classes=10,
    shift=0,
    num_train=40,
    num_test=7,
):
    """Writes what `download_and_prepare` leaves behind; returns {split: (images, labels)}."""
    folder = root / name / version
    folder.mkdir(parents=True)
    rng = np.random.default_rng(shift)
    written, infos = {}, []
    for split, count in (('train', num_train), ('test', num_test)):
        # Constant images survive JPEG to within rounding, hence one oracle for both encodings.
        grey = rng.integers(0, 256, (count, 1, 1, 1), np.uint8)
        images = np.broadcast_to(grey, (count, 32, 32, 3)).copy()
        labels = rng.permutation(np.arange(count) % num_classes)
        writer = ArrayRecordWriter(
            str(folder / f'{name}-{split}.array_record-00000-of-00001'), 'group_size:1'
        )
        for image, label in zip(images, labels, strict=True):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, encoding)
            example = proto.Example()
            example.features.feature['image'].bytes_list.value.append(buffer.getvalue())
            example.features.feature['label'].int64_list.value.append(int(label))
            writer.write(example.SerializeToString())
        writer.close()
        written[split] = images, labels
        infos.append(
            {
                'name': split,
                'filepathTemplate': '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}',
                'numBytes': '1',
                'shardLengths': [str(count)],
            }
        )
    info = {'name': name, 'version': version, 'fileFormat': 'array_record', 'splits': infos}
    (folder / 'dataset_info.json').write_text(json.dumps(info))
    core = 'tensorflow_datasets.core.features.'
    shape = {'dtype': 'uint8', 'shape': {'dimensions': ['32', '32', '3']}}
    features = {
        'image': {'pythonClassName': f'{core}image_feature.Image', 'image': shape},
        'label': {
            'pythonClassName': f'{core}class_label_feature.ClassLabel',
            'classLabel': {'numClasses': str(num_classes)},
        },
    }
    (folder / 'features.json').write_text(
        json.dumps(
            {
                'pythonClassName': f'{core}features_dict.FeaturesDict',
                'featuresDict': {'features': features},
            }
        )
    )
    return written
