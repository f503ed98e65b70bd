"""Search: a corpus of one's own, and other people's servers."""
