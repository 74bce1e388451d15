"""What a stored result becomes for those who read it: files, reports, gauges."""
