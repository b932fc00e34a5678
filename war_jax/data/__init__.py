"""Data: named sets as arrays, deterministic batch plans, augmentation on the device.

    splits = sources.load(config.data)                      # arrays: train, validation, test
    plan = batches.train_plan(seed, epoch, len(splits.train.labels), batch_size)
    for indices, mask in zip(plan.indices, plan.mask):      # every example once per epoch
        images = augment.crop_flip(keys, splits.train.images[indices], pad=4, flip=True)

`arrays.py` holds the type of a data set and the rules that a user's own arrays must keep, shards.py
sets that are too large for memory. Batches come from the devices (device.py) or from the host
(stream.py).
"""
