"""The tool `python`: code that a model wrote, run in the strongest sandbox that works here."""
