"""Results documents made readable: tables, pictures, terminal screens, one-file pages and spreadsheets.

`summary` turns a document into numbers, `columns` and `arms` give them words, `gallery` lists the figures with the
tables they show, and `terminal`, `page`, `files` and `spreadsheet` write them. Matplotlib, rich and jinja2 are loaded
only by those that draw with them.
"""
