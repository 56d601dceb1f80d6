"""What is known of endpoints, consumers, coverage and sensors."""
