"""What the calls of a route look like: heads and parsed bodies in, types, shares and names of fields out. Values end
here."""
