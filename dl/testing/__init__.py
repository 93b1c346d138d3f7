"""Your own tasks and data, proved against the contract on a few rows.

A test of one's own is one line, ``check_task(task, batch)`` or ``check_batches(batches)``. The first rule
that does not hold is an AssertionError: the rule, what was seen, and how to mend it.
"""

from dl.testing.batches import check_batches as check_batches
from dl.testing.tasks import check_task as check_task
