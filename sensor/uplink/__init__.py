"""The stream to the collector: batches, health and coverage up; acknowledgements, keys, policy and reveal requests
down."""
