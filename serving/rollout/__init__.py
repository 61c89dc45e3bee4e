"""Who answers after whom: the policy, its verdicts, and what a change did."""
