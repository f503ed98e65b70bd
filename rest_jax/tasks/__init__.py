"""Tasks: questions with gold answers, the corpus that answers them, demonstrations, the metric and the reward."""
