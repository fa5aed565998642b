"""What is shown of a run: tables for the terminal, a chart for a page."""
