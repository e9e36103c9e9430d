"""NIR files in the frameworks people use: each loaded and set so that no spike differs.

    from icsnn_deploy.readers import snntorch
    module = snntorch.load("network-portable.nir")      # snnTorch's own module
    recording = snntorch.run(module, images)

One file a framework; each lists what it corrects of it. `load` and `run` are all there is to know.
"""
