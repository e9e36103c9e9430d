"""Golden spikes as .npy and .hex files with a page that describes them; written only.

write.py   the files, and README.md
"""
