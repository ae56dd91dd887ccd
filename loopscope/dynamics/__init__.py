"""One iteration as a map from state to state: its Jacobian, and where it leads when it goes on."""
