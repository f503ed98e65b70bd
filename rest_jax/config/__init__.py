"""Settings: frozen dataclasses with a sentence under each field, and the strict YAML that fills them."""
