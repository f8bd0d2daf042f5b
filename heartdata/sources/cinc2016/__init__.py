"""The PhysioNet/CinC Challenge 2016 database."""
