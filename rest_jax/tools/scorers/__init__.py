"""What judges a text: tools for agents that mend what they wrote."""
