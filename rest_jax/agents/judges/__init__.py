"""Agents whose questions are about other agents' words; the policy that answers them is the run's judge."""
