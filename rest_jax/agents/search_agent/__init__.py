"""The self-critical search agent of ReST meets ReAct (Aksitov et al. 2023, section 2), its prompts written as code."""
