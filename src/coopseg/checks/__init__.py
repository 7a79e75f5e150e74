"""What `coopseg validate` finds in a data set."""
