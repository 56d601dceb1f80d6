"""Rows of calls as columns: grouped, merged, folded into `other`. Functions on arrays; time is elsewhere."""
