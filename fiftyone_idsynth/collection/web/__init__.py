"""Fetching from the web: politely, within deadlines, and never from private addresses."""
