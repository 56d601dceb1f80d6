"""Bodies of sampled calls: pieces of the wire in, facts out (kinds of data, number of records). Values end here."""
