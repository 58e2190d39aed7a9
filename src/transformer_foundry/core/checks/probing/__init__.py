"""What a check gets and uses: the model under test, findings, traces, dependence maps and locations.

``model_under_test`` has the argument of every check, ``finding`` its result; begin with these two.
"""
