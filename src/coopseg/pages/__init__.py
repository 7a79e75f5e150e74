"""Pages on which a person looks at what was segmented: one a patient, and a list of all of them."""
