"""The methods of the table that settings alone cannot describe."""
