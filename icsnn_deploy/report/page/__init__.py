"""The report as a page: measures of a bundle, pictures of them, and the page that shows both.

document.py     what a page consists of: sections of tiles, tables, pictures and texts
render.py       a page as one self-contained HTML file (templates/)
markdown.py     a page as Markdown, without its pictures
drawing.py      a picture as SVG in the colors of the page
measure.py      runs a bundle once over the samples; measures.py holds what it finds
sections.py     measures -> page
pictures_*.py   the plots of one topic each

Every page of the package is made of these: a new one builds a document.Page and renders it.
"""
