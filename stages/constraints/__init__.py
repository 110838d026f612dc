"""An oracle for real text: prompts that ask for something that can be checked, as IFEval's do (arXiv 2311.07911).

`sentences` asks for it in plain words and reads it back, `prompts` puts it behind prompts, `oracle` checks an answer
with lm-eval's checkers. As in the tiny world, the loop never imports the oracle.
"""
