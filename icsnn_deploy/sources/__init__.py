"""Samples from where people have them: code of their own, image folders, data sets of torchvision.

    open.py              a text from the command line -> Source
    returned.py          what a callable of the user's returned -> Source
    source.py            Source: samples that are read by number, in memory or item by item
    selection.py         which samples, in which order
    data_sets.py         what gives arrays, what gives items, what gives batches
    batches.py           batches and items of any form -> arrays
    images.py            one image file or PIL image -> pixels
    image_folder.py      a folder of images, by class
    torchvision_sets.py  data sets of torchvision that are on disk
    options.py           what the user says of the samples
    reading.py           the options, and which samples are used

Arrays in .npy and .npz files are read by icsnn_deploy.data.
"""
