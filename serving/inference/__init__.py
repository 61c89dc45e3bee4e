"""Who answers, and how: the exactly-once worker, its transactions, routing and histories."""
