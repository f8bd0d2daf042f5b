"""The user's own recordings: a table (CSV, Excel, Parquet), or a folder with one subfolder a class."""
