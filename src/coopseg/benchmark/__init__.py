"""Methods × draws × seeds as one resumable table."""
