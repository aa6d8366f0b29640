"""`make bench`: microbenchmarks of the lookup kernel and of its peers, in one run on one core."""
