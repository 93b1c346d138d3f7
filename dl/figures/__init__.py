"""Pictures for views and reports, drawn by matplotlib."""
