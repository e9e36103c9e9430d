"""Test vectors for hardware: an integer network and its spikes as $readmemh files; written only.

options.py      how many samples, and whether potentials and currents are written
hex_words.py    integers as hexadecimal words, one per line
memories.py     every file: its values, word width and address order
index.py        network.json, which describes the files for programs
readme.py       README.md, which describes them on one page
write.py        a folder of these files
"""
