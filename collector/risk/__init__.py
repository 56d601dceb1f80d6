"""How risky each endpoint is and why: figures of the inventory in; scores, findings and alerts out."""
