"""Measure a model at every combination of recipe, T, weight width and target, and choose one.

options.py   the grid of points, and the choice that is asked for
recipes.py   recipes by their text, `auto:quick`
inputs.py    the model, its calibration samples, and the samples that it is measured on
figures.py   the figure of a network that is compared
folder.py    what is measured, on disk; locks, so that several processes share the work
work.py      convert, quantize, evaluate and check one point
estimate.py  how long the rest takes
step.py      a finished point, and the line of progress about it
run.py       the points that are missing, one after the other
rows.py      one point of the table
choice.py    Pareto fronts, and the cheapest point that loses little and fits
table.py     the table as text, CSV and JSON
pictures.py  the scatter plots
page.py      the page
"""
