"""Files of lava-dl's netx (.net): written here, read by the Lava worker.

write.py            a sequential integer network -> a file
layers.py           the network as a chain of netx layers, or everything that misfits
fold_pooling.py     folds pooling into the next connection: .net has no pooling
"""
