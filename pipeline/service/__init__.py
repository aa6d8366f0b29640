"""tf.data service: reading and tokenising in other processes, on this machine or on others."""
