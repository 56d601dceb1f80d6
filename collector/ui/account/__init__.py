"""Who is signed in, what that is allowed to do, and where else."""
