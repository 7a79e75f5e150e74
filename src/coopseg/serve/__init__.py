"""A small web service for one machine: scans are sent to it, and their pages and label maps come back."""
