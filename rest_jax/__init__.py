"""Turn a prompted language model into a small, self-improved agent that reasons, searches and answers."""
