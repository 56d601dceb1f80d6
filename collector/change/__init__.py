"""What is there that was not: endpoints, consumers, classes of data, third parties, and logins that went."""
