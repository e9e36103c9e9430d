"""Load and run NIR files in other frameworks, with corrections so that the spikes are the same.

    from icsnn_deploy.readers import snntorch
    module = snntorch.load("network-portable.nir")      # snnTorch's own module
    recording = snntorch.run(module, images)

There is one module per framework, with the functions `load` and `run`; its docstring lists what it
corrects.
"""
