"""What a policy gains: the rules of matching on a cluster under a virtual clock (`pandawn simulate`)."""
